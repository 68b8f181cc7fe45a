"""Area averages of a frame, in any number and size.

MTCNN looks at a frame at a dozen scales and at hundreds of crops of it, all made by area averaging with the windows of
adaptive pooling: pixel ``i`` of ``n`` covers the source pixels ``floor(i * length / n)`` to ``ceil((i + 1) * length /
n)``. A row of windows is averaged from one row of running sums of what lies in their height: the difference of two rows
of a summed-area table (Crow, 1984), or of the pixels themselves where the windows are low. Sums are whole numbers, so
both give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.compiled_loops import compiled
from emobeam.emo_transforms.faces.crops import Picture

_LOW = 3
"""Windows of up to so many rows are summed from the pixels, whose rows have a quarter of the bytes of a table's."""

_NO_TABLE = np.empty((0, 0), np.int32)


@dataclass(frozen=True, eq=False)
class Sums:
    """A frame and its summed-area table.

    Attributes:
        pixels: uint8 [H, 3 W].
        table: int32 [H + 1, 3 (W + 1)]; differences are exact for windows of up to 8 million px (they may wrap around
            and back).
    """

    pixels: NDArray[np.uint8]
    table: NDArray[np.int32]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frame in px."""
        return self.pixels.shape[0], self.pixels.shape[1] // 3


def sums_of(frame: Picture) -> Sums:
    """The table of a frame [H, W, 3]."""
    pixels = _flat(frame)
    table = np.asarray(cv2.integral(frame, sdepth=cv2.CV_32S), np.int32)
    return Sums(pixels, table.reshape(len(table), -1))


@dataclass(frozen=True, eq=False)
class LevelGrid:
    """Windows of a whole frame averaged to a smaller one, with room for tiles beyond its edge.

    Attributes:
        frame: height and width of the frame in px.
        rows: first and last + 1 source row of the windows of each row; beyond the level's edge the last is repeated.
        columns: the same of their columns, three channels side by side, as columns of a table.
        per_width: one over the windows' width, float32, of each of these columns.
    """

    frame: tuple[int, int]
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    columns: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    per_width: NDArray[np.float32]


def level_grid(frame: tuple[int, int], level: tuple[int, int], padded: tuple[int, int]) -> LevelGrid:
    """The windows that average a frame of height and width ``frame`` to ``level``, laid out on ``padded`` px."""
    rows, (left, right) = (_edges(n, m, k) for n, m, k in zip(frame, level, padded, strict=True))
    per_width = np.repeat((1 / (right - left)).astype(np.float32), 3)
    return LevelGrid(frame, rows, (_channels(left), _channels(right)), per_width)


def average_tiles(
    sums: Sums, grid: LevelGrid, marked: NDArray[np.bool_], step: int, edge: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Square tiles of a level.

    Args:
        marked: [rows, columns], which tiles; each begins ``step`` px after its neighbour.
        edge: of a tile in px.

    Returns:
        float32 [n, edge, edge, 3] in 0 to 255, n of them marked, row by row; written to ``out`` (contiguous) where
        given.

    Raises:
        ValueError: the frame, the grid, the tiles and ``out`` don't fit together.
    """
    count = np.count_nonzero(marked)
    tiles = np.empty((count, edge, edge, 3), np.float32) if out is None else out
    if grid.frame != sums.size or tiles.shape != (count, edge, edge, 3) or not tiles.flags.c_contiguous:
        raise ValueError(f"a grid for {grid.frame} px and tiles {tiles.shape} for {count} of a frame of {sums.size} px")
    room = len(grid.rows[0]), len(grid.per_width) // 3
    if any((tiles - 1) * step + edge > length for tiles, length in zip(marked.shape, room, strict=True)):
        raise ValueError(f"{marked.shape} tiles of {edge} px, {step} px apart, reach beyond a grid of {room} px")
    flat = tiles.reshape(count, edge, 3 * edge)
    _fill_tiles(sums.pixels, sums.table, *grid.rows, *grid.columns, grid.per_width, marked, step, flat)
    return tiles


