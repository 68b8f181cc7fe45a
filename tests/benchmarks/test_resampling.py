"""Intervals over identities and over time, against scikit-learn, scipy and loops over the rows drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score

from tests.benchmarks.weights.resampling import (
    Estimate,
    auc,
    difference_in_time,
    draw_stretches,
    draw_weights,
    f1,
    largest,
    mean_of,
    means,
    over_people,
    pearson_in_time,
    percentiles,
    stretch,
)

Floats = NDArray[np.float64]


def rows(seed: int, people: int = 7) -> tuple[NDArray[np.int64], NDArray[np.bool_], Floats]:
    """Groups, truth and rounded scores (so that there are ties) of some rows."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, people, 60)
    groups[:people] = np.arange(people)
    positive = rng.random(60) < 0.4
    positive[:2] = True, False
    return groups, positive, np.round(rng.random(60) + np.where(positive, 0.3, 0.0), 1)


def repeated(groups: NDArray[np.int64], weights: Floats) -> NDArray[np.int64]:
    """Places of rows, each as often as its group was drawn."""
    return np.repeat(np.arange(len(groups)), weights[groups].astype(int))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_every_draw_of_the_auc_is_scikit_learns_on_the_rows_drawn(seed: int) -> None:
    groups, positive, scores = rows(seed)
    weights = draw_weights(["one"] * 7, 10, seed)
    found = auc(groups, positive, scores, weights)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    for draw, weight in zip(found.draws, weights, strict=True):
        places = repeated(groups, weight)
        if len(set(positive[places].tolist())) < 2:
            assert math.isnan(draw)
        else:
            assert draw == pytest.approx(roc_auc_score(positive[places], scores[places]))


def test_every_draw_of_f1_and_of_means_is_that_of_the_rows_drawn() -> None:
    rng = np.random.default_rng(5)
    groups, _, _ = rows(1)
    truth, said, values = rng.random((60, 3)) < 0.3, rng.random((60, 3)) < 0.4, rng.random((60, 3))
    weights = draw_weights(["one"] * 7, 20)
    each, mean = f1(groups, truth, said, weights)
    averages = means(groups, values, weights)
    for k in range(3):
        assert each[k].value == pytest.approx(f1_score(truth[:, k], said[:, k]))
        assert averages[k].value == pytest.approx(values[:, k].mean())
    for number, weight in enumerate(weights):
        places = repeated(groups, weight)
        expected = [f1_score(truth[places, k], said[places, k], zero_division=0) for k in range(3)]
        assert [figure.draws[number] for figure in each] == pytest.approx(expected)
        assert mean.draws[number] == pytest.approx(np.mean(expected))
        assert [a.draws[number] for a in averages] == pytest.approx(values[places].mean(axis=0))


def test_identities_are_drawn_within_their_source() -> None:
    weights = draw_weights(["a", "a", "b", "a", "b"], 50)
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (weights[:, [2, 4]].sum(axis=1) == 2).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_an_interval_over_people_is_wider_than_one_that_takes_their_pictures_for_people() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 30)
    values = (rng.normal(0, 1, 20)[groups] + rng.normal(0, 0.1, 600))[:, None]
    people = means(groups, values, draw_weights(["one"] * 20))[0]
    pictures = means(np.arange(600), values, draw_weights(["one"] * 600))[0]
    assert people.high - people.low > 3 * (pictures.high - pictures.low)
    # Twenty independent means: Student's interval is the reference.
    per_person = [values[groups == g].mean() for g in range(20)]
    low, high = stats.t.interval(0.95, 19, np.mean(per_person), stats.sem(per_person))
    assert people.high - people.low == pytest.approx(high - low, rel=0.25)


def test_undefined_draws_are_left_out_until_they_are_most() -> None:
    assert percentiles([1.0, 2.0, 3.0, math.nan]) == pytest.approx(np.quantile([1, 2, 3], [0.025, 0.975]))
    assert all(math.isnan(bound) for bound in percentiles([1.0, math.nan, math.nan]))


def test_the_largest_and_the_mean_are_taken_draw_by_draw() -> None:
    one = Estimate.of(0.1, np.array([0.1, 0.5, math.nan]))
    two = Estimate.of(0.3, np.array([0.3, 0.2, 0.4]))
    assert largest([one, two]).value == 0.3
    assert largest([one, two]).draws[:2].tolist() == [0.3, 0.5]
    assert mean_of([one, two]).draws == pytest.approx([0.2, 0.35, 0.4])


def test_correlation_in_time_is_scipys_and_its_interval_knows_that_frames_are_not_independent() -> None:
    rng = np.random.default_rng(3)
    slow = np.convolve(rng.normal(0, 1, 320), np.ones(12), "same")
    other = slow + np.convolve(rng.normal(0, 1, 320), np.ones(12), "same")
    found = pearson_in_time(slow, other, 12)
    plain = stats.pearsonr(slow, other)
    assert found.value == pytest.approx(plain.statistic)
    assert found.low < found.value < found.high
    interval = plain.confidence_interval()  # takes frames for independent
    assert found.high - found.low > 1.5 * (interval.high - interval.low)
    assert math.isnan(pearson_in_time(np.ones(20), other[:20], 2).value)


def test_few_stretches_give_no_interval() -> None:
    rng = np.random.default_rng(4)
    one, two = rng.random(48), rng.random(48)
    assert math.isfinite(pearson_in_time(one, two, 12).low)
    short = pearson_in_time(one[:47], two[:47], 12)
    assert short.value == pytest.approx(stats.pearsonr(one[:47], two[:47]).statistic)
    assert math.isnan(short.low)
    assert (stretch(8, 2), stretch(1, 0), stretch(48, 1)) == (12, 2, 50)


def test_few_people_give_no_interval() -> None:
    estimate = Estimate.of(0.5, np.linspace(0, 1, 100))
    assert math.isnan(estimate.among(7).low)
    assert estimate.among(7).value == 0.5
    assert estimate.among(8).high == estimate.high < 1


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 15))
def test_stretches_are_neighbours_within_the_series(count: int, length: int) -> None:
    places = draw_stretches(count, length, 5, 0)
    assert places.shape == (5, count)
    assert places.min() >= 0
    assert places.max() < count
    steps = np.diff(places[:, : min(length, count)], axis=1)
    assert (steps == 1).all()


def test_a_difference_of_ends() -> None:
    ends = difference_in_time([0.1] * 12, [0.6] * 6 + [0.8] * 6, 3)
    assert ends.value == pytest.approx(0.6)
    assert ends.low < 0.6 < ends.high
    assert math.isnan(difference_in_time([0.1] * 12, [0.6] * 6 + [0.8] * 6, 4).low)  # three stretches
    same = difference_in_time([0.1] * 12, [0.7] * 12, 3)
    assert same.value == pytest.approx(0.6)
    assert math.isnan(same.low)


def test_a_person_with_two_clips_counts_once() -> None:
    found = over_people(["a", "a", "b"], [0.9, 0.7, 0.2])
    assert found.value == pytest.approx(0.5)
    assert math.isnan(found.low)
    people = [str(number) for number in range(20)] * 2
    values = np.random.default_rng(0).normal(0, 1, 40)
    many = over_people(people, values.tolist())
    each = values.reshape(2, 20).mean(axis=0)
    low, high = stats.t.interval(0.95, 19, each.mean(), stats.sem(each))
    assert many.value == pytest.approx(each.mean())
    assert many.high - many.low == pytest.approx(high - low, rel=0.25)
