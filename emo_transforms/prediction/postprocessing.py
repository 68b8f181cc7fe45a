"""What strong entries do to predictions after the heads. Pure; the order is that of :class:`PostConfig`.

A series is what is known of one person in one video: a row for every native frame, NaN where there is no value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from emobeam.emo_transforms.prediction.smoothing import box_mean
from emobeam.schemas.post_config import PostConfig

Values = NDArray[np.float32]


def postprocess(values: Values, times: NDArray[np.float64], config: PostConfig) -> Values:
    """Interpolates and smooths one series; thresholds and argmax come after. Without smoothing nothing is filled.

    Args:
        values: ``[n, K]``, NaN where there is no value.
        times: ``[n]`` ascending, s; where any is NaN rows count as equally spaced.

    Returns:
        ``[n, K]``; all NaN where no row has a value, else finite.
    """
    if config.smoothing == "none":
        return values.astype(np.float32, copy=True)
    return smooth(interpolate(values, times), config)


def weighted_mean(
    parts: Sequence[Values], weights: Sequence[float] = (), knows: NDArray[np.bool_] | None = None
) -> Values:
    """Mean of several ``[n, K]`` by weight (default: all alike), of each row over the parts that have it.

    Args:
        knows: ``[parts, K]``: whose values count for an output (default: everybody's); where nobody's do, all do.

    Raises:
        ValueError: another number of weights than parts.
    """
    shares = np.asarray(weights or [1.0] * len(parts), np.float64)
    if len(shares) != len(parts):
        raise ValueError(f"{len(shares)} weights for {len(parts)} sets of predictions")
    stack = np.stack(parts).astype(np.float64)
    share = np.isfinite(stack).all(axis=2, keepdims=True) * shares[:, None, None]
    if knows is not None:
        counted = share * (knows | ~knows.any(axis=0))[:, None, :]
        # A row that only those have who don't know the output keeps their number, the neutral one.
        share = np.where(counted.sum(axis=0) > 0, counted, share)
    total = share.sum(axis=0)
    summed = (np.where(share > 0, stack, 0.0) * share).sum(axis=0)
    mean = np.divide(summed, total, out=np.full(summed.shape, np.nan), where=total > 0)
    return np.asarray(mean, np.float32)


def confident(values: Values, gate: Values, threshold: float) -> Values:
    """Takes the gate's class scores in rows where their largest is above ``threshold``, the others elsewhere.

    That is the confidence filter of HSEmotion's EXPR entry at ABAW8 (arXiv 2503.10399); both are ``[n, K]`` scores
    of the same classes.
    """
    largest = np.where(np.isfinite(gate), gate, -np.inf).max(axis=1, initial=-np.inf)
    return np.where((largest > threshold)[:, None], gate, values).astype(np.float32)


def rows_with_value(values: Values) -> NDArray[np.bool_]:
    """``[n]``: rows of ``[n, K]`` that are finite throughout."""
    return np.asarray(np.isfinite(values).all(axis=1))


def interpolate(values: Values, times: NDArray[np.float64]) -> Values:
    """Fills rows without value: linear in time between neighbours, the first and the last value beyond the ends."""
    known = rows_with_value(values)
    filled = values.astype(np.float32, copy=True)
    if known.all() or not known.any():
        return filled
    clock = np.asarray(times, np.float64)
    if np.isnan(clock).any():
        clock = np.arange(len(values), dtype=np.float64)
    for k in range(values.shape[1]):
        filled[~known, k] = np.interp(clock[~known], clock[known], values[known, k])
    return filled


def smooth(values: Values, config: PostConfig) -> Values:
    """Filters each output of a dense ``[n, K]`` with its own half-window; windows are cut at the ends."""
    outputs = values.shape[1]
    halves = np.broadcast_to(np.asarray(config.half_windows or [0]), (outputs,))
    result = values.astype(np.float32, copy=True)
    if not np.isfinite(values).all() or len(values) < 2:
        return result
    for half in np.unique(halves[halves > 0]).tolist():
        columns = np.flatnonzero(halves == half)
        block = values[:, columns]
        if config.smoothing == "box":
            result[:, columns] = box_mean(block, np.arange(len(values), dtype=np.float64), half, np.inf)
        elif config.smoothing == "gaussian":
            result[:, columns] = gaussian_mean(block, half, config.sigma or half / 2)
        elif config.smoothing == "median":
            result[:, columns] = running_median(block, half)
    return result


def gaussian_mean(values: Values, half: int, sigma: float) -> Values:
    """Mean of each row and its neighbours up to ``half`` rows away, weighted by ``exp(-d^2 / (2 sigma^2))``."""
    block = values.astype(np.float64)
    total, weight = block.copy(), np.ones(len(block))
    for offset in range(1, min(half, len(block) - 1) + 1):
        share = float(np.exp(-(offset**2) / (2 * sigma**2)))
        total[offset:] += share * block[:-offset]
        total[:-offset] += share * block[offset:]
        weight[offset:] += share
        weight[:-offset] += share
    return (total / weight[:, None]).astype(np.float32)


def running_median(values: Values, half: int) -> Values:
    """Median of each row and its neighbours up to ``half`` rows away."""
    length = len(values)
    reach = min(half, length - 1)
    result = np.empty(values.shape, np.float32)
    if length > 2 * reach:
        result[reach : length - reach] = np.median(sliding_window_view(values, 2 * reach + 1, axis=0), axis=-1)
    inner = range(reach, length - reach)
    for row in (row for row in range(length) if row not in inner):
        result[row] = np.median(values[max(0, row - reach) : row + reach + 1], axis=0)
    return result
