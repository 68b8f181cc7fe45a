"""Stage 2 on Flink, Spark or Dataflow: workers predict videos, the launcher settles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from emobeam.emo_transforms.extraction.beam_records import LeaveRecords, ReadRecords
from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.console import Ui
from emobeam.pipelines.run_origin import new_run_id
from emobeam.pipelines.stages.engines.child_tasks import PredictTask
from emobeam.pipelines.stages.engines.stage_progress import Stage
from emobeam.runners.child_supervision import Supervised
from emobeam.runners.engines.engine_run import run_remotely
from emobeam.runners.engines.presets import EngineConfig, hints_of
from emobeam.runners.local import RunStopped
from emobeam.runners.worker_progress import Beats, Heard
from emobeam.schemas.records import NotDone, VideoFeatures


def predict_graph(pipeline: Any, uris: list[str], task: PredictTask, exchange: Exchange, engine: EngineConfig) -> None:
    """The graph of stage 2: videos of the cache -> predictions; what could not be done comes back as files."""
    beats = Beats(exchange)
    _ = (
        pipeline
        | "Tasks" >> beam.Create(uris, reshuffle=False)
        | "Videos" >> ReadRecords(VideoFeatures, engine.runner == "spark", beats)
        | "Predict" >> Supervised("PredictVideo", task, beats, hints=hints_of(engine))
        | "NotDone" >> LeaveRecords(NotDone, exchange, "notdone", files=4)
    )


def predict_remotely(
    items: Sequence[VideoFeatures],
    task: PredictTask,
    output: str,
    engine: EngineConfig,
    beam_args: tuple[str, ...],
    ui: Ui,
) -> dict[str, str]:
    """Predicts videos on an engine; why some could not be, by video.

    Raises:
        RunStopped: see ``emobeam.runners.engines.engine_run``.
    """
    with open_exchange(output, new_run_id()) as exchange:
        uris = exchange.put_tasks(items)

        def build(pipeline: Any) -> None:
            predict_graph(pipeline, uris, task, exchange, engine)

        stage = Stage(ui)

        def hear(heard: Heard) -> None:
            stage.tell("frames", heard.counts["frames"])
            stage.tell("done", heard.counts["done"])
            stage.tell("failed", heard.counts["failed"])

        ui.start("predict", sum(item.sampled for item in items), len(items), "videos")
        try:
            run_remotely(build, engine, beam_args, exchange, hear, ui.say, ui.warn)
        finally:
            ui.finish()
        try:
            return {record.key: record.message for record in exchange.records("notdone", NotDone)}
        except OSError as error:
            text = f"{exchange.uri}: what the workers left can't be read ({error}); the same command goes on from there"
            raise RunStopped(text) from error
