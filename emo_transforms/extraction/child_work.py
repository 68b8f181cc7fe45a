"""What a step gives to child processes, and what comes back: the words that steps and pools share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emobeam.emo_transforms.video.decoding_process import Decoders

Report = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its data: ``start``, ``frames``, ``done``, ``failed`` of an element (by ``key``),
``retry`` of one that was in flight when its process died, ``died`` of a process. ``done`` may carry a ``result``, plain
JSON data, and ``failed`` a ``message``."""


class Job(Protocol):
    """What a child process does; a small record that travels by pickle."""

    def open(self, decoders: Decoders) -> Callable[[Any, Report], None]:
        """Loads what is needed, in the child, and gives what treats one element and reports on it.

        Args:
            decoders: what the jobs of a child decode with; looking at clips and extracting them share one process.

        Both may raise :class:`emobeam.schemas.records.EmobeamError` where the whole run has to stop.
        """


@dataclass(frozen=True, slots=True)
class Work:
    """One element of a run.

    Attributes:
        key: the name under which children report on it.
        weight: a measure of how long it takes (sampled frames).
        element: what the job gets.
    """

    key: str
    weight: int
    element: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one element.

    Attributes:
        reason: ``""``: it is done; ``failed``: its job said so; ``crash``, ``timeout``: it was in flight when its
            process died twice, or stood still.
        result: what the job reported of an element that is done.
    """

    work: Work
    reason: str = ""
    message: str = ""
    result: Any = None

    @property
    def crashed(self) -> bool:
        """Whether its processes died of it."""
        return self.reason not in ("", "failed")


class Helpers(Protocol):
    """What serves the steps of a run in one process: children that work, and somebody who is told.

    Attributes:
        together: a step is to hand over all elements of a bundle at once; else one after the other.
    """

    together: bool

    def work_off(self, job: Job, work: Sequence[Work], listen: Report) -> Iterator[Outcome]:
        """Has the elements done by children; ``listen`` is called by the thread that asks for the outcomes."""

    def report(self, event: str, data: Mapping[str, Any]) -> None:
        """Tells those who wait for the run."""

    def check(self) -> None:
        """Raises where the run is to stop."""

    def enter(self) -> None:
        """One more step is served."""

    def leave(self) -> None:
        """One step less."""


class Finder(Protocol):
    """Travels with a step, and finds the helpers of its run in any process."""

    def find(self) -> Helpers:
        """The helpers of this process."""
