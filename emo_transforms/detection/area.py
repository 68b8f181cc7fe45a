"""Area averages of a frame, in any number and size, from one table of sums.

MTCNN looks at a frame at a dozen scales and at hundreds of crops of it, all made by area averaging with the windows of
adaptive pooling: pixel ``i`` of ``n`` covers the source pixels ``floor(i * length / n)`` to ``ceil((i + 1) * length /
n)``. With a summed-area table (Crow, 1984) each of these windows costs four look-ups, whatever its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_NARROW_AREA = 65535 // 255
_BAND = 64
"""Rows worked on at once: few enough for a core's cache."""


@dataclass(frozen=True, eq=False)
class Sums:
    """The summed-area table of a frame.

    Attributes:
        wide: int32 [H + 1, W + 1, 3]; differences are exact for windows of up to 8 million px (they may wrap around
            and back).
        narrow: its lower 16 bits, half the traffic: exact for windows of up to 257 px.
    """

    wide: NDArray[np.int32]
    narrow: NDArray[np.uint16]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame in px."""
        return self.wide.shape[0] - 1, self.wide.shape[1] - 1


def sums_of(frame: NDArray[np.uint8]) -> Sums:
    """The table of a frame [H, W, 3]; edges up to 32765 px, the range of OpenCV's look-ups."""
    wide = np.asarray(cv2.integral(frame, sdepth=cv2.CV_32S), np.int32)
    return Sums(wide, wide.astype(np.uint16))


@dataclass(frozen=True, eq=False)
class LevelGrid:
    """Windows of a whole frame averaged to a smaller one, with room for tiles beyond its edge.

    Attributes:
        size: height and width of the level in px.
        rows, columns: first and last + 1 source pixel of each window; beyond ``size`` the last window is repeated.
        first, last: OpenCV maps of a band of rows, for the left and the right end of each window.
    """

    size: tuple[int, int]
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    columns: tuple[NDArray[np.int64], NDArray[np.int64]]
    first: NDArray[np.int16]
    last: NDArray[np.int16]


def level_grid(frame: tuple[int, int], level: tuple[int, int], padded: tuple[int, int]) -> LevelGrid:
    """The windows that average a frame of height and width ``frame`` to ``level``, laid out on ``padded`` px."""
    rows, columns = (_edges(n, m, k) for n, m, k in zip(frame, level, padded, strict=True))
    return LevelGrid(level, rows, columns, _band(columns[0], padded[0]), _band(columns[1], padded[0]))


def average_level(sums: Sums, grid: LevelGrid, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """The averages on a grid, float32 [padded height, padded width, 3] in 0 to 255, written to ``out`` where given."""
    (top, bottom), (left, right) = grid.rows, grid.columns
    height, width = bottom - top, right - left
    table = sums.narrow if int(height.max()) * int(width.max()) <= _NARROW_AREA else sums.wide
    level = np.empty((len(top), len(left), 3), np.float32) if out is None else out
    per_width = np.repeat((1 / width).astype(np.float32), 3)
    per_height = (1 / height).astype(np.float32)[:, None]
    for start in range(0, len(top), _BAND):
        band = slice(start, start + _BAND)
        tall = table[bottom[band]]
        tall -= table[top[band]]
        found = _look_up(tall, grid.last[: len(tall)])
        found -= _look_up(tall, grid.first[: len(tall)])
        # Two passes over long rows are several times faster than one that broadcasts over three channels.
        flat = level[band].reshape(len(tall), -1)
        np.multiply(found.reshape(flat.shape), per_width, out=flat, casting="unsafe", dtype=np.float32)
        flat *= per_height[band]
    return level


def average_tiles(
    sums: Sums, grid: LevelGrid, corners: NDArray[np.int64], edge: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Square tiles of a level, to the bit as :func:`average_level` has them; cheaper where they are few.

    Args:
        corners: [n, 2] row and column of each tile in the level.
        edge: of a tile in px.

    Returns:
        float32 [n, edge, edge, 3] in 0 to 255, written to ``out`` (contiguous) where given.
    """
    reach = np.arange(edge)
    rows, columns = corners[:, :1] + reach, corners[:, 1:] + reach
    return _averages(
        sums, grid.columns[0][columns], grid.rows[0][rows], grid.columns[1][columns], grid.rows[1][rows], out
    )


def average_crops(sums: Sums, boxes: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Crops averaged to one size.

    Args:
        boxes: [n, 4] left, top, right, bottom in whole px inside the frame, right and bottom excluded.

    Returns:
        float32 [n, size, size, 3] in 0 to 255.
    """
    left, right = _windows(boxes[:, 0], boxes[:, 2], size)
    top, bottom = _windows(boxes[:, 1], boxes[:, 3], size)
    return _averages(sums, left, top, right, bottom)


def _averages(
    sums: Sums,
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    right: NDArray[np.int64],
    bottom: NDArray[np.int64],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Averages over grids of windows: the edges of their columns and rows [n, size] to [n, size, size, 3]."""
    count, size = left.shape
    found = np.empty((count, size, size, 3), np.float32) if out is None else out
    # OpenCV's images have at most 32767 rows.
    step = 32766 // size
    for start in range(0, count, step):
        part = slice(start, start + step)
        _fill(found[part], sums, left[part], top[part], right[part], bottom[part])
    return found


def _fill(
    crops: NDArray[np.float32],
    sums: Sums,
    left: NDArray[np.int64],
    top: NDArray[np.int64],
    right: NDArray[np.int64],
    bottom: NDArray[np.int64],
) -> None:
    count, size = left.shape
    width, height = right - left, bottom - top
    table = sums.narrow if int((height.max(axis=1) * width.max(axis=1)).max()) <= _NARROW_AREA else sums.wide
    at = np.empty((count, size, size, 2), np.int16)
    flat = at.reshape(count * size, size, 2)

    at[..., 0], at[..., 1] = right[:, None, :], bottom[:, :, None]
    found = _look_up(table, flat)
    at[..., 1] = top[:, :, None]
    found -= _look_up(table, flat)
    at[..., 0] = left[:, None, :]
    found += _look_up(table, flat)
    at[..., 1] = bottom[:, :, None]
    found -= _look_up(table, flat)
    rows = crops.reshape(count, size, size * 3)
    per_width = np.repeat((1 / width).astype(np.float32), 3, axis=1)[:, None, :]
    np.multiply(found.reshape(rows.shape), per_width, out=rows, casting="unsafe", dtype=np.float32)
    rows *= (1 / height).astype(np.float32)[:, :, None]


def _look_up(table: NDArray[Any], at: NDArray[np.int16]) -> NDArray[Any]:
    """Entries of a table at pairs (column, row)."""
    nothing: Any = None
    return np.asarray(cv2.remap(table, at, nothing, cv2.INTER_NEAREST))


def _windows(
    start: NDArray[np.int64], end: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    length = (end - start)[:, None]
    i = np.arange(size)
    return start[:, None] + i * length // size, start[:, None] - (-(i + 1) * length) // size


def _edges(length: int, count: int, padded: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i = np.minimum(np.arange(padded), count - 1)
    return i * length // count, -(-(i + 1) * length // count)


def _band(columns: NDArray[np.int64], height: int) -> NDArray[np.int16]:
    band = np.empty((min(_BAND, height), len(columns), 2), np.int16)
    band[..., 0] = columns
    band[..., 1] = np.arange(len(band))[:, None]
    return band
