"""Human coding beside a program's trace: the same moments, the same events, one video and unit at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from emo_transforms.events import find_events, frame_ends
from emo_transforms.studies.human import HumanTrack
from emo_transforms.studies.matching import MatchConfig, match_events
from emo_transforms.studies.rules import Rule, active_frames
from emo_transforms.studies.spans import Interval, overlap, union
from emo_transforms.studies.study import StudyTrace
from schemas.records import UsageError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AgreeConfig:
    """How human coding and predictions are compared.

    Attributes:
        match: when two events are the same.
        grid: moments per second that are compared; 0: the sampled frames, at which the program really looked.
        human_on: a coder's value of at least this much counts as active (0/1 codes and intensities from 1 on alike).
        human_range: lowest and highest value of the coder's scale for continuous outputs, mapped to the range of the
            output; None: the scale is the same.
        block: s; what is drawn anew by the bootstrap where there are fewer than ``min_units`` people or videos.
        min_units: see ``block``; with fewer blocks than that there is no interval at all.
        resamples, seed: of the bootstrap.
    """

    match: MatchConfig = field(default_factory=MatchConfig)
    grid: float = 0.0
    human_on: float = 0.5
    human_range: tuple[float, float] | None = None
    block: float = 10.0
    min_units: int = 5
    resamples: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Raises :class:`UsageError` where the settings make no sense."""
        self.match.check()
        if not 0 <= self.grid <= 1000:
            raise UsageError(f"--grid is {self.grid}, expected moments per second")
        if self.human_range is not None and not self.human_range[0] < self.human_range[1]:
            raise UsageError(f"--human-range: {self.human_range[0]:g} is not below {self.human_range[1]:g}")
        if not self.block > 0:
            raise UsageError(f"--block is {self.block}, expected seconds")


@dataclass(frozen=True)
class EventPair:
    """An event of the coder, of the program, or of both; ``outcome`` is ``matched``, ``missed``, ``extra``,
    ``not seen`` (the coder's, while nobody was seen for most of it) or ``not coded`` (the program's, likewise)."""

    outcome: Literal["matched", "missed", "extra", "not seen", "not coded"]
    human: Interval | None
    program: Interval | None
    onset_lag: float | None = None
    offset_lag: float | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """One unit of one face in one video.

    Attributes:
        times: ``[n]`` moments at which both are known, s.
        human, program: ``[n]``: 0 or 1 of active units, values of continuous outputs.
        not_seen, not_coded: moments left out because the program, or the coder, had nothing to say.
        pairs: of events; empty for continuous outputs.
        person: who is seen.
    """

    video: str
    subject: str
    face: int
    person: str
    unit: str
    continuous: bool
    times: Floats
    human: Floats
    program: Floats
    not_seen: int
    not_coded: int
    pairs: Sequence[EventPair]


def compare_track(
    each: StudyTrace,
    track: HumanTrack,
    rule: Rule | None,
    column: int,
    config: AgreeConfig,
    *,
    span: tuple[float, float],
    coded: Sequence[Interval] | None = None,
) -> Comparison:
    """Compares a coder's track with the trace it is about.

    Args:
        rule: what makes the output active; None: it is continuous.
        column: of the output.
        span: range of the output, for ``human_range``.
        coded: stretches that the coder looked at; None: all of the video.
    """
    trace = each.trace
    rows, moments = _moments(each, config.grid)
    human = _human_at(track, moments, trace.frames[rows])
    if coded is not None:
        human[~_inside(moments, coded)] = np.nan
    if rule is None:
        program = each.values[rows, column].astype(np.float64)
        if config.human_range is not None:
            low, high = config.human_range
            human = span[0] + (human - low) / (high - low) * (span[1] - span[0])
    else:
        mine = [event for other, event in each.events if other == rule]
        program = active_frames(trace, mine)[rows].astype(np.float64)
        program[np.isnan(each.values[rows, column])] = np.nan
        if track.events is None:
            human = np.where(np.isnan(human), np.nan, human >= config.human_on)
    unseen = np.isnan(program)
    uncoded = np.isnan(human) & ~unseen
    both = ~(unseen | uncoded)
    pairs = [] if rule is None else _pairs(each, track, rule, column, config, coded)
    return Comparison(
        video=trace.video,
        subject=trace.subject,
        face=trace.face,
        person=each.persons[int(np.bincount(each.person).argmax())] if len(each.person) else trace.video,
        unit=track.who.unit,
        continuous=rule is None,
        times=moments[both],
        human=human[both].astype(np.float64),
        program=program[both],
        not_seen=int(unseen.sum()),
        not_coded=int(uncoded.sum()),
        pairs=pairs,
    )


