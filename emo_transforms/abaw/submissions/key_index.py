"""The keys of a file, packed: a submission has a million rows."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass
class IndexedRows:
    """Frames of one name and their lines, in the order of the file."""

    frames: array[int] = field(default_factory=lambda: array("i"))
    lines: array[int] = field(default_factory=lambda: array("i"))


@dataclass
class KeyIndex:
    """All rows of a submission or a template whose keys could be read.

    ``spelled`` holds the keys that aren't written as emobeam would write them. ``blocks`` counts runs of one name.
    """

    names: dict[str, IndexedRows] = field(default_factory=dict)
    spelled: dict[tuple[str, int], str] = field(default_factory=dict)
    apart: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    last: str | None = None

    def add(self, name: str, frame: int, line: int) -> None:
        """Adds a row."""
        rows = self.names.get(name)
        if rows is None:
            rows = self.names[name] = IndexedRows()
        elif name != self.last and name not in self.apart:
            self.apart[name] = line
        self.last = name
        rows.frames.append(frame)
        rows.lines.append(line)

    def arrays(self, name: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Frames of a name and their lines, both int32[n], in the order of the file."""
        rows = self.names.get(name, IndexedRows())
        return np.array(rows.frames, np.int32), np.array(rows.lines, np.int32)
