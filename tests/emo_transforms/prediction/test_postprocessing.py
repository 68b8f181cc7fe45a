"""Post-processing against scipy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from emobeam.emo_transforms.prediction.postprocessing import (
    confident,
    gaussian_mean,
    interpolate,
    postprocess,
    running_median,
    smooth,
    weighted_mean,
)
from emobeam.schemas.post_config import PostConfig, check_fits, post_from_json, post_to_json
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named

NAN = float("nan")


def noise(rows: int, columns: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def windows(rows: int, half: int) -> list[slice]:
    return [slice(max(0, row - half), row + half + 1) for row in range(rows)]


@given(st.integers(2, 30), st.integers(1, 40), st.sampled_from(["box", "median"]))
def test_filters_see_their_window_cut_at_the_ends(rows: int, half: int, kind: str) -> None:
    values = noise(rows)
    ours = smooth(values, PostConfig("va", smoothing=kind, half_windows=(half,)))
    function = np.mean if kind == "box" else np.median
    np.testing.assert_allclose(ours, [function(values[w], axis=0) for w in windows(rows, half)], atol=1e-6)


def test_gaussian_equals_scipy_away_from_the_ends() -> None:
    values = noise(200)
    expected = ndimage.gaussian_filter1d(values.astype(np.float64), sigma=4.0, axis=0, radius=12)
    np.testing.assert_allclose(gaussian_mean(values, 12, 4.0)[12:-12], expected[12:-12], atol=1e-6)


@pytest.mark.parametrize("kind", ["box", "gaussian", "median"])
def test_each_output_has_its_own_half_window(kind: str) -> None:
    values = noise(60, 3)
    ours = smooth(values, PostConfig("va", smoothing=kind, half_windows=(0, 4, 15)))
    np.testing.assert_array_equal(ours[:, 0], values[:, 0])
    for k, half in ((1, 4), (2, 15)):
        alone = smooth(values[:, [k]], PostConfig("va", smoothing=kind, half_windows=(half,)))
        np.testing.assert_allclose(ours[:, k], alone[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["box", "gaussian", "median"])
def test_smoothing_keeps_a_constant_and_the_range(kind: str) -> None:
    config = PostConfig("va", smoothing=kind, half_windows=(7,))
    np.testing.assert_allclose(smooth(np.full((30, 1), 0.25, np.float32), config), 0.25, rtol=1e-6)
    values = noise(30)
    smoothed = smooth(values, config)
    assert (smoothed <= values.max(axis=0) + 1e-6).all()
    assert (smoothed >= values.min(axis=0) - 1e-6).all()


def test_median_removes_a_spike() -> None:
    values = np.zeros((9, 1), np.float32)
    values[4] = 1
    assert not running_median(values, 1).any()


def test_gaps_are_filled_in_time_before_smoothing() -> None:
    values = np.array([[NAN], [0.0], [NAN], [NAN], [1.0], [NAN]], np.float32)
    times = np.array([0.0, 1.0, 1.5, 4.0, 5.0, 6.0])
    assert interpolate(values, times)[:, 0].tolist() == [0.0, 0.0, 0.125, 0.75, 1.0, 1.0]
    unknown = np.full(6, np.nan)
    np.testing.assert_allclose(interpolate(values, unknown)[:, 0], [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)
    dense = np.array([[0.0], [0.0], [0.125], [0.75], [1.0], [1.0]], np.float32)
    config = PostConfig("va", smoothing="box", half_windows=(1,))
    np.testing.assert_allclose(postprocess(values, times, config), smooth(dense, config))


def test_without_smoothing_nothing_is_filled_and_nothing_to_fill_from_stays_empty() -> None:
    values = np.array([[NAN], [1.0]], np.float32)
    np.testing.assert_array_equal(postprocess(values, np.arange(2.0), PostConfig("va")), values)
    empty = np.full((4, 2), np.nan, np.float32)
    config = PostConfig("va", smoothing="box", half_windows=(1,))
    assert np.isnan(postprocess(empty, np.arange(4.0), config)).all()


def test_weights_count_where_a_set_has_a_value() -> None:
    first = np.array([[0.0], [0.0], [NAN], [NAN]], np.float32)
    second = np.array([[1.0], [NAN], [1.0], [NAN]], np.float32)
    np.testing.assert_array_equal(weighted_mean([first, second], [3, 1])[:, 0], np.float32([0.25, 0, 1, NAN]))
    with pytest.raises(ValueError, match="3 weights for 2"):
        weighted_mean([first, second], [1, 1, 1])


def test_the_gate_takes_over_only_where_it_is_sure() -> None:
    values = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4]], np.float32)
    gate = np.array([[0.1, 0.9], [0.3, 0.7], [NAN, NAN]], np.float32)
    np.testing.assert_array_equal(confident(values, gate, 0.8)[:, 1], np.float32([0.9, 0.4, 0.4]))


def test_config_survives_json() -> None:
    config = PostConfig("au", (1.0, 2.0), 0.8, "gaussian", (3,) * 12, 2.5, (0.3,) * 12, ("a", "b"), {"x": 1})
    assert post_from_json(post_to_json(config)) == config
    check_fits(config, task_named("au"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"smoothing": "wavelet"}, "wavelet"),
        ({"half_windows": [-1]}, "negative"),
        ({"half_windows": [1.5]}, "half_windows"),
        ({"thresholds": [2]}, "between 0 and 1"),
        ({"gate": True}, "gate"),
        ({"weights": [0, 0]}, "all 0"),
        ({"surprise": 1}, "surprise"),
        ({"schema_version": 99}, "99"),
        ({"half_windows": [1, 2, 3]}, "3 half-windows for 12"),
        ({"thresholds": [0.5]}, "1 thresholds for 12"),
        ({"task": "va"}, "task va's"),
    ],
)
def test_unusable_configs_say_why(change: dict[str, object], said: str) -> None:
    with pytest.raises(EmobeamError, match=said):
        check_fits(post_from_json(post_to_json(PostConfig("au")) | change), task_named("au"))
