"""Feature caches and labels made for training: the maps hold the label, so that a head can learn it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset, shard_uri
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.storage import atomic_file
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.tables import feature_schema, map_column
from emobeam.schemas.tasks import TASKS, Task

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}
FPS = 30
"""Native frames per second; every fifth one is sampled."""

STEP = 5

FOLDERS = {
    "va": "VA_Estimation_Challenge",
    "expr": "EXPR_Recognition_Challenge",
    "au": "AU_Detection_Challenge",
}


@dataclass(frozen=True)
class Clip:
    """A video of the cache: its sampled rows, and the label of each native frame.

    Attributes:
        gaps: rows that are missing (no face seen).
        segments: shards it is cut into.
    """

    name: str
    rows: int = 40
    seed: int = 0
    gaps: tuple[int, ...] = ()
    segments: int = 1
    partition: str = "Train_Set"
    invalid: tuple[int, ...] = field(default=())

    def labels(self, task: Task) -> NDArray[np.float64]:
        """``[frames, C]``: a slow random walk for values, stretches for the rest."""
        rng = np.random.default_rng([self.seed, len(task.outputs)])
        frames = self.rows * STEP
        columns = len(task.label_columns)
        steps = np.linspace(0, 1, frames)
        kind = task.groups[0].kind
        waves = np.sin(2 * np.pi * (rng.uniform(0.5, 2, columns) * steps[:, None] + rng.uniform(0, 1, columns)))
        if kind == "value":
            return np.asarray(np.round(0.9 * waves, 3))
        if kind == "binary":
            return (waves > 0).astype(float)
        classes = len(task.outputs)
        return np.asarray(np.clip((waves + 1) / 2 * classes, 0, classes - 1).astype(int), float)


def encoded(
    values: NDArray[np.float64], rng: np.random.Generator, noise: float = 0.3
) -> dict[str, NDArray[np.float32]]:
    """Maps of rows: noise, with the labels ``[n, C]`` in a fixed pattern of each."""
    found = {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        pattern = np.random.default_rng(index).normal(size=(values.shape[1], int(np.prod(shape))))
        maps = values @ pattern + noise * rng.normal(size=(len(values), pattern.shape[1]))
        found[name] = maps.reshape(-1, *shape).astype(np.float32)
    return found


def dataset(fps: float = 6.0, segment: float = 60.0) -> Dataset:
    return Dataset(ExtractConfig(sampling=SamplingConfig(fps, segment)), SHAPES)


def write_clip(features: Path, clip: Clip, task: Task, made: Dataset) -> None:
    """Writes the shards of a clip."""
    labels = clip.labels(task)[::STEP]
    one_hot = labels if task.groups[0].kind != "class" else np.eye(len(task.outputs))[labels[:, 0].astype(int)]
    rng = np.random.default_rng([clip.seed, 99])
    maps = encoded(one_hot, rng)
    write_rows(features, clip.name, {map_column(name): values for name, values in maps.items()}, made,
               gaps=clip.gaps, segments=clip.segments)  # fmt: skip


def write_rows(
    features: Path,
    video: str,
    inputs: Mapping[str, NDArray[Any]],
    made: Dataset,
    *,
    gaps: Sequence[int] = (),
    segments: int = 1,
) -> None:
    """Writes the shards of a video: one face, sampled every ``STEP`` of ``FPS`` native frames.

    Args:
        inputs: columns by name (``map_s8``, ``embedding`` ...), ``[rows, ...]`` each.
        gaps: rows in which no face was seen.
        segments: shards to cut it into.
    """
    schema = feature_schema(made.map_shapes, embedding=made.embedding, scores=made.scores)
    count = len(next(iter(inputs.values())))
    for segment, rows in enumerate(np.array_split(np.arange(count), segments)):
        seen = np.array([row for row in rows.tolist() if row not in gaps], int)
        native = np.arange(rows[0] * STEP, (rows[-1] + 1) * STEP)
        about = Footer(
            video=video,
            size=1000,
            digest=f"d-{video}",
            segment=segment,
            count=segments,
            start=float(segment),
            frames=tuple((native + 1).tolist()),
            times=tuple((native / FPS).tolist()),
            sampled=tuple((rows * STEP + 1).tolist()),
            decoded=(True,) * len(rows),
            faces=tuple(int(row in seen) for row in rows.tolist()),
            rows=len(seen),
            clipped=0,
            width=640,
            height=360,
            note="",
            features_id=made.config.features_id,
            cache_id=made.config.cache_id,
        )
        columns: dict[str, Any] = {
            "video": [video] * len(seen),
            "track": np.zeros(len(seen), np.int16),
            "frame": (seen * STEP + 1).astype(np.int32),
            "time": seen * STEP / FPS,
            "box": [[10.0, 20.0, 110.0, 140.0]] * len(seen),
            "score": np.full(len(seen), 0.99, np.float32),
            "landmarks": [[float(n) for n in range(10)]] * len(seen),
        }
        for name, values in inputs.items():
            columns[name] = values[seen]
        with atomic_file(shard_uri(str(features), f"{video.replace('/', '-')}-{segment}")) as path:
            writer = ShardWriter(path, schema)
            writer.add(columns)
            writer.close(about)


def write_labels(root: Path, clip: Clip, task: Task, name: str = "") -> None:
    """Writes the annotation file of a clip in the layout of Aff-Wild2."""
    folder = root / FOLDERS[task.name] / clip.partition
    folder.mkdir(parents=True, exist_ok=True)
    invalid = "-5" if task.name == "va" else "-1"
    lines = []
    for frame, row in enumerate(clip.labels(task)):
        bad = frame // STEP in clip.invalid
        lines.append(",".join(invalid if bad else f"{value:g}" for value in row))
    (folder / f"{name or clip.name}.txt").write_text("\n".join([task.labels.header or "", *lines]) + "\n")


def make_data(folder: Path, task_name: str, clips: Sequence[Clip], made: Dataset | None = None) -> tuple[Path, Path]:
    """Writes a cache and its labels; returns both folders."""
    task, made = TASKS[task_name], made or dataset()
    features, labels = folder / "features", folder / "labels"
    open_dataset(str(features), made)
    for clip in clips:
        write_clip(features, clip, task, made)
        write_labels(labels, clip, task)
    return features, labels


def some_clips(count: int = 12, rows: int = 40) -> list[Clip]:
    return [Clip(f"video{number}", rows, seed=number) for number in range(1, count + 1)]
