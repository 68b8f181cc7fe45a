"""Pure parts of the benchmarks: figures, their goals and intervals, and the JSON they are kept in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True)
class Goal:
    """What a figure should be. ``within`` asks it of the whole interval, the others of the figure itself."""

    at_least: float | None = None
    at_most: float | None = None
    within: Interval | None = None


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        key: stable name, dotted: ``detection.exact.speed.360p``.
        what, against: for people.
        unit: ``x`` (times as fast, or as much), ``%``, ``ms``, ``s``, ``kB``, ``MB``, ``/s``, or ``""``.
        value: median of the rounds, or the share or mean over all frames.
        low, high: interval at :data:`CONFIDENCE`; NaN where one round gives none.
        rounds: what each round gave.
        note: what a reader has to know.
    """

    key: str
    what: str
    against: str
    unit: str
    value: float
    low: float = math.nan
    high: float = math.nan
    rounds: tuple[float, ...] = ()
    goal: Goal | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none, or nothing was measured."""
        if self.goal is None or math.isnan(self.value):
            return None
        goal = self.goal
        if goal.within is not None:
            return bool(goal.within[0] <= self.low and self.high <= goal.within[1])
        return (goal.at_least is None or self.value >= goal.at_least) and (
            goal.at_most is None or self.value <= goal.at_most
        )


@dataclass(frozen=True)
class Section:
    """What one benchmark found.

    Attributes:
        name: of its module.
        figures: rows of the table.
        steps: CPU milliseconds per sampled frame by step, by what was run; for the picture.
        details: plain JSON data: what the figures are made from.
        skipped: what was not measured, and why.
        seconds: how long the benchmark took.
    """

    name: str
    figures: tuple[Figure, ...] = ()
    steps: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0


# --- intervals ------------------------------------------------------------------------------------------


def ratio_interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Interval of the middle of positive ratios, by Student's t of their logarithms; NaN for fewer than two."""
    if len(ratios) < 2 or min(ratios) <= 0:
        return math.nan, math.nan
    logs = np.log(ratios)
    reach = stats.t.ppf((1 + confidence) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    return float(np.exp(logs.mean() - reach)), float(np.exp(logs.mean() + reach))


def share_interval(hits: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a share (Wilson, 1927); NaN for none. Hits may exceed ``total`` (more faces than
    the reference has); the share then counts as 1."""
    if total <= 0:
        return math.nan, math.nan
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = min(hits / total, 1.0)
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def slope_of_logs(
    sizes: Sequence[float], costs: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Slope of log cost over log size, least squares, with its interval (NaN for fewer than three points).

    1 is growth in proportion.

    Raises:
        ValueError: sizes or costs not positive, or fewer than two different sizes.
    """
    if min(sizes) <= 0 or min(costs) <= 0:
        raise ValueError("sizes and costs must be positive")
    if len(set(sizes)) < 2:
        raise ValueError("a slope needs two different sizes")
    if len(sizes) == 2:
        slope = math.log(costs[1] / costs[0]) / math.log(sizes[1] / sizes[0])
        return slope, math.nan, math.nan
    fit = stats.linregress(np.log(sizes), np.log(costs))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(sizes) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope - reach), float(fit.slope + reach)


# --- figures --------------------------------------------------------------------------------------------


def ratio_figure(
    key: str,
    what: str,
    against: str,
    top: Sequence[float],
    bottom: Sequence[float],
    *,
    goal: Goal | None,
    note: str = "",
) -> Figure:
    """``top / bottom`` round by round: median and interval."""
    ratios = [a / b if b else math.nan for a, b in zip(top, bottom, strict=True)]
    low, high = ratio_interval(ratios)
    return Figure(key, what, against, "x", statistics.median(ratios), low, high, tuple(ratios), goal, note)


def more_figure(
    key: str,
    what: str,
    against: str,
    top: Sequence[float],
    bottom: Sequence[float],
    *,
    goal: Goal | None,
    note: str = "",
) -> Figure:
    """How many per cent more ``top`` is than ``bottom``, round by round."""
    plain = ratio_figure(key, what, against, top, bottom, goal=None)
    value, low, high = (100 * (ratio - 1) for ratio in (plain.value, plain.low, plain.high))
    rounds = tuple(100 * (ratio - 1) for ratio in plain.rounds)
    return Figure(key, what, against, "%", value, low, high, rounds, goal, note)


def median_figure(
    key: str, what: str, against: str, unit: str, values: Sequence[float], *, goal: Goal | None, note: str = ""
) -> Figure:
    """Median and interval of positive values, one of each round."""
    low, high = ratio_interval(values)
    return Figure(key, what, against, unit, statistics.median(values), low, high, tuple(values), goal, note)


def share_figure(
    key: str, what: str, against: str, hits: int, total: int, *, goal: Goal | None, note: str = ""
) -> Figure:
    """``hits`` of ``total`` in per cent."""
    low, high = share_interval(hits, total)
    value = 100 * hits / total if total else math.nan
    return Figure(key, what, against, "%", value, 100 * low, 100 * high, (), goal, note)


# --- text and JSON --------------------------------------------------------------------------------------

_UNITS = {"x": "x", "%": " %", "ms": " ms", "s": " s", "kB": " kB", "MB": " MB", "/s": " /s", "": ""}


def number_text(value: float) -> str:
    """Three digits that count: 1.2e-06, 0.00123, 1.23, 12.3, 123, 1235."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def value_text(figure: Figure) -> str:
    """``7.21x (6.90 to 7.55)``."""
    text = number_text(figure.value) + (_UNITS[figure.unit] if not math.isnan(figure.value) else "")
    if math.isnan(figure.low) or math.isnan(figure.high):
        return text
    return f"{text} ({number_text(figure.low)} to {number_text(figure.high)})"


def goal_text(figure: Figure) -> str:
    """``at least 6x``, ``at most 2 %``, ``interval in 0.9 to 1.1``, or nothing."""
    goal, unit = figure.goal, _UNITS[figure.unit]
    if goal is None:
        return ""
    if goal.within is not None:
        return f"interval in {goal.within[0]:g} to {goal.within[1]:g}"
    parts = [
        f"{word} {value:g}{unit}"
        for word, value in (("at least", goal.at_least), ("at most", goal.at_most))
        if value is not None
    ]
    return " and ".join(parts)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, under a title where there is one."""
    lines = [_line(header), "|---" * len(header) + "|", *map(_line, rows), ""]
    return "\n".join([title, "", *lines] if title else lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_json(section: Section) -> dict[str, Any]:
    """A section as plain JSON data: NaN becomes null, and each figure says whether its goal is met."""
    data = asdict(section)
    for figure, plain in zip(section.figures, data["figures"], strict=True):
        plain["met"] = figure.met
    cleaned: dict[str, Any] = _without_nan(data)
    return cleaned


def from_json(data: Mapping[str, Any]) -> Section:
    """The inverse of :func:`to_json`."""
    return Section(
        name=data["name"],
        figures=tuple(_figure(each) for each in data["figures"]),
        steps=data["steps"],
        details=data["details"],
        skipped=tuple(data["skipped"]),
        seconds=data["seconds"],
    )


def _figure(data: Mapping[str, Any]) -> Figure:
    values: dict[str, Any] = {key: value for key, value in data.items() if key != "met"}
    for key in ("value", "low", "high"):
        values[key] = math.nan if values[key] is None else values[key]
    values["rounds"] = tuple(math.nan if value is None else value for value in values["rounds"])
    if (goal := values["goal"]) is not None:
        within = goal["within"]
        values["goal"] = Goal(goal["at_least"], goal["at_most"], (within[0], within[1]) if within else None)
    return Figure(**values)


def _without_nan(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
