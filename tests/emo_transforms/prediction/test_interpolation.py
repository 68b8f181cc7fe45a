from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.prediction.interpolation import carry
from emobeam.schemas.tables import SOURCES

TOLERANCE = 1e-6


@st.composite
def videos(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Native times of a variable-rate video, which of its frames were seen, their values, and the limit."""
    steps = draw(st.lists(st.sampled_from([0.01, 1 / 30, 1 / 25, 0.1, 0.25, 0.7]), max_size=60))
    times = np.cumsum([0.0, *steps])
    seen = np.array(draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times))), bool)
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).uniform(-1, 1, (int(seen.sum()), 2)).astype(np.float32)
    return times, seen, values, draw(st.sampled_from([0.0, 0.05, 0.2, 0.5, 2.0]))


def run(times: np.ndarray, seen: np.ndarray, values: np.ndarray, max_gap: float) -> tuple[np.ndarray, list[str]]:
    frames = np.arange(1, len(times) + 1, dtype=np.int32)
    carried, source = carry(times, times[seen], values, max_gap, native_frames=frames, seen_frames=frames[seen])
    assert (carried.dtype, source.dtype) == (np.float32, np.int8)
    return carried, [SOURCES[i] for i in source]


@given(videos())
def test_equals_the_rule_applied_frame_by_frame(video: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> None:
    times, seen, values, max_gap = video
    carried, source = run(*video)
    row_of = {int(i): row for row, i in enumerate(np.flatnonzero(seen))}
    for i, t in enumerate(times):
        before = max((j for j in row_of if j < i), default=None)
        after = min((j for j in row_of if j > i), default=None)
        distance = {j: abs(times[j] - t) for j in (before, after) if j is not None}
        if seen[i]:
            expected, kind = values[row_of[i]], "sampled"
        elif len(distance) == 2 and times[after] - times[before] <= 2 * max_gap + TOLERANCE:
            share = (t - times[before]) / (times[after] - times[before])
            expected, kind = (1 - share) * values[row_of[before]] + share * values[row_of[after]], "interpolated"
        elif distance and min(distance.values()) <= max_gap + TOLERANCE:
            expected, kind = values[row_of[min(distance, key=lambda j: distance[j])]], "nearest"
        else:
            expected, kind = np.full(2, np.nan), "absent"
        assert source[i] == kind
        np.testing.assert_allclose(carried[i], expected, atol=1e-6)


@given(videos())
def test_invariants(video: tuple[np.ndarray, np.ndarray, np.ndarray, float]) -> None:
    times, seen, values, max_gap = video
    carried, source = run(*video)
    assert np.array_equal(carried[seen], values)
    away = np.abs(times[:, None] - times[seen][None]).min(axis=1, initial=np.inf)
    absent = np.array([kind == "absent" for kind in source])
    assert np.array_equal(absent, away > max_gap + TOLERANCE)
    assert np.array_equal(absent, np.isnan(carried).all(axis=1))
    assert np.isfinite(carried[~absent]).all()
    rows = np.flatnonzero(seen)
    for i in np.flatnonzero([kind == "interpolated" for kind in source]):
        k = np.searchsorted(rows, i)
        assert (carried[i] >= values[k - 1 : k + 1].min(axis=0)).all()
        assert (carried[i] <= values[k - 1 : k + 1].max(axis=0)).all()


def test_limits_are_inclusive() -> None:
    times = np.arange(0, 31) / 10  # seen at 1.0 and 2.0
    seen = np.isin(np.arange(31), [10, 20])
    carried, source = run(times, seen, np.array([[0.0], [1.0]], np.float32), 0.5)
    kinds = ["absent"] * 5 + ["nearest"] * 5 + ["sampled"] + ["interpolated"] * 9 + ["sampled"]
    assert source == kinds + ["nearest"] * 5 + ["absent"] * 5
    np.testing.assert_allclose(carried[11:20, 0], np.arange(1, 10) / 10, atol=1e-6)


def test_a_gap_too_long_to_bridge_takes_the_nearest_and_then_nothing() -> None:
    times = np.array([0.0, 0.4, 0.6, 1.0, 1.2, 1.3])
    carried, source = run(times, np.array([1, 0, 0, 0, 0, 1], bool), np.array([[0.0], [1.0]], np.float32), 0.5)
    assert source == ["sampled", "nearest", "absent", "nearest", "nearest", "sampled"]
    assert carried[[1, 3], 0].tolist() == [0, 1]


def test_the_earlier_of_two_equally_near_wins() -> None:
    carried, source = run(
        np.array([0.0, 0.5, 1.0]), np.array([True, False, True]), np.array([[3.0], [7.0]], np.float32), 0.5
    )
    assert source[1] == "interpolated"
    # 1.25 is 0.25 away from both, but they are further apart than twice the limit allows by more than rounding.
    times = np.array([1.0, 1.25, 1.5])
    carried, source = run(times, np.array([True, False, True]), np.array([[3.0], [7.0]], np.float32), 0.25 - 8e-7)
    assert (carried[1, 0], source[1]) == (3.0, "nearest")


def test_frames_are_known_by_number_not_by_time() -> None:
    times = np.array([0.0, 0.0, 0.1])  # two frames of one presentation time
    frames = np.array([4, 5, 6], np.int32)
    carried, source = carry(
        times, times[1:2], np.array([[2.0]], np.float32), 0.5, native_frames=frames, seen_frames=frames[1:2]
    )
    assert [SOURCES[i] for i in source] == ["nearest", "sampled", "nearest"]
    assert carried[:, 0].tolist() == [2, 2, 2]


def test_two_seen_frames_of_one_time_keep_their_own_values() -> None:
    carried, source = run(
        np.array([0.0, 0.1, 0.1, 0.2]), np.array([0, 1, 1, 0], bool), np.array([[2.0], [5.0]], np.float32), 0.5
    )
    assert carried[:, 0].tolist() == [2, 2, 5, 5]
    assert source == ["nearest", "sampled", "sampled", "nearest"]


def test_seen_frames_outside_the_native_ones_still_count() -> None:
    carried, source = carry(
        np.array([1.0]),
        np.array([0.9, 1.1]),
        np.array([[0.0], [1.0]], np.float32),
        0.5,
        native_frames=np.array([10], np.int32),
        seen_frames=np.array([9, 11], np.int32),
    )
    assert SOURCES[source[0]] == "interpolated"
    assert carried[0, 0] == pytest.approx(0.5)


def test_nothing_seen_is_all_absent() -> None:
    carried, source = run(np.arange(3.0), np.zeros(3, bool), np.zeros((0, 4), np.float32), 0.5)
    assert np.isnan(carried).all()
    assert carried.shape == (3, 4)
    assert source == ["absent"] * 3


def test_a_million_frames_in_well_under_a_second() -> None:
    times = np.arange(1_000_000) / 25
    seen = np.arange(1_000_000) % 4 == 0
    values = np.random.default_rng(0).normal(size=(int(seen.sum()), 2)).astype(np.float32)
    start = time.process_time()
    carried, _ = run(times, seen, values, 0.5)
    assert time.process_time() - start < 2  # generous: includes naming a million sources
    np.testing.assert_allclose(carried[:, 1], np.interp(times, times[seen], values[:, 1]), atol=1e-6)


@pytest.mark.parametrize(
    ("times", "frames", "values"),
    [([0.2, 0.1], [1, 2], [0, 0]), ([0.1, 0.2], [2, 2], [0, 0]), ([0.1], [1, 2], [0, 0]), ([0.1], [1], [np.nan])],
)
def test_disorder_and_invented_values_are_refused(times: list[float], frames: list[int], values: list[float]) -> None:
    rows = np.array(values, np.float32)[:, None]
    with pytest.raises(ValueError, match=r"ascending|finite|times for"):
        carry(
            np.array([0.0]),
            np.array(times),
            rows,
            0.5,
            native_frames=np.array([1], np.int32),
            seen_frames=np.array(frames, np.int32),
        )
