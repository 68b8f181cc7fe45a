"""Looking at an input before any work on it: what it is now, what the cache has of it, which segments remain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.cache.failures import failure_name, write_failure
from emobeam.emo_transforms.cache.index import as_shown
from emobeam.emo_transforms.cache.stored_crops import StoredCrops, plan_stored
from emobeam.emo_transforms.extraction.video_plans import Prober, fingerprint_of, plan_video
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import (
    Failure,
    Fingerprint,
    InputError,
    Looked,
    Probe,
    Segment,
    Video,
    VideoFacts,
    VideoTask,
)

Index = Mapping[tuple[str, int, str], Sequence[Mapping[str, Any]]]
"""Rows of ``segments.parquet`` by video, size and digest; see :func:`complete_videos`."""


@dataclass(frozen=True)
class Look:
    """What looking at one input found.

    Attributes:
        content: None where the input could not be read.
        segments: all segments that the cache may lack.
        error: why there is nothing to be had.
        complete: the cache has all of this content.
        facts: of a video that was probed.
    """

    content: Fingerprint | None
    segments: tuple[Segment, ...] = ()
    error: InputError | None = None
    complete: bool = False
    facts: VideoFacts | None = None

    def todo(self, done: Iterable[str]) -> list[Segment]:
        """The segments without those whose shards are there, or never will be."""
        without = set(done)
        return [segment for segment in self.segments if segment.shard not in without]


def complete_videos(rows: Iterable[dict[str, Any]]) -> Index:
    """Rows of shards that are there, of those contents whose shards are all there."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["video"], row["size"], row["digest"]].append(row)
    shown = {key: as_shown(group) for key, group in groups.items()}
    return {key: group for key, group in shown.items() if len(group) == group[0]["count"]}


def tasks_of(
    videos: Iterable[Video],
    config: ExtractConfig,
    index: Index,
    failures: Mapping[str, Failure],
    stored: Mapping[str, StoredCrops],
    looked_at: Container[tuple[str, int, str]] | None = None,
    shards: Iterable[Mapping[str, Any]] = (),
    carried: Container[str] = (),
) -> Iterator[VideoTask]:
    """One task per video, in their order.

    Args:
        shards: rows of all shards that are there.
        carried: videos of which another cache's failure records were taken over.
        failures: all failure records of the cache by name.
        stored: by URI: the caches that videos of kind ``cache`` lie in.
        looked_at: contents (video, size, digest) of which it is known how they are shown; shards of another one may
            be wrong, so it is looked at again. None: all.
    """
    complete: dict[str, list[Fingerprint]] = defaultdict(list)
    for name, size, digest in index:
        if looked_at is not None and (name, size, digest) not in looked_at:
            continue
        complete[name].append(Fingerprint(size, digest))
    there: dict[str, list[str]] = defaultdict(list)
    for row in shards:
        if Fingerprint(row["size"], row["digest"]) not in complete[row["video"]]:
            there[row["video"]].append(row["shard"])
    given_up: dict[str, list[str]] = defaultdict(list)
    failed: dict[str, list[Fingerprint]] = defaultdict(list)
    for name, failure in failures.items():
        if not failure.permanent:
            continue
        given_up[failure.video] += failure.shards
        print_ = Fingerprint(failure.size, failure.digest)
        whole = not failure.segments and failure.reason != "lost_frames"
        if whole and name == failure_name(failure.video, print_, config.cache_id):
            failed[failure.video].append(print_)
    for video in videos:
        crops = stored.get(video.uri) if video.kind == "cache" else None
        yield VideoTask(
            video,
            tuple(complete[video.id]),
            tuple(failed[video.id]),
            tuple(sorted(given_up[video.id])),
            crops.prints[video.id] if crops else None,
            crops.shards.get(video.id, ()) if crops else (),
            tuple(there[video.id]),
            video.id in carried,
        )


def look_at(task: VideoTask, config: ExtractConfig, prober: Prober) -> Look:
    """Looks at one input; probes it only where the cache isn't known to have all of it."""
    video = task.video
    if video.kind == "cache" and task.content is None:
        return Look(None)  # it could never be read; the record of that is carried over
    try:
        content = task.content or fingerprint_of(video, config)
    except InputError as error:
        return Look(None, error=error)
    if content in task.complete:
        return Look(content, complete=True)
    if content in task.failed and video.kind != "cache":
        return Look(content)
    try:
        if video.kind == "cache":
            crops = StoredCrops(video.uri, {video.id: content}, {video.id: task.stored}, {})
            return Look(content, tuple(plan_stored(video, crops, config)))
        found: list[Probe] = []

        def probing(path: str) -> Probe:
            found.append(prober(path))
            return found[-1]

        segments = tuple(plan_video(video, content, config, probing))
        return Look(content, segments, facts=found[0].facts if found and video.kind == "video" else None)
    except InputError as error:
        return Look(content, error=error)


def note_failure(features: str, video: Video, look: Look, config: ExtractConfig) -> None:
    """Writes the failure record of an input of which nothing can be had."""
    if look.error is None:
        return
    content = look.content or Fingerprint(-1, "")
    failure = Failure(
        video=video.id,
        uri=video.uri,
        outcome="failed",
        stage=look.error.stage,
        reason=look.error.reason,
        message=str(look.error),
        permanent=look.error.permanent,
        size=content.size,
        digest=content.digest,
    )
    write_failure(features, failure_name(video.id, content, config.cache_id), failure)


def segment_failure(segment: Segment, error: InputError) -> Failure:
    """The record of a segment that can't be done."""
    return Failure(
        video=segment.video.id,
        uri=segment.video.uri,
        outcome="failed",
        stage=error.stage,
        reason=error.reason,
        message=str(error),
        permanent=error.permanent,
        segments=(segment.index,),
        shards=(segment.shard,),
        frames=segment.sampled,
        native_frames=segment.frames,
        native_times=segment.times,
        size=segment.fingerprint.size,
        digest=segment.fingerprint.digest,
    )


def looked(task: VideoTask, look: Look, todo: Sequence[Segment]) -> Looked:
    """The small record of it."""
    nothing = task.carried and not (look.segments or look.complete)
    last = look.segments[-1].times if look.segments else ()
    return Looked(
        task.video.id,
        look.content,
        len(todo),
        len(look.segments) - len(todo),
        sum(len(segment.sampled) for segment in todo),
        look.error.reason if look.error else "carried" if nothing else "",
        look.facts,
        last[-1] if last else 0.0,
        sum(len(segment.sampled) for segment in look.segments),
    )
