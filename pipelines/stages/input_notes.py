"""What people have to be told of how their videos were read: once, in the warnings of a run."""

from __future__ import annotations

import pyarrow as pa

from emobeam.schemas.wording import counted

_NAMED = 5


def video_notes(videos: pa.Table) -> list[str]:
    """A line for each of the first videos with notes, and one for all others.

    Args:
        videos: rows of ``videos.parquet``.
    """
    noted = [(row["video"], row["notes"]) for row in videos.select(["video", "notes"]).to_pylist() if row["notes"]]
    told = [f"{video}: {note}" for video, note in noted[:_NAMED]]
    if len(noted) > _NAMED:
        told.append(
            f"there are notes on {counted(len(noted) - _NAMED, 'more video')}, see column notes of videos.parquet"
        )
    return told


def unknown_geometry(videos: pa.Table) -> list[str]:
    """What to tell of videos that an older version took in.

    Args:
        videos: rows of ``videos.parquet`` of a cache made from video files.
    """
    rows = videos.select(["frames", "coded_width"]).to_pylist()
    unknown = sum(row["frames"] > 0 and row["coded_width"] is None for row in rows)
    if not unknown:
        return []
    text = (
        f"{counted(unknown, 'video')} of the cache: an older emobeam took the pictures as they are coded, and whether "
        "players show them so (not flipped, stretched, interlaced ...) isn't known; extract again to know, what is "
        "right is kept"
    )
    return [text]
