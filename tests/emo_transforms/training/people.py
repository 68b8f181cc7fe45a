"""People folders written by hand: flat pictures whose brightness tells AU12."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from emobeam.pipelines.training.people_files import crops_schema


def write_people(folder: Path, people: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    """Writes a people folder; rows name what they have, the rest is null, a missing crop is grey."""
    (folder / "people").mkdir(parents=True, exist_ok=True)
    for person, rows in people.items():
        filled = []
        for frame, row in enumerate(rows, 1):
            crop = row.get("crop", picture(128))
            filled.append({"person": person, "clip": 0, "frame": frame, **row, "crop": crop})
        table = pa.Table.from_pylist(filled, crops_schema())
        pq.write_table(table, folder / "people" / f"{person:06d}.parquet")
    return str(folder)


def picture(level: int, size: int = 40, left: int | None = None) -> bytes:
    """A flat picture as PNG; its left half of another brightness where that is given."""
    pixels = np.full((size, size, 3), level, np.uint8)
    if left is not None:
        pixels[:, : size // 2] = left
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def smiling(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of one person: half of them bright and smiling, the others dark and not."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(count):
        smile = float(place % 2)
        crop = picture(int(60 + 120 * smile + rng.integers(-20, 20)))
        rows.append({"crop": crop, "AU12": smile, "AU4": None, "shapes": [("mouthSmile_L", smile)] if smile else []})
    return rows
