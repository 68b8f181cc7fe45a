"""A Beam step whose elements are worked on by child processes: what planning, extraction and prediction share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.transforms.window import GlobalWindows

from emobeam.emo_transforms.extraction.child_work import Finder, Helpers, Job, Outcome, Work

_NAMESPACE = "emobeam"


def count(name: str, number: int = 1) -> None:
    """Adds to a counter of Beam. Only the thread of a step may: what others count is lost without a word."""
    Metrics.counter(_NAMESPACE, name).inc(number)


class ChildStep(beam.DoFn, ABC):  # type: ignore[misc]
    """Hands elements to children and passes on what comes of them.

    Work that may crash, hang or swell, and that is not made for threads, happens in processes that know nothing of
    Beam; an engine would take the death of its own worker for a reason to do everything in flight again. Where all
    elements of a bundle are handed over together the longest come first, and the outcomes leave with the bundle's end;
    else the engine decides what comes next, and every element is done where it arrives.

    Attributes:
        helpers: those of this process, between ``setup`` and ``teardown``.
    """

    helpers: Helpers

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._entered = False
        self._waiting: list[Work] = []

    @abstractmethod
    def job(self) -> Job:
        """What the children do."""

    @abstractmethod
    def work(self, element: Any) -> Work:
        """An element with its key and its weight."""

    @abstractmethod
    def outputs(self, outcome: Outcome) -> Iterable[Any]:
        """What leaves the step once an element is done, or can't be."""

    def heard(self, event: str, data: Mapping[str, Any]) -> None:
        """Something happened on the way there (see ``emobeam.emo_transforms.extraction.child_work.Report``)."""
        if event == "died":
            count("died")
        self.helpers.report(event, data)

    def setup(self) -> None:
        """Finds who serves the run in this process."""
        self.helpers = self._finder.find()
        self.helpers.enter()
        self._entered = True

    def teardown(self) -> None:
        """Lets them go."""
        if self._entered:
            self._entered = False
            self.helpers.leave()

    def start_bundle(self) -> None:
        """Nothing waits."""
        self._waiting = []

    def process(self, element: Any) -> Iterator[Any]:
        """Has an element done, or keeps it for the bundle's end."""
        self.helpers.check()
        if self.helpers.together:
            self._waiting.append(self.work(element))
        else:
            yield from self._worked_off([self.work(element)])

    def finish_bundle(self) -> Iterator[Any]:
        """Has those done that wait."""
        waiting, self._waiting = self._waiting, []
        for output in self._worked_off(waiting) if waiting else ():
            yield _leaving(output)
        self.helpers.report("bundle", {})

    def _worked_off(self, work: Sequence[Work]) -> Iterator[Any]:
        for outcome in self.helpers.work_off(self.job(), work, self.heard):
            yield from self.outputs(outcome)


def _leaving(output: Any) -> Any:
    """An output as ``finish_bundle`` has to give it."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
    return GlobalWindows.windowed_value(output)
