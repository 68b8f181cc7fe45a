"""How the graph of a stage runs: in this process, or as a job of another engine. Either way its records come back.

Beam is imported where a graph runs, and not before: a run with nothing left to do needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emobeam.emo_transforms.extraction.child_work import Job
from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.console import Ui
from emobeam.pipelines.quiet_imports import quiet_imports
from emobeam.pipelines.stages.graphs.stage_progress import FromSums, Progress
from emobeam.runners.beam_metrics import RunMetrics
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig, RunStopped
from emobeam.runners.engines.presets import EngineConfig

if TYPE_CHECKING:
    from emobeam.emo_transforms.extraction.beam_records import Ends

_SENT_AGAIN = 3
"""How often a job is sent again that lost its workers; what is done costs little then."""

Graph = Callable[[Any, "Ends", Exchange | None], None]
"""Applies all steps to a pipeline. The exchange is that of a job on another engine."""


@dataclass
class StageRun:
    """What a run left, complete or not.

    Attributes:
        records: by name.
        error: by which it ended, so that what was done can be settled first.
    """

    records: dict[str, list[Any]] = field(default_factory=dict)
    metrics: RunMetrics = field(default_factory=RunMetrics)
    error: BaseException | None = None


@dataclass(frozen=True)
class Place:
    """Where a stage runs.

    Attributes:
        engine: None is this machine, as ``local`` says.
        pool: children that are there already.
        mail: folder below which launcher and workers of another engine exchange what they have to say.
    """

    local: LocalConfig
    engine: EngineConfig | None
    beam_args: Sequence[str]
    pool: LocalPool | None
    mail: str
    run_id: str


def run_here(
    graph: Graph, jobs: Sequence[Job], tasks: Sequence[Any], place: Place, run: StageRun, progress: Progress
) -> None:
    """Runs a graph in this process.

    Args:
        jobs: what the children will have to do: they begin to load it while Beam is imported.
        run: gets what the run leaves, as it comes.
    """
    with ExitStack() as stack:
        pool = place.pool or stack.enter_context(LocalPool(place.local))
        try:
            pool.start(jobs, len(tasks))
            with quiet_imports():
                from emobeam.runners.direct_run import run_direct

            run.metrics = run_direct(
                lambda pipeline, ends: graph(pipeline, ends, None), tasks, pool, progress, place.beam_args, run.records
            )
        except BaseException as error:  # noqa: BLE001 - raised once what was done is settled
            run.error = error
        finally:
            progress.finish()


def run_there(
    graph: Graph,
    tasks: Callable[[], Sequence[Any]],
    place: Place,
    engine: EngineConfig,
    progress: Callable[[], Progress],
    ui: Ui,
) -> StageRun:
    """Runs a graph on an engine; a job that lost its workers is sent again.

    Args:
        tasks: what is to be done, asked anew for every job.
    """
    with quiet_imports():
        from emobeam.runners.engines.engine_run import WorkersLost

    for attempt in range(1, _SENT_AGAIN + 1):
        run = _send(graph, tasks(), place, engine, progress(), ui)
        if not isinstance(run.error, WorkersLost):
            return run
        ui.warn(f"{run.error}; sending what is left again ({attempt} of {_SENT_AGAIN})")
    return _send(graph, tasks(), place, engine, progress(), ui)


def _send(
    graph: Graph, tasks: Sequence[Any], place: Place, engine: EngineConfig, progress: Progress, ui: Ui
) -> StageRun:
    from emobeam.runners.engines.engine_ends import ends_on
    from emobeam.runners.engines.engine_run import run_remotely

    run = StageRun()
    left: dict[str, type[Any]] = {}
    tell = FromSums(progress)
    keep = engine.dataflow is not None and engine.dataflow.detach
    with open_exchange(place.mail, place.run_id, keep=keep) as exchange:
        uris = exchange.put_tasks(tasks)

        def build(pipeline: Any) -> None:
            ends = ends_on(engine, exchange, uris, type(tasks[0]), left, place.local.stall_timeout)
            graph(pipeline, ends, exchange)

        try:
            run.metrics = run_remotely(
                build, engine, place.beam_args, exchange, lambda heard: tell(heard.counts), ui.say, ui.warn
            )
        except BaseException as error:  # noqa: BLE001 - raised once what was done is settled
            run.error = error
        finally:
            progress.finish()
        try:
            for name, kind in left.items():
                run.records[name] = list(exchange.records(name, kind))
        except OSError as error:
            text = f"{exchange.uri}: what the workers left can't be read ({error}); the same command goes on from there"
            run.error = run.error or RunStopped(text)
    return run
