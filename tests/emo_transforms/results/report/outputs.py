"""Output folders as stages 1 and 2 leave them, written by hand: any number of videos of any length, in no time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset, shard_uri
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.index import rebuild_index
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.prediction.prediction_tables import part_uri, write_part
from emobeam.emo_transforms.storage import atomic_file, write_json
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.tables import FACES, SOURCES, VIDEOS, feature_schema, predictions_schema
from emobeam.schemas.tasks import task_named

FPS = 25
SIZE, DIGEST = 1000, "d1"


def smooth(rng: np.random.Generator, rows: int, low: float, high: float) -> NDArray[np.float32]:
    """A walk with the pace of a face, in a range."""
    steps = rng.normal(size=rows).cumsum()
    wide = np.convolve(steps, np.ones(9) / 9, mode="same") if rows > 9 else steps
    scaled = np.tanh((wide - wide.mean()) / (wide.std() + 1e-9))
    noise = 0.02 * rng.normal(size=rows)
    return np.clip(low + (high - low) * ((scaled + 1) / 2 + noise), low, high).astype(np.float32)


def table_of(
    video: str,
    task: str,
    seconds: float,
    *,
    faces: int = 1,
    subject: str = "",
    timed: bool = True,
    absent: tuple[float, float] | None = None,
    seed: int = 0,
) -> pa.Table:
    """A predictions table: six samples a second, interpolated between; in ``absent`` (s) nobody is there."""
    outputs = task_named(task).outputs
    groups = [group for group in task_named(task).groups for _ in group.outputs]
    rows = round(seconds * FPS)
    frames, times = np.arange(1, rows + 1, dtype=np.int32), np.arange(rows) / FPS
    looked = np.unique(np.rint(np.arange(0, seconds, 1 / 6) * FPS).astype(int))
    looked = looked[looked < rows]
    if absent:
        looked = looked[(times[looked] < absent[0]) | (times[looked] > absent[1])]
    source = np.full(rows, SOURCES.index("interpolated"), np.int8)
    source[looked] = 0
    if absent:
        inside = (times > absent[0]) & (times < absent[1])
        source[inside] = SOURCES.index("absent")
        source[inside & ((times < absent[0] + 0.5) | (times > absent[1] - 0.5))] = SOURCES.index("nearest")
    source[looked[-1] + 1 :] = SOURCES.index("nearest")
    tables = []
    for face in range(faces):
        rng = np.random.default_rng([seed, face, sum(task.encode())])
        values = [
            np.interp(frames, frames[looked], smooth(rng, len(looked), group.low, group.high)).astype(np.float32)
            for group in groups
        ]
        gone = source == SOURCES.index("absent")
        columns = [
            pa.array([video] * rows, pa.string()),
            pa.array([subject] * rows, pa.string()),
            pa.array(np.full(rows, face, np.int16)),
            pa.array(frames),
            pa.array(times, mask=None if timed else np.ones(rows, bool)),
            *(pa.array(column, mask=gone) for column in values),
            pa.DictionaryArray.from_arrays(pa.array(source), pa.array(SOURCES, pa.string())),
        ]
        tables.append(pa.Table.from_arrays(columns, schema=predictions_schema(outputs)))
    return pa.concat_tables(tables)


def write_table(output: Path, task: str, video: str, table: pa.Table) -> None:
    """Writes a part with the footer that stage 2 gives it."""
    subjects = sorted(set(table["subject"].to_pylist()))
    footer = {"task": task, "video": video, "subjects": subjects, "rows": len(table), "faces": []}
    write_part(part_uri(str(output), task, video), table, footer)


def damage_pages(uri: str) -> None:
    """Spoils the pages of a table and leaves its footer as it is."""
    path = Path(uri)
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 3] = bytes(len(data) // 3 - 4)
    path.write_bytes(bytes(data))


def write_run(output: Path, videos: Sequence[dict[str, Any]], faces: Sequence[dict[str, Any]] = (), **run: Any) -> None:
    """Writes ``videos.parquet``, ``faces.parquet`` and ``run.json``; rows of videos need not be complete."""
    usual = {"outcome": "ok", "segments": 1, "segments_done": 1, "frames": 0, "sampled": 0, "lost": 0, "with_face": 0}
    whole = [{**usual, "rows": 0, "size": SIZE, "digest": DIGEST, **row} for row in videos]
    pq.write_table(pa.Table.from_pylist(whole, VIDEOS), output / "videos.parquet")
    pq.write_table(pa.Table.from_pylist(list(faces), FACES), output / "faces.parquet")
    record = {"run": "20260101T000000Z-abcdef", "job": "annotate", "features": "", "heads": {}, "warnings": []}
    write_json(str(output / "run.json"), {**record, "seconds": 12.5, "config": {"faces": "all"}, **run})


def face_row(video: str, face: int, seconds: float) -> dict[str, Any]:
    """A row of ``faces.parquet``: a face that is there all the time, each a screen's width from the last."""
    left = 100.0 + 500.0 * face
    return {
        "video": video,
        "subject": "",
        "face": face,
        "person": face,
        "first_frame": 1,
        "last_frame": round(seconds * FPS),
        "first_time": 0.0,
        "last_time": seconds,
        "sampled": round(seconds * 6),
        "box": [left, 50.0, left + 80, 150.0],
        "score": 0.99,
    }


