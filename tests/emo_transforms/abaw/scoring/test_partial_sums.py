"""Measures against scikit-learn, scipy and torchmetrics; merging in any order."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import auc, confusion_matrix, f1_score
from torchmetrics.functional import concordance_corrcoef, pearson_corrcoef
from torchmetrics.functional.classification import multiclass_f1_score, multilabel_f1_score

from emobeam.emo_transforms.abaw.scoring.partial_sums import THRESHOLDS, ApCurve, BinarySums, ConfusionSums, MomentSums

GRID = st.integers(-8, 8).map(lambda step: step / 8)  # coarse, so that ties and constants come up


def pairs(elements: st.SearchStrategy[float], columns: int, rows: int = 40) -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, rows).flatmap(lambda n: arrays(np.float64, (2, n, columns), elements=elements))


def by_definition(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Lin's CCC from numpy's own moments; 0 where it is 0/0."""
    covariance = np.cov(truth, prediction, ddof=0)
    bottom = covariance[0, 0] + covariance[1, 1] + (truth.mean() - prediction.mean()) ** 2
    return 2 * covariance[0, 1] / bottom if bottom > 1e-15 else 0.0


@given(pairs(GRID, 2))
def test_ccc_and_pearson_equal_independent_ones(values: np.ndarray) -> None:
    sums = MomentSums.of(values[0], values[1])
    for k in range(2):
        truth, prediction = values[:, :, k]
        assert sums.ccc()[k] == pytest.approx(by_definition(truth, prediction), abs=1e-12)
        if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
            assert sums.ccc()[k] == 0.0
            assert sums.pearson()[k] == 0.0
            continue
        assert sums.pearson()[k] == pytest.approx(stats.pearsonr(truth, prediction).statistic, abs=1e-9)
        first, second = torch.tensor(truth), torch.tensor(prediction)
        assert sums.pearson()[k] == pytest.approx(float(pearson_corrcoef(second, first)), abs=1e-9)


def test_ccc_equals_torchmetrics_on_many_rows() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(20_000, 2))  # so many that dividing by n or n - 1 makes no difference
    prediction = 0.4 * truth + rng.normal(size=truth.shape) + [0.2, -0.5]
    expected = concordance_corrcoef(torch.tensor(prediction), torch.tensor(truth)).numpy()
    np.testing.assert_allclose(MomentSums.of(truth, prediction).ccc(), expected, atol=1e-4)


def test_undefined_correlations_are_zero_where_others_give_nan() -> None:
    half = np.full((3, 1), 0.1)  # 0.1 three times: a mean that rounds
    assert MomentSums.of(half, half).ccc().tolist() == [0.0]
    assert MomentSums.of(half, half).pearson().tolist() == [0.0]
    assert MomentSums.of([[0.3]], [[0.3]]).ccc().tolist() == [0.0]
    assert MomentSums.of([[0.3]], [[0.9]]).ccc().tolist() == [0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.isnan(concordance_corrcoef(torch.full((3,), 0.1), torch.full((3,), 0.1)))
    assert np.isnan(MomentSums.of(np.zeros((0, 1)), np.zeros((0, 1))).ccc()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        MomentSums.of([[value]], [[0.0]])


@given(pairs(GRID, 2), st.data())
def test_merging_in_any_order_is_the_same(values: np.ndarray, data: st.DataObject) -> None:
    truth, prediction = values
    whole = MomentSums.of(truth, prediction)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(truth)), max_size=5)))
    pieces = [MomentSums.of(t, p) for t, p in zip(np.split(truth, cuts), np.split(prediction, cuts), strict=True)]
    order = data.draw(st.permutations(pieces))
    merged = reduce(add, order)
    drawn = MomentSums.weighted(order, np.ones((1, len(order))))
    for name in ("ccc", "pearson"):
        np.testing.assert_allclose(getattr(merged, name)(), getattr(whole, name)(), atol=1e-9)
        np.testing.assert_allclose(getattr(drawn, name)()[0], getattr(whole, name)(), atol=1e-9)


def test_merging_keeps_its_digits_far_from_zero() -> None:
    rng = np.random.default_rng(2)
    truth = 1e6 + rng.normal(size=(50_000, 1))
    prediction = truth + rng.normal(size=truth.shape)
    pieces = [MomentSums.of(truth[rows], prediction[rows]) for rows in np.array_split(rng.permutation(50_000), 700)]
    expected = by_definition(truth[:, 0] - 1e6, prediction[:, 0] - 1e6)
    forward, backward = reduce(add, pieces), reduce(add, pieces[::-1])
    assert forward.ccc()[0] == pytest.approx(expected, abs=1e-9)
    assert forward.ccc()[0] == pytest.approx(backward.ccc()[0], abs=1e-9)


