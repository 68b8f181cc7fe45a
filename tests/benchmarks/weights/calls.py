"""Decisions on real faces: what the head calls in clips at its thresholds, against the teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.weights.clips import Clip, paired
from tests.benchmarks.weights.network import Network
from tests.benchmarks.weights.renders import POSITIVE
from tests.benchmarks.weights.teacher import Reading


@dataclass(frozen=True)
class Seen:
    """Frames, the people they show, and in how many of them the head calls the unit."""

    frames: int
    people: int
    called: int

    @property
    def share(self) -> float:
        """Of frames in which the unit is called; NaN without frames."""
        return self.called / self.frames if self.frames else math.nan


@dataclass(frozen=True)
class Calls:
    """How a unit is called in frames in which the teacher sees it (``positive``) and in which it doesn't."""

    name: str
    threshold: float
    positive: Seen
    negative: Seen
    marked: bool

    @property
    def sensitivity(self) -> float:
        return self.positive.share

    @property
    def false_positives(self) -> float:
        return self.negative.share


def calls(clips: Sequence[Clip], readings: Mapping[str, Sequence[Reading]], network: Network) -> list[Calls]:
    """Every unit that the teacher tells of, over the frames of all clips together.

    The teacher sees a unit from an activation of 0.3 on, as training has it; AU25, which it measures between the lips,
    from 0.3 of the distance that counts as fully parted.
    """
    found = []
    for unit in network.units:
        threshold, marked = network.threshold(unit), unit in network.experimental
        pairs = {clip.name: paired(clip, readings[clip.name], (unit,)) for clip in clips}
        if not any(len(theirs) for theirs, _ in pairs.values()):
            continue
        people = [clip.person for clip in clips for _ in pairs[clip.name][0]]
        theirs, ours = (np.concatenate([pair[side] for pair in pairs.values()]) for side in (0, 1))
        there, said = theirs >= POSITIVE, ours >= threshold
        found.append(Calls(unit, threshold, _seen(people, there, said), _seen(people, ~there, said), marked))
    return found


def _seen(people: Sequence[str], rows: NDArray[np.bool_], said: NDArray[np.bool_]) -> Seen:
    who = {person for person, keep in zip(people, rows.tolist(), strict=True) if keep}
    return Seen(int(rows.sum()), len(who), int((said & rows).sum()))
