"""How far two detectors see the same faces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

SCORE = 0.9
"""Faces below count for neither side."""

OVERLAP = 0.5
"""Intersection over union from which two boxes are one face."""


@dataclass(frozen=True)
class Found:
    """Faces of one frame: boxes [n, 4] (left, top, right, bottom in px) and scores [n]."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    @property
    def sure(self) -> Found:
        """Those with a score of at least :data:`SCORE`."""
        keep = self.scores >= SCORE
        return Found(self.boxes[keep], self.scores[keep])


@dataclass(frozen=True)
class Agreement:
    """Counts over frames; sums of agreements add up.

    Attributes:
        theirs, ours: sure faces of the reference, and of the detector that is judged.
        found: sure faces of the reference that are matched by sure ones of ours.
        extra: sure faces of ours that match no sure one of the reference.
        unknown: those of them that match none of the reference's at all, of whatever score.
        overlap: sum of intersection over union of the matches.
    """

    frames: int = 0
    theirs: int = 0
    ours: int = 0
    found: int = 0
    extra: int = 0
    unknown: int = 0
    overlap: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        mine, its = asdict(self), asdict(other)
        return Agreement(**{name: mine[name] + its[name] for name in mine})

    @property
    def mean_overlap(self) -> float:
        """Mean intersection over union of the matches; NaN where there are none."""
        return self.overlap / self.found if self.found else float("nan")

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"mean_overlap": self.mean_overlap}


def overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of every box of ``a`` [n, 4] with every one of ``b`` [m, 4], as [n, m]."""
    first, second = a[:, None, :].astype(np.float64), b[None, :, :].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.clip(sides, 0, None).prod(axis=-1)
    areas = [np.clip(box[..., 2:] - box[..., :2], 0, None).prod(axis=-1) for box in (first, second)]
    union = areas[0] + areas[1] - common
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares


def match(theirs: Found, ours: Found) -> list[tuple[int, int, float]]:
    """Pairs (index of theirs, index of ours, overlap) of at least :data:`OVERLAP`, each face in one pair at most; the
    pairs with the largest sum of overlaps."""
    table = overlaps(theirs.boxes, ours.boxes)
    table[table < OVERLAP] = 0
    rows, columns = linear_sum_assignment(table, maximize=True)
    return [(int(i), int(j), float(table[i, j])) for i, j in zip(rows, columns, strict=True) if table[i, j] > 0]


def agree(theirs: Found, ours: Found) -> Agreement:
    """Agreement on one frame."""
    reference, judged = theirs.sure, ours.sure
    pairs = match(reference, judged)
    alone = sorted(set(range(len(judged.scores))) - {j for _, j, _ in pairs})
    rest = Found(judged.boxes[alone], judged.scores[alone])
    return Agreement(
        frames=1,
        theirs=len(reference.scores),
        ours=len(judged.scores),
        found=len(pairs),
        extra=len(alone),
        unknown=len(alone) - len(match(theirs, rest)),
        overlap=sum(overlap for _, _, overlap in pairs),
    )


def total(frames: Iterable[tuple[Found, Found]]) -> Agreement:
    """Agreement over frames, given as pairs of theirs and ours."""
    return sum((agree(theirs, ours) for theirs, ours in frames), Agreement())


def pairs_of(theirs: Sequence[Found], ours: Sequence[Found]) -> list[tuple[Found, Found]]:
    """Frames side by side."""
    return list(zip(theirs, ours, strict=True))