def _moments(each: StudyTrace, grid: float) -> tuple[NDArray[np.int64], Floats]:
    """Rows and times that are compared."""
    trace = each.trace
    if not grid:
        # Where nobody was seen no frame counts as sampled; the coder's time there still has to be told.
        unseen = np.asarray(np.isnan(trace.values).all(axis=1))
        step = np.median(np.diff(trace.times[trace.sampled])) if trace.sampled.sum() > 1 else 0.0
        stand_in = np.zeros(len(unseen), bool)
        if step > 0 and unseen.any():
            ticks = np.floor((trace.times - trace.start) / step)
            stand_in = unseen & (np.diff(ticks, prepend=-1.0) > 0)
        rows = np.flatnonzero(trace.sampled | stand_in)
        return rows, trace.times[rows]
    first, last = int(np.ceil(trace.times[0] * grid)), int(np.ceil(trace.ends[-1] * grid))
    moments = np.arange(first, last) / grid
    rows = np.asarray(np.searchsorted(trace.times, moments, side="right") - 1)
    kept = (rows >= 0) & (moments < trace.ends[rows])
    return rows[kept], moments[kept]


def _inside(moments: Floats, intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    inside = np.zeros(len(moments), bool)
    for start, end in union(intervals):
        inside |= (moments >= start) & (moments < end)
    return inside


def _human_at(track: HumanTrack, moments: Floats, frames: NDArray[np.int32]) -> Floats:
    """What the coder says at each moment, NaN where nothing."""
    if track.events is not None:
        active = _inside(moments, track.events).astype(np.float64)
        active[_inside(moments, track.not_coded)] = np.nan
        return active
    assert track.places is not None
    assert track.values is not None
    wanted: Floats = frames.astype(np.float64) if track.by == "frame" else moments
    row = np.searchsorted(track.places, wanted, side="right") - 1
    held = (row >= 0) & (wanted < _held_until(track.places)[np.maximum(row, 0)])
    return np.where(held, track.values[np.maximum(row, 0)], np.nan)


def _held_until(places: Floats) -> Floats:
    """Until where a code holds: the next one, but a missing row is no code that lasts."""
    ends = frame_ends(places)
    usual = float(np.median(ends - places)) if len(places) > 1 else 1.0
    return np.minimum(ends, places + 1.5 * usual) if len(places) > 1 else places + usual


def _human_events(each: StudyTrace, track: HumanTrack, human_on: float) -> tuple[list[Interval], list[Interval]]:
    """The coder's events, and the stretches nobody could tell."""
    if track.events is not None:
        return union(track.events), list(track.not_coded)
    assert track.places is not None
    assert track.values is not None
    places, values = track.places, track.values
    if track.by == "frame":
        row = np.searchsorted(each.trace.frames, places)
        row = np.minimum(row, len(each.trace.frames) - 1)
        held = each.trace.frames[row] == places
        times, ends, values = each.trace.times[row[held]], each.trace.ends[row[held]], values[held]
    else:
        times, ends = places, _held_until(places)
    # Coders who rate every n-th frame speak for the frames up to the next one.
    events = find_events(times, values, on=human_on)
    unknown = [(float(a), float(b)) for a, b, v in zip(times, ends, values, strict=True) if np.isnan(v)]
    return [(event.onset, event.offset) for event in events], union(unknown)


def _pairs(
    each: StudyTrace,
    track: HumanTrack,
    rule: Rule,
    column: int,
    config: AgreeConfig,
    coded: Sequence[Interval] | None,
) -> list[EventPair]:
    trace = each.trace
    human, unknown = _human_events(each, track, config.human_on)
    known = ~np.isnan(each.values[:, column])
    seen = union(zip(trace.times[known].tolist(), trace.ends[known].tolist(), strict=True))
    events = [event for other, event in each.events if other == rule]
    program = [(event.onset, event.offset) for event in events]
    fair_human = _share(human, seen) >= 0.5
    fair_program = _share(program, unknown) < 0.5
    if coded is not None:
        human = [event for event, share in zip(human, _share(human, coded), strict=True) if share >= 0.5]
        fair_human = _share(human, seen) >= 0.5
        fair_program &= _share(program, coded) >= 0.5
    left = [event for event, fair in zip(human, fair_human, strict=True) if fair]
    right = [index for index, fair in enumerate(fair_program) if fair]
    matched = match_events(left, [program[index] for index in right], config.match)
    pairs = []
    for i, j in matched:
        event, cut = program[right[j]], events[right[j]].cut
        onset = None if cut in ("start", "both") else event[0] - left[i][0]
        offset = None if cut in ("end", "both") else event[1] - left[i][1]
        pairs.append(EventPair("matched", left[i], event, onset, offset))
    for i in sorted(set(range(len(left))) - {i for i, _ in matched}):
        pairs.append(EventPair("missed", left[i], None))
    for j in sorted(set(range(len(right))) - {j for _, j in matched}):
        pairs.append(EventPair("extra", None, program[right[j]]))
    pairs += [EventPair("not seen", e, None) for e, fair in zip(human, fair_human, strict=True) if not fair]
    pairs += [EventPair("not coded", None, e) for e, fair in zip(program, fair_program, strict=True) if not fair]
    return sorted(pairs, key=lambda pair: pair.human or pair.program or (0.0, 0.0))


def _share(events: Sequence[Interval], stretches: Sequence[Interval]) -> Floats:
    """How much of each event lies in the stretches, from 0 to 1."""
    starts = np.array([event[0] for event in events], np.float64)
    ends = np.array([event[1] for event in events], np.float64)
    length = ends - starts
    return np.divide(overlap(starts, ends, stretches), length, out=np.zeros(len(starts)), where=length > 0)
