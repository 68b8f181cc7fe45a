"""Measures of the challenges as partial sums: of one video each, merged in any order to the same result.

Truth and predictions are turned into sums with ``of``; sums of two sets of rows are added with ``+``; ``weighted`` adds
many at once, each any number of times, which is what a bootstrap needs. Every array may have leading axes.

Where a measure is undefined:

* CCC and Pearson's r are 0 where truth or prediction doesn't vary (one row included), even if both are the same
  constant: nothing was shown to go together. scipy and torchmetrics give NaN there, which would void a mean.
* F1 is 0 for a class that occurs neither in the truth nor in the predictions, and it counts in macro F1
  (scikit-learn's ``labels=all, zero_division=0``).
* Average precision is 0 without a positive row; precision is 0 where nothing is predicted positive.
* Without any row all of them are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Counts = TypeVar("Counts", bound="CountSums")

THRESHOLDS = np.arange(0.0, 1.0, 0.001)
"""Scores at which the organisers of BAH (ABAW10, 11) measure precision and recall."""

_NOISE = 1e-13  # of a sum of squares: what subtracting two equal sums of doubles may leave


@dataclass(frozen=True, eq=False)
class MomentSums:
    """What CCC and Pearson's r need, around the means, so that merging loses no digits (Chan, Golub & LeVeque 1983).

    Attributes:
        count: ``[...]`` rows.
        means: ``[..., 2, K]`` of truth and prediction.
        spread: ``[..., 3, K]`` sums over rows of squared deviations of the truth, of the prediction, and of the
            product of both deviations.
    """

    count: Floats
    means: Floats
    spread: Floats

    @classmethod
    def of(cls, truth: ArrayLike, prediction: ArrayLike) -> MomentSums:
        """Sums of ``[n, K]`` values (one row per frame or clip).

        Raises:
            ValueError: shapes differ, or a value isn't finite.
        """
        both = _pair(truth, prediction)
        if not np.isfinite(both).all():
            raise ValueError("values must be finite: leave rows without label or prediction out")
        rows, outputs = both.shape[1:]
        if not rows:
            return cls(np.zeros(()), np.zeros((2, outputs)), np.zeros((3, outputs)))
        first = both[:, :1]
        apart = both - first  # of a constant exactly 0, whatever its mean would be rounded to
        means = apart.mean(axis=1)
        deviations = apart - means[:, None]
        return cls(np.float64(rows) * np.ones(()), means + first[:, 0], _products(deviations).sum(axis=1))

    def __add__(self, other: MomentSums) -> MomentSums:
        count = self.count + other.count
        share = np.divide(other.count, count, out=np.zeros_like(count), where=count > 0)[..., None, None]
        delta = other.means - self.means
        between = self.count[..., None, None] * share * _products(np.moveaxis(delta, -2, 0), axis=-2)
        return MomentSums(count, self.means + share * delta, self.spread + other.spread + between)

    @classmethod
    def weighted(cls, parts: Sequence[MomentSums], weights: Floats) -> MomentSums:
        """For each row of ``weights`` ``[B, S]`` the sums of ``S`` parts, each taken that often; axes ``[B, ...]``."""
        filled = next((part for part in parts if part.count > 0), parts[0])
        count = np.stack([part.count for part in parts])
        apart = np.stack([part.means for part in parts]) - filled.means
        raw = np.stack([part.spread for part in parts])
        raw = raw + count[:, None, None] * _products(np.moveaxis(apart, -2, 0), axis=-2)
        total = weights @ count
        per_row = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[:, None, None]
        means = np.tensordot(weights * count, apart, 1) * per_row
        raw = np.tensordot(weights, raw, 1)
        spread = raw - total[:, None, None] * _products(np.moveaxis(means, -2, 0), axis=-2)
        still = spread[:, :2] <= _NOISE * raw[:, :2]
        spread[:, :2][still] = 0.0
        spread[:, 2][still.any(axis=1)] = 0.0
        return cls(total, means + filled.means, spread)

    def ccc(self) -> Floats:
        """Concordance correlation ``2 s_xy / (s_x^2 + s_y^2 + (m_x - m_y)^2)`` (Lin 1989), population variances.

        Returns:
            ``[..., K]`` in [-1, 1].
        """
        bias = self.count[..., None] * (self.means[..., 0, :] - self.means[..., 1, :]) ** 2
        ratio = _ratio(2 * self.spread[..., 2, :], self.spread[..., 0, :] + self.spread[..., 1, :] + bias)
        return _where_rows(self.count, ratio)

    def pearson(self) -> Floats:
        """Pearson's r, ``[..., K]`` in [-1, 1]."""
        roots = np.sqrt(self.spread[..., :2, :])
        ratio = np.clip(_ratio(self.spread[..., 2, :], roots[..., 0, :] * roots[..., 1, :]), -1.0, 1.0)
        return _where_rows(self.count, ratio)


@dataclass(frozen=True, eq=False)
class CountSums:
    """Sums that are counts of rows; merging them is exact.

    Attributes:
        counts: see the classes below.
    """

    counts: NDArray[Any]

    def __add__(self: Counts, other: Counts) -> Counts:
        return type(self)(self.counts + other.counts)

    @classmethod
    def weighted(cls: type[Counts], parts: Sequence[Counts], weights: Floats) -> Counts:
        """As :meth:`MomentSums.weighted`."""
        return cls(np.tensordot(weights, np.stack([part.counts for part in parts]), 1))