@given(st.lists(pairs(GRID, 2, rows=6), min_size=1, max_size=5), st.data())
def test_drawing_videos_repeats_their_rows(videos: list[np.ndarray], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(videos), max_size=len(videos)))
    drawn = MomentSums.weighted([MomentSums.of(*video) for video in videos], np.array([counts], float))
    rows = [video for video, count in zip(videos, counts, strict=True) for _ in range(count)]
    if not rows:
        assert np.isnan(drawn.ccc()).all()
        return
    direct = MomentSums.of(*np.concatenate(rows, axis=1))
    np.testing.assert_allclose(drawn.ccc()[0], direct.ccc(), atol=1e-9)
    np.testing.assert_allclose(drawn.pearson()[0], direct.pearson(), atol=1e-9)


@given(pairs(st.integers(0, 1).map(float), 3))
def test_binary_f1_equals_scikit_learn_and_torchmetrics(values: np.ndarray) -> None:
    truth, prediction = values.astype(int)
    ours = BinarySums.of(truth, prediction).f1()
    expected = f1_score(truth, prediction, average=None, zero_division=0)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    other = multilabel_f1_score(torch.tensor(prediction), torch.tensor(truth), num_labels=3, average="none")
    np.testing.assert_allclose(ours, other.numpy(), atol=1e-6)


@given(pairs(st.integers(0, 6).map(float), 1))
def test_class_f1_equals_scikit_learn_and_torchmetrics_with_absent_classes(values: np.ndarray) -> None:
    truth, prediction = values[:, :, 0].astype(int)
    sums = ConfusionSums.of(truth, prediction, 8)  # class 7 never occurs
    assert (sums.counts == confusion_matrix(truth, prediction, labels=range(8))).all()
    options = {"labels": range(8), "zero_division": 0}
    np.testing.assert_allclose(sums.f1(), f1_score(truth, prediction, average=None, **options), atol=1e-12)
    assert sums.macro_f1() == pytest.approx(f1_score(truth, prediction, average="macro", **options))
    assert sums.weighted_f1() == pytest.approx(f1_score(truth, prediction, average="weighted", **options))
    other = multiclass_f1_score(torch.tensor(prediction), torch.tensor(truth), num_classes=8, average="none")
    np.testing.assert_allclose(sums.f1(), other.numpy(), atol=1e-6)


def test_macro_f1_counts_classes_that_never_occur() -> None:
    sums = ConfusionSums.of([0, 0, 1], [0, 0, 1], 8)
    assert sums.macro_f1() == pytest.approx(2 / 8)
    assert f1_score([0, 0, 1], [0, 0, 1], average="macro") == 1.0


def by_thresholds(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision by walking the thresholds one by one, areas by scikit-learn."""
    precision, recall = [], []
    for threshold in np.arange(0, 1, 0.001):
        said = scores >= threshold
        right = int((said & (truth == 1)).sum())
        precision.append(right / said.sum() if said.any() else 0.0)
        recall.append(right / truth.sum())
    return float(auc(recall, precision))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), min_size=2, max_size=40))
def test_average_precision_equals_the_walk_over_thresholds(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([row[0] for row in rows], int)
    scores = np.array([row[1] / 200 for row in rows])
    half = len(rows) // 2
    ours = (ApCurve.of(truth[:half], scores[:half]) + ApCurve.of(truth[half:], scores[half:])).average_precision()
    if truth.any():
        assert float(ours) == pytest.approx(by_thresholds(truth, scores), abs=1e-12)
    else:
        assert float(ours) == 0.0


def test_a_score_on_a_threshold_reaches_it() -> None:
    truth = np.array([0, 1] * 500)
    assert float(ApCurve.of(truth, THRESHOLDS).average_precision()) == pytest.approx(by_thresholds(truth, THRESHOLDS))


@given(st.lists(pairs(st.integers(0, 1).map(float), 2, rows=5), min_size=1, max_size=5), st.data())
def test_drawing_counts_repeats_rows(videos: list[np.ndarray], data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(videos), max_size=len(videos)))
    drawn = BinarySums.weighted([BinarySums.of(*video) for video in videos], np.array([counts], float))
    rows = np.concatenate(
        [video for v, c in zip(videos, counts, strict=True) for video in [v] * c] or [videos[0][:, :0]], 1
    )
    np.testing.assert_array_equal(drawn.counts[0], BinarySums.of(*rows).counts)


def test_empty_counts_have_no_figure() -> None:
    assert np.isnan(ConfusionSums.of([], [], 3).macro_f1())
    assert np.isnan(BinarySums.of(np.zeros((0, 2)), np.zeros((0, 2))).f1()).all()
    assert np.isnan(ApCurve.of([], []).average_precision())


@pytest.mark.parametrize("wrong", [-1.0, 3.0, 0.5, np.nan])
def test_labels_that_are_no_class_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        ConfusionSums.of([wrong], [0], 3)
    with pytest.raises(ValueError, match="whole numbers"):
        BinarySums.of([[0]], [[wrong]])
    with pytest.raises(ValueError, match="shape"):
        BinarySums.of([[0]], [[0, 1]])
