"""Feature caches written by hand, a row at a time, as stage 1 would write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import ShardWriter
from emobeam.emo_transforms.storage import atomic_file
from emobeam.schemas.tables import feature_schema, map_column

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}


@dataclass(frozen=True)
class Seen:
    """A face in a frame; ``look`` seeds its maps. Without ``box`` it is an image of a folder of crops."""

    frame: int
    track: int = 0
    box: tuple[float, float, float, float] | None = (10.0, 20.0, 110.0, 140.0)
    score: float = 0.99
    look: int = 0


def footer(**changes: Any) -> Footer:
    """The footer of a segment of one second, the only one of its video, frames 1 to 25 and every fifth sampled."""
    sampled = tuple(changes.get("sampled", (1, 6, 11, 16, 21)))
    values: dict[str, Any] = {
        "video": "a/clip",
        "size": 1000,
        "digest": "d1",
        "segment": 0,
        "count": 1,
        "start": 0.0,
        "frames": tuple(range(1, 26)),
        "times": tuple(n / 25 for n in range(25)),
        "sampled": sampled,
        "decoded": (True,) * len(sampled),
        "faces": (1,) * len(sampled),
        "rows": len(sampled),
        "clipped": 0,
        "width": 640,
        "height": 360,
        "note": "",
        "features_id": "f00d",
        "cache_id": "cace",
    }
    return Footer(**{**values, **changes})


def maps_of_face(seen: Seen) -> dict[str, NDArray[np.float16]]:
    """The maps [C, H, W] of a face, by name."""
    rng = np.random.default_rng([seen.look, seen.frame])
    return {name: (rng.normal(size=shape) + 3 * seen.look).astype(np.float16) for name, shape in SHAPES.items()}


def write_shard(features: Path | str, name: str, about: Footer, faces: Sequence[Seen]) -> str:
    """Writes ``shards/<name>.parquet`` with a row per face; returns the name."""
    times = dict(zip(about.frames, about.times, strict=False))
    images = any(face.box is None for face in faces)
    columns: dict[str, Any] = {
        "video": [about.video] * len(faces),
        "track": [face.track for face in faces],
        "frame": [face.frame for face in faces],
        "time": [times.get(face.frame) for face in faces],
        "box": [face.box for face in faces],
        "score": [None if face.box is None else face.score for face in faces],
        "landmarks": [None if face.box is None else [float(n) for n in range(10)] for face in faces],
        "image": [f"{face.frame:05d}.jpg" for face in faces],
    }
    for key, shape in SHAPES.items():
        maps = [maps_of_face(face)[key] for face in faces]
        columns[map_column(key)] = np.stack(maps) if maps else np.zeros((0, *shape), np.float16)
    with atomic_file(shard_uri(str(features), name)) as path:
        writer = ShardWriter(path, feature_schema(SHAPES, images=images))
        writer.add(columns)
        writer.close(about)
    return name


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
