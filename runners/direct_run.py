"""A run in this process: Beam's in-process runner, on the calling thread, with the launcher's pool of children.

The runner is named, for ``DirectRunner`` first tries to download another one. It holds what lies between two steps in
memory and stops at the first error, which takes its class and its text through Beam only with luck; so what went wrong
in a step is kept here and raised again outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.extraction.beam_records import Ends, Redistribute
from emobeam.emo_transforms.extraction.child_work import Job, Outcome, Report, Work
from emobeam.runners.beam_metrics import RunMetrics, metrics_of
from emobeam.runners.beam_noise import only_critical
from emobeam.runners.beam_pipeline import pipeline_without_folder
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.interrupts import Interrupts, held_back
from emobeam.schemas.records import EmobeamError


class StepBroken(EmobeamError):
    """A step ended; why is kept by the helpers."""


@dataclass(eq=False)
class LauncherHelpers:
    """What serves the steps of a run in its launcher.

    Attributes:
        records: what the steps left, by name.
        error: what a step ended by.
    """

    pool: LocalPool
    told: Report
    interrupts: Interrupts
    records: dict[str, list[Any]] = field(default_factory=dict)
    error: BaseException | None = None
    together: bool = True

    def work_off(self, job: Job, work: Sequence[Work], listen: Report) -> Iterator[Outcome]:
        """See :meth:`emobeam.runners.children.pool.LocalPool.work_off`."""
        outcomes = self.pool.work_off(job, work, listen, self.interrupts.check)
        while True:
            try:
                outcome = next(outcomes, None)
            except BaseException as error:
                raise self._broken(error) from error
            if outcome is None:
                return
            yield outcome

    def report(self, event: str, data: Mapping[str, Any]) -> None:
        """Tells who waits for the run."""
        try:
            self.told(event, data)
        except BaseException as error:
            raise self._broken(error) from error

    def check(self) -> None:
        """Raises where a signal came."""
        try:
            self.interrupts.check()
        except BaseException as error:
            raise self._broken(error) from error

    def keep(self, name: str, record: Any) -> None:
        """Takes what a step leaves."""
        self.records.setdefault(name, []).append(record)

    def enter(self) -> None:
        """Steps come and go, the pool is the launcher's."""

    def leave(self) -> None:
        """See :meth:`enter`."""

    def _broken(self, error: BaseException) -> StepBroken:
        if self.error is None:
            self.error = error
        return StepBroken("the step ended")


@dataclass(frozen=True)
class InLauncher:
    """Finds the launcher's helpers: copies of a step that Beam has made by pickling are in the same process."""

    shared: Shared = field(default_factory=Shared)

    def find(self) -> LauncherHelpers:
        """Raises :class:`EmobeamError` once the run has ended."""
        found: LauncherHelpers = self.shared.acquire(_gone)
        return found


def _gone() -> LauncherHelpers:
    raise EmobeamError("the run of this step has ended")


class _KeepRecord(beam.DoFn):  # type: ignore[misc]
    def __init__(self, name: str, finder: InLauncher) -> None:
        self._name = name
        self._finder = finder

    def setup(self) -> None:
        self._helpers = self._finder.find()

    def process(self, record: Any) -> None:
        self._helpers.keep(self._name, record)


def run_direct(
    build: Callable[[Any, Ends], None],
    tasks: Sequence[Any],
    pool: LocalPool,
    told: Report,
    beam_args: Sequence[str],
    records: dict[str, list[Any]],
) -> RunMetrics:
    """Runs a graph here and returns when it has ended.

    Args:
        build: applies all steps to a pipeline.
        told: told what happens, as it happens.
        records: gets what the steps leave, by name, also of a run that does not come to its end.

    Raises:
        RunStopped: see :class:`emobeam.runners.children.pool.LocalPool`.
        KeyboardInterrupt: the run was told to end.
    """
    with held_back() as interrupts:
        finder = InLauncher()
        helpers = finder.shared.acquire(lambda: LauncherHelpers(pool, told, interrupts, records))
        ends = Ends(
            tasks=beam.Create(tasks, reshuffle=False),
            finder=finder,
            spread=Redistribute,
            leave=lambda kind, name: beam.ParDo(_KeepRecord(name, finder)),
        )
        pipeline = pipeline_without_folder(FnApiRunner(), PipelineOptions(list(beam_args)))
        build(pipeline, ends)
        try:
            with only_critical():
                result = pipeline.run()
                result.wait_until_finish()
        except Exception:
            if helpers.error is not None:
                raise helpers.error from None
            raise
        return metrics_of(result)
