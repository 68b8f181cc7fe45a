"""The job ``extract``: inputs -> plan -> supervised Beam runs -> feature cache."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset
from emobeam.emo_transforms.cache.index import rebuild_index, settle_index
from emobeam.emo_transforms.cache.video_facts import carried_facts
from emobeam.emo_transforms.extraction.extract_transform import ExtractSegments
from emobeam.emo_transforms.extraction.feature_rows import outputs_in
from emobeam.emo_transforms.extraction.segments import without_pictures
from emobeam.emo_transforms.inputs.videos import files_left_out
from emobeam.emo_transforms.networks.backbones import check_outputs, describe_backbone, outputs_of
from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms.storage.run_mailbox import sweep_output
from emobeam.pipelines.console import Ui
from emobeam.pipelines.run_origin import machine, new_run_id, versions
from emobeam.pipelines.stages.child_jobs import note_crash
from emobeam.pipelines.stages.engines.extract_graph import RemoteExtract, check_results, extract_remotely
from emobeam.pipelines.stages.input_notes import video_notes
from emobeam.pipelines.stages.remaining_work import Known, announce, know, plan_here, settled_prints
from emobeam.runners.engines.checks import check_engine
from emobeam.runners.engines.engine_run import WorkersLost
from emobeam.runners.engines.presets import EngineConfig
from emobeam.runners.local import LocalConfig, LocalPool, RunStopped, run_locally
from emobeam.runners.local_worker import PipeReporter
from emobeam.schemas.config import NO_BACKBONE, BackboneConfig, ExtractConfig, to_json
from emobeam.schemas.records import Fingerprint, Segment, UsageError, Video, VideoFacts


@dataclass(frozen=True)
class ExtractRequest:
    """What the user asked for.

    Attributes:
        videos: see ``emobeam.emo_transforms.extraction.video_plans.find_videos``.
        dataset: has every ``auto`` resolved, see :func:`resolve_config`.
        inputs: what the user wrote, for the record of the run.
        engine: where the run takes place; None is this machine, as ``local`` says.
    """

    videos: Sequence[Video]
    output: str
    dataset: Dataset
    inputs: Sequence[str] = ()
    local: LocalConfig = field(default_factory=LocalConfig)
    beam_args: Sequence[str] = ()
    engine: EngineConfig | None = None


@dataclass(frozen=True)
class ExtractResult:
    """What a run left behind.

    Attributes:
        videos: rows of ``videos.parquet`` for the inputs of this run.
        untrained: the backbone is a seeded initialisation.
        views: augmented views of each face; rows count each.
        backbone: what made the features.
    """

    run_id: str
    videos: pa.Table
    seconds: float
    untrained: bool
    views: int = 0
    backbone: BackboneConfig = NO_BACKBONE

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
    """Runs a slice of segments in a worker; see ``emobeam.runners.local_worker.Job``."""

    config: ExtractConfig
    features: str
    threads: int
    beam_args: tuple[str, ...] = ()
    shared: Shared = field(default_factory=Shared)

    def run(self, elements: list[Segment], reporter: PipeReporter) -> None:
        """One pipeline over the slice; raises what Beam makes of an :class:`OutputError`."""
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


_SENT_AGAIN = 3
"""How often a job is sent again that lost its workers."""


@dataclass
class _Run:
    """What a run, here or elsewhere, leaves for the records."""

    prints: Mapping[str, Fingerprint | None] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    done: int = 0
    segments: int = 0
    there: RemoteExtract | None = None
    facts: Mapping[str, VideoFacts] = field(default_factory=dict)


def run_extract(request: ExtractRequest, ui: Ui, pool: LocalPool | None = None) -> ExtractResult:
    """Brings the cache up to date with the inputs: what is there stays, what is missing is made.

    Raises:
        UsageError: inputs or output make no sense (see ``.inputs.videos`` and ``cache.open_dataset``).
        EmobeamError: the run can't go on (disk full, workers can't start, an engine that can't be reached).
    """
    began = time.monotonic()
    run_id = new_run_id()
    config = request.dataset.config
    videos = request.videos
    if config.backbone.untrained:
        ui.warn(
            f"{config.backbone.name} has no trained weights: it is untrained (seeded), and its features mean nothing"
        )
    if request.engine is not None:
        check_engine(request.engine, inputs=_places(request), outputs=[request.output], warn=ui.warn)
    _prepare(request.output, request.dataset)
    known = know(request.output, videos, config)
    run = _Run()
    try:
        if request.engine is None:
            _extract_here(request, known, run, ui, pool)
        else:
            _extract_there(request, request.engine, known, run, run_id, ui)
    except BaseException:
        # What stops a run, such as an outage, often stops this, too; the next run does it, and the first error counts.
        with suppress(Exception):  # see above
            _settle(request, run)
        raise
    finally:
        with suppress(OSError):  # they go when they are an hour old
            downloads.drop((video.uri, content) for video in videos if (content := run.prints.get(video.id)))
            downloads.sweep()
    table = _settle(request, run)
    if run.there is not None:
        check_results(run.there, table["video"].to_pylist())
    mine = table.filter(pc.is_in(table["video"], pa.array([video.id for video in videos], pa.string())))
    folders = request.inputs if config.source == "video" and not config.origin.cache_id else ()
    notes = [*files_left_out(folders), *video_notes(mine)]
    for text in notes:
        ui.warn(text)
    seconds = time.monotonic() - began
    result = ExtractResult(run_id, mine, seconds, config.backbone.untrained, config.views, config.backbone)
    _write_run(request, config, result, run, notes)
    return result


def _extract_here(request: ExtractRequest, known: Known, run: _Run, ui: Ui, pool: LocalPool | None) -> None:
    config = request.dataset.config
    plan = plan_here(known, request.output, config, request.local.workers, ui)
    run.prints, run.done, run.segments, run.facts = plan.prints, plan.done, len(plan.work), plan.facts
    announce(plan, request.videos, request.dataset, ui)

    def listen(event: str, data: Mapping[str, Any]) -> None:
        for step, seconds in data.get("seconds", {}).items():
            run.steps[step] += seconds
        ui.event(event, data)

    ui.start("extract", sum(work.weight for work in plan.work), len(plan.work), "segments")
    job = ExtractJob(config, request.output, request.local.threads, tuple(request.beam_args))
    try:
        crashes = pool.run(job, plan.work, listen) if pool else run_locally(job, plan.work, request.local, listen)
        for crash in crashes:
            note_crash(request.output, crash.work.element, crash.reason, crash.message)
    finally:
        ui.finish()


def _extract_there(request: ExtractRequest, engine: EngineConfig, known: Known, run: _Run, run_id: str, ui: Ui) -> None:
    config = request.dataset.config
    prints = settled_prints(known, config)
    if prints is not None:
        ui.say(f"{len(prints)} videos, nothing left to do; no job is sent")
        run.prints = prints
        run.done = sum(len(known.index.get((name, at.size, at.digest), ())) for name, at in prints.items())
        return
    args = tuple(request.beam_args)
    outcome, failed = extract_remotely(known, request.output, config, engine, args, run_id, ui)
    for attempt in range(1, _SENT_AGAIN + 1):
        if not isinstance(failed, WorkersLost):
            break
        ui.warn(f"{failed}; sending what is left again ({attempt} of {_SENT_AGAIN})")
        rebuild_index(request.output)
        known = know(request.output, request.videos, config)
        outcome, failed = extract_remotely(known, request.output, config, engine, args, run_id, ui)
    run.prints, run.segments, run.there, run.facts = outcome.prints, outcome.segments, outcome, outcome.facts
    run.steps.update(outcome.result.seconds)
    run.done = outcome.done
    for task in known.tasks:
        content = outcome.prints.get(task.video.id)
        if content is not None and content in task.complete:
            run.done += len(known.index[task.video.id, content.size, content.digest])
    if failed is not None:
        raise failed


def _places(request: ExtractRequest) -> list[str]:
    """Everything that workers have to read."""
    weights = request.dataset.config.backbone.weights
    # A name with a slash may as well be a repository of the Hugging Face Hub; files here are named in full before.
    files = [weights] if "://" in weights or os.path.isabs(weights) or os.path.isfile(weights) else []
    videos = [uri for video in request.videos for uri in (video.uri, video.time_uri) if uri]
    return [*files, *videos]


def _prepare(output: str, dataset: Dataset) -> None:
    if output.startswith("memory://"):
        raise UsageError("--output memory:// lives in one process only, and workers are processes of their own")
    try:
        for folder in ("shards", "failures", "runs"):
            storage.make_folder(storage.join(output, folder))
        open_dataset(output, dataset)
    except storage.OutputError as error:
        raise UsageError(f"--output {error}") from error
    sweep_output(output)


def _settle(request: ExtractRequest, run: _Run) -> pa.Table:
    output = request.output
    facts = {**carried_facts(request.videos, run.prints), **run.facts}
    try:
        table = settle_index(output, run.prints, request.dataset.config.cache_id, facts)
        sweep_output(output)
    except OSError as error:
        text = (
            f"{output}: the work is done, but its index can't be written ({error}); the same command goes on from there"
        )
        raise RunStopped(text) from error
    return table


def _write_run(
    request: ExtractRequest, config: ExtractConfig, result: ExtractResult, run: _Run, warnings: Sequence[str]
) -> None:
    record = {
        "run": result.run_id,
        "job": "extract",
        "config": to_json(config),
        "inputs": list(request.inputs),
        "machine": machine(),
        "versions": versions(),
        "runner": request.engine.runner if request.engine else "direct",
        "workers": request.engine.workers if request.engine else request.local.workers,
        "threads": request.local.threads,
        "outcomes": result.outcomes,
        "warnings": list(warnings),
        "segments_done_before": run.done,
        "segments_of_this_run": run.segments,
        "seconds": round(result.seconds, 3),
        "seconds_by_step": {step: round(seconds, 3) for step, seconds in sorted(run.steps.items())},
    }
    storage.write_json(storage.join(request.output, "runs", f"{result.run_id}.json"), record)