@dataclass(frozen=True, eq=False)
class BinarySums(CountSums):
    """Counts ``[..., K, 2, 2]`` of K yes-or-no outputs by truth and prediction."""

    @classmethod
    def of(cls, truth: ArrayLike, prediction: ArrayLike) -> BinarySums:
        """Counts of ``[n, K]`` zeros and ones, but for those whose truth is NaN; other values raise ValueError."""
        both = _pair(truth, prediction)
        known = ~np.isnan(both[0])
        actual, said = (_classes(np.where(known, values, 0), 2) for values in both)
        columns = np.arange(actual.shape[1])
        places = (columns * 4 + actual * 2 + said)[known]
        return cls(np.bincount(places, minlength=4 * len(columns)).reshape(-1, 2, 2))

    @property
    def rows(self) -> NDArray[Any]:
        """``[..., K]`` rows of each output."""
        return np.asarray(self.counts.sum(axis=(-1, -2)))

    def f1(self) -> Floats:
        """F1 of "yes" for each output, ``[..., K]``; NaN where it has no row."""
        return np.where(self.rows > 0, _f1_of(self.counts)[..., 1], np.nan)

    def mean_f1(self) -> Floats:
        """Mean of F1 over the outputs that have rows, ``[...]``; NaN where none has."""
        known = self.rows > 0
        total = np.where(known, self.f1(), 0.0).sum(axis=-1)
        return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


@dataclass(frozen=True, eq=False)
class ConfusionSums(CountSums):
    """Counts ``[..., C, C]`` of rows by true class (first) and predicted class."""

    @classmethod
    def of(cls, truth: ArrayLike, prediction: ArrayLike, classes: int) -> ConfusionSums:
        """Counts of ``[n]`` class numbers from 0; raises ValueError where one is no such number."""
        actual, said = (_classes(values, classes) for values in _pair(truth, prediction))
        return cls(np.bincount(actual * classes + said, minlength=classes**2).reshape(classes, classes))

    @property
    def rows(self) -> NDArray[Any]:
        """``[...]`` rows."""
        return np.asarray(self.counts.sum(axis=(-1, -2)))

    def f1(self) -> Floats:
        """F1 of each class, ``[..., C]``."""
        return _where_rows(self.rows, _f1_of(self.counts))

    def macro_f1(self) -> Floats:
        """Mean of F1 over all classes, also those that don't occur, ``[...]``."""
        return np.asarray(self.f1().mean(axis=-1))

    def weighted_f1(self) -> Floats:
        """Mean of F1 weighted by how often a class is true, ``[...]``."""
        support = self.counts.sum(axis=-1)
        return np.asarray((_ratio(support, support.sum(axis=-1, keepdims=True)) * self.f1()).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class ApCurve(CountSums):
    """Counts ``[..., 2, 1001]`` by truth and by how many of :data:`THRESHOLDS` a score reaches."""

    @classmethod
    def of(cls, truth: ArrayLike, score: ArrayLike) -> ApCurve:
        """Counts of ``[n]`` zeros and ones and the scores of "one", in [0, 1]."""
        actual, scores = _pair(truth, score)
        reached = np.searchsorted(THRESHOLDS, scores, side="right")
        width = len(THRESHOLDS) + 1
        return cls(np.bincount(_classes(actual, 2) * width + reached, minlength=2 * width).reshape(2, width))

    def average_precision(self) -> Floats:
        """Area under precision over recall by the trapezoid rule, as BAH's organisers compute it, ``[...]``.

        That is not scikit-learn's ``average_precision_score``: the curve isn't continued to recall 0.
        """
        above = np.cumsum(self.counts[..., ::-1], axis=-1)[..., ::-1][..., 1:]
        wrong, right = above[..., 0, :], above[..., 1, :]
        precision = _ratio(right, right + wrong)
        recall = _ratio(right, self.counts[..., 1, :].sum(axis=-1, keepdims=True))
        area = ((recall[..., :-1] - recall[..., 1:]) * (precision[..., :-1] + precision[..., 1:]) / 2).sum(axis=-1)
        return np.where(self.counts.sum(axis=(-1, -2)) > 0, area, np.nan)


def _f1_of(counts: NDArray[Any]) -> Floats:
    """F1 of each class of ``[..., C, C]`` counts."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratio(2 * right, counts.sum(axis=-1) + counts.sum(axis=-2))


def _pair(truth: ArrayLike, prediction: ArrayLike) -> Floats:
    first, second = np.asarray(truth, np.float64), np.asarray(prediction, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"truth has shape {first.shape}, prediction {second.shape}")
    return np.stack([first, second])


def _classes(values: Floats, classes: int) -> NDArray[np.int64]:
    numbers = np.where(np.isfinite(values), values, -1.0).astype(np.int64)
    if ((numbers != values) | (numbers < 0) | (numbers >= classes)).any():
        raise ValueError(f"expected whole numbers from 0 to {classes - 1}")
    return numbers


def _products(deviations: Floats, axis: int = 0) -> Floats:
    """Squares of both and their product, from ``[2, ...]``, stacked on ``axis`` of the result."""
    first, second = deviations
    return np.stack([first * first, second * second, first * second], axis=axis)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """The quotient, 0 where the denominator is."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    return np.asarray(np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0), np.float64)


def _where_rows(count: NDArray[Any], values: Floats) -> Floats:
    return np.where(np.asarray(count)[..., None] > 0, values, np.nan)
