"""What the engine tests run on: a few dozen short clips of mixed length, some of them broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from tests.clips import (
    absent_in_the_middle,
    audio_only,
    cut_in,
    damaged_in_the_middle,
    edit_list,
    empty,
    face,
    faces_side_by_side,
    nobody,
    not_a_video,
    portrait,
    rotated,
    truncated,
    variable_rate,
    vp8_hidden,
)

_SIZES = ((160, 120), (192, 144), (320, 240))
_FRAMES = (1, 12, 25, 40, 60, 75, 100, 130, 160, 200, 90, 50, 30, 110, 140, 180)
_VP8 = {"deadline": "realtime", "cpu-used": "8", "crf": "10"}


def _talk(path: Path, *, number: int) -> Path:
    size = _SIZES[number % len(_SIZES)]
    return portrait(path, frames=_FRAMES[number], painter=lambda frame: face(frame, size, phase=float(number)))


def _pair(path: Path) -> Path:
    return portrait(path, frames=75, painter=lambda frame: faces_side_by_side(frame, (320, 160)))


def _nobody(path: Path) -> Path:
    return portrait(path, frames=60, painter=lambda frame: nobody(frame, (160, 120)))


FINE: dict[str, Callable[[Path], Path]] = {
    **{f"day {number % 3}/talk{number:02d}.mp4": partial(_talk, number=number) for number in range(len(_FRAMES))},
    "pair.mp4": _pair,
    "nobody.mp4": _nobody,
    "absent.mp4": absent_in_the_middle,
    "odd/variable.mkv": variable_rate,
    "odd/variable_vp8.webm": partial(variable_rate, codec="libvpx", options=_VP8),
    "odd/rotated.mp4": partial(rotated, degrees=90),
    "odd/edit_list.mp4": edit_list,
    "odd/hidden.webm": vp8_hidden,
    "odd/cut_in.ts": cut_in,
}
"""Clips of one frame to eight seconds."""

BROKEN: dict[str, Callable[[Path], Path]] = {
    "broken/empty.mp4": empty,
    "broken/text.mp4": not_a_video,
    "broken/audio.mp4": audio_only,
    "broken/cut_off.mp4": truncated,
    "broken/cut_off_vp8.webm": partial(truncated, codec="libvpx", options=_VP8),
    "broken/announced.mp4": partial(truncated, container_options={"movflags": "faststart"}),
    "broken/damaged.mp4": damaged_in_the_middle,
}
"""Clips that can't be read at all, or not to the end."""


ALL = {**FINE, **BROKEN}

FEW = {name: make for name, make in ALL.items() if name.startswith(("day 0", "day 1")) or "damaged" in name}
"""Fewer, the longest among them, for tests that run them many times."""


def write_collection(folder: Path, clips: Mapping[str, Callable[[Path], Path]] = ALL) -> Path:
    """Writes clips by name; returns the folder."""
    for name, make in clips.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return folder
