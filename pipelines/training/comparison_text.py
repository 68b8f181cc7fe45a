"""What ``compare`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from emobeam.emo_transforms.training.comparison.cells import inputs_text
from emobeam.emo_transforms.training.comparison.results_report import count_text, spread_text
from emobeam.pipelines.console import Terminal
from emobeam.pipelines.training.train_output import TUNED, UNTUNED


def print_results(results: Mapping[str, Any], console: Console | None = None) -> None:
    """The table for a terminal."""
    official, several = bool(results["official"]), len(results["caches"]) > 1
    table = Table(*(["cache"] if several else []), "head", "hold-out, untuned", "tuned")
    for title in ("official, untuned", "tuned") if official else ():
        table.add_column(title)
    for title in ("MACs/frame", "ms"):
        table.add_column(title, justify="right", no_wrap=True)
    for cell in results["cells"]:
        table.add_row(
            *([cell["cache"]] if several else []),
            f"{cell['architecture']}, {inputs_text(cell['inputs'])}",
            *(spread_text(cell[key]) for key in ("untuned", "holdout")),
            *((spread_text(cell[key]) for key in ("official_untuned", "official")) if official else ()),
            count_text(cell["macs_per_frame"]),
            f"{cell['latency_ms']:.2f}",
        )
    console = console or Terminal()
    console.print(f"{results['title']}: {results['measure']}", highlight=False)
    console.print(table)
    console.print(f"{UNTUNED} beside what was {TUNED}", highlight=False)
