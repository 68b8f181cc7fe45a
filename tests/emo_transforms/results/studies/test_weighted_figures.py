"""Weighted figures against numpy's on values repeated as often as they weigh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.results.studies.weighted_figures import mean_sd, quantile, robust_spread

_pairs = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4)), min_size=1, max_size=20).filter(
    lambda pairs: any(weight for _, weight in pairs)
)


@given(_pairs, st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_quantiles_of_weighted_values_are_those_of_repeated_ones(pairs: list[tuple[int, int]], q: float) -> None:
    values, weights = np.array(pairs, float).T
    repeated = np.repeat(values, weights.astype(int))
    assert quantile(values, weights * 0.04, q) == pytest.approx(
        np.quantile(repeated, q, method="averaged_inverted_cdf")
    )


@given(_pairs)
def test_mean_spread_and_robust_spread(pairs: list[tuple[int, int]]) -> None:
    values, weights = np.array(pairs, float).T
    repeated = np.repeat(values, weights.astype(int))
    assert mean_sd(values, weights) == pytest.approx((repeated.mean(), repeated.std()))
    assert robust_spread(values, weights) == pytest.approx(1.4826 * np.median(np.abs(repeated - np.median(repeated))))


def test_nothing_has_no_figures() -> None:
    none = np.zeros(0)
    assert np.isnan([quantile(none, none, 0.5), *mean_sd(none, none), robust_spread(none, none)]).all()
