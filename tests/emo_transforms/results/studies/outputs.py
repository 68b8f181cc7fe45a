"""Output folders with known values, written as ``emobeam predict`` writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from emobeam.emo_transforms.prediction.prediction_tables import part_uri, write_part
from emobeam.schemas.tables import FACES, SOURCES, predictions_schema
from emobeam.schemas.tasks import TASKS


@dataclass(frozen=True, eq=False)
class Face:
    """A face of a made-up video: ``values`` by output, NaN where absent; other outputs are 0."""

    values: dict[str, ArrayLike]
    subject: str = ""
    face: int = 0
    person: int | Sequence[int] = 0
    first_frame: int = 1
    every: int = 1


def write_output(
    folder: Path,
    videos: dict[str, tuple[ArrayLike, Sequence[Face]]],
    task: str = "au",
    *,
    thresholds: Sequence[float] = (),
    weights: str = "test",
    timed: bool = True,
) -> str:
    """Writes parts, ``faces.parquet`` and ``run.json``.

    Args:
        videos: by id, the times of its native frames in s and its faces; every ``every``-th row of a face is sampled.
        timed: write the times.
    """
    folder.mkdir(exist_ok=True)
    outputs = TASKS[task].outputs
    stretches: list[dict[str, Any]] = []
    for video, (times, faces) in videos.items():
        clock = np.asarray(times, float)
        tables = []
        for face in faces:
            given = {name: np.asarray(values, np.float32) for name, values in face.values.items()}
            count = len(next(iter(given.values())))
            rows = slice(face.first_frame - 1, face.first_frame - 1 + count)
            frames = np.arange(1, len(clock) + 1, dtype=np.int32)[rows]
            absent = np.isnan(next(iter(given.values())))
            columns = []
            for name in outputs:
                values = given.get(name, np.where(absent, np.nan, 0).astype(np.float32))
                columns.append(pa.array(values, pa.float32(), mask=np.isnan(values)))
            source = np.where(absent, 3, np.where(np.arange(count) % face.every == 0, 0, 1)).astype(np.int8)
            head = [
                pa.array([video] * count, pa.string()),
                pa.array([face.subject] * count, pa.string()),
                pa.array(np.full(count, face.face, np.int16)),
                pa.array(frames),
                pa.array(clock[rows]) if timed else pa.nulls(count, pa.float64()),
            ]
            kind = pa.DictionaryArray.from_arrays(pa.array(source), pa.array(SOURCES, pa.string()))
            tables.append(pa.Table.from_arrays([*head, *columns, kind], schema=predictions_schema(outputs)))
            stretches += _stretches(video, face, frames, absent)
        footer = {
            "predict_id": "x",
            "video": video,
            "task": task,
            "heads": [["head", weights, "0"]],
            "subjects": sorted({face.subject for face in faces}),
            "faces": [],
            "rows": 0,
        }
        write_part(part_uri(str(folder), task, video), pa.concat_tables(tables), footer)
    pq.write_table(pa.Table.from_pylist(stretches, FACES), folder / "faces.parquet")
    heads = [{"name": "head", "weights": weights, "sha256": "0", "thresholds": list(thresholds)}]
    (folder / "run.json").write_text(json.dumps({"heads": {task: heads}}))
    return str(folder)


def _stretches(video: str, face: Face, frames: Any, absent: Any) -> list[dict[str, Any]]:
    persons = np.broadcast_to(np.asarray(face.person), frames.shape)
    rows: list[dict[str, Any]] = []
    for frame, gone, person in zip(frames.tolist(), absent.tolist(), persons.tolist(), strict=True):
        if gone:
            continue
        if rows and rows[-1]["last_frame"] == frame - 1 and rows[-1]["person"] == person:
            rows[-1]["last_frame"] = frame
            continue
        rows.append(
            {
                "video": video,
                "subject": face.subject,
                "face": face.face,
                "person": person,
                "first_frame": frame,
                "last_frame": frame,
                "sampled": 1,
            }
        )
    return rows


def steps(count: int, active: Sequence[tuple[int, int]], low: float = 0.1, high: float = 0.9) -> np.ndarray:
    """A trace that is high in half-open ranges of rows."""
    values = np.full(count, low, np.float32)
    for start, stop in active:
        values[start:stop] = high
    return values
