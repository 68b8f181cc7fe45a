"""Augmented views of face crops: mild changes that leave expression, pose and action units readable.

Parameters are drawn once and applied to any number of crops, so that all frames of a clip can be changed alike.
Whoever changes what is drawn or made raises ``emobeam.schemas.config.AUGMENTATION_REVISION``.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from emobeam.schemas.config import AUGMENTATION_REVISION

Picture = NDArray[np.uint8]
"""RGB, [H, W, 3]."""

LOW_RESOLUTION = 112
"""Edge in px of the organisers' aligned crops, to which some crops are reduced and brought back."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to a crop, in this order; the defaults change nothing.

    Attributes:
        low_resolution: reduced to :data:`LOW_RESOLUTION` and brought back (only where the crop is larger).
        flip: mirrored left to right.
        degrees: turned clockwise about its centre.
        shift: moved right and down, in parts of the edges.
        scale: enlarged about its centre.
        brightness, contrast, saturation: factors, 1 keeping what is there.
        blur: standard deviation of a Gaussian in parts of the crop's edge.
        jpeg: quality with which it is compressed once, 0 for not at all.
    """

    low_resolution: bool = False
    flip: bool = False
    degrees: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    blur: float = 0.0
    jpeg: int = 0


def draw(rng: np.random.Generator) -> Augmentation:
    """Draws an augmentation; every call takes the same number of values from ``rng``.

    Mirrored with probability .5, turned by up to 15 degrees, moved by up to a tenth, scaled by .9 to 1.1, brightness
    and contrast changed by up to a fifth and saturation by up to a tenth, reduced to 112 px with probability .5, and
    with probability .1 either blurred or compressed.
    """
    chance = rng.random(4)
    spread = rng.uniform(-1, 1, 7)
    strength = float(rng.random())
    spoilt = bool(chance[2] < 0.1)
    blurred = spoilt and bool(chance[3] < 0.5)
    return Augmentation(
        low_resolution=bool(chance[0] < 0.5),
        flip=bool(chance[1] < 0.5),
        degrees=15 * float(spread[0]),
        shift=(0.1 * float(spread[1]), 0.1 * float(spread[2])),
        scale=1 + 0.1 * float(spread[3]),
        brightness=1 + 0.2 * float(spread[4]),
        contrast=1 + 0.2 * float(spread[5]),
        saturation=1 + 0.1 * float(spread[6]),
        blur=(0.5 + strength) / 224 if blurred else 0.0,
        jpeg=round(30 + 50 * strength) if spoilt and not blurred else 0,
    )


def view_of(video: str, track: int, view: int) -> Augmentation:
    """The augmentation of one view of one track of a video: the same in every frame, run and process.

    View 0 is the plain one.
    """
    if view == 0:
        return Augmentation()
    key = json.dumps([AUGMENTATION_REVISION, video, track, view], separators=(",", ":"))
    seed = int.from_bytes(hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()[:16], "big")
    return draw(np.random.default_rng(seed))


def apply(crop: Picture, augmentation: Augmentation) -> Picture:
    """The changed crop, of the same size; what comes from beyond it is black.

    Args:
        crop: RGB uint8 [H, W, 3]; it is not changed itself.
    """
    height, width = crop.shape[:2]
    picture = Image.fromarray(crop)
    if augmentation.low_resolution and min(height, width) > LOW_RESOLUTION:
        ratio = LOW_RESOLUTION / min(height, width)
        small = picture.resize((round(width * ratio), round(height * ratio)), Image.Resampling.BILINEAR)
        picture = small.resize((width, height), Image.Resampling.BILINEAR)
    if augmentation.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.degrees or augmentation.scale != 1 or any(augmentation.shift):
        data = _inverse_affine(augmentation, width, height)
        picture = picture.transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    for enhancer, factor in (
        (ImageEnhance.Brightness, augmentation.brightness),
        (ImageEnhance.Contrast, augmentation.contrast),
        (ImageEnhance.Color, augmentation.saturation),
    ):
        if factor != 1:
            picture = enhancer(picture).enhance(factor)
    if augmentation.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(augmentation.blur * max(height, width)))
    if augmentation.jpeg:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=augmentation.jpeg)
        picture = Image.open(buffer).convert("RGB")
    return np.array(picture)


def move_points(points: NDArray[np.float32], augmentation: Augmentation) -> NDArray[np.float32]:
    """Where points ``[n, 2]`` of a square crop, in parts of its edge, come to lie; mirroring is not done here."""
    angle = math.radians(augmentation.degrees)
    cos, sin = math.cos(angle) * augmentation.scale, math.sin(angle) * augmentation.scale
    turn = np.array([[cos, sin], [-sin, cos]], np.float32)  # clockwise with y down, for rows of points
    return np.asarray((points - 0.5) @ turn + 0.5 + np.array(augmentation.shift, np.float32), np.float32)


def _inverse_affine(
    augmentation: Augmentation, width: int, height: int
) -> tuple[float, float, float, float, float, float]:
    """Where the place (x, y) of the result comes from: ``(a x + b y + c, d x + e y + f)``, as Pillow takes it."""
    angle = math.radians(augmentation.degrees)
    cos, sin = math.cos(angle) / augmentation.scale, math.sin(angle) / augmentation.scale
    x0 = width / 2 + augmentation.shift[0] * width
    y0 = height / 2 + augmentation.shift[1] * height
    # With y pointing down, turning clockwise by t takes (x, y) to (x cos t - y sin t, x sin t + y cos t).
    return cos, sin, width / 2 - cos * x0 - sin * y0, -sin, cos, height / 2 + sin * x0 - cos * y0
