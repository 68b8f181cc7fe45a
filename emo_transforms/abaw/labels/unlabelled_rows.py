"""Rows of annotations that don't count, because of a marker (-1, -5) in one or all of their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.schemas.tasks import OutputGroup, Task
from emobeam.schemas.wording import counted


def marked(group: OutputGroup, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """int64[C]: rows that hold the group's marker, by column; ``values`` are float32[n, C], those of the group."""
    if group.invalid is None:
        return np.zeros(values.shape[1], np.int64)
    counts: npt.NDArray[np.int64] = (values == group.invalid).sum(axis=0, dtype=np.int64)
    return counts


def unlabelled(task: Task, labels: Iterable[VideoLabels]) -> list[dict[str, Any]]:
    """What doesn't count, by group of a task; groups all of whose rows count are left out.

    Returns:
        Plain JSON data: ``group``, ``rows``, ``marker``, and in ``columns`` the rows that hold it, by column.
    """
    dropped = [0] * len(task.groups)
    columns = [np.zeros(len(group.label_columns), np.int64) for group in task.groups]
    for video in labels:
        start = 0
        for index, group in enumerate(task.groups):
            stop = start + len(group.label_columns)
            dropped[index] += int((~video.valid[:, index]).sum())
            columns[index] += marked(group, video.values[:, start:stop])
            start = stop
    return [
        {
            "group": group.name,
            "rows": rows,
            "marker": group.invalid,
            "columns": {name: int(n) for name, n in zip(group.label_columns, counts, strict=True) if n},
        }
        for group, rows, counts in zip(task.groups, dropped, columns, strict=True)
        if rows and counts.any()
    ]


def where_marked(columns: Mapping[str, int], rows: int, every: int) -> str:
    """Which columns hold the marker: ``AU26``, ``AU1 in 3, AU26 in 60`` or ``all outputs``.

    Args:
        columns: rows with the marker by column, without those that have none.
        rows: that don't count for it.
        every: how many columns there are.
    """
    if len(columns) == every > 1 and set(columns.values()) == {rows}:
        return "all outputs"
    if set(columns.values()) == {rows}:
        return ", ".join(columns)
    return ", ".join(f"{name} in {count:,}" for name, count in columns.items())


def unlabelled_text(task: Task, found: Sequence[Mapping[str, Any]], total: int) -> str:
    """What :func:`unlabelled` found in ``total`` rows, for people; ``""`` where every row counts."""
    sizes = {group.name: len(group.label_columns) for group in task.groups}
    return "; ".join(
        f"{each['rows']:,} of {counted(total, 'row')} {'holds' if total == 1 else 'hold'} {each['marker']:g}"
        f" ({where_marked(each['columns'], each['rows'], sizes[each['group']])})"
        for each in found
    )
