"""Between two clocks: that of the tables, which begins with the first frame, and the media's own.

Players, ELAN and people with a stopwatch count from the beginning of the container: in an mp4 that of its timeline,
elsewhere where its first stream begins. The first frame may come later. ``time`` in tables stays as it is; what people
bring along or take away for a player is moved here, once.
"""

from __future__ import annotations

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.parquet_files import read_parquet

_PRECISION = 9
"""Decimal places of seconds that are kept: sums of floats must not move an edge across a frame."""


def media_offsets(output: str) -> dict[str, float]:
    """Place of each video's first frame on its media's own clock in s, from ``videos.parquet`` of an output folder.

    Videos of which it isn't known (older versions, folders of crops) have none.
    """
    try:
        table = read_parquet(storage.join(output, "videos.parquet"))
    except (OSError, pa.ArrowException):
        return {}
    if not {"video", "offset"} <= set(table.column_names):
        return {}
    rows = table.select(["video", "offset"]).to_pylist()
    return {row["video"]: row["offset"] for row in rows if row["offset"] is not None}


def since_first_frame(seconds: float, offset: float) -> float:
    """A moment of the media's clock as ``time`` of the tables."""
    return round(seconds - offset, _PRECISION) if offset else seconds


def on_media_clock(seconds: float, offset: float) -> float:
    """The inverse of :func:`since_first_frame`."""
    return round(seconds + offset, _PRECISION) if offset else seconds
