"""The job ``extract``: inputs -> plan -> supervised Beam runs -> feature cache."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from emo_transforms import storage
from emo_transforms.backbones import check_outputs, describe_backbone, outputs_of
from emo_transforms.cache import Dataset, failure_name, open_dataset, read_failures, write_failure
from emo_transforms.decoding import DecoderProcess
from emo_transforms.extract import ExtractSegments
from emo_transforms.extraction import segment_failure, without_pictures
from emo_transforms.feature_rows import outputs_in
from emo_transforms.index import read_index, rebuild_index, settle
from emo_transforms.planning import fingerprint_of, plan_video
from emo_transforms.stored_crops import StoredCrops, carried_failures, plan_stored, read_stored
from pipelines.console import Ui, duration_text, size_text
from pipelines.records import machine, new_run_id, versions
from runners.local import Crash, LocalConfig, LocalPool, Work, run_locally
from runners.worker import PipeReporter
from schemas.config import NO_BACKBONE, ExtractConfig, to_json
from schemas.records import Failure, Fingerprint, InputError, Segment, UsageError, Video

_PACKED = 0.7
"""Stored bytes per byte of float16 maps, about (measured by tests/benchmarks/cache.py)."""


@dataclass(frozen=True)
class ExtractRequest:
    """What the user asked for.

    Attributes:
        videos: see ``emo_transforms.planning.find_videos``.
        dataset: has every ``auto`` resolved, see :func:`resolve_config`.
        inputs: what the user wrote, for the record of the run.
    """

    videos: Sequence[Video]
    output: str
    dataset: Dataset
    inputs: Sequence[str] = ()
    local: LocalConfig = field(default_factory=LocalConfig)
    beam_args: Sequence[str] = ()


@dataclass(frozen=True)
class ExtractResult:
    """What a run left behind.

    Attributes:
        videos: rows of ``videos.parquet`` for the inputs of this run.
        untrained: the backbone is a seeded initialisation.
        views: augmented views of each face; rows count each.
    """

    run_id: str
    videos: pa.Table
    seconds: float
    untrained: bool
    views: int = 0

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of videos by outcome."""
        counts: dict[str, int] = defaultdict(int)
        for outcome in self.videos["outcome"].to_pylist():
            counts[outcome] += 1
        return dict(counts)

    @property
    def some_failed(self) -> bool:
        """Whether any input is ``failed`` or ``partial``."""
        return bool(self.outcomes.keys() & {"failed", "partial"})


@dataclass(frozen=True)
class ExtractJob:
    """Runs a slice of segments in a worker; see ``runners.worker.Job``."""

    config: ExtractConfig
    features: str
    threads: int
    beam_args: tuple[str, ...] = ()
    shared: Shared = field(default_factory=Shared)

    def run(self, elements: list[Segment], reporter: PipeReporter) -> None:
        extract = ExtractSegments(self.config, self.features, self.shared, self.threads, reporter)
        with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(list(self.beam_args))) as pipeline:
            _ = pipeline | "Segments" >> beam.Create(elements, reshuffle=False) | "Extract" >> extract


def resolve_config(config: ExtractConfig) -> Dataset:
    """Fills in what depends on the weights: their digest, the normalisation, what is stored and in which shapes.

    Where crops alone are stored, no backbone is loaded.

    Raises:
        UsageError: there is no such backbone, or it doesn't give what is to be stored.
        EmobeamError: its weights can't be used.
    """
    resolved = config if config.source == "video" else without_pictures(config)
    if config.store == ("crops",):
        if config.views:
            raise UsageError("--views K makes views for a backbone to look at; --store crops alone runs none")
        return Dataset(replace(resolved, backbone=NO_BACKBONE, maps=()), {})
    asked = config.backbone
    described = describe_backbone(asked.name, asked.weights, asked.input_size, config.store)
    store = config.store or outputs_of(described)
    check_outputs(described, store)
    maps = config.maps if "maps" in store else ()
    resolved = replace(resolved, backbone=described.config, store=store, maps=maps)
    shapes = {name: described.shapes[name] for name in outputs_in(resolved)}
    return Dataset(
        resolved,
        {name: described.map_shapes[name] for name in maps},
        embedding=shapes.get("embedding", (0,))[0],
        scores=shapes.get("scores", (0,))[0],
    )


