"""What stage 1 has to do: a look at every input, and what is said of it before work starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.cache.failures import failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.index import read_segments
from emobeam.emo_transforms.cache.stored_crops import StoredCrops, carried_failures, read_stored
from emobeam.emo_transforms.cache.video_facts import read_facts
from emobeam.emo_transforms.extraction.resume_plan import Index, Look, complete_videos, look_at, note_failure, tasks_of
from emobeam.emo_transforms.extraction.video_plans import fingerprint_of
from emobeam.emo_transforms.storage.object_stores import AT_ONCE
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.pipelines.console import Ui, duration_text, size_text
from emobeam.runners.local import Work
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Fingerprint, InputError, Video, VideoFacts, VideoTask
from emobeam.schemas.wording import counted

PACKED = 0.7
"""Stored bytes per byte of float16 maps, about (measured by tests/benchmarks/cache.py)."""


@dataclass(frozen=True)
class Known:
    """What is known before any input is looked at: one listing, the index, the failure records.

    Attributes:
        shards: names of the shards that are there.
        carried: whether another cache had failures of a video, by video.
    """

    tasks: Sequence[VideoTask]
    shards: set[str]
    index: Index
    carried: Mapping[str, bool]


@dataclass
class Plan:
    """What is to be done, and what is known of every input.

    Attributes:
        prints: the content of every input that was looked at; None where it could not be read.
        seconds: of video.
        sampled: frames to look at, those of earlier runs included.
        done: segments done before.
        facts: what looking at videos told beside their segments, by video.
    """

    work: list[Work]
    prints: dict[str, Fingerprint | None]
    seconds: float = 0.0
    sampled: int = 0
    done: int = 0
    facts: dict[str, VideoFacts] = field(default_factory=dict)


def know(output: str, videos: Sequence[Video], config: ExtractConfig) -> Known:
    """Reads what the cache says of the inputs; carries over what another cache could not do of its videos."""
    rows = read_segments(output)  # a run that was killed or detached leaves shards that no index knows
    shards = {row["shard"] for row in rows}
    failures = read_failures(output)
    index = complete_videos(rows, shards)
    stored = {uri: read_stored(uri) for uri in {video.uri for video in videos if video.kind == "cache"}}
    carried = {video.id: _carry(output, video, stored[video.uri], config) for video in videos if video.kind == "cache"}
    of_videos = config.source == "video" and not config.origin.cache_id
    looked_at = read_facts(output) if of_videos else None
    return Known(list(tasks_of(videos, config, index, failures, stored, looked_at)), shards, index, carried)


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


def plan_here(known: Known, output: str, config: ExtractConfig, workers: int, ui: Ui) -> Plan:
    """Looks at every input, ``workers`` at a time, and leaves out what the cache already has.

    A video that the index knows whole needs no probing; names of shards decide for the others.
    """
    plan = Plan(work=[], prints={})
    ui.start("probe", len(known.tasks), len(known.tasks), "videos", measure="videos")
    for task, look in _looks(known.tasks, config, max(1, workers)):
        video = task.video
        plan.prints[video.id] = look.content
        if look.facts is not None:
            plan.facts[video.id] = look.facts
        note_failure(output, video, look, config)
        todo = look.todo(task.given_up, known.shards)
        plan.work += [Work(segment.shard, len(segment.sampled), segment) for segment in todo]
        _count(plan, video, look, known.index)
        plan.done -= len(todo)
        failed = look.error or (known.carried.get(video.id) and not (look.segments or look.complete))
        ui.event("frames", {"frames": 1})
        ui.event("failed" if failed else "done", {"key": video.id})
    ui.finish()
    return plan


def _looks(tasks: Sequence[VideoTask], config: ExtractConfig, count: int) -> Iterator[tuple[VideoTask, Look]]:
    with ExitStack() as stack:
        decoders: SimpleQueue[DecoderProcess] = SimpleQueue()
        for _ in range(count):
            decoders.put(stack.enter_context(DecoderProcess(config.decoder)))
        pool = stack.enter_context(ThreadPoolExecutor(count))

        def look(task: VideoTask) -> tuple[VideoTask, Look]:
            decoder = decoders.get()
            try:
                return task, look_at(task, config, decoder.probe)
            finally:
                decoders.put(decoder)

        yield from pool.map(look, tasks)


def _count(plan: Plan, video: Video, look: Look, index: Index) -> None:
    if look.complete and look.content is not None:
        rows: Sequence[Mapping[str, Any]] = index[video.id, look.content.size, look.content.digest]
        plan.seconds += max((row["last_time"] for row in rows if row["last_time"] is not None), default=0.0)
        plan.sampled += sum(row["sampled"] for row in rows)
        plan.done += len(rows)
        return
    last = look.segments[-1].times if look.segments else ()
    plan.seconds += last[-1] if last else 0.0
    plan.sampled += sum(len(segment.sampled) for segment in look.segments)
    plan.done += len(look.segments)


def announce(plan: Plan, videos: Sequence[Video], dataset: Dataset, ui: Ui) -> None:
    """Says what there is, what is done and what the rest will take on the disk."""
    maps = sum(2 * shape[0] * shape[1] * shape[2] for shape in dataset.map_shapes.values())
    row = maps * PACKED + 4 * (dataset.embedding + dataset.scores)
    todo = sum(work.weight for work in plan.work)
    size = size_text(todo * row * (1 + dataset.config.views))
    crops = " and the crops" if "crops" in dataset.config.store else ""
    ui.say(
        f"{counted(len(videos), 'video')}, {duration_text(plan.seconds)} of video, "
        f"{counted(plan.sampled, 'frame')} to look at; "
        f"{counted(plan.done, 'segment')} done before, {len(plan.work)} to do ({todo} frames"
        + (f", about {size} of cache{crops} at one face a frame)" if row else ", crops only)")
    )
