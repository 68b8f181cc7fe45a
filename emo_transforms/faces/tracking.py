"""Following faces from one sampled frame to the next, within one segment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MEMORY = 1.0
"""Seconds for which a track lives on without being seen."""

_MAX_SIZE_RATIO = 1.7
_REACH = 0.7
_REACH_PER_SECOND = 0.6
_MOTION_MEMORY = 0.3
_EXTRAPOLATE = 0.5

Boxes = NDArray[np.float32]
Floats = NDArray[np.float64]


def box_sizes(boxes: Boxes) -> Floats:
    """Size of faces, the square root of the area in px (at least 1), ``[n]`` for boxes ``[n, 4]`` (x1, y1, x2, y2)."""
    edges = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 1.0)
    return np.asarray(np.sqrt(edges[:, 0] * edges[:, 1]))


def box_centres(boxes: Boxes) -> Floats:
    """Centres (x, y) in px, ``[n, 2]`` for boxes ``[n, 4]``."""
    return (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2


def reach(gap: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """How far a face may have moved after ``gap`` seconds out of sight, in units of its size.

    0.7 at once, 0.6 more for each second: at 6 frames a second a face may move by 0.8 of its size, almost
    five times its size in a second.
    """
    return np.asarray(_REACH + _REACH_PER_SECOND * np.asarray(gap, dtype=np.float64))


def affinity(before: Boxes, after: Boxes, gap: NDArray[np.float64], shift: Floats | None = None) -> NDArray[np.float64]:
    """How well each earlier box goes with each later one; higher is better, ``-inf`` can't be one face.

    With IoU the overlap, d the distance of the centres over the mean of the two sizes, and r the ratio of
    the larger size to the smaller, a pair is possible if d <= :func:`reach` and r <= 1.7, and its affinity
    is IoU - d - ln r.

    Args:
        before: boxes ``[n, 4]``, x1, y1, x2, y2 in px.
        after: boxes ``[m, 4]``.
        gap: seconds between them, ``[n, m]`` or anything that broadcasts to it.
        shift: expected motion of the earlier boxes in px, ``[n, 2]``.

    Returns:
        float64 ``[n, m]``.
    """
    first, second = before.astype(np.float64), after.astype(np.float64)
    if shift is not None:
        first = first + np.tile(shift, 2)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), axis=2)
    size_a, size_b = box_sizes(before)[:, None], box_sizes(after)[None, :]
    iou = common / (size_a**2 + size_b**2 - common)
    centres = (first[:, None, :2] + first[:, None, 2:] - second[None, :, :2] - second[None, :, 2:]) / 2
    distance = np.hypot(centres[..., 0], centres[..., 1]) / ((size_a + size_b) / 2)
    log_ratio = np.abs(np.log(size_a / size_b))
    possible = (distance <= reach(gap)) & (log_ratio <= np.log(_MAX_SIZE_RATIO))
    return np.where(possible, iou - distance - log_ratio, -np.inf)


def best_pairs(affinities: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) of a matrix, the highest value first, each row and column at most once.

    ``-inf`` pairs nothing. Equal values are taken by row, then column.
    """
    rows, columns = np.nonzero(np.isfinite(affinities))
    pairs = []
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    for place in np.argsort(-affinities[rows, columns], kind="stable"):
        row, column = int(rows[place]), int(columns[place])
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            pairs.append((row, column))
    return pairs


class SegmentTracker:
    """Numbers the faces of one segment, frame after frame.

    A face of the present frame continues the track whose expected box, moved on at the speed of late, it
    goes with best (see :func:`affinity`); the best pairs of the frame are taken first. A track lives through
    misses of up to :data:`MEMORY` seconds. What the detector lists first plays no part: faces are taken
    from large to small, then by score and place.
    """

    def __init__(self) -> None:
        self._time = -np.inf
        self._count = 0
        self._numbers: list[int] = []
        self._boxes: Boxes = np.zeros((0, 4), np.float32)
        self._seen: Floats = np.zeros(0)
        self._speed: Floats = np.zeros((0, 2))  # px/s

    def update(self, time: float, boxes: Boxes, scores: NDArray[np.float32]) -> list[int]:
        """Track number of each face of the next sampled frame.

        Args:
            time: of the frame in seconds; not earlier than that of the call before.
            boxes: float32 ``[n, 4]``, x1, y1, x2, y2 in px.
            scores: float32 ``[n]``.

        Returns:
            Numbers local to the segment, from 0, in the order of ``boxes``, no two alike.

        Raises:
            ValueError: ``time`` runs backwards.
        """
        if time < self._time:
            raise ValueError(f"frames must come in order of time, got {time} s after {self._time} s")
        self._time = time
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        order = _largest_first(boxes, np.asarray(scores, np.float32).reshape(-1))
        self._forget(time)
        faces = boxes[order]
        gap = time - self._seen
        shift = self._speed * np.minimum(gap, _EXTRAPOLATE)[:, None]
        pairs = best_pairs(affinity(self._boxes, faces, gap[:, None], shift))

        numbers = [-1] * len(faces)
        for track, face in pairs:
            numbers[face] = self._numbers[track]
            self._move(track, faces[face], time)
        fresh = [face for face, number in enumerate(numbers) if number < 0]
        for face in fresh:
            numbers[face] = self._count
            self._numbers.append(self._count)
            self._count += 1
        self._boxes = np.concatenate([self._boxes, faces[fresh]])
        self._seen = np.concatenate([self._seen, np.full(len(fresh), time)])
        self._speed = np.concatenate([self._speed, np.zeros((len(fresh), 2))])

        in_order = [0] * len(faces)
        for place, number in zip(order.tolist(), numbers, strict=True):
            in_order[place] = number
        return in_order

    def _forget(self, time: float) -> None:
        alive = np.flatnonzero(time - self._seen <= MEMORY + 1e-6)
        self._numbers = [self._numbers[track] for track in alive]
        self._boxes, self._seen, self._speed = self._boxes[alive], self._seen[alive], self._speed[alive]

    def _move(self, track: int, box: Boxes, time: float) -> None:
        passed = time - self._seen[track]
        if passed <= 0:  # time stands still in some files, and tells nothing of speed
            self._boxes[track] = box
            return
        measured = (box_centres(box[None])[0] - box_centres(self._boxes[track][None])[0]) / passed
        # By elapsed time, not by frame: a detector's jitter must not look like motion at high frame rates.
        weight = 1.0 - np.exp(-passed / _MOTION_MEMORY)
        self._speed[track] += weight * (measured - self._speed[track])
        self._boxes[track] = box
        self._seen[track] = time


def _largest_first(boxes: Boxes, scores: NDArray[np.float32]) -> NDArray[np.intp]:
    x1, y1, x2, y2 = boxes.T
    return np.lexsort((y2, x2, y1, x1, -scores, -box_sizes(boxes)))
