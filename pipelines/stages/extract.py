"""The job ``extract``: inputs -> what is left to do -> a graph of Beam -> feature cache."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset, outputs_in
from emobeam.emo_transforms.cache.index import rebuild_index, settle_index
from emobeam.emo_transforms.cache.video_facts import carried_facts
from emobeam.emo_transforms.extraction.plan_job import PlanJob
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.emo_transforms.extraction.video_plans import without_pictures
from emobeam.emo_transforms.inputs.videos import files_left_out
from emobeam.emo_transforms.networks.backbones import check_outputs, describe_backbone, outputs_of
from emobeam.emo_transforms.networks.backbones.prepared_backbones import ensure_backbone, is_onnx
from emobeam.emo_transforms.networks.prepared.ensuring import Tell, on_stderr
from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms.storage.run_mailbox import Exchange, sweep_output
from emobeam.pipelines.console import Ui
from emobeam.pipelines.run_origin import machine, new_run_id, versions
from emobeam.pipelines.stages.graphs.stage_progress import ExtractProgress
from emobeam.pipelines.stages.graphs.stage_run import Graph, Place, StageRun, run_here, run_there
from emobeam.pipelines.stages.input_notes import video_notes
from emobeam.pipelines.stages.remaining_work import Known, announce, done_before, know, settled_prints
from emobeam.runners.beam_metrics import RunMetrics
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig, RunStopped
from emobeam.runners.engines.checks import check_engine
from emobeam.runners.engines.presets import EngineConfig
from emobeam.schemas.config import NO_BACKBONE, BackboneConfig, ExtractConfig, to_json
from emobeam.schemas.records import Fingerprint, Looked, ShardRecord, UsageError, Video, VideoFacts, VideoTask
from emobeam.schemas.wording import counted

if TYPE_CHECKING:
    from emobeam.emo_transforms.extraction.beam_records import Ends


@dataclass(frozen=True)
class ExtractRequest:
    """What the user asked for.

    Attributes:
        videos: see ``emobeam.emo_transforms.extraction.video_plans.find_videos``.
        dataset: has every ``auto`` resolved, see :func:`resolve_config`.
        inputs: what the user wrote, for the record of the run.
        notes: what there is to warn of in the inputs.
        engine: where the run takes place; None is this machine, as ``local`` says.
    """

    videos: Sequence[Video]
    output: str
    dataset: Dataset
    inputs: Sequence[str] = ()
    notes: Sequence[str] = ()
    local: LocalConfig = field(default_factory=LocalConfig)
    beam_args: Sequence[str] = ()
    engine: EngineConfig | None = None


@dataclass(frozen=True)
class ExtractResult:
    """What a run left behind.

    Attributes:
        run_id: names its record; ``""`` where there is none.
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


