"""Tidy CSV: one file per video and subject, a row per face and frame, all tasks side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd


def by_subject(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each subject of a video (see ``gather.frame_rows``), sorted by subject."""
    for subject, own in rows.groupby("subject", sort=True):
        yield str(subject), own.reset_index(drop=True)


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Writes rows as UTF-8 with a header, a point for decimals and nothing where there is no value.

    Numbers are the shortest that read back as the same float32 (values) or float64 (``time``).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False, lineterminator="\n", encoding="utf-8", errors="backslashreplace")
