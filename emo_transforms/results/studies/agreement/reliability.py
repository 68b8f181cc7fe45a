"""Figures of agreement between a coder and the program, from counts and sums that can be drawn anew. Pure.

* Cohen's kappa (Cohen 1960, Educational and Psychological Measurement 20, 37-46); undefined (NaN) where both always
  say the same one thing.
* PABAK, ``2 p_o - 1``, with the prevalence index ``|a - d| / n`` and the bias index ``|b - c| / n`` (Byrt, Bishop and
  Carlin 1993, Journal of Clinical Epidemiology 46, 423-429): kappa is low where a unit is rare, and these tell whether
  that is why.
* ICC(2,1) and ICC(3,1) (Shrout and Fleiss 1979, Psychological Bulletin 86, 420-428): single ratings, raters taken
  as random (absolute agreement) and as fixed (consistency).
* Intervals: percentile bootstrap over whole units (Efron 1979). Frames of one video are anything but independent, so
  the units are people or videos, and long blocks of time where there are too few of those.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.scoring.partial_sums import MomentSums

Floats = NDArray[np.float64]


def _over(numerator: Floats, denominator: Floats) -> Floats:
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0))


def binary_figures(counts: Floats) -> dict[str, Floats]:
    """Figures of ``[..., 2, 2]`` counts by coder (first) and program; each ``[...]``, NaN where undefined.

    ``human`` and ``program`` are the shares of active frames.
    """
    counts = np.asarray(counts, np.float64)
    n = counts.sum(axis=(-1, -2))
    d, c = counts[..., 0, 0], counts[..., 0, 1]
    b, a = counts[..., 1, 0], counts[..., 1, 1]
    observed = _over(a + d, n)
    human, program = _over(a + b, n), _over(a + c, n)
    chance = human * program + (1 - human) * (1 - program)
    sure = np.isclose(chance, 1.0, rtol=0, atol=1e-12)
    return {
        "kappa": np.where(sure, np.nan, _over(observed - chance, np.where(sure, 1.0, 1 - chance))),
        "pabak": 2 * observed - 1,
        "agreement": observed,
        "prevalence_index": _over(np.abs(a - d), n),
        "bias_index": _over(np.abs(b - c), n),
        "human": human,
        "program": program,
        "f1": _over(2 * a, 2 * a + b + c),
        "precision": _over(a, a + c),
        "recall": _over(a, a + b),
    }


def continuous_figures(sums: MomentSums) -> dict[str, Floats]:
    """ICC(2,1), ICC(3,1), CCC and Pearson's r of sums of the coder's and the program's values; each ``[..., K]``.

    NaN with fewer than two rows, and where no value differs from another.
    """
    n = np.asarray(sums.count, np.float64)[..., None]
    human, program, both = (sums.spread[..., index, :] for index in range(3))
    rows = _over((human + program + 2 * both) / 2, n - 1)
    error = _over((human + program - 2 * both) / 2, n - 1)
    raters = n * (sums.means[..., 0, :] - sums.means[..., 1, :]) ** 2 / 2
    enough = n > 1
    return {
        "icc2_1": np.where(enough, _over(rows - error, rows + error + _over(2 * (raters - error), n)), np.nan),
        "icc3_1": np.where(enough, _over(rows - error, rows + error), np.nan),
        "ccc": sums.ccc(),
        "pearson": sums.pearson(),
        "human_mean": sums.means[..., 0, :],
        "program_mean": sums.means[..., 1, :],
    }


def event_figures(matched: Floats, human: Floats, program: Floats) -> dict[str, Floats]:
    """F1, precision and recall of events from counts, each ``[...]``; NaN where undefined."""
    return {
        "event_f1": _over(2 * matched, human + program),
        "event_precision": _over(matched, program),
        "event_recall": _over(matched, human),
    }


def draws(units: int, resamples: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each unit is drawn in each resample, ``[resamples, units]``."""
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=resamples)


def interval(values: Floats) -> tuple[float, float]:
    """The middle 95 % of figures drawn anew; NaN where fewer than half of them are defined."""
    kept = values[np.isfinite(values)]
    if not len(kept) or len(kept) * 2 < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_groups(
    groups: list[list[float]], statistic: Callable[[NDArray[np.float64]], float], weights: NDArray[np.int64]
) -> tuple[float, float]:
    """95 % interval of a statistic of numbers that belong to units; ``weights`` are from :func:`draws`."""
    values = np.array([value for group in groups for value in group], np.float64)
    owner = np.array([index for index, group in enumerate(groups) for _ in group], np.int64)
    if not len(values):
        return float("nan"), float("nan")
    figures = []
    for weight in weights:
        drawn = np.repeat(values, weight[owner])
        figures.append(statistic(drawn) if len(drawn) else float("nan"))
    return interval(np.array(figures))