def resolve_config(config: ExtractConfig, tell: Tell = on_stderr) -> Dataset:
    """Fills in what depends on the weights: their digest, the normalisation, what is stored and in which shapes.

    Where crops alone are stored, no backbone is loaded.

    Args:
        tell: gets a line where a network has to be prepared to know it.

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
    described = describe_backbone(asked.name, asked.weights, asked.input_size, config.store, config.engine, tell)
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


@dataclass
class _Run:
    """What a run, here or elsewhere, leaves for the records.

    Attributes:
        prints: content of the inputs that were looked at; None where one could not be read.
        segments, done: made in this run, and before.
        records: of shards of this run, those that another has made meanwhile included.
    """

    known: Known
    prints: Mapping[str, Fingerprint | None] = field(default_factory=dict)
    done: int = 0
    segments: int = 0
    records: Sequence[ShardRecord] = ()
    metrics: RunMetrics = field(default_factory=RunMetrics)
    facts: Mapping[str, VideoFacts] = field(default_factory=dict)

    def take(self, ran: StageRun) -> None:
        """What came back."""
        looked = {record.video: record for record in ran.records.get("looked", ())}
        self.prints = {video: record.content for video, record in looked.items()}
        made = Counter(record.row["video"] for record in ran.records.get("shards", ()))
        # Who is known is not looked at again: shards of an older version would then stand for those that were not made.
        earlier = {row["video"] for row in self.known.rows.values()}
        self.facts = {
            video: record.facts
            for video, record in looked.items()
            if record.facts is not None and (video not in earlier or made[video] >= record.segments)
        }
        self.segments = sum(record.segments for record in looked.values())
        self.done = done_before(self.known, looked.values())
        self.records = ran.records.get("shards", ())
        self.metrics = ran.metrics


def run_extract(request: ExtractRequest, ui: Ui, pool: LocalPool | None = None) -> ExtractResult:
    """Brings the cache up to date with the inputs: what is there stays, what is missing is made.

    Args:
        pool: children that are there already, for a run on this machine.

    Raises:
        UsageError: inputs or output make no sense (see ``.inputs.videos`` and ``cache.open_dataset``).
        EmobeamError: the run can't go on (disk full, workers can't start, an engine that can't be reached).
    """
    began = time.monotonic()
    run_id = new_run_id()
    config = request.dataset.config
    videos = request.videos
    for text in request.notes:
        ui.warn(text)
    if config.backbone.untrained:
        ui.warn(
            f"{config.backbone.name} has no trained weights: it is untrained (seeded), and its features mean nothing"
        )
    if request.engine is not None:
        check_engine(request.engine, inputs=_places(request), outputs=[request.output], warn=ui.warn)
    _prepare(request.output, request.dataset)
    run = _Run(know(request.output, videos, config))
    try:
        planned = _extract(request, run, run_id, ui, pool)
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
    check_results(planned, table["video"].to_pylist())
    mine = table.filter(pc.is_in(table["video"], pa.array([video.id for video in videos], pa.string())))
    folders = request.inputs if config.source == "video" and not config.origin.cache_id else ()
    for text in (*files_left_out(folders), *video_notes(mine)):
        ui.warn(text)
    seconds = time.monotonic() - began
    result = ExtractResult(run_id, mine, seconds, config.backbone.untrained, config.views, config.backbone)
    try:
        _write_run(request, config, result, run, ui.warned)
    except storage.OutputError:
        if run.segments:
            raise
        return replace(result, run_id="")  # nothing was left to do, and no record of that can be written
    return result


def _extract(request: ExtractRequest, run: _Run, run_id: str, ui: Ui, pool: LocalPool | None) -> list[str]:
    """Does what is left to do; gives the videos of which something was."""
    config = request.dataset.config
    prints = settled_prints(run.known, config)
    if prints is not None:
        looked = [Looked(video, content) for video, content in prints.items()]
        run.prints, run.done = prints, done_before(run.known, looked)
        announce(run.known, looked, request.dataset, ui)
        return []
    if request.engine is None:
        _ensure_networks(config, ui.say)
    job = SegmentJob(config, request.output, request.local.threads if request.engine is None else 1)
    place = Place(request.local, request.engine, request.beam_args, pool, storage.join(request.output, "runs"), run_id)

    def graph(pipeline: Any, ends: Ends, exchange: Exchange | None) -> None:
        from emobeam.pipelines.stages.graphs.extract_graph import extract_graph

        extract_graph(pipeline, ends, PlanJob(config, request.output, exchange), job)

    if request.engine is None:
        ran = StageRun()
        progress = ExtractProgress(
            ui,
            len(run.known.tasks),
            lambda: announce(run.known, ran.records.get("looked", []), request.dataset, ui),
        )
        run_here(graph, (PlanJob(config, request.output), job), run.known.tasks, place, ran, progress)
    else:
        ran = _extract_there(request, request.engine, graph, run, place, ui)
    run.take(ran)
    if ran.error is None and (missing := sorted({task.video.id for task in run.known.tasks} - run.prints.keys())):
        raise RunStopped(f"the job has ended, but no worker told of {_some(missing)}; {_LOST}")
    if ran.error is not None:
        raise ran.error
    return [record.video for record in ran.records.get("looked", ()) if record.segments and not record.error]


def _ensure_networks(config: ExtractConfig, tell: Tell) -> None:
    """Prepares the backbone before children ask for it all at once, and tells the user."""
    if config.engine != "torch" and outputs_in(config) and not is_onnx(config.backbone.weights):
        ensure_backbone(config.backbone, tell)


def _extract_there(
    request: ExtractRequest, engine: EngineConfig, graph: Graph, run: _Run, place: Place, ui: Ui
) -> StageRun:
    sent = 0

    def tasks() -> Sequence[VideoTask]:
        nonlocal sent
        if sent:  # what the lost workers have made is known now
            rebuild_index(request.output)
            run.known = know(request.output, request.videos, request.dataset.config)
        sent += 1
        return run.known.tasks

    return run_there(graph, tasks, place, engine, lambda: ExtractProgress(ui, len(run.known.tasks)), ui)


_LOST = (
    "a worker may not see the folder that the launcher sees (output and inputs must lie in a bucket, or on a path that "
    "all workers share); the same command does what is missing"
)


def check_results(planned: Iterable[str], told_of: Iterable[str]) -> None:
    """After a run that ended well: every video with work to do must have left something.

    Args:
        told_of: videos that the index knows by shards or failures, those of other runs included.

    Raises:
        RunStopped: the work on some is lost.
    """
    missing = sorted(set(planned) - set(told_of))
    if missing:
        raise RunStopped(f"the job has ended, but nothing was written of {_some(missing)}; {_LOST}")


def _some(videos: Sequence[str]) -> str:
    names = ", ".join(videos[:3]) + (", ..." if len(videos) > 3 else "")
    return f"{counted(len(videos), 'video')} ({names})"


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
    if not storage.exists(storage.join(output, "dataset.json")):
        raise RunStopped(f"{output}: is no longer there; was it removed while the run went on?")
    facts = {**carried_facts(request.videos, run.prints), **run.facts}
    try:
        cache_id = request.dataset.config.cache_id
        table = settle_index(output, run.prints, cache_id, facts, run.known.rows, run.records)
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
        "seconds_by_step": {step: round(seconds, 3) for step, seconds in sorted(run.metrics.seconds.items())},
        "counters": dict(sorted(run.metrics.counts.items())),
    }
    storage.write_record(storage.join(request.output, "runs", f"{result.run_id}.json"), record)
