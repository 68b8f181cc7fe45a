"""The image pyramid that P-Net looks at: its levels, their tiles, and the boxes that P-Net proposes in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.compiled_loops import compiled
from emobeam.emo_transforms.faces.detection.area_averages import LevelGrid, Sums, average_tiles, level_grid
from emobeam.emo_transforms.faces.detection.gate import UNSEEN
from emobeam.emo_transforms.faces.detection.mtcnn_layers import TILE_EDGE, TILE_PLACES, TILE_STEP

_GATE_REACH = 2
"""So far, in places on each side, does an opened place reach."""

_MAX_EDGE = 32765
"""Larger frames hold no faces: P-Net's boxes of all levels lie side by side, 65536 px apart, when they are compared."""


@dataclass(frozen=True, eq=False)
class Level:
    """A level of the pyramid: its scale, the windows of its pixels, its rows and columns of places and of tiles."""

    scale: float
    grid: LevelGrid
    places: tuple[int, int]
    tiles: tuple[int, int]


@lru_cache(maxsize=64)
def levels_of(size: tuple[int, int], min_face: float, factor: float) -> tuple[Level, ...]:
    """The pyramid, finest level first, down to the last one in which a face of 12 px fits.

    It is empty for frames too large for it.

    Args:
        size: height and width of the frame in px.
        min_face: smallest face in px.
        factor: of one level's scale to the next.
    """
    height, width = size
    if max(size) > _MAX_EDGE:
        return ()
    scale = 12.0 / min_face
    edge = min(size) * scale
    levels = []
    while edge >= 12:
        level = (int(height * scale + 1), int(width * scale + 1))
        # Of an odd edge the pooling keeps the last pixel: ceil((edge - 2) / 2) - 4 places.
        places = (-(-(level[0] - 2) // 2) - 4, -(-(level[1] - 2) // 2) - 4)
        tiles = (-(-places[0] // TILE_PLACES), -(-places[1] // TILE_PLACES))
        padded = (tiles[0] * TILE_STEP + TILE_EDGE - TILE_STEP, tiles[1] * TILE_STEP + TILE_EDGE - TILE_STEP)
        levels.append(Level(scale, level_grid(size, level, padded), places, tiles))
        scale *= factor
        edge *= factor
    return tuple(levels)


def cut_tiles(sums: Sums, level: Level, marked: NDArray[np.bool_], out: NDArray[np.float32]) -> None:
    """Writes the marked tiles of a level to ``out`` [n, 42, 42, 3]."""
    average_tiles(sums, level.grid, marked, TILE_STEP, TILE_EDGE, out)


def mapped(answers: NDArray[np.float32], marked: NDArray[np.bool_], level: Level) -> NDArray[np.float32]:
    """P-Net's answers [n, 16, 16, 5] on the marked tiles as a map of the level's places, [rows, columns, 5]."""
    corners = _corners(answers, marked)
    places = np.empty((*level.places, 5), np.float32)
    if not marked.all():
        places[:] = UNSEEN
    _map(answers, corners, places)
    return places


def tiles_about(opened: NDArray[np.bool_], finer: Level) -> NDArray[np.bool_]:
    """The tiles of the next finer level that hold a place about the opened ones [rows, columns] of this level.

    Place ``r`` of the finer level lies on place ``floor(r * rows / finer rows)`` of this one.
    """
    marked = np.zeros(finer.tiles, np.bool_)
    _mark(opened, finer.places, TILE_PLACES, marked)
    return marked


def proposals(
    answers: NDArray[np.float32], marked: NDArray[np.bool_], level: Level, least: float
) -> NDArray[np.float32]:
    """Boxes [n, 9] of a level: edges in px of the frame, logit, shifts of the edges; row by row in each tile.

    Args:
        answers: of P-Net on the marked tiles, [n, 16, 16, 5].
        least: logit of a proposal.
    """
    return _proposals(answers, _corners(answers, marked), level.places, np.float32(level.scale), np.float32(least))


def _corners(answers: NDArray[np.float32], marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first place [row, column] of each marked tile."""
    corners = np.ascontiguousarray(np.argwhere(marked)) * TILE_PLACES
    if answers.shape != (len(corners), TILE_PLACES, TILE_PLACES, 5):
        raise ValueError(f"answers {answers.shape} for {len(corners)} tiles")
    return corners


@compiled
def _proposals(
    answers: NDArray[np.float32],
    corners: NDArray[np.int64],
    places: tuple[int, int],
    scale: np.float32,
    least: np.float32,
) -> NDArray[np.float32]:
    found = np.empty(((answers[..., 0] >= least).sum(), 9), np.float32)
    count = 0
    for tile in range(len(corners)):
        top, left = corners[tile]
        for y in range(min(answers.shape[1], places[0] - top)):
            for x in range(min(answers.shape[2], places[1] - left)):
                if answers[tile, y, x, 0] >= least:
                    for axis, place in enumerate((left + x, top + y)):
                        found[count, axis] = np.floor(np.float32(2 * place + 1) / scale)
                        found[count, axis + 2] = np.floor(np.float32(2 * place + 12) / scale)
                    found[count, 4:] = answers[tile, y, x]
                    count += 1
    return found[:count]


@compiled
def _map(answers: NDArray[np.float32], corners: NDArray[np.int64], places: NDArray[np.float32]) -> None:
    for tile in range(len(corners)):
        top, left = corners[tile]
        for y in range(min(answers.shape[1], places.shape[0] - top)):
            for x in range(min(answers.shape[2], places.shape[1] - left)):
                places[top + y, left + x] = answers[tile, y, x]


@compiled
def _mark(opened: NDArray[np.bool_], places: tuple[int, int], edge: int, marked: NDArray[np.bool_]) -> None:
    rows, columns = opened.shape
    for y in range(rows):
        top = -((-max(y - _GATE_REACH, 0) * places[0]) // rows) // edge
        bottom = (-((-min(y + _GATE_REACH + 1, rows) * places[0]) // rows) - 1) // edge
        for x in range(columns):
            if opened[y, x]:
                left = -((-max(x - _GATE_REACH, 0) * places[1]) // columns) // edge
                right = (-((-min(x + _GATE_REACH + 1, columns) * places[1]) // columns) - 1) // edge
                marked[top : bottom + 1, left : right + 1] = True
