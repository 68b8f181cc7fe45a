"""A decoder that treats each clip by its name, so that good and bad ones can be in one run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from emobeam.emo_transforms.video.opening import Progress, idle
from emobeam.emo_transforms.video.pyav_decoder import decode_pyav
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import Segment
from tests import faulty_decoders
from tests.faulty_decoders import Frames


def by_name(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Frames:
    """``crash.mp4`` goes to ``faulty_decoders.crash`` and so on; the second segment of ``half_crash.mp4`` too."""
    name = Path(path).stem
    if name == "deadly":
        return _deadly()
    if name.startswith("half_"):
        name = name.removeprefix("half_") if segment.index == 1 else ""
    decode = getattr(faulty_decoders, name, decode_pyav)
    return decode(path, segment, config, threads=threads, progress=progress)


def _deadly() -> Frames:
    """Takes the worker with it."""
    os.kill(os.getppid(), signal.SIGKILL)
    yield from ()
