from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter1d

from emobeam.emo_transforms.prediction.smoothing import box_mean, runs_of

STEPS = st.lists(st.sampled_from([1 / 6, 0.5, 0.6, 3.0]), max_size=40)


def times_of(steps: list[float]) -> np.ndarray:
    return np.cumsum([0.0, *steps])


@given(STEPS, st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_equals_a_naive_loop(steps: list[float], half: int, seed: int) -> None:
    times = times_of(steps)
    values = np.random.default_rng(seed).uniform(-1, 1, (len(times), 3)).astype(np.float32)
    expected = []
    for i in range(len(times)):
        box = []
        for j in range(i - half, i + half + 1):
            if not 0 <= j < len(times):
                continue
            low, high = min(i, j), max(i, j)
            if all(times[k + 1] - times[k] <= 0.5 + 1e-6 for k in range(low, high)):
                box.append(values[j].astype(np.float64))
        expected.append(np.mean(box, axis=0))
    found = box_mean(values, times, half, 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_inside_a_run_it_is_the_usual_uniform_filter() -> None:
    values = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    found = box_mean(values, np.arange(500) / 6, 50, 0.5)
    expected = uniform_filter1d(values.astype(np.float64), 101, axis=0)
    np.testing.assert_allclose(found[50:-50], expected[50:-50], atol=1e-6)
    np.testing.assert_allclose(found[0], values[:51].mean(0), atol=1e-6)


def test_a_run_does_not_feel_the_others() -> None:
    values = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    times = times_of([1 / 6] * 19 + [2.0] + [1 / 6] * 19)
    changed = values.copy()
    changed[:20] *= 1000
    assert np.array_equal(box_mean(values, times, 5, 0.5)[20:], box_mean(changed, times, 5, 0.5)[20:])


def test_no_smoothing_gives_a_copy() -> None:
    values = np.ones((3, 2), np.float32)
    found = box_mean(values, times_of([1, 1]), 0, 0.5)
    found[0] = 5
    assert values[0, 0] == 1


@pytest.mark.parametrize("half", [0, 3])
def test_nothing_in_nothing_out(half: int) -> None:
    assert box_mean(np.zeros((0, 2), np.float32), np.zeros(0), half, 0.5).shape == (0, 2)


def test_runs_tolerate_the_rounding_of_times() -> None:
    times = np.arange(40) * 0.1  # 0.1 * 3 - 0.1 * 2 is a little more than 0.1
    assert (np.diff(times) > 0.1).any()
    assert runs_of(times, 0.1) == [slice(0, 40)]
    assert runs_of(np.array([0, 0.5, 1.1, 1.2]), 0.5) == [slice(0, 2), slice(2, 4)]
    assert runs_of(np.zeros(0), 0.5) == []
