"""Stage 1 on Flink, Spark or Dataflow: workers look at the inputs, plan the segments and make the shards."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from emobeam.emo_transforms.extraction.beam_records import LeaveRecords, ReadRecords, Redistribute
from emobeam.emo_transforms.extraction.plan_transform import PlanVideos
from emobeam.emo_transforms.storage import join
from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.console import Ui
from emobeam.pipelines.stages.child_jobs import SegmentJob
from emobeam.pipelines.stages.engines.child_tasks import ExtractTask
from emobeam.pipelines.stages.engines.stage_progress import Stage
from emobeam.pipelines.stages.remaining_work import Known
from emobeam.runners.child_supervision import Supervised
from emobeam.runners.engines.engine_run import RemoteResult, run_remotely
from emobeam.runners.engines.presets import EngineConfig, hints_of
from emobeam.runners.local import RunStopped
from emobeam.runners.worker_progress import Beats, Heard
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Fingerprint, Looked, Segment, VideoFacts, VideoTask
from emobeam.schemas.wording import counted


@dataclass
class RemoteExtract:
    """What the launcher knows after a run, complete or not.

    Attributes:
        prints: content of the inputs that were looked at; None where one could not be read.
        planned: videos with segments to do.
        facts: what looking at videos told beside their segments, by video.
        segments, done, frames: to do in this run, done before, and sampled frames to do, as workers found.
    """

    prints: dict[str, Fingerprint | None] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    segments: int = 0
    done: int = 0
    frames: int = 0
    result: RemoteResult = field(default_factory=RemoteResult)
    facts: dict[str, VideoFacts] = field(default_factory=dict)


def extract_graph(
    pipeline: Any,
    uris: list[str],
    config: ExtractConfig,
    features: str,
    exchange: Exchange,
    engine: EngineConfig,
) -> None:
    """The graph of stage 1: tasks -> look and plan -> segments -> shards; small records come back as files."""
    beats = Beats(exchange)
    task = ExtractTask(pickle.dumps(SegmentJob(config, features)), features)
    grouped = engine.runner == "spark"
    plan = (
        pipeline
        | "Tasks" >> beam.Create(uris, reshuffle=False)
        | "Videos" >> ReadRecords(VideoTask, grouped, beats)
        | "Plan" >> PlanVideos(config, features, exchange, beats)
    )
    _ = (
        plan.segments
        | "Segments" >> Redistribute(Segment, grouped)
        # What could not be done comes out of it; the failure records that are written then tell of it, too.
        | "Extract" >> Supervised("ExtractSegment", task, beats, hints=hints_of(engine))
    )
    _ = plan.looked | "Looked" >> LeaveRecords(Looked, exchange, "looked")


def extract_remotely(
    known: Known,
    output: str,
    config: ExtractConfig,
    engine: EngineConfig,
    beam_args: tuple[str, ...],
    run_id: str,
    ui: Ui,
) -> tuple[RemoteExtract, BaseException | None]:
    """Runs stage 1 on an engine; an error of the run comes back, so that what was done can be settled first."""
    outcome = RemoteExtract()
    failed: BaseException | None = None
    keep = engine.dataflow is not None and engine.dataflow.detach
    with open_exchange(join(output, "runs"), run_id, keep=keep) as exchange:
        uris = exchange.put_tasks(known.tasks)

        def build(pipeline: Any) -> None:
            extract_graph(pipeline, uris, config, output, exchange, engine)

        progress = _Progress(ui, len(known.tasks))
        try:
            outcome.result = run_remotely(build, engine, beam_args, exchange, progress.hear, ui.say, ui.warn)
        except BaseException as error:  # noqa: BLE001 - comes back, see above
            failed = error
        finally:
            progress.finish()
        try:
            for record in exchange.records("looked", Looked):
                outcome.prints[record.video] = record.content
                if record.facts is not None:
                    outcome.facts[record.video] = record.facts
                outcome.segments += record.segments
                outcome.done += record.done
                outcome.frames += record.sampled
                if record.segments and not record.error:
                    outcome.planned.append(record.video)
        except OSError as error:
            text = f"{exchange.uri}: what the workers left can't be read ({error}); the same command goes on from there"
            failed = failed or RunStopped(text)
    missing = sorted({task.video.id for task in known.tasks} - outcome.prints.keys())
    if failed is None and missing:
        failed = RunStopped(f"the job has ended, but no worker told of {_some(missing)}; {_LOST}")
    return outcome, failed


_LOST = (
    "a worker may not see the folder that the launcher sees (output and inputs must lie in a bucket, or on a path that "
    "all workers share); the same command does what is missing"
)


def check_results(outcome: RemoteExtract, told_of: Iterable[str]) -> None:
    """After a job that ended well: every video with work to do must have left something.

    Args:
        told_of: videos that the index knows by shards or failures, those of other runs included.

    Raises:
        RunStopped: the work on some is lost.
    """
    missing = sorted(set(outcome.planned) - set(told_of))
    if missing:
        raise RunStopped(f"the job has ended, but nothing was written of {_some(missing)}; {_LOST}")


def _some(videos: Sequence[str]) -> str:
    names = ", ".join(videos[:3]) + (", ..." if len(videos) > 3 else "")
    return f"{counted(len(videos), 'video')} ({names})"


class _Progress:
    """Tells people how far the workers are: first the look at the inputs, then the segments they found."""

    def __init__(self, ui: Ui, videos: int) -> None:
        self._ui = ui
        self._videos = videos
        self._stage = Stage(ui)
        self._extracting = False
        ui.start("probe", videos, videos, "videos", measure="videos")

    def hear(self, heard: Heard) -> None:
        counts = heard.counts
        if not self._extracting:
            looked = min(counts["videos"], self._videos)
            self._stage.tell("frames", looked)
            self._stage.tell("done", looked)
            if looked < self._videos:
                return
            self._ui.finish()
            self._extracting = True
            self._stage = Stage(self._ui)
            self._ui.start("extract", counts["planned_frames"], counts["planned"], "segments")
        for event in ("frames", "done", "failed"):
            self._stage.tell(event, counts[event])

    def finish(self) -> None:
        self._ui.finish()
