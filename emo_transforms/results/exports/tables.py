"""Tidy CSV: one file per video and subject, a row per face and frame, all tasks side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from emobeam.schemas.wording import in_cell

_NAMES = ("video", "subject")
"""Columns of other people's text; all others are numbers and words of emobeam."""


def by_subject(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each subject of a video (see ``gather.frame_rows``), sorted by subject."""
    for subject, own in rows.groupby("subject", sort=True):
        yield str(subject), own.reset_index(drop=True)


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Writes rows as UTF-8 with a header, a point for decimals and nothing where there is no value.

    Numbers are the shortest that read back as the same float32 (values) or float64 (``time``). Texts that a
    spreadsheet would take for formulas have an apostrophe in front (see ``emobeam.schemas.wording.in_cell``).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {name: rows[name].map(in_cell, na_action="ignore") for name in _NAMES if name in rows}
    rows.assign(**texts).to_csv(path, index=False, lineterminator="\n", encoding="utf-8", errors="backslashreplace")
