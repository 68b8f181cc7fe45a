"""Figures with intervals over identities: what a bootstrap needs of AUC, F1, correlation and means.

A bootstrap draws identities with replacement, each with all its pictures: pictures of one person are no
independent witnesses. Figures of all draws are computed at once, from partial sums of each identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emobeam.emo_transforms.abaw.scoring.partial_sums import BinarySums
from tests.benchmarks.figures import CONFIDENCE, Interval

Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 20261121

FEW = 8
"""People below whom an interval over people would say more than they can."""

BLOCKS = 4
"""Stretches of time that have to fit into a series for an interval over its time."""

_SAME = 1e-9


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

    @classmethod
    def alone(cls, value: float) -> Estimate:
        """Without an interval."""
        return cls(float(value), float("nan"), float("nan"), np.full(1, np.nan))

    def among(self, people: int) -> Estimate:
        """The same; without its interval where it rests on fewer than :data:`FEW` people."""
        return self if people >= FEW else replace(self, low=float("nan"), high=float("nan"))


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


def pearson_in_time(x: ArrayLike, y: ArrayLike, length: int, resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Pearson's r of two series ``[n]``, with an interval over stretches of time of this one person.

    Stretches of ``length`` frames are drawn with replacement from all there are (moving blocks; Kuensch, 1989), for
    neighbouring frames say much the same. Such an interval says nothing of other people; there is none where fewer
    than :data:`BLOCKS` stretches fit.
    """
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    value = float(_pearson(one[None], two[None])[0])
    if len(one) < BLOCKS * length:
        return Estimate.alone(value)
    places = draw_stretches(len(one), length, resamples, seed)
    return Estimate.of(value, _pearson(one[places], two[places]))


def difference_in_time(
    first: ArrayLike, last: ArrayLike, length: int, resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean of ``last`` minus mean of ``first``; stretches of ``length`` frames are drawn within each.

    There is no interval where fewer than :data:`BLOCKS` stretches fit into either, nor where all draws are one.
    """
    one, two = np.asarray(first, np.float64), np.asarray(last, np.float64)
    value = float(two.mean() - one.mean())
    if min(len(one), len(two)) < BLOCKS * length:
        return Estimate.alone(value)
    before = one[draw_stretches(len(one), length, resamples, seed)].mean(axis=1)
    after = two[draw_stretches(len(two), length, resamples, seed + 1)].mean(axis=1)
    draws = after - before
    return Estimate.of(value, draws) if np.ptp(draws) > _SAME else Estimate.alone(value)


def over_people(persons: Sequence[str], values: Sequence[float], seed: int = SEED) -> Estimate:
    """Mean over people of the mean over each one's clips; an interval over people where there are :data:`FEW`.

    Args:
        persons: who is in each clip.
        values: of each clip.
    """
    names = sorted(set(persons))
    own = [[value for person, value in zip(persons, values, strict=True) if person == name] for name in names]
    each = np.array([np.mean(mine) for mine in own])
    if len(names) < FEW:
        return Estimate.alone(float(each.mean()))
    weights = draw_weights(["people"] * len(names), seed=seed)
    return Estimate.of(float(each.mean()), weights @ each / len(names))


def stretch(window: int, smoothing: int) -> int:
    """Length of the stretches drawn of a clip, in sampled frames: as far as outputs of a head hang together.

    Args:
        window: sampled frames that the head sees at once.
        smoothing: half-width of the box over its outputs, in sampled frames.
    """
    return max(2, window + 2 * smoothing)


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
