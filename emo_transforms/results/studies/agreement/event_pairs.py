"""Events of a coder beside events of the program, in the time that both know something about. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig, match_events
from emobeam.emo_transforms.results.studies.spans import Interval, union

TOLERANCE = 1e-6
"""Seconds by which durations may miss a limit: times are rounded decimals."""

Outcome = Literal["matched", "missed", "extra", "not seen", "not coded"]


@dataclass(frozen=True)
class Known:
    """An event and which of its ends somebody saw."""

    start: float
    end: float
    start_seen: bool = True
    end_seen: bool = True

    @property
    def interval(self) -> Interval:
        """From when to when, in s."""
        return self.start, self.end


@dataclass(frozen=True)
class EventPair:
    """An event of the coder, of the program, or of both, as far as both could know of it.

    Attributes:
        outcome: ``matched``, ``missed``, ``extra``, or left out: ``not seen`` (the coder's, while nobody was seen) or
            ``not coded`` (the program's, in time that nobody coded).
        onset_lag, offset_lag: program minus coder, s; None where one of them did not see that end.
    """

    outcome: Outcome
    human: Interval | None
    program: Interval | None
    onset_lag: float | None = None
    offset_lag: float | None = None

    @property
    def begin(self) -> float:
        """Onset in s: the coder's, else the program's."""
        if (event := self.human or self.program) is None:
            raise ValueError("a pair without an event")
        return event[0]

    @property
    def counts(self) -> bool:
        """Whether it tells of agreement or disagreement."""
        return self.outcome in ("matched", "missed", "extra")


def shared(one: Sequence[Interval], other: Sequence[Interval]) -> list[Interval]:
    """Time in both."""
    first, second = union(one), union(other)
    found, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        start, end = max(first[i][0], second[j][0]), min(first[i][1], second[j][1])
        if start < end:
            found.append((start, end))
        if first[i][1] <= second[j][1]:
            i += 1
        else:
            j += 1
    return found


def rest(intervals: Sequence[Interval]) -> list[Interval]:
    """All time but that, from minus infinity to infinity."""
    cuts = [float("-inf"), *(edge for interval in union(intervals) for edge in interval), float("inf")]
    return [(start, end) for start, end in zip(cuts[::2], cuts[1::2], strict=True) if start < end]


def pair_events(
    human: Sequence[Known],
    program: Sequence[Known],
    coded: Sequence[Interval],
    seen: Sequence[Interval],
    match: MatchConfig,
    *,
    shortest: float = 0.0,
    slack: float = 0.0,
) -> list[EventPair]:
    """Which events are the same, and what becomes of the others, in order of time.

    Both sides are cut to the time that was coded and in which somebody was seen; an event that goes on across other
    time counts once on either side of it. What is left of a cut event and shorter than ``shortest`` is left out, as the
    program finds nothing shorter, and so is whatever overlaps it on the other side.

    Args:
        coded: time that the coder looked at.
        seen: time in which the program had values.
        shortest: duration of the shortest events of the program, s.
        slack: s by which an end may lie beyond known time and still count as seen: half a frame.
    """
    known = shared(coded, seen)
    left, left_out = _cut(human, known, shortest, slack)
    right, right_out = _cut(program, known, shortest, slack)
    left, dropped = _apart(left, right_out, slack)
    right, spared = _apart(right, left_out, slack)
    pairs = []
    matched = match_events([each.interval for each in left], [each.interval for each in right], match)
    for i, j in matched:
        one, other = left[i], right[j]
        onset = other.start - one.start if one.start_seen and other.start_seen else None
        offset = other.end - one.end if one.end_seen and other.end_seen else None
        pairs.append(EventPair("matched", one.interval, other.interval, onset, offset))
    taken = {i for i, _ in matched}, {j for _, j in matched}
    pairs += [EventPair("missed", each.interval, None) for i, each in enumerate(left) if i not in taken[0]]
    pairs += [EventPair("extra", None, each.interval) for j, each in enumerate(right) if j not in taken[1]]
    # A coder's event outside the time they say they coded is no finding of anything.
    unseen = [each for each in left_out if shared([each.interval], coded)]
    pairs += [EventPair("not seen", each.interval, None) for each in [*unseen, *dropped]]
    pairs += [EventPair("not coded", None, each.interval) for each in [*right_out, *spared]]
    return sorted(pairs, key=lambda pair: pair.human or pair.program or (0.0, 0.0))


def _cut(
    events: Sequence[Known], known: Sequence[Interval], shortest: float, slack: float
) -> tuple[list[Known], list[Known]]:
    """What lies in known time, and what is left out because nothing or too little of it does."""
    kept, left_out = [], []
    ends = [end for _, end in known]
    for event in events:
        pieces = []
        for start, end in known[bisect_right(ends, event.start) :]:
            first, last = max(event.start, start), min(event.end, end)
            if first >= last:
                break
            whole = event.start >= start - slack and event.end <= end + slack
            if not whole and last - first <= slack:
                continue
            piece = Known(
                first, last, event.start_seen and first > start + slack, event.end_seen and last < end - slack
            )
            pieces.append((piece, whole or last - first >= shortest - TOLERANCE))
        kept += [piece for piece, enough in pieces if enough]
        left_out += [piece for piece, enough in pieces if not enough]
        if not pieces:
            left_out.append(event)
    return kept, left_out


def _apart(events: Sequence[Known], others: Sequence[Known], slack: float) -> tuple[list[Known], list[Known]]:
    """Events that overlap none of the others, and the rest."""
    far: list[Known] = []
    near: list[Known] = []
    for each in events:
        touching = any(min(other.end, each.end) - max(other.start, each.start) > slack for other in others)
        (near if touching else far).append(each)
    return far, near
