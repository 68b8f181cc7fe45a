"""Faces in frames: the cascade of MTCNN (Zhang et al., 2016), with the arithmetic of facenet-pytorch 2.6.0.

Three networks, each on what the one before it let pass: P-Net on every place of an image pyramid, R-Net and O-Net on
crops of the frame. The arithmetic of boxes is facenet-pytorch's to the pixel, so that its faces are found again. What
is left out is work: a place of the two finest levels of the pyramid is looked at only where the next coarser level
sees at least a trace of a face (see ``emo_transforms.detection.gate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torchvision.ops import nms

from emo_transforms.detection.area import (
    LevelGrid,
    Sums,
    average_crops,
    average_level,
    average_tiles,
    level_grid,
    sums_of,
)
from emo_transforms.detection.gate import FACTOR, UNSEEN, Gate
from emo_transforms.detection.networks import TILE_EDGE, TILE_PLACES, TILE_STEP, MtcnnNetworks
from emo_transforms.faces import Faces, Picture
from schemas.config import DetectorConfig

GATED_LEVELS = 2
"""So many levels, the finest ones, are gated: still coarser ones see nothing of the smallest faces."""

_GATE_REACH = 5
_FEW = 0.4
"""Up to this share of a level's tiles are averaged one by one, more of them with the whole level."""

_MAX_EDGE = 32765
_APART = 65536.0
_NO_BOXES = np.empty((0, 9), np.float32)

Boxes = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Level:
    """A level of the pyramid: its scale, the windows of its pixels, its rows and columns of places and of tiles."""

    scale: float
    grid: LevelGrid
    places: tuple[int, int]
    tiles: tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Look:
    """Tiles [rows, columns] of a level that P-Net looks at in one of the frames."""

    level: int
    frame: int
    tiles: NDArray[np.bool_]


class MtcnnDetector:
    """MTCNN frame by frame: what it finds in a frame depends on that frame alone.

    Args:
        config: sizes and thresholds.
        networks: on any engine.
        gate: decides where fine levels are looked at; everywhere where None, or where the pyramid has other steps than
            the gate knows.
    """

    def __init__(self, config: DetectorConfig, networks: MtcnnNetworks, gate: Gate | None = None) -> None:
        self.config = config
        self.networks = networks
        self._gate = gate if config.factor == FACTOR else None

    def start(self) -> None:
        """Nothing is remembered between frames."""

    def detect(self, frames: Sequence[Picture], times: Sequence[float] = ()) -> list[Faces]:
        """See ``emo_transforms.faces.Detector``."""
        if not frames:
            return []
        sums = [sums_of(frame) for frame in frames]
        return self.judge(sums, self.scan(sums))

    def scan(self, sums: Sequence[Sums], *, min_face: float | None = None) -> list[Boxes]:
        """P-Net over all places of frames of one size: squares [n, 4] that may hold faces, for each frame.

        Args:
            min_face: smallest face in px; the config's where None.
        """
        config = self.config
        levels = _levels(sums[0].size, min_face or config.min_face, config.factor)
        found = [[_NO_BOXES] * len(levels) for _ in sums]
        gated = max(min(GATED_LEVELS, len(levels) - 1), 0) if self._gate else 0
        marks: dict[int, NDArray[np.bool_]] = {}
        # The open levels go through the network together; each gated one waits for the next coarser one.
        for indices in (range(gated, len(levels)), *((index,) for index in reversed(range(gated)))):
            looks = [
                _Look(index, frame, marks[frame] if index < gated else np.ones(levels[index].tiles, bool))
                for index in indices
                for frame in range(len(sums))
            ]
            for look, answers in zip(looks, self._look(sums, levels, looks), strict=True):
                level = levels[look.level]
                found[look.frame][look.level] = _proposals(answers, look.tiles, level, config.thresholds[0])
                if self._gate and 0 < look.level <= gated:
                    opened = self._gate.open(_mapped(answers, look.tiles, level))
                    marks[look.frame] = _tiles_about(opened, levels[look.level - 1])
        return [_squares(own) for own in found]

    def _look(
        self, sums: Sequence[Sums], levels: Sequence[_Level], looks: Sequence[_Look]
    ) -> list[NDArray[np.float32]]:
        """P-Net's answers [n, 16, 16, 5] on the tiles of each look."""
        ends = np.cumsum([np.count_nonzero(look.tiles) for look in looks])
        tiles = np.empty((ends[-1] if looks else 0, TILE_EDGE, TILE_EDGE, 3), np.float32)
        for look, end in zip(looks, ends, strict=True):
            _cut_tiles(
                sums[look.frame], levels[look.level], look.tiles, tiles[end - np.count_nonzero(look.tiles) : end]
            )
        return np.split(self.networks.propose(tiles), ends[:-1]) if looks else []

    def judge(self, sums: Sequence[Sums], squares: Sequence[Boxes], *, most: int | None = None) -> list[Faces]:
        """R-Net, then O-Net on squares of each frame, and what is left as faces.

        Args:
            most: how many squares of a frame R-Net may pass on; all it accepts where None.
        """
        thresholds = self.config.thresholds
        refined = [boxes[:most] for boxes in self._refine(sums, squares, _logit(thresholds[1]))]
        places = [_inside(boxes, table.size) for boxes, table in zip(refined, sums, strict=True)]
        refined = [boxes[fine] for boxes, (_, fine) in zip(refined, places, strict=True)]
        crops = [average_crops(table, box[fine], 48) for table, (box, fine) in zip(sums, places, strict=True)]
        answers = self.networks.output(np.concatenate(crops))
        faces, start = [], 0
        for boxes in refined:
            stop = start + len(boxes)
            faces.append(_faces(boxes, answers[start:stop], thresholds[2], self.config.keep))
            start = stop
        return faces

    def _refine(self, sums: Sequence[Sums], squares: Sequence[Boxes], threshold: float) -> list[Boxes]:
        places = [_inside(boxes, table.size) for boxes, table in zip(squares, sums, strict=True)]
        crops = [average_crops(table, box[fine], 24) for table, (box, fine) in zip(sums, places, strict=True)]
        answers = self.networks.refine(np.concatenate(crops))
        refined, start = [], 0
        for boxes, (_, fine) in zip(squares, places, strict=True):
            stop = start + int(fine.sum())
            mine, start = answers[start:stop], stop
            passed = mine[:, 0] > threshold
            kept, mine = boxes[fine][passed], mine[passed]
            best = _suppress(kept, mine[:, 0], 0.7)
            refined.append(_square(_shift(kept[best], mine[best, 1:5])))
        return refined


