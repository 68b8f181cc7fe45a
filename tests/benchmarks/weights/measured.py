"""A measured goal, as a row of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import Figure, Goal
from tests.benchmarks.weights.resampling import Estimate

NOT_MEASURABLE = "not measurable"
"""How a verdict begins where there was material, but it can't show whether the goal is met."""


@dataclass(frozen=True)
class Measured(Figure):
    """A figure, and how many people it rests on.

    Attributes:
        identities: people.
        rows: pictures or frames.
        over: what the interval was drawn over, where that isn't identities.
        verdict: of a goal that is asked of several figures at once, ``yes``, ``no: why`` or ``not measurable (why)``;
            empty where the figure itself decides.
    """

    identities: int = 0
    rows: int = 0
    over: str = ""
    verdict: str = ""

    @property
    def met(self) -> bool | None:
        """As for any figure; a verdict decides where there is one."""
        if not self.verdict:
            return super().met
        return None if self.verdict.startswith(NOT_MEASURABLE) else self.verdict == "yes"


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
    """A row of the table from an estimate; an interval over fewer than ``resampling.FEW`` people is left out."""
    found = found if over else found.among(identities)
    return Measured(
        key, what, "", "", found.value, found.low, found.high, (), goal, note,
        identities=identities, rows=rows, over=over, verdict=verdict,
    )  # fmt: skip


def unmeasured(key: str, what: str, why: str, goal: Goal | None = None, verdict: str = "") -> Measured:
    """A row that says why there is no figure; with a verdict where that isn't for lack of material."""
    return Measured(key, what, "", "", math.nan, goal=goal, note=why, verdict=verdict)


def lacking(rows: Sequence[Measured]) -> list[Measured]:
    """Goals without a figure for lack of material."""
    return [row for row in rows if row.goal is not None and math.isnan(row.value) and not row.verdict]
