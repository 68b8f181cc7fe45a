"""Summaries of traces: how strongly, how often and for how long, per video, person or segment.

Every frame counts for as long as it is shown (variable frame rates), and only while a face was seen: time without a
value is no zero, it is missing, and ``coverage`` tells how much of it there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.media_clock import on_media_clock
from emobeam.emo_transforms.results.studies.event_rules import Rule, active_frames, note_of
from emobeam.emo_transforms.results.studies.events import Event
from emobeam.emo_transforms.results.studies.persons import Remaining
from emobeam.emo_transforms.results.studies.spans import INSTANT, Interval, Span, Spans, overlap
from emobeam.emo_transforms.results.studies.study import Study, StudyTrace
from emobeam.emo_transforms.results.studies.weighted_figures import mean_sd, quantile

By = Literal["video", "person", "segment"]
Floats = NDArray[np.float64]

CONDITIONS = ("all", "speech", "no speech")


@dataclass
class _Part:
    """What one trace gives to one unit of analysis under one condition."""

    values: NDArray[np.float32]
    weights: Floats
    active: dict[tuple[str, str], NDArray[np.bool_]]
    events: list[tuple[Rule, Event]]


@dataclass
class _Unit:
    """A unit of analysis: what its rows of the table begin with, and what was gathered."""

    head: dict[str, Any]
    parts: dict[str, list[_Part]] = field(default_factory=dict)
    total: dict[str, float] = field(default_factory=dict)
    videos: set[str] = field(default_factory=set)

    def add(self, condition: str, part: _Part) -> None:
        self.parts.setdefault(condition, []).append(part)


def summarise(study: Study, by: By, segments: Spans | None = None) -> Iterator[list[dict[str, Any]]]:
    """Rows of the summary table (see :data:`.results.studies.tables.SUMMARIES`), some units at a time.

    Units of a video come as it ends; a person as soon as the last of their videos is done, so that what is in memory is
    about the people whose videos are under way. People come in the order in which they are complete.

    By ``video`` a unit of analysis is a face of a subject in a video; by ``person`` a person, over all videos (who is
    shown under several subjects counts once per frame); by ``segment`` a stretch of a video for each face in it.

    ``mean``, ``sd`` and ``median`` are over the time seen. ``active`` is the share of the time seen that lies in
    events, ``events`` counts those that begin in the unit, ``events_per_minute`` is per minute seen, ``mean_duration``
    theirs in full, cut ones included (``events_cut`` tells how many). ``seen`` and ``total`` are seconds, ``coverage``
    their quotient. Values that no rule turns into events have no ``active`` and no ``events``.
    Where the study knows of speech every unit has rows for ``speech`` and ``no speech`` too; an event belongs to that
    in which most of it lies.

    Args:
        segments: of ``by="segment"``.
    """
    if by == "person":
        yield from _people(study)
        return
    for faces in study.traces():
        units: dict[tuple[Any, ...], _Unit] = {}
        for each in faces:
            spans: Sequence[Span | None] = [None] if by == "video" else segments.of(*each.trace.key) if segments else []
            for span in spans:
                _add_face(units, each, span, study.offsets.get(each.trace.video, 0.0))
        yield [row for key in sorted(units) for row in _rows(study, units[key], by)]


def _people(study: Study) -> Iterator[list[dict[str, Any]]]:
    units: dict[str, _Unit] = {}
    remaining = Remaining(study.persons, study.source.parts)
    for video in remaining.order:
        faces = study.faces(video) or []
        _by_person(units, faces)
        complete = remaining.done(video, {name for each in faces for name in each.persons})
        yield [row for name in complete if name in units for row in _rows(study, units.pop(name), "person")]


def _add_face(
    units: dict[tuple[Any, ...], _Unit], each: StudyTrace, span: Span | None, first_frame: float = 0.0
) -> None:
    trace = each.trace
    window: Interval = (trace.start, trace.stop) if span is None else (span.start, span.end)
    weights = trace.shown if span is None else overlap(trace.times, trace.ends, [window])
    head = {"video": trace.video, "subject": trace.subject, "face": trace.face}
    key: tuple[Any, ...] = trace.key
    if span is not None:
        start, end = (on_media_clock(edge, first_frame) for edge in (span.start, span.end))
        head |= {"segment": span.label, "start": start, "end": end}
        key = (*trace.key, span.start, span.end, span.label)
    if len(each.persons) == 1:
        head["person"] = each.persons[0]
    unit = units.setdefault(key, _Unit(head))
    events = each.events
    if span is not None:
        events = [(rule, event) for rule, event in events if window[0] <= event.onset + INSTANT < window[1]]
    begins, ends = max(window[0], trace.start), min(window[1], trace.stop)
    spoken = overlap(np.array([begins]), np.array([ends]), each.speech or [])[0]
    _add(unit, each, weights, events, max(0.0, ends - begins), float(spoken))


def _by_person(units: dict[str, _Unit], faces: Sequence[StudyTrace]) -> None:
    taken: dict[str, NDArray[np.int32]] = {}
    for each in faces:
        trace = each.trace
        length = trace.stop - trace.start
        for index, name in enumerate(each.persons):
            if not name:
                continue
            before = taken.get(name, np.zeros(0, np.int32))
            # Frames without a value say nothing, and another face of the table may show the person there.
            seen = ~np.isnan(each.values).all(axis=1)
            mine = (each.person == index) & seen & ~np.isin(trace.frames, before)
            taken[name] = np.union1d(before, trace.frames[mine])
            own = set(trace.frames[mine].tolist())
            events = [(rule, event) for rule, event in each.events if event.onset_frame in own]
            unit = units.setdefault(name, _Unit({"person": name}))
            first = trace.video not in unit.videos
            spoken = overlap(np.array([trace.start]), np.array([trace.stop]), each.speech or [])[0]
            _add(unit, each, np.where(mine, trace.shown, 0.0), events, length * first, float(spoken) * first)


def _add(
    unit: _Unit,
    each: StudyTrace,
    weights: Floats,
    events: Sequence[tuple[Rule, Event]],
    total: float,
    spoken: float,
) -> None:
    trace = each.trace
    unit.videos.add(trace.video)
    rules = {(rule.unit, rule.direction): rule for rule, _ in each.events}
    active = {
        key: active_frames(trace, [event for other, event in each.events if (other.unit, other.direction) == key])
        for key in rules
    }
    pieces = [("all", weights, list(events), total)]
    if each.speech is not None:
        share = np.divide(
            overlap(trace.times, trace.ends, each.speech),
            trace.shown,
            out=np.zeros(len(weights)),
            where=trace.shown > 0,
        )
        during = [(rule, event) for rule, event in events if (each.speech_share(event) or 0.0) >= 0.5]
        without = [pair for pair in events if pair not in during]
        pieces.append(("speech", weights * share, during, spoken))
        pieces.append(("no speech", weights * (1 - share), without, total - spoken))
    for condition, weight, chosen, seconds in pieces:
        held = weight > 0
        values = each.values[held]
        kept = {key: mask[held] for key, mask in active.items()}
        unit.add(condition, _Part(values, weight[held], kept, chosen))
        unit.total[condition] = unit.total.get(condition, 0.0) + seconds


def _rows(study: Study, unit: _Unit, by: By) -> Iterable[dict[str, Any]]:
    task = study.source.task
    directions: dict[str, list[str]] = {}
    for rule in study.rules.all:
        directions.setdefault(rule.unit, []).append(rule.direction)
    for condition in CONDITIONS:
        if condition not in unit.parts:
            continue
        parts = unit.parts[condition]
        values, weights = np.concatenate([p.values for p in parts]), np.concatenate([p.weights for p in parts])
        for column, name in enumerate(task.outputs):
            known = ~np.isnan(values[:, column])
            own, weight = values[known, column].astype(np.float64), weights[known]
            seen, total = float(weight.sum()), unit.total[condition]
            mean, sd = mean_sd(own, weight)
            figures = {
                "condition": condition,
                "task": task.name,
                "unit": name,
                "mean": mean,
                "sd": sd,
                "median": quantile(own, weight, 0.5),
                "seen": seen,
                "total": total,
                "coverage": min(seen / total, 1.0) if total > 0 else None,
                "rows": int(known.sum()),
                "videos": len(unit.videos),
                "baseline": study.config.baseline.text,
                "note": note_of(name, untrained=study.source.untrained, marks=study.source.marks),
            }
            for direction in directions.get(name, [""]):
                yield {
                    "by": by,
                    **unit.head,
                    **figures,
                    "direction": direction,
                    **_activity(parts, name, direction, known, weights),
                }


def _activity(
    parts: Sequence[_Part], name: str, direction: str, known: NDArray[np.bool_], weights: Floats
) -> dict[str, Any]:
    """What events say of an output; nothing where no rule makes events of it or nobody was seen."""
    seen = float(weights[known].sum())
    if not direction:
        return {}
    key = (name, direction)
    active = np.concatenate([part.active.get(key, np.zeros(len(part.weights), bool)) for part in parts])
    events = [event for part in parts for rule, event in part.events if (rule.unit, rule.direction) == key]
    durations = [event.duration for event in events]
    return {
        "active": float(weights[known & active].sum()) / seen if seen > 0 else None,
        "events": len(events) if seen > 0 else None,
        "events_cut": sum(bool(event.cut) for event in events) if seen > 0 else None,
        "events_per_minute": len(events) / (seen / 60) if seen > 0 else None,
        "mean_duration": float(np.mean(durations)) if durations else None,
    }
