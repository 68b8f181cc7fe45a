"""Faces in frames: the cascade of MTCNN (Zhang et al., 2016), with the arithmetic of facenet-pytorch 2.6.0.

Three networks, each on what the one before it let pass: P-Net on every place of an image pyramid, R-Net and O-Net on
crops of the frame. The arithmetic of boxes is facenet-pytorch's to the pixel, so that its faces are found again. What
is left out is work: a place of the two finest levels of the pyramid is looked at only where the next coarser level
sees at least a trace of a face (see ``emobeam.emo_transforms.faces.detection.gate``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.crops import Faces, Picture
from emobeam.emo_transforms.faces.detection.area_averages import Sums, average_crops, size_of, sums_of
from emobeam.emo_transforms.faces.detection.boxes import Boxes, inside, shift, square, suppress, suppress_contained
from emobeam.emo_transforms.faces.detection.gate import FACTOR, Gate
from emobeam.emo_transforms.faces.detection.mtcnn_layers import TILE_EDGE
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.faces.detection.pyramid import Level, cut_tiles, levels_of, mapped, proposals, tiles_about
from emobeam.schemas.config import DetectorConfig

GATED_LEVELS = 2
"""So many levels, the finest ones, are gated: still coarser ones see nothing of the smallest faces."""

_APART = 65536.0
_NO_BOXES = np.empty((0, 9), np.float32)

Source = Sums | Picture
"""A frame as crops are taken from it."""


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
        """See ``emobeam.emo_transforms.faces.crops.Detector``."""
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
        levels = levels_of(sums[0].size, min_face or config.min_face, config.factor)
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
                found[look.frame][look.level] = proposals(answers, look.tiles, level, _logit(config.thresholds[0]))
                if self._gate and 0 < look.level <= gated:
                    opened = self._gate.open(mapped(answers, look.tiles, level))
                    marks[look.frame] = tiles_about(opened, levels[look.level - 1])
        return [_squares(own) for own in found]

    def _look(self, sums: Sequence[Sums], levels: Sequence[Level], looks: Sequence[_Look]) -> list[NDArray[np.float32]]:
        """P-Net's answers [n, 16, 16, 5] on the tiles of each look."""
        ends = np.cumsum([np.count_nonzero(look.tiles) for look in looks])
        tiles = np.empty((ends[-1] if looks else 0, TILE_EDGE, TILE_EDGE, 3), np.float32)
        for look, end in zip(looks, ends, strict=True):
            cut_tiles(sums[look.frame], levels[look.level], look.tiles, tiles[end - np.count_nonzero(look.tiles) : end])
        return np.split(self.networks.propose(tiles), ends[:-1]) if looks else []

    def judge(self, sources: Sequence[Source], squares: Sequence[Boxes]) -> list[Faces]:
        """R-Net, then O-Net on squares of each frame, and what is left as faces."""
        return self._judge(sources, squares, [_unlike] * len(sources))

    def judge_places(self, source: Source, squares: Boxes, places: NDArray[np.int64]) -> Faces:
        """The same for one frame, where all but the best of the squares about a place are left out.

        Args:
            places: [n], which place each of the squares [n, 4] is about, from 0.
        """

        def best(accepted: NDArray[np.intp], _: Boxes, scores: NDArray[np.float32]) -> NDArray[np.intp]:
            theirs = places[accepted]
            order = np.lexsort((-scores, theirs))
            return order[np.diff(theirs[order], prepend=-1) > 0]

        return self._judge([source], [squares], [best])[0]

    def _judge(self, sources: Sequence[Source], squares: Sequence[Boxes], choices: Sequence[_Choice]) -> list[Faces]:
        config = self.config
        refined = []
        found = _seen(self.networks.refine, sources, squares, 24)
        for boxes, (there, answers), choose in zip(squares, found, choices, strict=True):
            passed = answers[:, 0] > _logit(config.thresholds[1])
            accepted, agreed = there[passed], answers[passed]
            chosen = choose(accepted, boxes[accepted], agreed[:, 0])
            refined.append(square(shift(boxes[accepted[chosen]], agreed[chosen, 1:5])))
        found = _seen(self.networks.output, sources, refined, 48)
        return [
            _faces(boxes[there], answers, config.thresholds[2], config.keep)
            for boxes, (there, answers) in zip(refined, found, strict=True)
        ]


_Choice = Callable[[NDArray[np.intp], Boxes, NDArray[np.float32]], NDArray[np.integer]]
"""Which of the squares that R-Net accepts go on, best first: given are their indices among all, boxes and logits."""


def _unlike(_: NDArray[np.intp], boxes: Boxes, scores: NDArray[np.float32]) -> NDArray[np.integer]:
    return suppress(boxes, scores, 0.7)


def _seen(
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    sources: Sequence[Source],
    boxes: Sequence[Boxes],
    size: int,
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """For each frame: the indices of the boxes with pixels in it, and what a network says of their crops."""
    places = [inside(own, size_of(source)) for own, source in zip(boxes, sources, strict=True)]
    crops = [average_crops(source, whole[there], size) for source, (whole, there) in zip(sources, places, strict=True)]
    answers, found, start = network(np.concatenate(crops)), [], 0
    for (_, there), own in zip(places, crops, strict=True):
        found.append((np.flatnonzero(there), answers[start : start + len(own)]))
        start += len(own)
    return found


def _squares(levels: Sequence[Boxes]) -> Boxes:
    """Squares about the best boxes of all levels, finest level first."""
    boxes = np.concatenate([_NO_BOXES, *levels])
    # Side by side, levels can't overlap: one pass finds the best boxes of each.
    apart = boxes[:, :4].copy()
    apart[:, ::2] += np.repeat(np.arange(len(levels), dtype=np.float32) * _APART, [len(own) for own in levels])[:, None]
    boxes = boxes[suppress(apart, boxes[:, 4], 0.5)]
    boxes = boxes[suppress(boxes[:, :4], boxes[:, 4], 0.7)]
    edges = boxes[:, 2:4] - boxes[:, :2]
    return square(boxes[:, :4] + boxes[:, 5:9] * np.concatenate([edges, edges], axis=1))


def _faces(boxes: Boxes, answers: NDArray[np.float32], threshold: float, keep: float) -> Faces:
    scores = 1 / (1 + np.exp(-answers[:, 0].astype(np.float64)))
    passed = scores > threshold
    boxes, answers, scores = boxes[passed], answers[passed], scores[passed]
    edges = boxes[:, 2:4] - boxes[:, :2] + 1
    points = np.stack([answers[:, 5:10], answers[:, 10:15]], axis=2) * edges[:, None, :] + boxes[:, None, :2] - 1
    boxes = shift(boxes, answers[:, 1:5])
    best = suppress_contained(boxes, scores)
    # The score that is reported decides, not the digits it loses.
    best = best[scores[best].astype(np.float32) >= keep]
    return Faces(boxes[best], scores[best].astype(np.float32), points[best].astype(np.float32))


def best_faces(faces: Faces) -> Faces:
    """Faces without those that lie in better ones, best first."""
    best = suppress_contained(faces.boxes, faces.scores)
    return Faces(faces.boxes[best], faces.scores[best], faces.landmarks[best])


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
