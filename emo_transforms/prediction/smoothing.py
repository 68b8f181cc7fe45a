"""Smoothing of values over time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

GAP_TOLERANCE = 1e-6
"""Seconds by which a time difference may exceed a limit and still count as within it: times are sums of floats."""


def runs_of(times: NDArray[np.float64], gap: float) -> list[slice]:
    """Cuts ascending times into runs without a step longer than ``gap`` seconds; in order, none empty."""
    breaks = np.flatnonzero(np.diff(times) > gap + GAP_TOLERANCE) + 1
    edges = [0, *breaks.tolist(), len(times)]
    return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]


def box_mean(values: NDArray[np.float32], times: NDArray[np.float64], half: int, gap: float) -> NDArray[np.float32]:
    """Mean of each sample and its neighbours up to ``half`` samples away, never across a gap.

    At the ends of a run the box is cut, not padded: the first sample is the mean of ``half + 1`` samples.

    Args:
        values: ``[n, K]``, finite.
        times: ``[n]`` ascending, s.
        half: half-width of the box in samples; 0 returns the values as they are.
        gap: steps longer than this many seconds end a run.

    Returns:
        ``[n, K]``.
    """
    smooth = values.astype(np.float32, copy=True)
    if half <= 0:
        return smooth
    for run in runs_of(times, gap):
        block = values[run].astype(np.float64)
        length = len(block)
        total = block.copy()
        # One shifted sum per offset rather than a cumulative sum: a result then hangs on its own box alone.
        for offset in range(1, min(half, length - 1) + 1):
            total[offset:] += block[:-offset]
            total[:-offset] += block[offset:]
        index = np.arange(length)
        count = np.minimum(index, half) + np.minimum(length - 1 - index, half) + 1
        smooth[run] = total / count[:, None]
    return smooth
