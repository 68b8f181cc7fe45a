"""The table of a run of the suite in Markdown: ``python -m tests.benchmarks.report bench.json [--picture FILE]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure, Section, from_json, goal_text, table, value_text
from tests.benchmarks.picture import draw

_MARKS = {True: "yes", False: "**no**", None: ""}
_LIBRARIES = (
    "emobeam",
    "torch",
    "openvino",
    "timm",
    "facenet-pytorch",
    "av",
    "decord2",
    "apache-beam",
    "pyarrow",
    "numpy",
)


def sections_of(bench: Mapping[str, Any]) -> list[Section]:
    """The sections of a ``bench.json``."""
    return [from_json(data) for data in bench["sections"]]


def render(bench: Mapping[str, Any], *, goals_only: bool = False) -> str:
    """Machine, table of all figures, and what was not measured.

    Args:
        bench: the content of a ``bench.json``.
        goals_only: leave out figures without a goal.
    """
    sections = sections_of(bench)
    figures = [figure for section in sections for figure in section.figures if figure.goal or not goals_only]
    parts = [machine_text(bench), table("", ["what", "against", "measured", "goal", "met"], list(map(_row, figures)))]
    if notes := [f"* {figure.what}: {figure.note}" for figure in figures if figure.note]:
        parts.append("\n".join(notes) + "\n")
    missing = [reason for section in sections for reason in section.skipped]
    missing += [f"{name}: failed" for name in bench["failed"]]
    if missing:
        parts.append("Not measured: " + "; ".join(missing) + ".\n")
    return "\n".join(parts)


def machine_text(bench: Mapping[str, Any]) -> str:
    """One paragraph: when, where, with what."""
    facts = bench["machine"]
    libraries = ", ".join(f"{name} {facts['libraries'][name]}" for name in _LIBRARIES if name in facts["libraries"])
    quick = " Quick settings: the figures mean nothing." if bench["quick"] else ""
    machine = f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']:g} GB, load {facts['load']:g} before"
    software = f"{facts['system']}, Python {facts['python']}; {libraries}; commit {bench['commit'] or 'unknown'}"
    return (
        f"{facts['date']}; {machine}; {software}; {bench['seconds'] / 60:.0f} minutes. "
        f"Medians of interleaved rounds with 95 % intervals.{quick}\n"
    )


def verdict(sections: Sequence[Section]) -> tuple[int, int]:
    """How many goals are met, of how many that were measured."""
    verdicts = [figure.met for section in sections for figure in section.figures if figure.met is not None]
    return sum(verdicts), len(verdicts)


def _row(figure: Figure) -> list[str]:
    return [figure.what, figure.against or "-", value_text(figure), goal_text(figure) or "-", _MARKS[figure.met]]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("bench", type=Path, help="what the suite wrote")
    arguments.add_argument("--goals-only", action="store_true", help="figures with a goal only")
    arguments.add_argument("--picture", type=Path, help="also draw where a second goes (PNG, SVG or PDF)")
    options = arguments.parse_args(argv)
    bench = json.loads(options.bench.read_text())
    print(render(bench, goals_only=options.goals_only))
    if options.picture:
        draw(sections_of(bench), options.picture)


if __name__ == "__main__":
    main()