@lru_cache(maxsize=64)
def _levels(size: tuple[int, int], min_face: float, factor: float) -> tuple[_Level, ...]:
    """The pyramid, finest level first, down to the last one in which a face of 12 px fits.

    It is empty for frames too large for it.
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
        levels.append(_Level(scale, level_grid(size, level, padded), places, tiles))
        scale *= factor
        edge *= factor
    return tuple(levels)


def _cut_tiles(sums: Sums, level: _Level, marked: NDArray[np.bool_], out: NDArray[np.float32]) -> None:
    """Writes the marked tiles of a level to ``out`` [n, 42, 42, 3]."""
    if len(out) < _FEW * marked.size:
        average_tiles(sums, level.grid, np.argwhere(marked) * TILE_STEP, TILE_EDGE, out)
        return
    picture = average_level(sums, level.grid)
    tiles = sliding_window_view(picture, (TILE_EDGE, TILE_EDGE), axis=(0, 1))[::TILE_STEP, ::TILE_STEP]
    tiles = tiles.transpose(0, 1, 3, 4, 2)
    if marked.all():  # no copy between
        out.reshape(tiles.shape)[:] = tiles
    else:
        out[:] = tiles[marked]


def _mapped(answers: NDArray[np.float32], marked: NDArray[np.bool_], level: _Level) -> NDArray[np.float32]:
    """P-Net's answers on the marked tiles as a map of the level's places, [rows, columns, 5]."""
    rows, columns = level.tiles
    places = np.empty((rows, TILE_PLACES, columns, TILE_PLACES, 5), np.float32)
    if not marked.all():
        places[:] = UNSEEN
    places.transpose(0, 2, 1, 3, 4)[marked] = answers
    whole = places.reshape(rows * TILE_PLACES, columns * TILE_PLACES, 5)
    return whole[: level.places[0], : level.places[1]]


def _tiles_about(opened: NDArray[np.bool_], finer: _Level) -> NDArray[np.bool_]:
    """The tiles of the next finer level that hold a place about the opened ones of this level."""
    near = cv2.dilate(opened.astype(np.uint8), np.ones((_GATE_REACH, _GATE_REACH), np.uint8))
    rows, columns = finer.places
    fine = np.zeros((finer.tiles[0] * TILE_PLACES, finer.tiles[1] * TILE_PLACES), np.uint8)
    fine[:rows, :columns] = cv2.resize(near, (columns, rows), interpolation=cv2.INTER_NEAREST)
    return np.asarray(fine.reshape(finer.tiles[0], TILE_PLACES, finer.tiles[1], TILE_PLACES).any(axis=(1, 3)))


def _proposals(answers: NDArray[np.float32], mark: NDArray[np.bool_], level: _Level, threshold: float) -> Boxes:
    """Boxes [n, 9] of one level: edges, logit, shifts."""
    tile, row, column = np.nonzero(answers[..., 0] >= _logit(threshold))
    where = np.argwhere(mark)[tile] * TILE_PLACES + np.stack([row, column], axis=1)
    inside = (where < level.places).all(axis=1)
    places = where[inside, ::-1].astype(np.float32)
    first = np.floor((2 * places + 1) / np.float32(level.scale))
    last = np.floor((2 * places + 12) / np.float32(level.scale))
    return np.concatenate([first, last, answers[tile, row, column][inside]], axis=1)


def _squares(levels: Sequence[Boxes]) -> Boxes:
    """Squares about the best boxes of all levels, finest level first."""
    boxes = np.concatenate([_NO_BOXES, *levels])
    # Side by side, levels can't overlap: one pass finds the best boxes of each.
    apart = boxes[:, :4].copy()
    apart[:, ::2] += np.repeat(np.arange(len(levels), dtype=np.float32) * _APART, [len(own) for own in levels])[:, None]
    boxes = boxes[_suppress(apart, boxes[:, 4], 0.5)]
    boxes = boxes[_suppress(boxes[:, :4], boxes[:, 4], 0.7)]
    edges = boxes[:, 2:4] - boxes[:, :2]
    return _square(boxes[:, :4] + boxes[:, 5:9] * np.concatenate([edges, edges], axis=1))


def _square(boxes: Boxes) -> Boxes:
    edges = boxes[:, 2:4] - boxes[:, :2]
    edge = edges.max(axis=1, keepdims=True) if len(boxes) else np.empty((0, 1), np.float32)
    corner = boxes[:, :2] + edges * np.float32(0.5) - edge * np.float32(0.5)
    return np.concatenate([corner, corner + edge], axis=1)


def _shift(boxes: Boxes, shifts: NDArray[np.float32]) -> Boxes:
    edges = boxes[:, 2:4] - boxes[:, :2] + 1
    shifted: Boxes = boxes + shifts * np.concatenate([edges, edges], axis=1)
    return shifted


def _inside(boxes: Boxes, size: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Whole pixels of boxes inside the frame (the cascade counts pixels from 1), and which have any."""
    height, width = size
    whole = np.trunc(boxes).astype(np.int64)
    whole[:, :2] = np.maximum(whole[:, :2], 1) - 1
    whole[:, 2:] = np.minimum(whole[:, 2:], [width, height])
    return whole, (whole[:, 2] > whole[:, 0]) & (whole[:, 3] > whole[:, 1])


