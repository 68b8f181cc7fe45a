"""What annotations hold, counted the way the data sets' papers tabulate it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from emobeam.emo_transforms.abaw.labels.label_files import read_header
from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, Warn, label_sources, partitions, read_labels
from emobeam.emo_transforms.abaw.labels.unlabelled_rows import marked
from emobeam.emo_transforms.abaw.text_files import is_file, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import without_side
from emobeam.schemas.tasks import TASKS, OutputGroup, Task

BINS = 20
"""Bins of histograms, of equal width over the range of an output; the last one holds its upper end."""

_RATE = re.compile(r"[^-]+-(\d+)-\d+x\d+(?:-\d+)?", re.ASCII)


def label_statistics(uri: str, task: Task, *, warn: Warn) -> dict[str, dict[str, Any]]:
    """Counts videos, people, frames and labels, per partition.

    ``videos`` counts names without ``_left`` and ``_right`` at their end; ``subjects`` counts people as far as names
    tell: Aff-Wild2's name one person of one video each, so somebody seen in two videos counts twice; BAH's begin with
    the participant; null where names don't tell. ``hours`` is known where all names hold the frame rate
    (``<id>-<fps>-<width>x<height>``), else null; ``hours_known`` is that of the names that do.

    Args:
        uri, warn: as for :func:`emobeam.emo_transforms.abaw.labels.reading.read_labels`.

    Returns:
        Plain JSON data by partition: ``names``, ``videos``, ``subjects``, ``samples`` (rows), ``hours``,
        ``hours_known``, and by name of a group in ``groups`` its ``valid`` rows, of the others (``unlabelled``) the
        ``rows``, the ``marker`` and by column in ``columns`` the rows that hold it, and, of binary outputs, ``active``
        (rows that hold 1, by output), of classes ``counts`` (by class), of values ``mean``, ``std`` (population) and
        ``histogram`` (by output) and of a pair of values ``joint`` (20 x 20, first output down, second across).

    Raises:
        EmobeamError: as ``read_labels``.
    """
    return {
        partition: _statistics(task, read_labels(uri, task, partition=partition, warn=warn))
        for partition in partitions(uri, task)
    }


def labelled_tasks(uri: str) -> list[Task]:
    """The tasks whose annotations lie at a place: several in an annotation root of Aff-Wild2.

    Where only the header tells (a folder or a file that may be of several tasks), the first file's has to fit.

    Raises:
        EmobeamError: nothing is there at all.
    """
    is_file(uri)
    return [task for task in TASKS.values() if _holds(uri, task)]


def _holds(uri: str, task: Task) -> bool:
    try:
        source = label_sources(uri, task)[0]
        _, first = next(read_rows(source.uri), (1, ""))
    except EmobeamError:
        return False
    match task.labels.kind:
        case "bah-frames":
            return not source.uri.endswith((".txt", ".csv"))
        case "bah-clips":
            fields = first.split(",", 2)
            return len(fields) == 3 and fields[0].endswith(".mp4") and fields[1] in ("0", "1")
    try:
        read_header(source.uri, (1, first), task)
    except EmobeamError:
        return False
    return True


def _statistics(task: Task, labels: Iterable[VideoLabels]) -> dict[str, Any]:
    groups = [_GroupCounts(group) for group in task.groups]
    names: list[str] = []
    samples = 0
    seconds = 0.0
    rates_known = True
    for video in labels:
        names.append(video.name)
        samples += len(video.frames)
        rate = _RATE.fullmatch(without_side(video.name)) if task.scope == "frame" else None
        if rate and int(rate[1]):
            seconds += len(video.frames) / int(rate[1])
        else:
            rates_known = False
        start = 0
        for index, counts in enumerate(groups):
            stop = start + len(counts.group.label_columns)
            counts.add(video.values[:, start:stop], video.valid[:, index])
            start = stop
    dense = task.form.dense  # sparse rows tell nothing about durations
    return {
        "names": len(names),
        "videos": len({without_side(name) for name in names}),
        "subjects": _subjects(task, names),
        "samples": samples,
        "hours": round(seconds / 3600, 4) if rates_known and dense and names else None,
        "hours_known": round(seconds / 3600, 4) if dense else 0.0,
        "groups": {counts.group.name: counts.result() for counts in groups},
    }


class _GroupCounts:
    """Adds up the valid rows of one group."""

    def __init__(self, group: OutputGroup) -> None:
        self.group = group
        columns = len(group.label_columns)
        self.rows = 0
        self.dropped = 0
        self.marked = np.zeros(columns, np.int64)
        self.sums = np.zeros(columns)
        self.squares = np.zeros(columns)
        bins = len(group.outputs) if group.kind == "class" else 2 if group.kind == "binary" else BINS
        self.bins = np.zeros((columns, bins), np.int64)
        self.joint = np.zeros((BINS, BINS), np.int64)

    def add(self, values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any]) -> None:
        self.dropped += int((~valid).sum())
        self.marked += marked(self.group, values)
        values = values[valid].astype(np.float64)
        self.rows += len(values)
        self.sums += values.sum(axis=0)
        self.squares += (values**2).sum(axis=0)
        width = self.bins.shape[1]
        if self.group.kind == "value":
            # The values are float32: 0.3 mustn't fall below an edge at 0.3.
            places = np.floor(np.round((values - self.group.low) / (self.group.high - self.group.low) * width, 4))
            places = np.clip(places, 0, width - 1).astype(np.int64)
        else:
            places = values.astype(np.int64)
        for column in range(places.shape[1]):
            self.bins[column] += np.bincount(places[:, column], minlength=width)
        if self.group.kind == "value" and places.shape[1] == 2:
            np.add.at(self.joint, (places[:, 0], places[:, 1]), 1)

    def result(self) -> dict[str, Any]:
        columns = zip(self.group.label_columns, self.marked.tolist(), strict=True)
        held = {name: count for name, count in columns if count}
        return {
            **self._valid(),
            "unlabelled": {"rows": self.dropped, "marker": self.group.invalid, "columns": held},
        }

    def _valid(self) -> dict[str, Any]:
        outputs = self.group.outputs
        if self.group.kind == "class":
            return {"valid": self.rows, "counts": dict(zip(outputs, self.bins[0].tolist(), strict=True))}
        if self.group.kind == "binary":
            return {"valid": self.rows, "active": dict(zip(outputs, self.bins[:, 1].tolist(), strict=True))}
        mean = self.sums / max(self.rows, 1)
        spread = np.sqrt(np.maximum(self.squares / max(self.rows, 1) - mean**2, 0))
        known = self.rows > 0
        edges = np.round(np.linspace(self.group.low, self.group.high, BINS + 1), 6)
        return {
            "valid": self.rows,
            "mean": {
                name: round(float(value), 6) if known else None for name, value in zip(outputs, mean, strict=True)
            },
            "std": {
                name: round(float(value), 6) if known else None for name, value in zip(outputs, spread, strict=True)
            },
            "edges": edges.tolist(),
            "histogram": dict(zip(outputs, self.bins.tolist(), strict=True)),
            **({"joint": self.joint.tolist()} if len(outputs) == 2 else {}),
        }


def _subjects(task: Task, names: list[str]) -> int | None:
    if task.labels.subjects == "name":
        return len(names)
    if task.labels.subjects == "folder":
        return len({name.removeprefix("Videos/").partition("/")[0] for name in names})
    return None
