"""Invented templates in the organisers' form: real layouts, headers and quirks, made-up names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "abaw-examples"
"""Example files handed out beside the repository; tests that use them skip where they are absent."""

VA_HEADER = "image_location,valence,arousal"
AU_HEADER = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
EMI_HEADER = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"

FRAMES: Mapping[str, int] = {"14-30-1920x1080": 4, "video45_1": 2, "video49_left": 3}
"""Frames of the invented Aff-Wild2 videos: a plain name, one with a part number, one of two people."""

BAH_FRAMES: Mapping[str, int] = {
    "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4": 3,
    "90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video.mp4": 2,
}
"""Frames of the invented BAH videos; the second id holds blanks, as older ones do."""

CLIPS = ("12660", "00012", "17245")
"""Invented EMI clips."""


def image_keys(frames: Mapping[str, int] = FRAMES) -> list[str]:
    """``<name>/00001.jpg`` and on, video by video."""
    return [f"{name}/{number:05d}.jpg" for name, count in frames.items() for number in range(1, count + 1)]


def bah_keys(frames: Mapping[str, int] = BAH_FRAMES) -> list[str]:
    """``<name>/frame-0.jpg`` and on, video by video."""
    return [f"{name}/frame-{number}.jpg" for name, count in frames.items() for number in range(count)]


def write_lines(
    path: Path,
    rows: Sequence[str],
    *,
    header: str | None = None,
    tail: str = "",
    newline: str = "\n",
    bom: bool = False,
    last_newline: bool = True,
) -> str:
    """Writes a template: ``tail`` follows each row (``,`` or ``,0.5,-0.5``). Returns its path as text."""
    lines = ([] if header is None else [header]) + [row + tail for row in rows]
    text = newline.join(lines) + (newline if last_newline else "")
    path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
    return str(path)
