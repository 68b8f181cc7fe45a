"""Frames of a video file: which there are, and what they show. One seam, two decoders behind it.

``frame`` always means the 1-based rank of presentation time among displayed frames, in both decoders.
Whatever can crash or hang runs in a child process instead: see :mod:`emobeam.emo_transforms.video.decoding_process`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.opening import Progress, idle
from emobeam.emo_transforms.video.probe import probe_video
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import Segment, UsageError

__all__ = ["DECODERS", "DecodeFunction", "decode_frames", "probe_video"]

DECODERS = {
    "pyav": "emobeam.emo_transforms.video.pyav_decoder:decode_pyav",
    "decord": "emobeam.emo_transforms.video.decord_decoder:decode_decord",
}
"""Decode function of each decoder, as ``module:function``."""


class DecodeFunction(Protocol):
    """The seam: see :func:`emobeam.emo_transforms.video.pyav_decoder.decode_pyav` for the contract."""

    def __call__(
        self, path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Frame number and upright RGB picture uint8 ``[H, W, 3]`` of each sampled frame that can be decoded."""


def decode_frames(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Decodes the sampled frames of a segment with the decoder that ``config`` names.

    Yields:
        Frame number and upright RGB picture uint8 [H, W, 3], ascending; frames that can't be decoded are left out.

    Raises:
        InputError: the file can't be opened or read.
        UsageError: there is no such decoder.
    """
    yield from _find(config.name)(path, segment, config, threads=threads, progress=progress)


def _find(name: str) -> DecodeFunction:
    module, _, function = DECODERS.get(name, name).partition(":")
    if not function:
        raise UsageError(f"there is no decoder {name!r}; take one of {', '.join(DECODERS)}")
    found: Any = getattr(importlib.import_module(module), function)
    decode: DecodeFunction = found
    return decode
