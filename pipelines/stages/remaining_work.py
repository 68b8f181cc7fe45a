"""What stage 1 has to do, as far as the cache tells, and what is said of it before work starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.cache.failures import failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.index import read_segments
from emobeam.emo_transforms.cache.stored_crops import StoredCrops, carried_failures, read_stored
from emobeam.emo_transforms.cache.video_facts import read_facts
from emobeam.emo_transforms.extraction.resume_plan import Index, complete_videos, tasks_of
from emobeam.emo_transforms.extraction.video_plans import fingerprint_of
from emobeam.emo_transforms.storage.object_stores import AT_ONCE
from emobeam.pipelines.console import Ui, duration_text, size_text
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Fingerprint, InputError, Looked, Video, VideoTask
from emobeam.schemas.wording import counted

PACKED = 0.7
"""Stored bytes per byte of float16 maps, about (measured by tests/benchmarks/cache.py)."""


@dataclass(frozen=True)
class Known:
    """What is known before any input is looked at: one listing, the index, the failure records.

    Attributes:
        rows: of the index, by the names of the shards that are there.
        index: those of videos that are there as a whole.
    """

    tasks: Sequence[VideoTask]
    rows: Mapping[str, dict[str, Any]]
    index: Index


def know(output: str, videos: Sequence[Video], config: ExtractConfig) -> Known:
    """Reads what the cache says of the inputs; carries over what another cache could not do of its videos."""
    rows = {row["shard"]: row for row in read_segments(output)}  # a killed run leaves shards that no index knows
    failures = read_failures(output)
    index = complete_videos(rows.values())
    stored = {uri: read_stored(uri) for uri in {video.uri for video in videos if video.kind == "cache"}}
    carried = {
        video.id for video in videos if video.kind == "cache" and _carry(output, video, stored[video.uri], config)
    }
    of_videos = config.source == "video" and not config.origin.cache_id
    looked_at = None
    if of_videos:
        looked_at = {*read_facts(output), *(key for key, shown in index.items() if all(row["facts"] for row in shown))}
    tasks = tasks_of(videos, config, index, failures, stored, looked_at, rows.values(), carried)
    return Known(list(tasks), rows, index)


def settled_prints(known: Known, config: ExtractConfig) -> dict[str, Fingerprint] | None:
    """Contents of all inputs if nothing is left to do for any of them; else None, as soon as that is known.

    Inputs are read at both ends and not probed. One that can't be read is for the workers to look at.
    """
    if not all(task.complete or task.failed for task in known.tasks):
        return None

    def print_of(task: VideoTask) -> Fingerprint | None:
        if task.video.kind == "cache" and task.content is None:
            return None
        try:
            content = task.content or fingerprint_of(task.video, config)
        except InputError:
            return None
        done = task.complete if task.video.kind == "cache" else (*task.complete, *task.failed)
        return content if content in done else None

    prints: dict[str, Fingerprint] = {}
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for task, content in zip(known.tasks, pool.map(print_of, known.tasks), strict=True):
            if content is None:
                return None
            prints[task.video.id] = content
    finally:
        pool.shutdown(cancel_futures=True)
    return prints


def _carry(output: str, video: Video, stored: StoredCrops, config: ExtractConfig) -> bool:
    carried = carried_failures(video, stored, config)
    for failure in carried:
        print_ = Fingerprint(failure.size, failure.digest)
        name = failure.shards[0] if failure.shards else failure_name(video.id, print_, config.cache_id)
        write_failure(output, name, failure)
    return bool(carried)


def done_before(known: Known, looked: Iterable[Looked]) -> int:
    """Segments that needed no work, of inputs that were looked at."""
    return sum(len(_rows(known, record)) or record.done for record in looked)


def _rows(known: Known, record: Looked) -> Sequence[Mapping[str, Any]]:
    """The index's rows of an input that the cache has as a whole; none of one that was looked at more closely."""
    content = None if record.segments or record.done else record.content
    return known.index.get((record.video, content.size, content.digest), ()) if content is not None else ()


def announce(known: Known, looked: Sequence[Looked], dataset: Dataset, ui: Ui) -> None:
    """Says what there is, what is done and what the rest will take on the disk."""
    maps = sum(2 * shape[0] * shape[1] * shape[2] for shape in dataset.map_shapes.values())
    row = maps * PACKED + 4 * (dataset.embedding + dataset.scores)
    todo = sum(record.sampled for record in looked)
    size = size_text(todo * row * (1 + dataset.config.views))
    crops = " and the crops" if "crops" in dataset.config.store else ""
    seconds = sum(record.seconds for record in looked)
    sampled = sum(record.all_sampled for record in looked)
    for record in looked:
        rows = _rows(known, record)
        seconds += max((row["last_time"] for row in rows if row["last_time"] is not None), default=0.0)
        sampled += sum(row["sampled"] for row in rows)
    ui.say(
        f"{counted(len(known.tasks), 'video')}, {duration_text(seconds)} of video, "
        f"{counted(sampled, 'frame')} to look at; {counted(done_before(known, looked), 'segment')} done before, "
        f"{sum(record.segments for record in looked)} to do ({todo} frames"
        + (f", about {size} of cache{crops} at one face a frame)" if row else ", crops only)")
    )
