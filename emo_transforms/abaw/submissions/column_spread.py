"""Whether columns of a submission say anything: one value in every row of a large file is a fault somewhere before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

FEW = 100
"""In so few rows, a value that never changes tells nothing."""


@dataclass
class Spread:
    """Which columns hold one value throughout, over rows that come one by one or in blocks; all of label form."""

    rows: int = 0
    first: Sequence[float] = ()
    still: list[int] = field(default_factory=list)

    def add_row(self, values: Sequence[float]) -> None:
        """Adds a row of C values."""
        if not self.rows:
            self.first, self.still = values, list(range(len(values)))
        self.rows += 1
        if self.still and values != self.first:
            self.still = [column for column in self.still if values[column] == self.first[column]]

    def add(self, values: NDArray[Any]) -> None:
        """Adds rows ``[n, C]``."""
        if len(values):
            self.add_row(tuple(values[0].tolist()))
            self.rows += len(values) - 1
            self.still = [column for column in self.still if (values[:, column] == self.first[column]).all()]

    def constant(self, names: Sequence[str]) -> list[str]:
        """Those of the columns, by their names, that hold one value throughout; none where there are few rows."""
        return [names[column] for column in self.still] if self.rows >= FEW else []


def constant_note(columns: Sequence[str]) -> str:
    """What to warn of."""
    return f"{', '.join(columns)}: one and the same value in every row; is that what the head gives?"
