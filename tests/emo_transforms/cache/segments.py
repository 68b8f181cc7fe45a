"""Segments of videos, the shards and failure records that runs leave of them, and what the index says then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.cache.failures import failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.index import rebuild_index, settle
from emobeam.schemas.config import shard_name
from emobeam.schemas.records import Failure, Fingerprint
from tests.emo_transforms.caches import Seen, footer, write_shard

CACHE = "cace"
OLD, NEW = Fingerprint(1000, "d1"), Fingerprint(1001, "d2")


def segment(video: str, index: int, count: int = 3, content: Fingerprint = OLD, **changes: Any) -> Footer:
    """A second of video at 25 frames per second, five of them sampled."""
    frames = tuple(range(25 * index + 1, 25 * index + 26))
    values: dict[str, Any] = {
        "video": video,
        "size": content.size,
        "digest": content.digest,
        "segment": index,
        "count": count,
        "start": float(index),
        "frames": frames,
        "times": tuple((frame - 1) / 25 for frame in frames),
        "sampled": frames[::5],
        "cache_id": CACHE,
    }
    return footer(**{**values, **changes})


def name_of(about: Footer) -> str:
    print_ = Fingerprint(about.size, about.digest)
    return shard_name(about.video, print_, about.start, about.cache_id, about.display)


def put(features: Path, *segments: Footer) -> list[str]:
    """Writes shards with a row for every face in their footers."""
    names = []
    for about in segments:
        rows = [Seen(frame) for frame, faces in zip(about.sampled, about.faces, strict=True) for _ in range(faces)]
        names.append(write_shard(features, name_of(about), replace(about, rows=len(rows)), rows))
    return names


def failure(video: str, *indices: int, content: Fingerprint = OLD, **changes: Any) -> Failure:
    segments = [segment(video, index, content=content) for index in indices]
    values: dict[str, Any] = {
        "video": video,
        "uri": f"/in/{video}.mp4",
        "outcome": "failed",
        "stage": "decode",
        "reason": "damaged",
        "message": "invalid data",
        "permanent": True,
        "segments": indices,
        "shards": tuple(name_of(about) for about in segments),
        "frames": tuple(frame for about in segments for frame in about.sampled),
        "size": content.size,
        "digest": content.digest,
    }
    return Failure(**{**values, **changes})


def fail(features: Path, video: str, *indices: int, **changes: Any) -> None:
    """Writes records as a run does: one per failed segment, or one for the whole video."""
    for index in indices:
        record = failure(video, index, **changes)
        write_failure(str(features), record.shards[0], record)
    if not indices:
        record = failure(video, **changes)
        write_failure(str(features), failure_name(video, Fingerprint(record.size, record.digest), CACHE), record)


def videos(features: Path) -> dict[str, dict[str, Any]]:
    return {row["video"]: row for row in rebuild_index(str(features)).to_pylist()}


def settled(features: Path, video: str, content: Fingerprint | None = OLD) -> list[Failure]:
    """The records of a video at the end of a run."""
    rebuild_index(str(features))
    settle(str(features), {video: content}, CACHE)
    return [record for record in read_failures(str(features)).values() if record.video == video]
