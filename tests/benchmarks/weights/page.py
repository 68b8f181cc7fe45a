"""What was measured as tables in Markdown, and their place in ``docs/weights.md``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import goal_text, table
from tests.benchmarks.weights.calls import Calls
from tests.benchmarks.weights.measured import Measured
from tests.benchmarks.weights.renders import POSITIVE, Unit
from tests.benchmarks.weights.resampling import Estimate

PAGE = Path(__file__).resolve().parents[3] / "docs" / "weights.md"
MARKS = ("<!-- figures -->", "<!-- /figures -->")


def goals_table(rows: Sequence[Measured]) -> str:
    """Goal, measured, interval, people, met or not."""
    cells = [
        [
            row.what,
            goal_text(row),
            _number(row.value),
            _interval(row.low, row.high) if row.identities else "",
            _counted(row),
            _met(row),
            _said(row),
        ]
        for row in rows
    ]
    return table("", ["what", "goal", "measured", "95 % interval", "people (pictures)", "met", "note"], cells)


def parts_table(title: str, rows: Sequence[Measured]) -> str:
    """Figures without goals."""
    cells = [
        [r.what, _number(r.value), _interval(r.low, r.high) if r.identities else "", _counted(r), _said(r)]
        for r in rows
    ]
    return table(title, ["what", "measured", "95 % interval", "people (pictures)", "note"], cells)


def units_table(units: Sequence[Unit]) -> str:
    """F1, base rate and AUC of each unit on rendered sequences."""
    cells = [
        [
            unit.name + (" (experimental)" if unit.marked else ""),
            f"{unit.base_rate:.3f}",
            f"{unit.threshold:.2f}",
            _estimate(unit.f1),
            _estimate(unit.auc),
        ]
        for unit in units
    ]
    title = f"Rendered sequences, unit by unit (positive: activation of at least {POSITIVE:g})"
    return table(title, ["unit", "base rate", "threshold", "F1 (95 %)", "AUC (95 %)"], cells)


def calls_table(calls: Sequence[Calls]) -> str:
    """What the head calls in real clips, unit by unit."""
    cells = [
        [
            call.name + (" (experimental)" if call.marked else ""),
            f"{call.threshold:.2f}",
            _share(call.sensitivity),
            f"{call.positive.frames} of {call.positive.people}",
            _share(call.false_positives),
            f"{call.negative.frames} of {call.negative.people}",
        ]
        for call in calls
    ]
    title = f"Real clips, unit by unit: what is called at the head's threshold, against the teacher at {POSITIVE:g}"
    columns = ["unit", "threshold", "sensitivity", "positive frames of people", "false-positive rate"]
    return table(title, [*columns, "negative frames of people"], cells)


def write_page(text: str, page: Path = PAGE) -> None:
    """Puts the tables between their marks; raises SystemExit where there are none."""
    whole = page.read_text(encoding="utf-8")
    begin, end = MARKS
    if not re.search(f"{begin}.*{end}", whole, flags=re.DOTALL):
        raise SystemExit(f"{page}: no place for figures between {begin} and {end}")
    before, after = whole.split(begin)[0], whole.split(end)[1]
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")


def _met(row: Measured) -> str:
    if row.goal is None:
        return ""
    if row.met is None:
        return row.verdict or "not measured"
    return row.verdict or ("yes" if row.met else "no")


def _counted(row: Measured) -> str:
    return f"{row.identities} ({row.rows})" if row.identities else ""


def _said(row: Measured) -> str:
    over = f"interval over {row.over}" if row.over and not math.isnan(row.low) else ""
    return "; ".join(part for part in (row.note, over) if part)


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _estimate(found: Estimate) -> str:
    return f"{_number(found.value)} ({_interval(found.low, found.high)})"


def _interval(low: float, high: float) -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"{low:.3f} to {high:.3f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
