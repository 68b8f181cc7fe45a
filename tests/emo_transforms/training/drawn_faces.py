"""Drawn faces: skin, eyes, brows and a mouth, whose bend and openness say which expression it is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOUTHS = {
    "Happiness": (0.20, 0.0),
    "Sadness": (-0.20, 0.0),
    "Surprise": (0.0, 0.16),
    "Neutral": (0.0, 0.0),
}
"""Bend (up is positive) and openness of the mouth, in parts of the picture."""

VALENCE = {"Happiness": 0.8, "Sadness": -0.7, "Surprise": 0.2, "Neutral": 0.0}
AROUSAL = {"Happiness": 0.5, "Sadness": -0.3, "Surprise": 0.8, "Neutral": -0.1}


def draw_face(name: str, rng: np.random.Generator, size: int = 64) -> NDArray[np.uint8]:
    """RGB uint8 ``[size, size, 3]``; colours and places vary with ``rng``."""
    bend, openness = MOUTHS[name]
    picture = np.full((size, size, 3), rng.integers(20, 90, 3), np.uint8)
    shift = rng.normal(0, 0.01, 2)
    skin = tuple(int(value) for value in rng.integers((170, 120, 90), (235, 190, 160)))

    def at(x: float, y: float) -> tuple[int, int]:
        return round((x + shift[0]) * size), round((y + shift[1]) * size)

    cv2.ellipse(picture, at(0.5, 0.5), (int(0.36 * size), int(0.46 * size)), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x in (0.35, 0.65):
        cv2.circle(picture, at(x, 0.4), max(int(0.05 * size), 1), (30, 30, 40), -1, cv2.LINE_AA)
    if openness:
        axes = (int(0.1 * size), int(openness * size))
        cv2.ellipse(picture, at(0.5, 0.72), axes, 0, 0, 360, (110, 20, 30), -1, cv2.LINE_AA)
    else:
        xs = np.linspace(-1, 1, 9)
        points = [at(0.5 + 0.18 * x, 0.72 - bend * (x * x - 0.5)) for x in xs]
        cv2.polylines(picture, [np.array(points, np.int32)], False, (110, 20, 30), max(size // 16, 1), cv2.LINE_AA)
    noise = rng.normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def write_faces(folder: Path, per_class: int, *, seed: int = 0, size: int = 64, names: tuple[str, ...] = ()) -> None:
    """``<class>/<n>.jpg`` for every class."""
    for place, name in enumerate(names or tuple(MOUTHS)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            rng = np.random.default_rng([seed, place, number])
            Image.fromarray(draw_face(name, rng, size)).save(folder / name / f"{number:03d}.jpg", quality=92)
