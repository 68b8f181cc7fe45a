"""Statistics of the benchmarks against scipy, simulation and by hand; goals; the way through JSON."""

from __future__ import annotations

import json
import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.benchmarks.figures import (
    Figure,
    Goal,
    Section,
    from_json,
    goal_text,
    more_figure,
    number_text,
    ratio_figure,
    ratio_interval,
    share_figure,
    share_interval,
    slope_of_logs,
    to_json,
    value_text,
)

POSITIVE = st.floats(0.01, 1000, allow_nan=False)


def test_ratio_interval_is_students_of_the_logarithms() -> None:
    ratios = [5.8, 6.4, 6.1, 7.0]
    logs = np.log(ratios)
    low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
    assert ratio_interval(ratios) == pytest.approx((math.exp(low), math.exp(high)))


def test_ratio_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        low, high = ratio_interval(np.exp(math.log(6) + 0.1 * rng.standard_normal(4)).tolist())
        hits += low <= 6 <= high
    assert 0.93 <= hits / 1000 <= 0.97


@given(st.lists(POSITIVE, min_size=2, max_size=8), POSITIVE)
def test_ratio_interval_follows_the_unit(ratios: list[float], scale: float) -> None:
    low, high = ratio_interval(ratios)
    assert low <= high
    assert ratio_interval([scale * ratio for ratio in ratios]) == pytest.approx((scale * low, scale * high), rel=1e-6)


def test_one_round_gives_no_interval() -> None:
    assert all(math.isnan(end) for end in ratio_interval([3.0]))
    assert value_text(ratio_figure("k", "w", "a", [3.0], [1.0], goal=None)) == "3.00x"


@pytest.mark.parametrize(("hits", "total"), [(0, 8), (8, 8), (297, 300), (1, 3)])
def test_share_interval_is_wilsons(hits: int, total: int) -> None:
    expected = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert share_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_more_extra_faces_than_there_are() -> None:
    figure = share_figure("k", "extra", "a", 12, 10, goal=Goal(at_most=2))
    assert figure.value == 120
    assert figure.met is False
    assert all(math.isnan(end) for end in share_interval(0, 0))


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
def test_slope_of_a_power(power: float) -> None:
    sizes = [1, 10, 100, 1, 10]
    slope, low, high = slope_of_logs(sizes, [0.7 * size**power for size in sizes])
    assert (slope, low, high) == pytest.approx((power, power, power), abs=1e-6)


def test_slope_interval_covers_what_it_says() -> None:
    rng = np.random.default_rng(2)
    sizes = [1.0] * 3 + [10.0] * 2 + [100.0]
    hits = 0
    for _ in range(1000):
        costs = [0.5 * size * math.exp(0.1 * rng.standard_normal()) for size in sizes]
        _, low, high = slope_of_logs(sizes, costs)
        hits += low <= 1 <= high
    assert 0.93 <= hits / 1000 <= 0.97


@pytest.mark.parametrize(("sizes", "costs"), [([1, 1], [1, 2]), ([1, 2], [0, 1]), ([0, 2], [1, 1])])
def test_slope_of_nonsense(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="size"):
        slope_of_logs(sizes, costs)


def test_figures_are_medians_of_paired_rounds() -> None:
    plain, ours = [10.0, 12.0, 30.0], [2.0, 2.0, 5.0]
    figure = ratio_figure("k", "w", "a", plain, ours, goal=Goal(at_least=6))
    assert figure.rounds == (5.0, 6.0, 6.0)
    assert figure.value == median(figure.rounds)
    assert figure.met is True
    more = more_figure("k", "w", "a", [102.0, 104.0], [100.0, 100.0], goal=Goal(at_most=5))
    assert more.value == pytest.approx(3.0)
    assert more.low < 2 < 4 < more.high


@pytest.mark.parametrize(
    ("goal", "value", "low", "high", "met"),
    [
        (Goal(at_least=6), 6.0, 5.0, 7.0, True),
        (Goal(at_least=6), 5.9, 5.0, 7.0, False),
        (Goal(at_most=2), 2.1, math.nan, math.nan, False),
        (Goal(within=(0.9, 1.1)), 1.0, 0.95, 1.05, True),
        (Goal(within=(0.9, 1.1)), 1.0, 0.85, 1.05, False),
        (Goal(within=(0.9, 1.1)), 1.0, math.nan, math.nan, False),
        (Goal(at_least=6), math.nan, math.nan, math.nan, None),
        (None, 1.0, 1.0, 1.0, None),
    ],
)
def test_goals(goal: Goal | None, value: float, low: float, high: float, met: bool | None) -> None:
    assert Figure("k", "w", "a", "x", value, low, high, goal=goal).met is met


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.14e-6, "1.1e-06"), (0.00123, "0.00123"), (1.234, "1.23"), (99.86, "99.9"), (1234.5, "1234")],
)
def test_numbers(value: float, text: str) -> None:
    assert number_text(value) == text


def test_texts() -> None:
    figure = Figure("k", "w", "a", "%", 99.5, 98.1, 99.9, goal=Goal(at_least=99))
    assert (value_text(figure), goal_text(figure)) == ("99.5 % (98.1 to 99.9)", "at least 99 %")
    assert goal_text(Figure("k", "w", "a", "", 1.0, goal=Goal(within=(0.9, 1.1)))) == "interval in 0.9 to 1.1"
    assert value_text(Figure("k", "w", "a", "ms", math.nan)) == "-"


def test_a_section_comes_back_from_json() -> None:
    figures = (
        ratio_figure("a", "w", "x", [2.0, 3.0], [1.0, 1.0], goal=Goal(at_least=2)),
        Figure("b", "w", "", "MB", 12.0, goal=Goal(within=(0.0, 1.0)), note="n"),
    )
    section = Section("s", figures, {"exact": {"decode": 1.5}}, {"d": [1, math.inf]}, ("why",), 3.0)
    data = json.loads(json.dumps(to_json(section), allow_nan=False))
    assert [figure["met"] for figure in data["figures"]] == [True, False]
    assert data["details"]["d"] == [1, None]
    back = from_json(data)
    assert back.figures[0] == figures[0]
    assert back.figures[1].goal == figures[1].goal
    assert math.isnan(back.figures[1].low)
    assert (back.name, back.steps, back.skipped, back.seconds) == ("s", section.steps, ("why",), 3.0)
