"""Which events of a coder and of the program are the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.studies.spans import Interval
from emobeam.schemas.records import UsageError

TOLERANCE = 1e-9


@dataclass(frozen=True)
class MatchConfig:
    """When two events may be the same.

    Attributes:
        by: ``iou``: their intersection over union is at least ``iou``; ``onset``: their onsets are at most
            ``tolerance`` s apart.
    """

    by: Literal["iou", "onset"] = "iou"
    iou: float = 0.5
    tolerance: float = 0.5

    def check(self) -> None:
        """Raises :class:`UsageError` where the numbers make no sense."""
        if not 0 < self.iou <= 1:
            raise UsageError(f"--iou is {self.iou}, expected more than 0 and at most 1")
        if not 0 <= self.tolerance < float("inf"):
            raise UsageError(f"--tolerance is {self.tolerance}, expected seconds")

    @property
    def text(self) -> str:
        """For tables."""
        return f"IoU >= {self.iou:g}" if self.by == "iou" else f"onsets within {self.tolerance:g} s"


def intersection_over_union(one: Interval, other: Interval) -> float:
    """Time in both over time in either, from 0 to 1."""
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    either = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return shared / either if either > 0 else 0.0


def match_events(human: Sequence[Interval], program: Sequence[Interval], config: MatchConfig) -> list[tuple[int, int]]:
    """Pairs (index of the coder's event, index of the program's), each event in at most one.

    The best pair is taken first (highest IoU, or nearest onsets; of equal ones the earlier), then the best of what is
    left. With an IoU above 0.5 no event has two candidates, and the pairs don't depend on the order.
    """
    candidates = []
    starts, ends = np.array(program, np.float64).reshape(-1, 2).T
    for i, one in enumerate(human):
        if config.by == "iou":
            near = np.flatnonzero((starts < one[1]) & (ends > one[0]))
        else:
            near = np.flatnonzero(np.abs(starts - one[0]) <= config.tolerance + TOLERANCE)
        for j in near.tolist():
            other = program[j]
            if config.by == "onset":
                candidates.append((abs(other[0] - one[0]), i, j))
            elif (share := intersection_over_union(one, other)) >= config.iou - TOLERANCE:
                candidates.append((-share, i, j))
    pairs: list[tuple[int, int]] = []
    left, right = set(range(len(human))), set(range(len(program)))
    for _, i, j in sorted(candidates):
        if i in left and j in right:
            pairs.append((i, j))
            left.discard(i)
            right.discard(j)
    return sorted(pairs)


def median_or_nan(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The median, NaN of nothing."""
    return float(np.median(values)) if len(values) else float("nan")
