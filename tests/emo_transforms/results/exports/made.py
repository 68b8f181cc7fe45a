"""Output folders with all that a run may leave: several people, stretches without a face, a varying frame rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.prediction.prediction_tables import part_uri, write_part
from emobeam.schemas.tables import SOURCES, predictions_schema
from emobeam.schemas.tasks import task_named

FRAMES = 90


def frame_times(frames: int = FRAMES) -> np.ndarray[Any, Any]:
    """Presentation times in s of a clip whose rate varies between 20 and 50 frames per second."""
    steps = np.resize([0.02, 0.05, 0.033], frames)
    return np.concatenate([[0.0], np.cumsum(steps)[:-1]])


def sources(frames: int = FRAMES) -> list[str]:
    """Sampled every fifth frame; nothing seen from frame 41 to 60; carried a little beyond."""
    names = ["sampled" if i % 5 == 0 else "interpolated" for i in range(frames)]
    names[40:60] = ["absent"] * 20
    names[36:40], names[60:62] = ["nearest"] * 4, ["nearest"] * 2
    return names


def frame_table(
    task: str, video: str, faces: Sequence[tuple[str, int]] = (("", 0),), *, timed: bool = True, seed: int = 0
) -> pa.Table:
    """A predictions table: smooth random traces within the range of each output, null where absent."""
    outputs = task_named(task).outputs
    rng = np.random.default_rng([seed, *task.encode(), *video.encode()])
    pieces = []
    for subject, face in faces:
        named = sources()
        waves = np.cumsum(rng.normal(0, 0.15, (FRAMES, len(outputs))), axis=0)
        values = 0.5 + 0.5 * np.sin(waves) if task != "va" else np.sin(waves)
        if task == "expr":
            values = np.exp(waves) / np.exp(waves).sum(axis=1, keepdims=True)
        columns: dict[str, Any] = {
            "video": [video] * FRAMES,
            "subject": [subject] * FRAMES,
            "face": [face] * FRAMES,
            "frame": list(range(1, FRAMES + 1)),
            "time": frame_times().tolist() if timed else [None] * FRAMES,
            "source": pa.array(named).cast(pa.dictionary(pa.int8(), pa.string())),
        }
        for index, output in enumerate(outputs):
            column = values[:, index].astype(np.float32).tolist()
            columns[output] = [None if s == "absent" else v for s, v in zip(named, column, strict=True)]
        schema = predictions_schema(outputs)
        pieces.append(pa.table([columns[field.name] for field in schema], schema=schema))
    assert set(sources()) == set(SOURCES)
    return pa.concat_tables(pieces)


def clip_table(task: str, video: str, subjects: Sequence[str] = ("",)) -> pa.Table:
    """A clip-level table."""
    outputs = task_named(task).outputs
    rows = [
        {"video": video, "subject": subject, **{o: (i + 1) / 10 for i, o in enumerate(outputs)}} for subject in subjects
    ]
    return pa.Table.from_pylist(rows, predictions_schema(outputs, clip=True))


def put(output: Path, task: str, video: str, table: pa.Table, *, weights: str = "mine", **more: Any) -> None:
    """Writes a table as ``emobeam predict`` does; ``more`` stands in its footer."""
    subjects = sorted(set(table["subject"].to_pylist()))
    faces = [
        {
            "video": video,
            "subject": subject,
            "face": face,
            "person": face,
            "first_frame": first,
            "last_frame": last,
            "first_time": 0.0,
            "last_time": 1.0,
            "sampled": 8,
            "box": [1.0, 2.0, 3.0, 4.0],
            "score": score,
        }
        for subject, face in sorted({*zip(table["subject"].to_pylist(), table["face"].to_pylist(), strict=True)})
        for first, last, score in ((1, 36, 0.95), (61, 86, 0.99))
    ]
    footer: dict[str, Any] = {"video": video, "task": task, "subjects": subjects, "faces": faces, "rows": len(table)}
    footer["heads"] = [["head", weights, "0"]]
    footer |= more
    write_part(part_uri(str(output), task, video), table, footer)


def write_run(output: Path, **more: Any) -> None:
    """Writes a ``run.json`` of which exports need some entries."""
    storage.write_json(str(output / "run.json"), RUN | more)


RUN: Mapping[str, Any] = {
    "run": "20261121T101940Z-700987",
    "features": "nowhere/features",
    "features_id": "f" * 16,
    "cache_id": "c" * 16,
    "backbone": {"name": "mobilenetv4_conv_small", "weights": "mine.safetensors", "sha256": "a" * 64},
    "heads": {
        "au": [{"name": "mine", "weights": "heads/au", "sha256": "b" * 64, "thresholds": [0.3, *[0.6] * 11]}],
        "expr": [{"name": "other", "weights": "heads/expr", "sha256": "d" * 64, "thresholds": []}],
    },
    "warnings": [],
    "versions": {"emobeam": "0.1.0", "torch": "2.15.0"},
}