def write_collection(output: Path, videos: int, seconds: float, tasks: Sequence[str], *, faces: int = 1) -> list[str]:
    """An output folder of so many videos; returns their ids."""
    names = [f"batch{index // 50 + 1}/video_{index + 1:03d}" for index in range(videos)]
    for index, name in enumerate(names):
        for task in tasks:
            gap = (seconds / 2, seconds / 2 + 4) if index % 3 == 1 else None
            write_table(output, task, name, table_of(name, task, seconds, faces=faces, absent=gap, seed=index))
    counts = {"frames": round(seconds * FPS), "sampled": round(seconds * 6), "with_face": round(seconds * 6)}
    heads = {task: [{"name": f"{task}-tam3", "weights": "heads/" + task, "sha256": "ab" * 32}] for task in tasks}
    write_run(
        output,
        [{"video": name, "duration": seconds, **counts} for name in names],
        [face_row(name, face, seconds) for name in names for face in range(faces)],
        heads=heads,
        features=str(output / "features"),
    )
    return names


def crop(rng: np.random.Generator, number: int) -> bytes:
    """A stored crop of 160 px; its green channel is its number, so that a test can tell it again."""
    noise = rng.integers(0, 256, (20, 20, 3), np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((160, 160), Image.Resampling.BICUBIC)).copy()
    picture[..., 1] = number % 256
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=90)
    return data.getvalue()


def write_cache(output: Path, names: Sequence[str], seconds: float, *, faces: int = 1, every: int = 1) -> None:
    """A cache with stored crops, one shard a video; ``every``: only each so-many-th sampled frame has a row."""
    features = output / "features"
    config = ExtractConfig(store=("crops",), maps=())
    open_dataset(str(features), Dataset(config, {}))
    looked = sorted({round(k * FPS / 6) + 1 for k in range(int(seconds * 6))})[::every]
    frames = tuple(range(1, round(seconds * FPS) + 1))
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        rows = [(frame, face) for frame in looked for face in range(faces)]
        boxes = [(100.0 + 500.0 * face, 50.0, 180.0 + 500.0 * face, 150.0) for _, face in rows]
        columns = {
            "video": [name] * len(rows),
            "track": [face for _, face in rows],
            "frame": [frame for frame, _ in rows],
            "time": [(frame - 1) / FPS for frame, _ in rows],
            "box": boxes,
            "score": [0.99] * len(rows),
            "landmarks": [[0.0] * 10] * len(rows),
            "crop": [crop(rng, 60 * face + 40) for _, face in rows],
        }
        sampled, seen = tuple(looked), (True,) * len(looked)
        made = (config.features_id, config.cache_id)
        about = Footer(
            name,
            SIZE,
            DIGEST,
            0,
            1,
            0.0,
            frames,
            tuple((frame - 1) / FPS for frame in frames),
            sampled,
            seen,
            (faces,) * len(looked),
            len(rows),
            0,
            1920,
            1080,
            "",
            *made,
        )
        with atomic_file(shard_uri(str(features), f"{place:016x}")) as path:
            writer = ShardWriter(path, feature_schema({}, crop=True))
            writer.add(columns)
            writer.close(about)
    rebuild_index(str(features))
