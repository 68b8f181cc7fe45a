"""Events against a loop that goes frame by frame."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.results.studies.events import Event, find_class_events, find_events, frame_ends, hysteresis
from emobeam.schemas.records import UsageError

NAN = float("nan")

_levels = st.sampled_from([0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, NAN])


@st.composite
def traces(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = draw(st.lists(_levels, min_size=0, max_size=40))
    steps = draw(st.lists(st.sampled_from([0.02, 0.04, 0.1, 0.5]), min_size=len(values), max_size=len(values)))
    return np.cumsum(np.array(steps, float)), np.array(values, float)


def slow_events(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    on: float,
    off: float,
    min_duration: float = 0.0,
    merge_gap: float = 0.0,
) -> list[tuple[float, float, int, int]]:
    """(onset, offset, first frame, frame after the last) one frame at a time."""
    count = len(times)
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    middle = (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2 if gaps else 0.0

    def shown_until(index: int) -> float:
        return float(times[index + 1]) if index + 1 < count else float(times[index]) + middle

    spans: list[list[int]] = []
    inside = False
    for index in range(count):
        value = values[index]
        if value != value:
            inside = False
        elif inside:
            inside = value >= off
        elif value >= on:
            inside = True
            spans.append([index, index])
        if inside:
            spans[-1][1] = index + 1
    joined: list[list[int]] = []
    for start, stop in spans:
        if joined:
            before = joined[-1][1]
            seen = all(values[index] == values[index] for index in range(before, start))
            if merge_gap > 0 and seen and times[start] - times[before] <= merge_gap + 1e-6:
                joined[-1][1] = stop
                continue
        joined.append([start, stop])
    return [
        (float(times[a]), shown_until(b - 1), a + 1, b + 1)
        for a, b in joined
        if shown_until(b - 1) - times[a] >= min_duration - 1e-6
    ]


@given(traces(), st.sampled_from([0.0, 0.04, 0.2, 0.5]), st.sampled_from([0.0, 0.1, 0.3]))
def test_the_same_as_the_loop(
    trace: tuple[NDArray[np.float64], NDArray[np.float64]], shortest: float, gap: float
) -> None:
    times, values = trace
    events = find_events(times, values, on=0.5, off=0.3, min_duration=shortest, merge_gap=gap)
    found = [(e.onset, e.offset, e.onset_frame, e.offset_frame) for e in events]
    expected = slow_events(times, values, 0.5, 0.3, shortest, gap)
    assert np.array(found).reshape(-1, 4) == pytest.approx(np.array(expected).reshape(-1, 4))


@given(traces(), st.sampled_from([0.0, 0.1, 0.3]))
def test_invariants(trace: tuple[NDArray[np.float64], NDArray[np.float64]], gap: float) -> None:
    times, values = trace
    events = find_events(times, values, on=0.5, off=0.3, merge_gap=gap)
    assert events == sorted(events)
    assert all(before.offset_frame < after.onset_frame for before, after in itertools.pairwise(events))
    covered = {frame for e in events for frame in range(e.onset_frame, e.offset_frame)}
    assert {index + 1 for index in range(len(values)) if values[index] >= 0.5} <= covered
    assert not any(np.isnan(values[frame - 1]) for frame in covered)
    for e in events:
        inside = values[e.onset_frame - 1 : e.offset_frame - 1]
        assert e.duration == e.offset - e.onset
        assert e.onset <= e.peak_time < e.offset or len(times) == 1
        assert e.peak == inside.max() >= 0.5
        assert inside.min() - 1e-12 <= e.mean <= e.peak + 1e-12
        if not gap:
            assert inside.min() >= 0.3
            assert inside[0] >= 0.5
        before, after = e.onset_frame - 2, e.offset_frame - 1
        unseen_start = before < 0 or bool(np.isnan(values[before]))
        unseen_end = after >= len(values) or bool(np.isnan(values[after]))
        assert e.cut == {(0, 0): "", (1, 0): "start", (0, 1): "end", (1, 1): "both"}[unseen_start, unseen_end]


@given(traces())
def test_time_shifts_and_stretches_carry_over(trace: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    times, values = trace
    plain = find_events(times, values, on=0.5, off=0.3)
    moved = find_events(times * 2 + 10, values, on=0.5, off=0.3)
    assert [2 * e.onset + 10 for e in plain] == pytest.approx([e.onset for e in moved])
    assert [2 * e.duration for e in plain] == pytest.approx([e.duration for e in moved])
    assert [e.mean for e in plain] == pytest.approx([e.mean for e in moved])


def test_one_event_in_full() -> None:
    times = [0.0, 0.04, 0.08, 0.28, 0.32]  # one frame stands still for 0.2 s
    values = [0.1, 0.6, 0.9, 0.5, 0.1]
    (event,) = find_events(times, values, on=0.5, unit="AU12", video="a", subject="left", face=1)
    assert event == Event(
        onset=0.04,
        offset=0.32,
        duration=pytest.approx(0.28),  # type: ignore[arg-type]
        onset_frame=2,
        offset_frame=5,
        peak=0.9,
        peak_time=0.08,
        peak_frame=3,
        mean=pytest.approx((0.6 * 0.04 + 0.9 * 0.2 + 0.5 * 0.04) / 0.28),  # type: ignore[arg-type]
        cut="",
        unit="AU12",
        video="a",
        subject="left",
        face=1,
    )


def test_what_was_not_seen_bridges_nothing() -> None:
    times = np.arange(6) / 10
    values = [0.9, 0.9, NAN, 0.9, 0.1, 0.1]
    first, second = find_events(times, values, on=0.5, merge_gap=1.0)
    assert (first.cut, second.cut) == ("both", "start")
    assert [first.offset, second.onset] == pytest.approx([0.2, 0.3])


def test_native_frame_numbers_and_the_end_of_the_video() -> None:
    events = find_events([1.0, 1.1], [0.9, 0.9], on=0.5, frames=[31, 34], end=1.15)
    assert [(e.onset_frame, e.offset_frame, e.offset) for e in events] == [(31, 35, 1.15)]


def test_a_float32_value_reaches_its_threshold() -> None:
    assert find_events([0.0, 1.0], np.array([0.7, 0.0], np.float32), on=0.7)


def test_frames_of_one_time_have_no_duration() -> None:
    (event,) = find_events([0.0, 0.1, 0.1, 0.2], [0.0, 0.9, 0.7, 0.0], on=0.5)
    assert (event.onset, event.offset, event.mean) == (0.1, 0.2, pytest.approx(0.7))  # type: ignore[comparison-overlap]


def test_nothing_in_nothing_out() -> None:
    assert find_events([], [], on=0.5) == []
    assert find_class_events([], np.zeros((0, 2)), ["a", "b"]) == []
    assert len(frame_ends([])) == 0
    assert len(hysteresis(np.zeros(0), 0.5, 0.5)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": 0.3, "off": 0.5}, "on is 0.3, off 0.5"),
        ({"on": float("nan")}, "on is nan"),
        ({"on": 0.5, "min_duration": -1.0}, "minimum duration is -1"),
        ({"on": 0.5, "merge_gap": float("nan")}, "merge gap is nan"),
    ],
)
def test_settings_without_sense_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_events([0.0], [0.0], **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[0.1, 0.0], [0.0, NAN]])
def test_times_that_do_not_ascend_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        find_events(times, [0.0, 0.0], on=0.5)


@given(
    st.lists(st.lists(st.sampled_from([0.1, 0.3, 0.6, NAN]), min_size=3, max_size=3), max_size=30),
    st.sampled_from([0.0, 0.1, 0.2]),
    st.sampled_from([0.0, 0.2, 0.5]),
)
def test_class_spans_are_disjoint_and_won(rows: list[list[float]], shortest: float, gap: float) -> None:
    values = np.array(rows, float).reshape(-1, 3)
    times = np.arange(len(values)) / 10
    events = find_class_events(times, values, ["a", "b", "c"], min_duration=shortest, merge_gap=gap)
    assert all(one.offset <= other.onset + 1e-9 for one, other in itertools.pairwise(events))
    assert all(e.duration >= shortest - 1e-6 for e in events)
    for e in events:
        inside = values[e.onset_frame - 1 : e.offset_frame - 1]
        own = inside[:, "abc".index(e.unit)]
        assert not np.isnan(inside).any()
        assert e.peak == own.max()
        if not gap:
            assert (own == inside.max(axis=1)).all()
    if not gap and not shortest:
        assert sum(e.offset_frame - e.onset_frame for e in events) == (~np.isnan(values).any(axis=1)).sum()


def test_a_flicker_of_another_class_splits_nothing() -> None:
    winners = [0, 0, 0, 1, 0, 0, 0, 1, 1, 1]
    values = np.eye(2)[winners]
    events = find_class_events(np.arange(10) / 10, values, ["a", "b"], min_duration=0.2, merge_gap=0.1)
    assert [(e.unit, e.onset, round(e.offset, 6)) for e in events] == [("a", 0.0, 0.7), ("b", 0.7, 1.0)]
