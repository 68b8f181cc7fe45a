"""Human coding beside a program's trace: the same moments, the same events, one video and unit at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.studies.agreement.event_pairs import EventPair, Known, pair_events, rest, shared
from emobeam.emo_transforms.results.studies.agreement.human_coding import HumanTrack
from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig
from emobeam.emo_transforms.results.studies.event_rules import Rule, active_frames
from emobeam.emo_transforms.results.studies.events import Event, frame_ends
from emobeam.emo_transforms.results.studies.spans import Interval, union
from emobeam.emo_transforms.results.studies.study import StudyTrace
from emobeam.schemas.records import UsageError

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


@dataclass(frozen=True, eq=False)
class Comparison:
    """One unit of one face in one video.

    Attributes:
        times: ``[n]`` moments at which both are known, s; each well inside the frame that is shown then.
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
    shortest: float = 0.0,
) -> Comparison:
    """Compares a coder's track with the trace it is about.

    Args:
        rule: what makes the output active; None: it is continuous.
        column: of the output.
        span: range of the output, for ``human_range``.
        coded: stretches that the coder looked at; None: all of the video.
        shortest: duration of the shortest events that the program finds, s.
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
    pairs = [] if rule is None else _pairs(each, track, rule, column, config, coded, shortest)
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
    """Rows and times that are compared.

    Coders' times are rounded and fall on the edges of frames, where rounding decides what a frame shows; the times
    here keep away from the edges.
    """
    trace = each.trace
    middle = (trace.times + trace.ends) / 2
    if not grid:
        # Where nobody was seen no frame counts as sampled; the coder's time there still has to be told.
        unseen = np.asarray(np.isnan(trace.values).all(axis=1))
        step = np.median(np.diff(trace.times[trace.sampled])) if trace.sampled.sum() > 1 else 0.0
        stand_in = np.zeros(len(unseen), bool)
        if step > 0 and unseen.any():
            ticks = np.floor((trace.times - trace.start) / step)
            stand_in = unseen & (np.diff(ticks, prepend=-1.0) > 0)
        rows = np.flatnonzero(trace.sampled | stand_in)
        return rows, middle[rows]
    first, last = int(np.floor(trace.times[0] * grid)), int(np.ceil(trace.ends[-1] * grid))
    moments = (np.arange(first, last) + 0.5) / grid
    rows = np.asarray(np.searchsorted(trace.times, moments, side="right") - 1)
    kept = (rows >= 0) & (moments < trace.ends[rows])
    rows, moments = rows[kept], moments[kept]
    edge = np.minimum(moments - trace.times[rows], trace.ends[rows] - moments) < 0.25 * trace.shown[rows]
    return rows, np.where(edge, middle[rows], moments)


def _inside(moments: Floats, intervals: Sequence[Interval]) -> NDArray[np.bool_]:
    merged = union(intervals)
    if not merged:
        return np.zeros(len(moments), bool)
    starts, ends = np.array(merged, np.float64).T
    last = np.searchsorted(starts, moments, side="right") - 1
    return np.asarray((last >= 0) & (moments < ends[np.maximum(last, 0)]))


def _human_at(track: HumanTrack, moments: Floats, frames: NDArray[np.int32]) -> Floats:
    """What the coder says at each moment, NaN where nothing."""
    if track.events is not None:
        active = _inside(moments, track.events).astype(np.float64)
        active[_inside(moments, track.not_coded)] = np.nan
        return active
    places, values = track.samples
    wanted: Floats = frames.astype(np.float64) if track.by == "frame" else moments
    row = np.searchsorted(places, wanted, side="right") - 1
    held = (row >= 0) & (wanted < _held_until(places)[np.maximum(row, 0)])
    return np.where(held, values[np.maximum(row, 0)], np.nan)


def _held_until(places: Floats) -> Floats:
    """Until where a code holds: the next one, which coders who rate every n-th frame speak for too; but a missing row
    is no code that lasts.
    """
    if len(places) < 2:
        return places + 1.0
    ends = frame_ends(places)
    usual = float(np.median(ends - places))
    return np.where(ends - places <= 1.5 * usual, ends, places + usual)


def _human_time(each: StudyTrace, track: HumanTrack, human_on: float) -> tuple[list[Interval], list[Interval]]:
    """The coder's events, and the time they speak about."""
    if track.events is not None:
        coded = rest(track.not_coded)
        return shared(track.events, coded), coded
    starts, values = track.samples
    ends = _held_until(starts)
    if track.by == "frame":
        first, last = (np.searchsorted(each.trace.frames, places) for places in (starts, ends))
        held = last > first
        starts, ends, values = each.trace.times[first[held]], each.trace.ends[last[held] - 1], values[held]
    stretches = list(zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True))
    active = union((start, end) for start, end, value in stretches if value >= human_on)
    return active, union((start, end) for start, end, value in stretches if not np.isnan(value))


def _pairs(
    each: StudyTrace,
    track: HumanTrack,
    rule: Rule,
    column: int,
    config: AgreeConfig,
    coded: Sequence[Interval] | None,
    shortest: float,
) -> list[EventPair]:
    trace = each.trace
    human, known = _human_time(each, track, config.human_on)
    held = ~np.isnan(each.values[:, column])
    seen = union(zip(trace.times[held].tolist(), trace.ends[held].tolist(), strict=True))
    return pair_events(
        [Known(*event) for event in human],
        _joined([event for other, event in each.events if other == rule]),
        known if coded is None else shared(known, coded),
        seen,
        config.match,
        shortest=shortest,
        slack=float(np.median(trace.shown)) / 2 if len(trace.shown) else 0.0,
    )


def _joined(events: Sequence[Event]) -> list[Known]:
    """The program's events; those that only a change of person parts are one, as coders look at a face and not at
    who it is.
    """
    found: list[Known] = []
    for event in sorted(events, key=lambda event: event.onset):
        start_seen, end_seen = event.cut not in ("start", "both"), event.cut not in ("end", "both")
        if found and not start_seen and not found[-1].end_seen and found[-1].end == event.onset:
            found[-1] = Known(found[-1].start, event.offset, found[-1].start_seen, end_seen)
        else:
            found.append(Known(event.onset, event.offset, start_seen, end_seen))
    return found
