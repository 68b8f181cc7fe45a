"""How the organisers name the images of cropped faces; which folder is which video, ``crop_folders`` finds."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png"))


@dataclass(frozen=True)
class CropLayout:
    """How images are named. ``stem`` has one group, the number; ``first`` is the number of native frame 1."""

    stem: re.Pattern[str]
    first: int
    example: str


# Strict about padding: an EMI folder read as Aff-Wild2, or the reverse, would be off by one frame throughout.
LAYOUTS = {
    "affwild2": CropLayout(re.compile(r"(\d{5,})"), 1, "00001.jpg"),
    "emi": CropLayout(re.compile(r"(0|[1-9]\d*)"), 0, "0.jpg"),
    "bah": CropLayout(re.compile(r"frame-(\d+)"), 0, "frame-0.jpg"),
}
"""The known layouts by name, as ``--crops`` takes them."""


def is_image(path: str) -> bool:
    """Whether a file is a picture of a face, by its ending."""
    return posixpath.splitext(path)[1].lower() in IMAGE_EXTENSIONS


def layout_of(names: Iterable[str]) -> str:
    """The layout that files seem to have, by the first images among them; ``""`` where they are named otherwise."""
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in names if is_image(name)][:_LOOKED_AT]
    return next((name for name, form in LAYOUTS.items() if stems and all(map(form.stem.fullmatch, stems))), "")


_LOOKED_AT = 100
