"""People folders written by hand: random pictures with activations that they show."""

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
from emobeam.schemas.tasks import TASKS

UNITS = TASKS["au"].outputs


def jpeg(seed: int, level: float = 0.5, size: int = 40) -> bytes:
    """A picture of noise, as bright as ``level`` (0 to 1) says."""
    noise = np.random.default_rng(seed).integers(0, 60, (size, size, 3)) + 190 * level
    buffer = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def crop_row(
    person: int, clip: int, frame: int, time: float | None, units: Mapping[str, float | None], crop: bytes = b""
) -> dict[str, Any]:
    """A row of a person's file; units that aren't named are unknown."""
    known = {unit: units.get(unit) for unit in UNITS}
    picture = crop or jpeg(person * 1000 + clip * 100 + frame, float(known["AU12"] or 0))
    rest = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "shapes": [("mouthSmile_L", 0.5)]}
    return {"person": person, "clip": clip, "frame": frame, "time": time, "crop": picture, **known, **rest}


def clip_rows(
    person: int, clip: int, frames: int, *, fps: float = 6.0, known: Sequence[str] = UNITS[:8], seed: int = 0
) -> list[dict[str, Any]]:
    """A clip whose units go up and down; AU12 is how bright the picture is."""
    rng = np.random.default_rng([seed, person, clip])
    starts = {unit: float(rng.uniform(0, 6)) for unit in known}
    return [
        crop_row(
            person,
            clip,
            frame,
            (frame - 1) / fps,
            {unit: round(0.5 + 0.5 * float(np.sin(start + frame / 2)), 3) for unit, start in starts.items()},
        )
        for frame in range(1, frames + 1)
    ]


def write_people(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "", row_group: int = 7) -> Path:
    """Writes ``folder/people/<name>.parquet``, called after the person of the first row; returns ``folder``."""
    (folder / "people").mkdir(parents=True, exist_ok=True)
    path = folder / "people" / f"{name or format(rows[0]['person'], '06d')}.parquet"
    table = pa.Table.from_pylist([dict(row) for row in rows], crops_schema())
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=row_group)
    return folder