def _faces(boxes: Boxes, answers: NDArray[np.float32], threshold: float, keep: float) -> Faces:
    scores = 1 / (1 + np.exp(-answers[:, 0].astype(np.float64)))
    passed = scores > threshold
    boxes, answers, scores = boxes[passed], answers[passed], scores[passed]
    edges = boxes[:, 2:4] - boxes[:, :2] + 1
    points = np.stack([answers[:, 5:10], answers[:, 10:15]], axis=2) * edges[:, None, :] + boxes[:, None, :2] - 1
    boxes = _shift(boxes, answers[:, 1:5])
    best = _suppress_contained(boxes, scores)
    # The score that is reported decides, not the digits it loses.
    best = best[scores[best].astype(np.float32) >= keep]
    return Faces(boxes[best], scores[best].astype(np.float32), points[best].astype(np.float32))


def best_faces(faces: Faces) -> Faces:
    """Faces without those that lie in better ones, best first."""
    best = _suppress_contained(faces.boxes, faces.scores)
    return Faces(faces.boxes[best], faces.scores[best], faces.landmarks[best])


def overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union [n, m] of boxes [n, 4] and [m, 4]."""
    corners = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    common = np.maximum(corners, 0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None] + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(common / np.maximum(areas - common, 1e-9), np.float32)


def _suppress(boxes: Boxes, scores: NDArray[np.float32], overlap: float) -> NDArray[np.int64]:
    """Indices of boxes that no better one overlaps, best first."""
    if len(boxes) < 2:
        return np.arange(len(boxes))
    own, their = torch.from_numpy(np.ascontiguousarray(boxes)), torch.from_numpy(np.ascontiguousarray(scores))
    kept: NDArray[np.int64] = nms(own, their, overlap).numpy()
    return kept


def _suppress_contained(boxes: Boxes, scores: NDArray[np.floating], overlap: float = 0.7) -> NDArray[np.int64]:
    """The same with the overlap measured against the smaller of two boxes: a face holds no other one."""
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        shared = np.minimum(boxes[rest, 2:], boxes[best, 2:]) - np.maximum(boxes[rest, :2], boxes[best, :2]) + 1
        common = np.clip(shared[:, 0], 0, None) * np.clip(shared[:, 1], 0, None)
        order = rest[common / np.minimum(areas[rest], areas[best]) <= overlap]
    return np.array(kept, np.int64)


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
