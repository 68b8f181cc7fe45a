"""Squares of frames resampled to crops of one size, antialiased."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.compiled_loops import compiled


def resample_square(frame: NDArray[np.uint8], left: float, top: float, edge: float, size: int) -> NDArray[np.uint8]:
    """The bilinear filter of Pillow's ``resize``, whose triangle grows with the reduction: its crops to a step of 255.

    Args:
        frame: [H, W, 3].
        left, top, edge: the square in px of the frame; what lies beyond the frame is black.
        size: of the crop in px.

    Returns:
        uint8 [size, size, 3].

    Raises:
        ValueError: the square isn't finite or has no edge, or the frame has other channels than three.
    """
    if not math.isfinite(left + top + edge) or edge <= 0 or size <= 0:
        raise ValueError(f"no square: left {left}, top {top}, edge {edge}, for {size} px")
    height, width = frame.shape[:2]
    pixels = np.ascontiguousarray(frame, np.uint8).reshape(height, 3 * width)
    pixels.flags.writeable = False  # loops are compiled for read-only frames
    rows, columns = _taps(float(top), float(edge), size, height), _taps(float(left), float(edge), size, width)
    crop = np.empty((size, size, 3), np.uint8)
    _resample(pixels, *rows, *columns, crop.reshape(size, 3 * size))
    return crop


@compiled
def _taps(
    start: float, edge: float, size: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of each pixel of a crop: its first source pixel in the frame, the last one + 1, and their weights."""
    scale = edge / size
    support = max(scale, 1.0)
    room = int(np.ceil(support)) * 2 + 1
    first, last = np.empty(size, np.int64), np.empty(size, np.int64)
    weights = np.zeros((size, room), np.float32)
    for i in range(size):
        centre = start + (i + 0.5) * scale
        begin, end = int(np.floor(centre - support + 0.5)), int(np.floor(centre + support + 0.5))
        total = 0.0
        for k in range(begin, end):
            total += max(1 - abs(k - centre + 0.5) / support, 0.0)
        first[i], last[i] = min(max(begin, 0), length), min(max(end, 0), length)
        for k in range(first[i], last[i]):
            weights[i, k - first[i]] = max(1 - abs(k - centre + 0.5) / support, 0.0) / total
    return first, last, weights


@compiled
def _resample(
    pixels: NDArray[np.uint8],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    heights: NDArray[np.float32],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    widths: NDArray[np.float32],
    crop: NDArray[np.uint8],
) -> None:
    start, end = 3 * left[0], 3 * right[-1]
    tall = np.empty(max(end - start, 0), np.float32)
    for y in range(len(crop)):
        tall[:] = 0
        for k in range(top[y], bottom[y]):
            row, weight = pixels[k, start:end], heights[y, k - top[y]]
            for i in range(len(tall)):
                tall[i] += np.float32(row[i]) * weight
        for x in range(len(left)):
            red = green = blue = np.float32(0.5)
            for k in range(right[x] - left[x]):
                at, weight = 3 * (left[x] + k) - start, widths[x, k]
                red += tall[at] * weight
                green += tall[at + 1] * weight
                blue += tall[at + 2] * weight
            crop[y, 3 * x], crop[y, 3 * x + 1], crop[y, 3 * x + 2] = red, green, blue
