"""What has to be said of single outputs of heads: nobody taught them, or not well enough to be relied on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

UNKNOWN_NOTE = "unknown: nobody taught the head this output, so it has no values"
EXPERIMENTAL_NOTE = "experimental: not known to be right on real faces"


class Marked(Protocol):
    """The parts of a ``HeadConfig`` that are marks."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of outputs that nobody taught the head."""

    @property
    def experimental(self) -> tuple[str, ...]:
        """Names of outputs that are not known to be right on real faces."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs, in the order of the task."""


@dataclass(frozen=True)
class Marks:
    """Names of outputs, in the order of their task.

    Attributes:
        unknown: no head has learned them: null in tables, neutral in submissions.
        experimental: a head that gives their values says that they are not to be relied on.
    """

    unknown: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.unknown or self.experimental)

    def of(self, output: str) -> str:
        """``unknown``, ``experimental`` or ``""``."""
        return "unknown" if output in self.unknown else "experimental" if output in self.experimental else ""

    def note(self, output: str) -> str:
        """What a reader of a table has to know about an output, ``""`` where there is nothing to say."""
        return {"unknown": UNKNOWN_NOTE, "experimental": EXPERIMENTAL_NOTE}.get(self.of(output), "")

    def notes(self, task: str) -> list[str]:
        """A line for each kind of mark."""
        lines = []
        if self.unknown:
            lines.append(
                f"task {task}: {', '.join(self.unknown)} unknown: nobody taught the head; null in tables, neutral in "
                "submissions"
            )
        if self.experimental:
            lines.append(
                f"task {task}: {', '.join(self.experimental)} experimental: not known to be right on real faces"
            )
        return lines

    def to_json(self) -> dict[str, list[str]]:
        """As plain JSON data."""
        return {"unknown": list(self.unknown), "experimental": list(self.experimental)}


def marks_of(heads: Sequence[Marked]) -> Marks:
    """Marks of the average of several heads of one task: unknown is what none of them has learned."""
    if not heads:
        return Marks()
    unknown = [name for name in heads[0].outputs if all(name in head.unknown for head in heads)]
    doubtful = [name for name in heads[0].outputs if any(name in head.experimental for head in heads)]
    return Marks(tuple(unknown), tuple(doubtful))


def marks_in(data: Mapping[str, Any]) -> Marks:
    """Marks in the footer of a table; older tables have none."""
    return Marks(tuple(data.get("unknown") or ()), tuple(data.get("experimental") or ()))


def joined(marks: Iterable[Marks], outputs: Sequence[str]) -> Marks:
    """Marks of several tables together: what any of them says of an output; unknown counts where all say so."""
    every = list(marks)
    unknown = [name for name in outputs if every and all(name in each.unknown for each in every)]
    rest = [
        name
        for name in outputs
        if name not in unknown and any(name in each.experimental or name in each.unknown for each in every)
    ]
    return Marks(tuple(unknown), tuple(rest))
