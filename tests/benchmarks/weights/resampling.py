"""Figures with intervals over identities: what a bootstrap needs of AUC, F1, correlation and means.

A bootstrap draws identities with replacement, each with all its pictures: pictures of one person are no
independent witnesses. Figures of all draws are computed at once, from partial sums of each identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emo_transforms.metrics import BinarySums
from tests.benchmarks.figures import CONFIDENCE, Interval

Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 20261121


@dataclass(frozen=True)
class Estimate:
    """A figure of all rows, its interval, and the figure of each draw ``[B]`` (NaN where it is undefined)."""

    value: float
    low: float
    high: float
    draws: Floats

    @classmethod
    def of(cls, value: float, draws: Floats) -> Estimate:
        """With the percentile interval at :data:`CONFIDENCE`."""
        low, high = percentiles(draws)
        return cls(float(value), low, high, draws)


def percentiles(draws: ArrayLike) -> Interval:
    """The middle :data:`CONFIDENCE` of draws; undefined ones (NaN) are left out, NaN where fewer than half are left."""
    values = np.asarray(draws, np.float64)
    left = values[np.isfinite(values)]
    if not len(left) or 2 * len(left) < len(values):
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(left, [tail, 1 - tail])
    return float(low), float(high)


def draw_weights(strata: Sequence[str], resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """How often each identity is drawn, ``[B, G]``: as many as there are, within each stratum.

    Args:
        strata: of each identity, where it comes from; all the same where there is one source.
    """
    rng = np.random.default_rng(seed)
    kinds = np.asarray(strata)
    weights = np.zeros((resamples, len(kinds)))
    for kind in sorted(set(strata)):
        places = np.flatnonzero(kinds == kind)
        weights[:, places] = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), resamples)
    return weights


def auc(groups: ArrayLike, positive: ArrayLike, scores: ArrayLike, weights: Floats) -> Estimate:
    """Area under the ROC curve: the share of pairs (positive, negative) in the right order, ties counting half.

    Args:
        groups: ``[n]`` identity of each row, as numbers from 0 below the ``G`` of ``weights``.
        positive: ``[n]`` yes or no.
        scores: ``[n]``.
        weights: ``[B, G]``, see :func:`draw_weights`.

    Pairs are counted once for every two identities; a draw weighs them by how often both were drawn.
    """
    who, yes, values = np.asarray(groups, np.int64), np.asarray(positive, bool), np.asarray(scores, np.float64)
    ones = np.eye(weights.shape[1])
    mine, theirs = ones[who[yes]], ones[who[~yes]]
    above = values[yes][:, None] - values[~yes][None, :]
    right = mine.T @ ((above > 0) + 0.5 * (above == 0)) @ theirs
    count, others = mine.sum(axis=0), theirs.sum(axis=0)
    whole = np.ones((1, weights.shape[1]))
    return Estimate.of(float(_pairs(right, count, others, whole)[0]), _pairs(right, count, others, weights))


def _pairs(right: Floats, count: Floats, others: Floats, weights: Floats) -> Floats:
    top = np.einsum("bi,ij,bj->b", weights, right, weights, optimize=True)
    return _quotient(top, (weights @ count) * (weights @ others))


def f1(groups: ArrayLike, truth: ArrayLike, said: ArrayLike, weights: Floats) -> tuple[list[Estimate], Estimate]:
    """F1 of "yes" of each of K units, and its mean over units.

    Args:
        groups: ``[n]``, see :func:`auc`.
        truth, said: ``[n, K]`` yes or no.
    """
    who = np.asarray(groups, np.int64)
    actual, judged = np.asarray(truth, np.float64), np.asarray(said, np.float64)
    parts = [BinarySums.of(actual[who == g], judged[who == g]) for g in range(weights.shape[1])]
    value = BinarySums.of(actual, judged).f1()
    draws = BinarySums.weighted(parts, weights).f1()
    each = [Estimate.of(float(value[k]), draws[:, k]) for k in range(actual.shape[1])]
    return each, Estimate.of(float(value.mean()), draws.mean(axis=1))


def means(groups: ArrayLike, values: ArrayLike, weights: Floats) -> list[Estimate]:
    """Mean of each of K columns ``[n, K]`` over all rows."""
    who, table = np.asarray(groups, np.int64), np.asarray(values, np.float64)
    ones = np.eye(weights.shape[1])[who]
    sums, counts = ones.T @ table, ones.sum(axis=0)
    draws = _quotient(weights @ sums, (weights @ counts)[:, None])
    return [Estimate.of(float(table[:, k].mean()), draws[:, k]) for k in range(table.shape[1])]


def largest(estimates: Sequence[Estimate]) -> Estimate:
    """The largest of several figures, draw by draw: its interval knows that the largest was picked."""
    return Estimate.of(max(e.value for e in estimates), np.max([e.draws for e in estimates], axis=0))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of several figures that come from the same draws; in each draw of those that it leaves defined."""
    table = np.stack([e.draws for e in estimates])
    there = np.isfinite(table)
    draws = _quotient(np.where(there, table, 0.0).sum(axis=0), there.sum(axis=0).astype(np.float64))
    return Estimate.of(float(np.mean([e.value for e in estimates])), draws)


