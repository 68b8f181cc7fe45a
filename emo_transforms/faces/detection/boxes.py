"""Arithmetic of boxes [n, 4], left, top, right, bottom in px, as facenet-pytorch 2.6.0 has it, to the pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.compiled_loops import compiled

Boxes = NDArray[np.float32]


def overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]."""
    if boxes.shape[1:] != (4,) or others.shape[1:] != (4,):
        raise ValueError(f"boxes {boxes.shape} and {others.shape}")
    return _overlaps(np.ascontiguousarray(boxes, np.float32), np.ascontiguousarray(others, np.float32))


def suppress(boxes: Boxes, scores: NDArray[np.floating], overlap: float) -> NDArray[np.int64]:
    """Indices of boxes that no better one overlaps by more than ``overlap``, best first (torchvision's ``nms``)."""
    order = _best_first(boxes, scores)
    return order[_alone(np.ascontiguousarray(boxes[order], np.float32), float(overlap))]


def suppress_contained(boxes: Boxes, scores: NDArray[np.floating], overlap: float = 0.7) -> NDArray[np.int64]:
    """The same with the overlap measured against the smaller of two boxes: a face holds no other one."""
    order = _best_first(boxes, scores)
    return order[_uncontained(np.ascontiguousarray(boxes[order], np.float32), float(overlap))]


def square(boxes: Boxes) -> Boxes:
    """Squares about the centres of boxes, as wide as their longer edges."""
    edges = boxes[:, 2:4] - boxes[:, :2]
    edge = edges.max(axis=1, keepdims=True) if len(boxes) else np.empty((0, 1), np.float32)
    corner = boxes[:, :2] + edges * np.float32(0.5) - edge * np.float32(0.5)
    return np.concatenate([corner, corner + edge], axis=1)


def shift(boxes: Boxes, shifts: NDArray[np.float32]) -> Boxes:
    """Boxes with their edges moved by shares [n, 4] of their size."""
    edges = boxes[:, 2:4] - boxes[:, :2] + 1
    shifted: Boxes = boxes + shifts * np.concatenate([edges, edges], axis=1)
    return shifted


def inside(boxes: Boxes, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole pixels of boxes inside a frame (the cascade counts pixels from 1), and which have any.

    Args:
        size: height and width of the frame in px.
    """
    height, width = size
    whole = np.trunc(boxes).astype(np.int64)
    whole[:, :2] = np.maximum(whole[:, :2], 1) - 1
    whole[:, 2:] = np.minimum(whole[:, 2:], [width, height])
    return whole, (whole[:, 2] > whole[:, 0]) & (whole[:, 3] > whole[:, 1])


def _best_first(boxes: Boxes, scores: NDArray[np.floating]) -> NDArray[np.int64]:
    if boxes.shape != (len(scores), 4):
        raise ValueError(f"boxes {boxes.shape} with {len(scores)} scores")
    return np.argsort(-scores, kind="stable")


@compiled
def _overlaps(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    found = np.empty((len(boxes), len(others)), np.float32)
    for i in range(len(boxes)):
        for j in range(len(others)):
            one, other = boxes[i], others[j]
            width = min(one[2], other[2]) - max(one[0], other[0])
            height = min(one[3], other[3]) - max(one[1], other[1])
            common = max(np.float32(0), width) * max(np.float32(0), height)
            areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
            found[i, j] = common / max(areas - common, np.float32(1e-9))
    return found


@compiled
def _alone(boxes: NDArray[np.float32], overlap: float) -> NDArray[np.bool_]:
    kept = np.ones(len(boxes), np.bool_)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        for j in range(i + 1, len(boxes)):
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            common = max(np.float32(0), width) * max(np.float32(0), height)
            if common / (areas[i] + areas[j] - common) > overlap:
                kept[j] = False
    return kept


@compiled
def _uncontained(boxes: NDArray[np.float32], overlap: float) -> NDArray[np.bool_]:
    kept = np.ones(len(boxes), np.bool_)
    one = np.float32(1)
    areas = (boxes[:, 2] - boxes[:, 0] + one) * (boxes[:, 3] - boxes[:, 1] + one)
    for i in range(len(boxes)):
        if not kept[i]:
            continue
        for j in range(i + 1, len(boxes)):
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + one
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + one
            common = max(np.float32(0), width) * max(np.float32(0), height)
            if not common / min(areas[i], areas[j]) <= overlap:
                kept[j] = False
    return kept
