"""A step of Beam that has elements of :mod:`tests.runners.jobs` done by children, and a graph around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam

from emobeam.emo_transforms.extraction.beam_records import Ends
from emobeam.emo_transforms.extraction.child_step import ChildStep, count
from emobeam.emo_transforms.extraction.child_work import Finder, Outcome, Work
from tests.runners.jobs import Element, ElementsJob


class DoElement(ChildStep):
    """Keys of what is done come out, in the order in which that was known."""

    def __init__(self, folder: str, finder: Finder) -> None:
        super().__init__(finder)
        self._folder = folder

    def job(self) -> ElementsJob:
        return ElementsJob(self._folder)

    def work(self, element: Element) -> Work:
        return Work(element.key, int(element.marker or 1), element)

    def outputs(self, outcome: Outcome) -> Iterator[str]:
        count(outcome.reason or "done")
        yield outcome.work.key


def graph(folder: Path, before: Callable[[Element], Element] = lambda element: element) -> Any:
    def build(pipeline: Any, ends: Ends) -> None:
        done = pipeline | "In" >> ends.tasks | beam.Map(before) | beam.ParDo(DoElement(str(folder), ends.finder))
        _ = done | "Out" >> ends.leave(str, "done")

    return build
