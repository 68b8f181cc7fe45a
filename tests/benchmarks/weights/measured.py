"""A measured goal, as a row of the table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.benchmarks.figures import Figure, Goal
from tests.benchmarks.weights.resampling import Estimate


@dataclass(frozen=True)
class Measured(Figure):
    """A figure, and how many people it rests on.

    Attributes:
        identities: people.
        rows: pictures or frames.
        over: what the interval was drawn over, where that isn't identities.
        verdict: of a goal that is asked of several figures at once; empty where the figure itself decides.
    """

    identities: int = 0
    rows: int = 0
    over: str = ""
    verdict: str = ""

    @property
    def met(self) -> bool | None:
        """As for any figure; a verdict decides where there is one."""
        return self.verdict == "yes" if self.verdict else super().met


def measured(
    key: str,
    what: str,
    found: Estimate,
    *,
    identities: int,
    rows: int,
    goal: Goal | None = None,
    over: str = "",
    note: str = "",
    verdict: str = "",
) -> Measured:
    """A row of the table from an estimate."""
    return Measured(
        key, what, "", "", found.value, found.low, found.high, (), goal, note,
        identities=identities, rows=rows, over=over, verdict=verdict,
    )  # fmt: skip


def unmeasured(key: str, what: str, why: str, goal: Goal | None = None) -> Measured:
    """A row that says why there is no figure."""
    return Measured(key, what, "", "", math.nan, goal=goal, note=why)