def average_crops(source: Sums | Picture, boxes: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Crops averaged to one size.

    Args:
        source: a frame's table; for a few crops its pixels [H, W, 3] are enough.
        boxes: [n, 4] left, top, right, bottom in whole px inside the frame, right and bottom excluded.

    Returns:
        float32 [n, size, size, 3] in 0 to 255.

    Raises:
        ValueError: a box is empty or reaches beyond the frame, which has other channels than three.
    """
    height, width = size_of(source)
    least, most = boxes.min(axis=0, initial=0), boxes.max(axis=0, initial=0)
    if least.min() < 0 or most[2] > width or most[3] > height or (boxes[:, 2:] <= boxes[:, :2]).any():
        raise ValueError(f"boxes beyond a frame of {width}x{height} px, or empty ones")
    crops = np.empty((len(boxes), size, size, 3), np.float32)
    pixels, table = (source.pixels, source.table) if isinstance(source, Sums) else (_flat(source), _NO_TABLE)
    _fill_crops(pixels, table, np.ascontiguousarray(boxes, np.int64), crops.reshape(len(boxes), size, 3 * size))
    return crops


def size_of(source: Sums | Picture) -> tuple[int, int]:
    """Height and width of a frame in px."""
    return source.size if isinstance(source, Sums) else (source.shape[0], source.shape[1])


def _flat(frame: Picture) -> NDArray[np.uint8]:
    """Rows of three channels; always read only, for which loops are compiled."""
    flat = np.ascontiguousarray(frame, np.uint8).reshape(frame.shape[0], 3 * frame.shape[1])
    flat.flags.writeable = False
    return flat


def _edges(length: int, count: int, padded: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i = np.minimum(np.arange(padded), count - 1)
    return i * length // count, -(-(i + 1) * length // count)


def _channels(columns: NDArray[np.int64]) -> NDArray[np.uint64]:
    # Unsigned, for which no index counts from the end: three times as fast.
    return (3 * columns[:, None] + np.arange(3)).ravel().astype(np.uint64)


@compiled
def _fill_tiles(
    pixels: NDArray[np.uint8],
    table: NDArray[np.int32],
    top: NDArray[np.int64],
    bottom: NDArray[np.int64],
    left: NDArray[np.uint64],
    right: NDArray[np.uint64],
    per_width: NDArray[np.float32],
    marked: NDArray[np.bool_],
    step: int,
    tiles: NDArray[np.float32],
) -> None:
    edge = tiles.shape[1]
    room, sums = np.empty(pixels.shape[1], np.int32), np.empty(pixels.shape[1] + 3, np.int32)
    values = np.empty(len(left), np.float32)
    low = _LOW if len(table) else len(pixels)
    rows, columns = marked.shape
    before = number = 0
    for row in range(rows):
        for y in range(row * step, row * step + edge):
            number = before
            start = 0
            while start < columns:
                if not marked[row, start]:
                    start += 1
                    continue
                end = start + 1  # neighbours share columns
                while end < columns and marked[row, end]:
                    end += 1
                own = slice(3 * start * step, 3 * ((end - 1) * step + edge))
                reach = np.int64(left[own.start]), np.int64(right[own.stop - 3])
                _sum_rows(pixels, table, top[y], bottom[y], reach, low, room, sums)
                _average(sums, left[own], right[own], per_width[own], bottom[y] - top[y], values[own])
                for tile in range(start, end):
                    tiles[number, y - row * step] = values[3 * tile * step : 3 * (tile * step + edge)]
                    number += 1
                start = end
        before = number


@compiled
def _fill_crops(
    pixels: NDArray[np.uint8], table: NDArray[np.int32], boxes: NDArray[np.int64], crops: NDArray[np.float32]
) -> None:
    size = crops.shape[1]
    room, sums = np.empty(pixels.shape[1], np.int32), np.empty(pixels.shape[1] + 3, np.int32)
    left, right = np.empty(3 * size, np.uint64), np.empty(3 * size, np.uint64)
    per_width = np.empty(3 * size, np.float32)
    low = _LOW if len(table) else len(pixels)
    for number in range(len(boxes)):
        box = boxes[number]
        width, height = box[2] - box[0], box[3] - box[1]
        for k in range(3 * size):
            x = k // 3
            start, end = x * width // size, -((-(x + 1) * width) // size)
            left[k], right[k] = 3 * (box[0] + start) + k % 3, 3 * (box[0] + end) + k % 3
            per_width[k] = 1 / (end - start)
        for y in range(size):
            top, bottom = box[1] + y * height // size, box[1] - (-(y + 1) * height) // size
            _sum_rows(pixels, table, top, bottom, (3 * box[0], 3 * box[2]), low, room, sums)
            _average(sums, left, right, per_width, bottom - top, crops[number, y])


@compiled
def _sum_rows(
    pixels: NDArray[np.uint8],
    table: NDArray[np.int32],
    top: int,
    bottom: int,
    reach: tuple[np.int64 | int, np.int64 | int],
    low: int,
    room: NDArray[np.int32],
    sums: NDArray[np.int32],
) -> None:
    """Writes running sums of three channels over rows ``top`` to ``bottom`` to ``sums``, where ``reach`` says."""
    first, last = reach
    if bottom - top > low:
        found, above, below = sums[first : last + 3], table[top, first : last + 3], table[bottom, first : last + 3]
        for k in range(len(found)):
            found[k] = below[k] - above[k]
        return
    tall, found = room[: last - first], sums[first : last + 3]
    one = pixels[top, first:last]
    if bottom - top == 2:  # one pass over all rows is twice as fast as one for each
        two = pixels[top + 1, first:last]
        for k in range(len(tall)):
            tall[k] = np.int32(one[k]) + np.int32(two[k])
    elif bottom - top == 3:
        two, three = pixels[top + 1, first:last], pixels[top + 2, first:last]
        for k in range(len(tall)):
            tall[k] = np.int32(one[k]) + np.int32(two[k]) + np.int32(three[k])
    else:
        for k in range(len(tall)):
            tall[k] = one[k]
        for y in range(top + 1, bottom):
            row = pixels[y, first:last]
            for k in range(len(tall)):
                tall[k] += row[k]
    red = green = blue = 0
    found[0] = found[1] = found[2] = 0
    for x in range(len(tall) // 3):
        red += tall[3 * x]
        green += tall[3 * x + 1]
        blue += tall[3 * x + 2]
        found[3 * x + 3] = red
        found[3 * x + 4] = green
        found[3 * x + 5] = blue


@compiled
def _average(
    sums: NDArray[np.int32],
    left: NDArray[np.uint64],
    right: NDArray[np.uint64],
    per_width: NDArray[np.float32],
    height: int,
    out: NDArray[np.float32],
) -> None:
    per_height = np.float32(1 / height)
    for k in range(len(out)):
        out[k] = np.float32(np.int32(sums[right[k]] - sums[left[k]])) * per_width[k] * per_height
