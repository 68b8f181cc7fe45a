"""Figures of values that count by how long they were shown. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EQUAL = 1e-9


def quantile(values: Floats, weights: Floats, q: float) -> float:
    """The value below which a share ``q`` of the weight lies.

    Where the share is met exactly at a value, the mean of it and the next one: with equal weights that is the usual
    median (Hyndman & Fan 1996, definition 2).

    Args:
        values: ``[n]`` finite.
        weights: ``[n]``, 0 or more.

    Returns:
        NaN where there is no weight.
    """
    held = weights > 0
    values, weights = values[held], weights[held]
    if not len(values):
        return float("nan")
    order = np.argsort(values, kind="stable")
    values, total = values[order], np.cumsum(weights[order])
    target = q * total[-1]
    slack = _EQUAL * total[-1]
    first = min(int(np.searchsorted(total, target - slack)), len(values) - 1)
    if abs(total[first] - target) <= slack and first + 1 < len(values):
        return float((values[first] + values[first + 1]) / 2)
    return float(values[first])


def mean_sd(values: Floats, weights: Floats) -> tuple[float, float]:
    """Mean and standard deviation (of the whole, not of a sample) by weight; NaN where there is no weight."""
    total = weights.sum()
    if not total > 0:
        return float("nan"), float("nan")
    mean = float((values * weights).sum() / total)
    return mean, float(np.sqrt((weights * (values - mean) ** 2).sum() / total))


def robust_spread(values: Floats, weights: Floats) -> float:
    """1.4826 times the median distance from the median, which for a normal distribution is its standard deviation."""
    return 1.4826 * quantile(np.abs(values - quantile(values, weights, 0.5)), weights, 0.5)
