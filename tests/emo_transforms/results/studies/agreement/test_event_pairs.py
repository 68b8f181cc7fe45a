"""Events of two sides in the time that both know, against time counted out in ticks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.studies.agreement.event_pairs import EventPair, Known, pair_events, rest, shared
from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig
from emobeam.emo_transforms.results.studies.spans import Interval

ALL = [(float("-inf"), float("inf"))]
MATCH = MatchConfig()


@st.composite
def stretches(draw: st.DrawFn) -> list[Interval]:
    """Disjoint stretches of whole numbers below 40."""
    cuts = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    return [(float(a), float(b)) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(stretches(), stretches())
def test_time_in_both_and_all_other_time(one: list[Interval], other: list[Interval]) -> None:
    def held(intervals: list[Interval]) -> np.ndarray:
        moments = np.arange(0.5, 40)
        return np.array([any(start <= moment < end for start, end in intervals) for moment in moments])

    assert (held(shared(one, other)) == (held(one) & held(other))).all()
    assert (held(rest(one)) == ~held(one)).all()
    assert shared(one, rest(one)) == []


@given(stretches(), stretches(), stretches(), stretches())
def test_only_known_time_decides(
    human: list[Interval], program: list[Interval], coded: list[Interval], seen: list[Interval]
) -> None:
    known = shared(coded, seen)
    pairs = pair_events([Known(*e) for e in human], [Known(*e) for e in program], coded, seen, MATCH)
    for side, events in (("human", human), ("program", program)):
        counted = [getattr(pair, side) for pair in pairs if pair.counts and getattr(pair, side)]
        # Every moment of an event in known time counts, and no other one.
        assert sorted(counted) == shared(events, known)
    same = pair_events([Known(*e) for e in human], [Known(*e) for e in human], coded, seen, MATCH)
    assert {pair.outcome for pair in same if pair.counts} <= {"matched"}
    assert {lag for pair in same for lag in (pair.onset_lag, pair.offset_lag)} <= {None, 0.0}


@pytest.mark.parametrize(
    ("human", "program", "coded", "seen", "expected"),
    [
        # The face comes back while the unit is active.
        ((0, 10), (7, 10), ALL, [(7, 20)], EventPair("matched", (7, 10), (7, 10), None, 0.0)),
        # Coders begin to look while it is active, and while it is not yet.
        ((11, 15), (5, 15), [(11, 20)], [(0, 20)], EventPair("matched", (11, 15), (11, 15), None, 0.0)),
        ((10, 15), (5, 15.5), [(10, 20)], [(0, 20)], EventPair("matched", (10, 15), (10, 15.5), None, 0.5)),
        ((12, 15), (13, 25), [(11, 15.5)], [(0, 20)], EventPair("matched", (12, 15), (13, 15.5), 1.0, None)),
    ],
)
def test_lags_of_ends_that_both_saw(
    human: Interval, program: Interval, coded: list[Interval], seen: list[Interval], expected: EventPair
) -> None:
    assert pair_events([Known(*human)], [Known(*program)], coded, seen, MATCH, slack=0.02) == [expected]


def test_an_event_counts_on_either_side_of_unknown_time() -> None:
    seen = [(0.0, 4.0), (6.0, 20.0)]
    pairs = pair_events([Known(2, 10)], [Known(2.1, 4, True, False)], ALL, seen, MATCH)
    assert [(pair.outcome, pair.human) for pair in pairs] == [("matched", (2, 4)), ("missed", (6, 10))]
    assert pairs[0].onset_lag == pytest.approx(0.1)
    assert pairs[0].offset_lag is None


def test_scraps_and_what_overlaps_them_are_left_out() -> None:
    def outcomes(human: list[Known], program: list[Known], shortest: float) -> list[str]:
        pairs = pair_events(human, program, ALL, [(9.9, 20.0)], MATCH, shortest=shortest, slack=0.02)
        return [pair.outcome for pair in pairs]

    assert outcomes([Known(0, 10)], [], 0.2) == ["not seen"]
    assert outcomes([Known(0, 10)], [], 0.05) == ["missed"]
    assert outcomes([Known(0, 10)], [Known(9.9, 10.3, False)], 0.2) == ["not seen", "not coded"]
    assert outcomes([Known(0, 10)], [Known(11, 12)], 0.2) == ["not seen", "extra"]
    # A short event of the coder that was seen as a whole counts.
    assert outcomes([Known(11, 11.1)], [], 0.2) == ["missed"]


def test_outside_of_what_was_coded() -> None:
    pairs = pair_events([Known(1, 2)], [Known(1, 2), Known(6, 7)], [(5.0, 10.0)], [(0.0, 10.0)], MATCH)
    assert [(pair.outcome, pair.program) for pair in pairs] == [("not coded", (1, 2)), ("extra", (6, 7))]