def run_extract(request: ExtractRequest, ui: Ui, pool: LocalPool | None = None) -> ExtractResult:
    """Brings the cache up to date with the inputs: what is there stays, what is missing is made.

    Raises:
        UsageError: inputs or output make no sense (see ``emo_transforms.inputs`` and ``cache.open_dataset``).
        EmobeamError: the run can't go on (disk full, workers can't start).
    """
    began = time.monotonic()
    run_id = new_run_id()
    config = request.dataset.config
    videos = request.videos
    if config.backbone.untrained:
        ui.warn(f"no weights named: {config.backbone.name} is untrained (seeded); its features mean nothing")
    _prepare(request.output, request.dataset)
    plan = _plan(videos, request, config, ui)
    _announce(plan, videos, request.dataset, ui)
    steps: dict[str, float] = defaultdict(float)

    def listen(event: str, data: Mapping[str, Any]) -> None:
        for step, seconds in data.get("seconds", {}).items():
            steps[step] += seconds
        ui.event(event, data)

    ui.start("extract", sum(work.weight for work in plan.work), len(plan.work), "segments")
    job = ExtractJob(config, request.output, request.local.threads, tuple(request.beam_args))
    try:
        crashes = pool.run(job, plan.work, listen) if pool else run_locally(job, plan.work, request.local, listen)
        for crash in crashes:
            write_failure(request.output, crash.work.key, _crash_failure(crash))
    finally:
        ui.finish()
        table = _settle(request.output, plan, config)
    mine = table.filter(pc.is_in(table["video"], pa.array([video.id for video in videos], pa.string())))
    result = ExtractResult(run_id, mine, time.monotonic() - began, config.backbone.untrained, config.views)
    _write_run(request, config, result, plan, steps)
    return result


def _prepare(output: str, dataset: Dataset) -> None:
    if output.startswith("memory://"):
        raise UsageError("--output memory:// lives in one process only, and workers are processes of their own")
    try:
        for folder in ("shards", "failures", "runs"):
            storage.make_folder(storage.join(output, folder))
        open_dataset(output, dataset)
    except storage.OutputError as error:
        raise UsageError(f"--output {error}") from error
    _sweep(output)


def _sweep(output: str) -> None:
    for folder in (output, *(storage.join(output, name) for name in ("shards", "failures", "runs"))):
        storage.sweep_temporaries(folder)


@dataclass
class _Plan:
    """What is to be done, and what is known of every input."""

    work: list[Work]
    prints: dict[str, Fingerprint | None]
    seconds: float = 0.0
    sampled: int = 0
    done: int = 0


def _plan(videos: Sequence[Video], request: ExtractRequest, config: ExtractConfig, ui: Ui) -> _Plan:
    """Looks at every input, and leaves out what the cache already has.

    A video that the index knows whole needs no probing; names of shards decide for the others.
    """
    shards = storage.names(storage.join(request.output, "shards"), ".parquet")
    failures = read_failures(request.output)
    given_up = {shard for failure in failures.values() if failure.permanent for shard in failure.shards}
    index = _complete_videos(read_index(request.output), shards)
    stored = {uri: read_stored(uri) for uri in {video.uri for video in videos if video.kind == "cache"}}
    plan = _Plan(work=[], prints={})
    ui.start("probe", len(videos), len(videos), "videos", measure="videos")
    count = max(1, request.local.workers)
    with ExitStack() as stack:
        decoders: SimpleQueue[DecoderProcess] = SimpleQueue()
        for _ in range(count):
            decoders.put(stack.enter_context(DecoderProcess(config.decoder)))
        pool = stack.enter_context(ThreadPoolExecutor(count))

        def look(video: Video) -> tuple[Video, _Look]:
            if video.kind == "cache":
                return video, _look_at_stored(video, config, stored[video.uri], index)
            decoder = decoders.get()
            try:
                return video, _look_at(video, config, decoder, index, failures)
            finally:
                decoders.put(decoder)

        for video, result in pool.map(look, videos):
            plan.prints[video.id] = result.fingerprint
            if result.error is not None:
                print_ = result.fingerprint or Fingerprint(-1, "")
                write_failure(
                    request.output,
                    failure_name(video.id, print_, config.cache_id),
                    _failure(video, print_, result.error),
                )
            for failure in result.carried:
                print_ = Fingerprint(failure.size, failure.digest)
                name = failure.shards[0] if failure.shards else failure_name(video.id, print_, config.cache_id)
                write_failure(request.output, name, failure)
            todo = [s for s in result.segments if s.shard not in shards and s.shard not in given_up]
            plan.work += [Work(s.shard, len(s.sampled), s) for s in todo]
            plan.done += result.done + len(result.segments) - len(todo)
            plan.sampled += result.sampled + sum(len(s.sampled) for s in result.segments)
            plan.seconds += result.seconds
            ui.event("frames", {"frames": 1})
            failed = result.error or (result.carried and not (result.segments or result.done))
            ui.event("failed" if failed else "done", {"key": video.id})
    ui.finish()
    return plan


@dataclass(frozen=True)
class _Look:
    fingerprint: Fingerprint | None
    segments: tuple[Segment, ...] = ()
    error: InputError | None = None
    carried: tuple[Failure, ...] = ()
    done: int = 0
    sampled: int = 0
    seconds: float = 0.0