def pearson_in_time(x: ArrayLike, y: ArrayLike, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Pearson's r of two series ``[n]``, with an interval over stretches of time of this one person.

    Stretches of :func:`stretch` frames are drawn with replacement from all there are (moving blocks; Kuensch, 1989),
    for neighbouring frames say much the same. Such an interval says nothing of other people.
    """
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    places = draw_stretches(len(one), stretch(len(one)), resamples, seed)
    value = float(_pearson(one[None], two[None])[0])
    return Estimate.of(value, _pearson(one[places], two[places]))


def difference_in_time(
    first: ArrayLike, last: ArrayLike, length: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean of ``last`` minus mean of ``first``; stretches of ``length`` frames are drawn within each."""
    one, two = np.asarray(first, np.float64), np.asarray(last, np.float64)
    before = one[draw_stretches(len(one), length, resamples, seed)].mean(axis=1)
    after = two[draw_stretches(len(two), length, resamples, seed + 1)].mean(axis=1)
    return Estimate.of(float(two.mean() - one.mean()), after - before)


def over_clips(persons: Sequence[str], estimates: Sequence[Estimate], seed: int = SEED) -> Estimate:
    """Mean over clips; persons are drawn with all their clips, and stretches of time within each clip."""
    names = sorted(set(persons))
    resamples = len(estimates[0].draws)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(np.float64)
    each = weights[:, [names.index(person) for person in persons]]
    table = np.stack([rng.permutation(e.draws) for e in estimates], axis=1)
    draws = _quotient((each * table).sum(axis=1), each.sum(axis=1))
    return Estimate.of(float(np.mean([e.value for e in estimates])), draws)


def stretch(frames: int) -> int:
    """Length of the stretches drawn of a clip: 2 s at 6 frames per second, a fifth of short ones, 2 at least."""
    return int(min(12, max(2, frames // 5)))


def draw_stretches(count: int, length: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Places ``[B, count]`` of rows drawn in stretches."""
    rng = np.random.default_rng(seed)
    length = min(length, count)
    starts = rng.integers(0, count - length + 1, (resamples, -(-count // length)))
    places = starts[..., None] + np.arange(length)
    return np.asarray(places.reshape(resamples, -1)[:, :count], np.int64)


def _pearson(x: Floats, y: Floats) -> Floats:
    """Of the rows of two tables ``[B, n]``; NaN where one does not vary."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    found = _quotient((x * y).sum(axis=1), scale)
    found[scale < 1e-12] = np.nan
    return found


def _quotient(top: Floats, bottom: Floats) -> Floats:
    """NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(top, bottom)
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0), np.float64)
