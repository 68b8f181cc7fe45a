"""Predictions tables and labels for tests, invented but in the right shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.schemas.tables import FOOTER_KEY, SOURCES, predictions_schema
from emobeam.schemas.tasks import Task

Values = dict[tuple[str, str], np.ndarray]
"""Scores ``[n, C]`` of frames 1 to n, by (video, subject); NaN rows are absent."""


def write_tables(output: Path, task: Task, values: Values) -> str:
    """Writes ``OUT/predictions/<task>`` as ``emobeam predict`` does; returns OUT."""
    folder = output / "predictions" / task.name
    folder.mkdir(parents=True)
    for number, video in enumerate(sorted({video for video, _ in values})):
        subjects = [subject for name, subject in sorted(values) if name == video]
        table = pa.concat_tables([_table(task, video, subject, values[video, subject]) for subject in subjects])
        footer = {"task": task.name, "video": video, "subjects": subjects}
        table = table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer).encode()})
        pq.write_table(table, folder / f"part-{number}.parquet")
    return str(output)


def _table(task: Task, video: str, subject: str, values: np.ndarray) -> pa.Table:
    count = len(values)
    outputs = [pa.array(column, pa.float32(), mask=np.isnan(column)) for column in values.T]
    key = [pa.array([video] * count), pa.array([subject] * count)]
    if task.scope == "clip":
        return pa.Table.from_arrays([*key, *outputs], schema=predictions_schema(task.outputs, clip=True))
    absent = np.isnan(values).any(axis=1)
    source = pa.DictionaryArray.from_arrays(pa.array(np.where(absent, 3, 0), pa.int8()), pa.array(SOURCES))
    place = [pa.array(np.zeros(count), pa.int16()), pa.array(np.arange(1, count + 1), pa.int32())]
    times = pa.array(np.arange(count) / 30)
    schema = predictions_schema(task.outputs)
    return pa.Table.from_arrays([*key, *place, times, *outputs, source], schema=schema)


def invent_labels(task: Task, name: str, rows: int, rng: np.random.Generator, *, invalid: float = 0.2) -> VideoLabels:
    """Labels of one video with ties, and with rows that no annotator labelled; the last class never occurs."""
    rows = 1 if task.scope == "clip" else rows
    columns, valid = [], []
    for group in task.groups:
        if group.kind == "class":
            columns.append(rng.integers(0, len(group.outputs) - 1, (rows, 1)))
        elif group.kind == "binary":
            columns.append(rng.random((rows, len(group.outputs))) < 0.3)
        else:
            span = group.high - group.low
            columns.append(group.low + span * rng.integers(0, 9, (rows, len(group.outputs))) / 8)
        valid.append(rng.random(rows) >= (invalid if group.invalid is not None else 0.0))
    values = np.concatenate(columns, axis=1).astype(np.float32)
    return VideoLabels(name, np.arange(1, rows + 1, dtype=np.int32), values, np.stack(valid, axis=1))


def invent_scores(task: Task, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Scores of one video on a coarse grid, so that ties and values on the threshold come up."""
    rows = 1 if task.scope == "clip" else rows
    scores = []
    for group in task.groups:
        steps = rng.integers(0, 11, (rows, len(group.outputs))) / 10
        scores.append(group.low + (group.high - group.low) * steps)
    return np.concatenate(scores, axis=1).astype(np.float32)
