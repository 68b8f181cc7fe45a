"""Faces of a frame, what finds them, and the crops of them that networks see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emobeam.schemas.config import AlignConfig

Picture = NDArray[np.uint8]
"""An upright RGB frame or crop, [H, W, 3]."""

FIVE_POINTS_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Left eye, right eye, nose, left and right corner of the mouth (as the viewer sees them) in a 112x112 crop: the
template of ArcFace (Deng et al., 2019)."""


@dataclass(frozen=True)
class Faces:
    """Faces of one frame, n of them, best first.

    Attributes:
        boxes: float32 [n, 4], left, top, right, bottom in px; may reach beyond the frame.
        scores: float32 [n] in [0, 1].
        landmarks: float32 [n, 5, 2], px, in the order of :data:`FIVE_POINTS_112`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """Finds faces in the sampled frames of a segment, all of one size."""

    def start(self) -> None:
        """A new segment begins: whatever was remembered of the last one is forgotten."""

    def detect(self, frames: Sequence[Picture], times: Sequence[float]) -> list[Faces]:
        """Faces of each frame, in order.

        Args:
            frames: the next frames of the segment.
            times: when each is shown, in s, ascending.
        """


def no_faces() -> Faces:
    """A frame without faces."""
    return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def crop_face(
    frame: Picture, box: NDArray[np.float32], landmarks: NDArray[np.float32], config: AlignConfig, size: int
) -> Picture:
    """The crop of one face, RGB uint8 [size, size, 3].

    ``square``: the box made square about its centre, its edge lengthened by ``margin``. ``5pt``: the similarity
    that brings the five landmarks closest to :data:`FIVE_POINTS_112`, scaled to ``size``. What lies beyond
    the frame is black.
    """
    if config.style == "square":
        return crop_square(frame, box, config.margin, size)
    if config.style == "5pt":
        return crop_five_points(frame, landmarks, size)
    raise ValueError(f"alignment {config.style!r} makes no crop")


def square_box(box: NDArray[np.float32], margin: float) -> tuple[float, float, float]:
    """Left, top and edge in px of the square about a box, ``1 + margin`` times its longer edge."""
    left, top, right, bottom = (float(value) for value in box)
    edge = max(right - left, bottom - top, 1.0) * (1 + margin)
    return (left + right - edge) / 2, (top + bottom - edge) / 2, edge


def in_square(points: NDArray[np.floating], box: NDArray[np.float32], margin: float) -> NDArray[np.float32]:
    """Points ``[n, 2]`` of a picture in the crop that :func:`crop_square` cuts, in parts of its edge: 0 to 1 inside."""
    left, top, edge = square_box(box, margin)
    return np.asarray((points - np.array([left, top])) / edge, np.float32)


def crop_square(frame: Picture, box: NDArray[np.float32], margin: float, size: int) -> Picture:
    """See :func:`crop_face`; antialiased bilinear resampling."""
    from emobeam.emo_transforms.faces.resampling import (
        resample_square,  # Numba takes a moment to load; planning never gets here
    )

    return resample_square(frame, *square_box(box, margin), size)


def crop_five_points(frame: Picture, landmarks: NDArray[np.float32], size: int) -> Picture:
    """See :func:`crop_face`; faces more than twice as large as the crop are first reduced by area averaging."""
    target = FIVE_POINTS_112 * (size / 112)
    scale, rotation, shift = similarity(target, landmarks.astype(np.float64))
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], np.float64) @ (scale * rotation.T) + shift
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    region, x0, y0 = _region(frame, left, top, right, bottom)
    picture = Image.fromarray(region)
    reduction = max(int(scale), 1)
    if reduction > 1:
        picture = picture.reduce(reduction)
    linear = scale * rotation / reduction
    offset = (shift - (x0, y0)) / reduction
    data = (linear[0, 0], linear[0, 1], offset[0], linear[1, 0], linear[1, 1], offset[1])
    warped = picture.transform((size, size), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(warped)


def similarity(
    source: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Scale, rotation [2, 2] and shift [2] with the least squared distance of ``source`` to ``target`` [n, 2].

    ``target ~ scale * source @ rotation.T + shift`` (Umeyama, 1991, without reflection).
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    centred = source - mean_source
    u, singular, vt = np.linalg.svd((target - mean_target).T @ centred / len(source))
    sign = np.diag([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt)) or 1.0])
    rotation = u @ sign @ vt
    scale = float((singular * sign.diagonal()).sum() / centred.var(axis=0).sum())
    return scale, rotation, mean_target - scale * rotation @ mean_source


def fit_crop(crop: Picture, size: int) -> Picture:
    """A crop as the organisers hand it out, resized to the backbone's input."""
    if crop.shape[:2] == (size, size):
        return crop
    return np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR))


def source_crop(frame: Picture, box: NDArray[np.float32], margin: float) -> Picture:
    """The square about a box at the resolution of the frame, black beyond it: what ``--store crops`` keeps."""
    left, top, edge = square_box(box, margin)
    left, top, side = round(left), round(top), max(round(edge), 1)
    region, _, _ = _region(frame, left, top, left + side, top + side, extra=0)
    return region


def _region(
    frame: Picture, left: float, top: float, right: float, bottom: float, *, extra: int = 1
) -> tuple[Picture, int, int]:
    """The part of a frame that covers a box and ``extra`` px about it, padded with black; and where its corner is."""
    x0, y0 = int(np.floor(left)) - extra, int(np.floor(top)) - extra
    x1, y1 = int(np.ceil(right)) + extra, int(np.ceil(bottom)) + extra
    height, width = frame.shape[:2]
    if x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height:
        return np.ascontiguousarray(frame[y0:y1, x0:x1]), x0, y0
    region = np.zeros((max(y1 - y0, 1), max(x1 - x0, 1), 3), np.uint8)
    inner = frame[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    region[max(-y0, 0) : max(-y0, 0) + inner.shape[0], max(-x0, 0) : max(-x0, 0) + inner.shape[1]] = inner
    return region, x0, y0
