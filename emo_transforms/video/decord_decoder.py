"""Decoding with decord, behind the same seam as PyAV; ``tests/benchmarks/decoders.py`` measures its price.

decord doesn't tell which frame a picture is; it counts from the keyframe it seeks to. The count goes astray in
open groups of pictures (by the depth of reordering) and in MPEG-TS, AVI and ASF (by whole groups), so such files
are refused here. decord reads ahead without bound, and a damaged packet costs it a chunk of frames or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.opening import Progress, idle, input_error, open_video, packets
from emobeam.emo_transforms.video.probe import probe_video
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import InputError, Segment

_CONTAINERS = ("mov", "matroska")
"""Families of containers in which decord finds keyframes reliably."""

_CHUNK = 4
"""Frames asked for at once."""

_FAILURES = 3
"""Chunks in a row that may fail before the rest of the segment is given up."""

_NO_STAND_INS = 1e-9
"""Tolerated share of frames for which decord gives out a neighbour, because it can't decode them."""


def decode_decord(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Decodes the sampled frames of a segment; the contract of :func:`.video.pyav_decoder.decode_pyav`.

    Raises:
        InputError: the file can't be opened, or is one in which decord miscounts (reason ``unsupported``).
    """
    if not segment.sampled:
        return
    if not segment.display.plain:
        message = (
            f"{path}: decord shows coded pictures, not what a player shows of this file (flipped, interlaced, pixels "
            "that aren't square, or a size, clock or stream of its own); take --decoder pyav"
        )
        raise InputError(message, stage="decode", reason="unsupported", permanent=True)
    places = _places(path, config, threads, progress)
    reader = _reader(path, threads)
    failures = 0
    for start in range(0, len(segment.sampled), _CHUNK):
        numbers = segment.sampled[start : start + _CHUNK]
        try:
            pictures = reader.get_batch([places[number - 1] for number in numbers]).asnumpy()
        except Exception:  # noqa: BLE001 - its own errors, RuntimeError, or whatever its bindings make of it
            failures += 1
            if failures == _FAILURES:
                return
            reader = _reader(path, threads)  # one bad packet leaves a reader unusable for good
            continue
        failures = 0
        progress()
        yield from zip(numbers, pictures, strict=True)


def _reader(path: str, threads: int) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        return decord.VideoReader(path, num_threads=threads, fault_tol=_NO_STAND_INS)
    except Exception as error:
        raise input_error(error, path, "decode") from error


def _places(path: str, config: DecoderConfig, threads: int, progress: Progress) -> list[int]:
    """decord's index of each displayed frame.

    decord lists all packets by presentation time, also those outside the edit list, but never gets pictures for
    these: each one missing since the last keyframe shifts the index by one.
    """
    probe = probe_video(path, config, progress=progress)
    with open_video(path) as (container, stream):
        format_name = container.format.name
        coded = [(packet.pts, packet.is_keyframe) for packet in packets(container, stream, path, "decode")]
    countable = format_name.startswith(_CONTAINERS) and probe.seekable and _closed(coded)
    if not countable:
        message = (
            f"{path}: decord miscounts frames in this file ({probe.codec} in {format_name}); "
            "take --decoder pyav, or convert the file to mp4 with closed groups of pictures"
        )
        raise InputError(message, stage="decode", reason="unsupported", permanent=True)
    listed = sorted(coded)
    displayed = set(probe.pts)
    places = []
    hidden = 0
    for index, (pts, key) in enumerate(listed):
        if key:
            hidden = 0
        if pts in displayed:
            places.append(index - hidden)
        else:
            hidden += 1
    return places


def _closed(coded: Sequence[tuple[int | None, bool]]) -> bool:
    """Whether no keyframe is reordered across: all coded before it is shown before it, all after it after it."""
    stamps = [pts for pts, _ in coded if pts is not None]
    if len(stamps) < len(coded):
        return False
    latest = list(accumulate(stamps, max))
    earliest = list(accumulate(reversed(stamps), min))[::-1]
    inner = range(1, len(coded))
    return all(latest[index - 1] < stamps[index] <= earliest[index] for index in inner if coded[index][1])
