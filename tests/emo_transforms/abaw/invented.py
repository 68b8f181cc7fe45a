"""Strategies for labels and submissions of every task."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.schemas.row_keys import format_name
from emobeam.schemas.tasks import TASKS, Task

FORMS = [(task, edition) for task in TASKS.values() for edition in task.editions]
"""Every task with each of its editions."""

NAMES = (
    "14-30-1920x1080",
    "122-60-1920x1080-5",
    "102",
    "video45_1",
    "video49_left",
    "video49_right",
    "new vids é",
    "01",
)


@st.composite
def label_columns(draw: st.DrawFn, task: Task, rows: int, *, marked: bool) -> np.ndarray:
    """float32[rows, C] values in range, with markers for missing labels where ``marked``."""
    columns = []
    for group in task.groups:
        low, high = group.label_range
        whole = st.integers(int(low), int(high)).map(float)
        value = whole if group.kind != "value" else st.one_of(st.floats(low, high, width=32), whole)
        if marked and group.invalid is not None:
            value = st.one_of(value, value, st.just(group.invalid))
        for _ in group.label_columns:
            columns.append(draw(st.lists(value, min_size=rows, max_size=rows)))
    return np.array(columns, np.float32).reshape(len(columns), rows).T


@st.composite
def videos(draw: st.DrawFn, task: Task, *, marked: bool, dense: bool) -> list[VideoLabels]:
    """Labels of some videos, sorted by name as organisers write it; ``dense``: frames are 1..n."""
    names = sorted(
        format_name(task, name, "") for name in draw(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4))
    )
    found = []
    for name in names:
        if task.scope == "clip":
            frames = [1]
        elif dense:
            frames = list(range(1, draw(st.integers(1, 6)) + 1))
        else:
            frames = sorted(draw(st.sets(st.integers(1, 120_000), min_size=1, max_size=6)))
        values = draw(label_columns(task, len(frames), marked=marked))
        found.append(VideoLabels(name, np.array(frames, np.int32), values, valid_rows(task, values)))
    return found


def valid_rows(task: Task, values: np.ndarray) -> np.ndarray:
    """Which groups of which rows hold no marker."""
    valid, start = [], 0
    for group in task.groups:
        stop = start + len(group.label_columns)
        valid.append([group.invalid not in row for row in values[:, start:stop].tolist()])
        start = stop
    return np.array(valid).T
