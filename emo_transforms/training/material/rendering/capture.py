"""What cameras, compression and things in front of a face do to a picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


def capture(picture: Picture, rng: np.random.Generator) -> Picture:
    """A picture as it could come from a poor video: each fault comes with a probability of its own.

    Args:
        picture: RGB uint8 ``[h, w, 3]``.
    """
    faults = (
        (0.15, _occluded),
        (0.35, _coarse),
        (0.3, _blurred),
        (0.15, _smeared),
        (0.7, _toned),
        (0.08, _grey),
        (0.5, _noisy),
        (0.6, _compressed),
    )
    for chance, fault in faults:
        if rng.uniform() < chance:
            picture = fault(picture, rng)
    return picture


def _occluded(picture: Picture, rng: np.random.Generator) -> Picture:
    """A hand, a microphone, hair: a flat or striped shape over up to a third of the width."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
    axes = (int(width * rng.uniform(0.06, 0.2)), int(height * rng.uniform(0.06, 0.3)))
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
    stripes = np.sin(np.linspace(0, rng.uniform(2, 40), width))[None, :, None] * rng.uniform(0, 30)
    paint = np.clip(rng.uniform(10, 220, 3) + stripes + np.zeros((height, width, 3)), 0, 255)
    soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.4, 2.5)))[..., None] / 255.0
    return np.asarray(picture * (1 - soft) + paint * soft, np.uint8)


def _coarse(picture: Picture, rng: np.random.Generator) -> Picture:
    height, width = picture.shape[:2]
    factor = rng.uniform(0.2, 0.8)
    small = cv2.resize(
        picture, (max(12, int(width * factor)), max(12, int(height * factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blurred(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.4 + 0.01 * len(picture)))), np.uint8)


def _smeared(picture: Picture, rng: np.random.Generator) -> Picture:
    length = int(rng.integers(3, max(4, len(picture) // 18)))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = (length - 1) / 2
    for step in np.linspace(-reach, reach, 2 * length):
        kernel[round(reach + step * np.sin(angle)), round(reach + step * np.cos(angle))] = 1
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.uint8)


def _toned(picture: Picture, rng: np.random.Generator) -> Picture:
    gain = rng.uniform(0.7, 1.35) * rng.uniform(0.88, 1.14, 3)
    curve = (np.arange(256)[:, None] / 255) ** rng.uniform(0.65, 1.5) * 255 * gain + rng.uniform(-18, 18)
    table = np.clip(curve, 0, 255).astype(np.uint8)
    return np.stack([table[picture[..., c], c] for c in range(3)], -1)


def _grey(picture: Picture, rng: np.random.Generator) -> Picture:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def _noisy(picture: Picture, rng: np.random.Generator) -> Picture:
    noise = rng.normal(0, rng.uniform(1, 11), (*picture.shape[:2], 1 if rng.uniform() < 0.5 else 3))
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _compressed(picture: Picture, rng: np.random.Generator) -> Picture:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(22, 90))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
