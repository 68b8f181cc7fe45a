"""When a unit counts as active: thresholds of heads and users, and the events they make of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.heads.output_quality import Marks
from emobeam.emo_transforms.results.studies.events import Event, find_class_events, find_events
from emobeam.emo_transforms.results.studies.face_series import Trace
from emobeam.schemas.records import UsageError
from emobeam.schemas.task_form import OutputGroup, Task

SPEECH_UNITS = ("AU25", "AU26")
"""Lips part and jaw drop: what speaking does as well."""

SPEECH_NOTE = "speech parts the lips and drops the jaw: may be speaking, not expression"
UNTRAINED_NOTE = "untrained head: the values mean nothing"


@dataclass(frozen=True)
class Rule:
    """How one output becomes events.

    Attributes:
        unit: name of the output.
        column: of the output in a trace.
        on, off: thresholds; None for the classes of a group, of which the highest is active.
        below: active where the value is low: at most ``on``, until it is above ``off``.
    """

    unit: str
    column: int
    on: float | None
    off: float | None
    below: bool = False

    @property
    def direction(self) -> str:
        """``above``, ``below`` or ``wins``."""
        return "wins" if self.on is None else "below" if self.below else "above"


@dataclass(frozen=True)
class Rules:
    """All rules of a task, and how events are cleaned.

    Attributes:
        rules: of yes-or-no outputs and of those a user named a threshold for.
        classes: the groups whose winner makes spans, each with the column of its first output.
        min_duration, merge_gap: s, see :func:`emobeam.emo_transforms.results.studies.events.find_events`.
    """

    rules: tuple[Rule, ...]
    classes: tuple[tuple[OutputGroup, int], ...] = ()
    min_duration: float = 0.2
    merge_gap: float = 0.2

    @property
    def all(self) -> tuple[Rule, ...]:
        """Rules of classes too."""
        winners = [
            Rule(name, first + k, None, None) for group, first in self.classes for k, name in enumerate(group.outputs)
        ]
        return tuple(sorted([*self.rules, *winners], key=lambda rule: (rule.column, rule.below)))


def make_rules(
    task: Task,
    head_thresholds: NDArray[np.float32],
    on: Sequence[str] = (),
    off: Sequence[str] = (),
    *,
    min_duration: float = 0.2,
    merge_gap: float = 0.2,
    standardised: bool = False,
) -> Rules:
    """The rules of a task.

    Yes-or-no outputs are active from the head's threshold on; expressions where they win. Outputs that are plain values
    (valence, arousal) only make events where a threshold is named; a negative one means at most that much.

    Args:
        head_thresholds: ``[K]``.
        on: ``AU12=0.6``, or ``0.6`` for all yes-or-no outputs; an output may have one of each sign.
        off: the same for the end of events; default: the same as ``on``.
        standardised: values are in standard deviations of the person: only named thresholds make sense.

    Raises:
        UsageError: unknown names, no numbers, or thresholds without sense.
    """
    binary = [name for group in task.groups if group.kind == "binary" for name in group.outputs]
    won = [name for group in task.groups if group.kind == "class" for name in group.outputs]
    starts, ends = _named(task, on, "--threshold", binary, won), _named(task, off, "--off", binary, won)
    if standardised and (left := [name for name in binary if name not in starts]):
        raise UsageError(
            "--baseline-scale standardise: values are in standard deviations, which no head's threshold is about; "
            f"name --threshold for {', '.join(left)}, or one for all, for example --threshold 2"
        )
    rules = []
    for column, name in enumerate(task.outputs):
        given = starts.get(name, [float(head_thresholds[column])] if name in binary else [])
        for start in given:
            below = start < 0
            same = [end for end in ends.get(name, []) if (end < 0) == below or end == 0]
            end = same[0] if same else start
            if (end > start and not below) or (end < start and below):
                raise UsageError(f"--off {name}={end:g}: an event that begins at {start:g} can't end beyond that")
            rules.append(Rule(name, column, start, end, below))
    if unused := [name for name in ends if name not in {rule.unit for rule in rules}]:
        raise UsageError(f"--off {unused[0]}: name its --threshold too")
    classes, first = [], 0
    for group in task.groups:
        if group.kind == "class":
            classes.append((group, first))
        first += len(group.outputs)
    return Rules(tuple(rules), tuple(classes), min_duration, merge_gap)


def _named(
    task: Task, texts: Sequence[str], option: str, binary: Sequence[str], won: Sequence[str]
) -> dict[str, list[float]]:
    known = {name.lower(): name for name in task.outputs}
    found: dict[str, list[float]] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise UsageError(f"{option} {text}: expected NAME=NUMBER or a number, for example AU12=0.6")
        if equals and name.strip().lower() not in known:
            raise UsageError(
                f"{option} {text}: task {task.name} has no output {name}; it has {', '.join(task.outputs)}"
            )
        names = [known[name.strip().lower()]] if equals else binary
        if not names:
            raise UsageError(f"{option} {text}: task {task.name} has no yes-or-no outputs; name one: NAME={number}")
        if winner := [each for each in names if each in won]:
            raise UsageError(f"{option} {text}: {winner[0]} is active where it wins and takes no threshold")
        for each in names:
            kept = found.setdefault(each, [])
            # A name wins over the number for all; a second one of the same sign over the first.
            kept[:] = [other for other in kept if (other < 0) != (value < 0)] if equals else kept
            if equals or not kept:
                kept.append(value)
    return found


def trace_events(
    trace: Trace, values: NDArray[np.float32], rules: Rules, person: NDArray[np.int64] | None = None
) -> list[tuple[Rule, Event]]:
    """Events of a trace, by unit and time. Whatever shows or counts events takes them from here.

    Where the face is taken over by another person an event ends, cut, and no gap is bridged: what one person does is
    no part of what another one did.

    Args:
        values: ``[n, K]``, those of the trace or what is left of them above a baseline.
        person: ``[n]`` who is seen in each row, as a number (see ``Persons.of``); None: one person all the time.
    """
    count = len(trace.frames)
    changes = np.flatnonzero(np.diff(person)) + 1 if person is not None and count else np.zeros(0, np.int64)
    edges = [0, *changes.tolist(), count]
    found: list[tuple[Rule, Event]] = []
    for first, stop in pairwise(edges):
        found += _events(trace, values, rules, first, stop) if stop > first else []
    found.sort(key=lambda pair: (pair[0].column, pair[0].below, pair[1].onset))
    return [(rule, replace(event, video=trace.video, subject=trace.subject, face=trace.face)) for rule, event in found]


def _events(trace: Trace, values: NDArray[np.float32], rules: Rules, first: int, stop: int) -> list[tuple[Rule, Event]]:
    """Events of the rows of one person, by unit and then time."""
    rows = slice(first, stop)
    times, frames, end = trace.times[rows], trace.frames[rows], float(trace.ends[stop - 1])
    found: list[tuple[Rule, Event]] = []
    for rule in rules.rules:
        if rule.on is None or rule.off is None:
            raise ValueError(f"{rule.unit}: a rule for classes, which have no thresholds")
        sign = -1.0 if rule.below else 1.0
        events = find_events(
            times,
            values[rows, rule.column] * np.float32(sign),
            on=sign * rule.on,
            off=sign * rule.off,
            frames=frames,
            end=end,
            unit=rule.unit,
            min_duration=rules.min_duration,
            merge_gap=rules.merge_gap,
        )
        found += [(rule, _signed(event, sign)) for event in events]
    by_unit = {rule.unit: rule for rule in rules.all}
    for group, column in rules.classes:
        # A class that nobody taught the head has no value in any row, and takes no part.
        held = np.asarray(~np.isnan(trace.values[:, column : column + len(group.outputs)]).all(axis=0))
        events = find_class_events(
            times,
            values[rows, column : column + len(group.outputs)][:, held],
            [name for name, there in zip(group.outputs, held, strict=True) if there],
            frames=frames,
            end=end,
            min_duration=rules.min_duration,
            merge_gap=rules.merge_gap,
        )
        found += [(by_unit[event.unit], event) for event in events]
    return found


def _signed(event: Event, sign: float) -> Event:
    return event if sign > 0 else replace(event, peak=-event.peak, mean=-event.mean)


def active_frames(trace: Trace, events: Sequence[Event]) -> NDArray[np.bool_]:
    """``[n]`` rows of a trace that lie in any of the events."""
    edges = np.zeros(len(trace.frames) + 1, np.int64)
    for event in events:
        edges[np.searchsorted(trace.frames, event.onset_frame)] += 1
        edges[np.searchsorted(trace.frames, event.offset_frame)] -= 1
    return np.asarray(np.cumsum(edges[:-1]) > 0)


def note_of(unit: str, *, untrained: bool, marks: Marks) -> str:
    """What a reader of a table has to know about an output."""
    notes = [UNTRAINED_NOTE] if untrained else []
    notes += [marks.note(unit)] if marks.of(unit) else []
    notes += [SPEECH_NOTE] if unit in SPEECH_UNITS else []
    return "; ".join(notes)


def thresholds_data(rules: Rules) -> Mapping[str, str]:
    """The rules for people and programs: ``AU12`` -> ``>= 0.6 until < 0.4``."""
    texts: dict[str, str] = {}
    for rule in rules.all:
        if rule.on is None or rule.off is None:
            text = "highest of its group"
        else:
            signs = ("<=", ">") if rule.below else (">=", "<")
            text = f"{signs[0]} {rule.on:.6g} until {signs[1]} {rule.off:.6g}"
        texts[rule.unit] = f"{texts[rule.unit]} and {text}" if rule.unit in texts else text
    return texts