def _look_at(
    video: Video,
    config: ExtractConfig,
    decoder: DecoderProcess,
    index: Mapping[tuple[str, int, str], list[dict[str, Any]]],
    failures: Mapping[str, Failure],
) -> _Look:
    try:
        print_ = fingerprint_of(video, config)
    except InputError as error:
        return _Look(None, error=error)
    rows = index.get((video.id, print_.size, print_.digest))
    if rows:
        return _done(print_, rows)
    known = failures.get(failure_name(video.id, print_, config.cache_id))
    if known is not None and known.permanent and not known.segments and known.reason != "lost_frames":
        return _Look(print_)
    try:
        segments = plan_video(video, print_, config, decoder.probe)
    except InputError as error:
        return _Look(print_, error=error)
    return _to_do(print_, segments)


def _look_at_stored(
    video: Video,
    config: ExtractConfig,
    stored: StoredCrops,
    index: Mapping[tuple[str, int, str], list[dict[str, Any]]],
) -> _Look:
    """As :func:`_look_at`, of a video whose crops lie in another cache; what that cache lacks is carried over."""
    print_ = stored.prints[video.id]
    carried = tuple(carried_failures(video, stored, config))
    if print_ is None:
        return _Look(None, carried=carried)
    rows = index.get((video.id, print_.size, print_.digest))
    if rows:
        return _done(print_, rows)
    try:
        return replace(_to_do(print_, plan_stored(video, stored, config)), carried=carried)
    except InputError as error:
        return _Look(print_, error=error, carried=carried)


def _done(print_: Fingerprint, rows: Sequence[Mapping[str, Any]]) -> _Look:
    spans = [row["last_time"] for row in rows if row["last_time"] is not None]
    sampled = sum(row["sampled"] for row in rows)
    return _Look(print_, done=len(rows), sampled=sampled, seconds=max(spans, default=0.0))


def _to_do(print_: Fingerprint, segments: Sequence[Segment]) -> _Look:
    last = segments[-1].times[-1] if segments and segments[-1].times else 0.0
    return _Look(print_, tuple(segments), seconds=last)


def _complete_videos(
    rows: Iterable[dict[str, Any]], shards: set[str]
) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["shard"] in shards:
            groups[row["video"], row["size"], row["digest"]].append(row)
    return {key: group for key, group in groups.items() if len(group) == group[0]["count"]}


def _failure(video: Video, print_: Fingerprint, error: InputError) -> Failure:
    return Failure(
        video=video.id,
        uri=video.uri,
        outcome="failed",
        stage=error.stage,
        reason=error.reason,
        message=str(error),
        permanent=error.permanent,
        size=print_.size,
        digest=print_.digest,
    )


def _crash_failure(crash: Crash) -> Failure:
    segment: Segment = crash.work.element
    text = f"{segment.video.uri}: segment {segment.index}: {crash.message}"
    return segment_failure(segment, InputError(text, stage="extract", reason=crash.reason, permanent=False))


def _announce(plan: _Plan, videos: Sequence[Video], dataset: Dataset, ui: Ui) -> None:
    maps = sum(2 * shape[0] * shape[1] * shape[2] for shape in dataset.map_shapes.values())
    row = maps * _PACKED + 4 * (dataset.embedding + dataset.scores)
    todo = sum(work.weight for work in plan.work)
    size = size_text(todo * row * (1 + dataset.config.views))
    crops = " and the crops" if "crops" in dataset.config.store else ""
    ui.say(
        f"{len(videos)} videos, {duration_text(plan.seconds)} of video, {plan.sampled} frames to look at; "
        f"{plan.done} segments done before, {len(plan.work)} to do ({todo} frames"
        + (f", about {size} of cache{crops} at one face a frame)" if row else ", crops only)")
    )


def _settle(output: str, plan: _Plan, config: ExtractConfig) -> pa.Table:
    rebuild_index(output)
    settle(output, plan.prints, config.cache_id)
    _sweep(output)
    return rebuild_index(output)


def _write_run(
    request: ExtractRequest, config: ExtractConfig, result: ExtractResult, plan: _Plan, steps: Mapping[str, float]
) -> None:
    record = {
        "run": result.run_id,
        "job": "extract",
        "config": to_json(config),
        "inputs": list(request.inputs),
        "machine": machine(),
        "versions": versions(),
        "workers": request.local.workers,
        "threads": request.local.threads,
        "outcomes": result.outcomes,
        "segments_done_before": plan.done,
        "segments_of_this_run": len(plan.work),
        "seconds": round(result.seconds, 3),
        "seconds_by_step": {step: round(seconds, 3) for step, seconds in sorted(steps.items())},
    }
    storage.write_json(storage.join(request.output, "runs", f"{result.run_id}.json"), record)
