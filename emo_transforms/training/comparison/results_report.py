"""The results of a comparison for people: a Markdown table and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from emobeam.emo_transforms.storage import atomic_file
from emobeam.emo_transforms.training.comparison.cells import inputs_text

_KINDS = ("tam-clip", "tam-frame", "tcn", "frame", "clip-statistics")
"""In the order of colours, so that a kind has the same one in every picture."""


def results_markdown(results: Mapping[str, Any]) -> str:
    """The table, with what is needed to read it.

    Args:
        results: what ``results.json`` holds.
    """
    official = results["official"]
    several = len(results["caches"]) > 1
    columns = [
        *(["cache"] if several else []),
        "architecture",
        "inputs",
        "window",
        "hold-out, untuned",
        "hold-out, tuned",
        *(["official validation, untuned", "official validation, tuned"] if official else []),
        "parameters",
        "MACs / frame",
        "latency / window",
        "memory",
        "ONNX",
    ]
    lines = [
        f"# {results['title']}: {results['measure']}",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "|".join([" --- "] * len(columns)) + "|",
        *("| " + " | ".join(_row(cell, several, bool(official))) + " |" for cell in results["cells"]),
        "",
        *_notes(results),
    ]
    return "\n".join(lines) + "\n"


def _row(cell: Mapping[str, Any], several: bool, official: bool) -> list[str]:
    memory = cell["peak_memory_mb"] - cell["libraries_mb"]
    size = cell["onnx_bytes"]
    return [
        *([cell["cache"]] if several else []),
        cell["architecture"],
        inputs_text(cell["inputs"]),
        str(cell["window"]),
        *(spread_text(cell[key]) for key in ("untuned", "holdout")),
        *((spread_text(cell[key]) for key in ("official_untuned", "official")) if official else ()),
        count_text(cell["parameters"]) + _plus(cell["final_layer_parameters"]),
        count_text(cell["macs_per_frame"]) + _plus(cell["final_layer_macs"] / cell["window"]),
        f"{cell['latency_ms']:.2f} ms",
        f"{max(memory, 0):.0f} of {cell['peak_memory_mb']:.0f} MB",
        "-" if size is None else f"{size / 1e6:.1f} MB",
    ]


def spread_text(spread: Mapping[str, Any] | None) -> str:
    """``0.4321 ± 0.0123 (3)``."""
    if not spread or spread["mean"] is None:
        return "-"
    deviation = f" ± {spread['sd']:.4f}" if spread["sd"] is not None else ""
    return f"{spread['mean']:.4f}{deviation} ({spread['n']})"


def count_text(count: float) -> str:
    """``1.71 M``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def _plus(count: float) -> str:
    return f" + {count_text(count)}" if count else ""


def _notes(results: Mapping[str, Any]) -> list[str]:
    videos, machine = results["videos"], results["machine"]
    lines = [
        (
            "Mean ± sample standard deviation (number of seeds). The hold-out selects the epoch and tunes what the "
            f"recipe tunes: {videos['holdout']} of {videos['train'] + videos['holdout']} training videos, cut by "
            f"{videos['grouped_by']}. Untuned: thresholds of 0.5, no smoothing; tuned: as tuned on the hold-out, so "
            "that its own tuned figure flatters."
        ),
    ]
    if results["official"]:
        lines.append("The official validation set was looked at after training alone, by the challenge's own rules.")
    lines += [
        (
            "Parameters and multiply-accumulate operations: + those of the backbone's final layer, which the head "
            f"holds; latency: one window, one thread, {machine['processor']}, median. Memory: what a fresh process "
            "takes beyond its libraries, of its peak."
        ),
        (
            f"Recipe {results['recipe']['name']}; emobeam {results['versions']['emobeam']}, "
            f"torch {results['versions']['torch']}."
        ),
        *results["notes"],
    ]
    return [f"* {line}" for line in lines]


def draw_results(uri: str, results: Mapping[str, Any]) -> None:
    """Writes a PNG: the figure of every seed with mean and deviation by cell, and the mean over the cost of a frame.

    Args:
        results: what ``results.json`` holds.
    """
    cells = results["cells"]
    which = "official_untuned" if results["official"] else "untuned"
    figure = Figure(figsize=(11.0, max(3.2, 1.2 + 0.32 * len(cells))), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _by_cell(left, cells, which, several=len(results["caches"]) > 1)
    _by_cost(right, cells, which)
    where = "official validation, untuned" if results["official"] else "hold-out, untuned"
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.set(xlabel=f"{where}: {results['measure']}", ylim=(len(cells) - 0.5, -0.5))
    right.set(xlabel="multiply-accumulates of a frame, final layer included", ylabel=where)
    right.xaxis.set_major_formatter(FuncFormatter(lambda count, _: count_text(count)))
    right.set_xlim(left=0)
    figure.suptitle(f"{results['title']}, recipe {results['recipe']['name']}")
    with atomic_file(uri) as path:
        figure.savefig(path, format="png", dpi=120)


def _by_cell(axes: Axes, cells: Sequence[Mapping[str, Any]], which: str, *, several: bool) -> None:
    for place, cell in enumerate(cells):
        values = [seed[which] for seed in cell["seeds"] if seed.get(which) is not None]
        colour, about = _colour(cell["architecture"]), cell[which] or {}
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5)
        if about.get("mean") is not None:
            axes.errorbar(about["mean"], place, xerr=about["sd"] or 0.0, fmt="D", color=colour, capsize=4, markersize=5)
    names = [f"{c['architecture']}, {inputs_text(c['inputs'])}" for c in cells]
    if several:
        names = [f"{cell['cache']}: {name}" for cell, name in zip(cells, names, strict=True)]
    axes.set_yticks(range(len(cells)), names, fontsize="small")


def _by_cost(axes: Axes, cells: Sequence[Mapping[str, Any]], which: str) -> None:
    for kind in dict.fromkeys(cell["architecture"] for cell in cells):
        own = [cell for cell in cells if cell["architecture"] == kind and (cell[which] or {}).get("mean") is not None]
        costs = [max(cell["macs_per_frame"] + cell["final_layer_macs"] / cell["window"], 1.0) for cell in own]
        deviations = [cell[which]["sd"] or 0.0 for cell in own]
        means = [cell[which]["mean"] for cell in own]
        axes.errorbar(costs, means, yerr=deviations, fmt="D", color=_colour(kind), capsize=4, markersize=5, label=kind)
        for cell, cost, mean in zip(own, costs, means, strict=True):
            if cell["levels"] and math.isfinite(mean):
                axes.annotate(str(cell["levels"]), (cost, mean), xytext=(5, 4), textcoords="offset points", fontsize=8)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")


def _colour(kind: str) -> str:
    return f"C{_KINDS.index(kind)}" if kind in _KINDS else "black"
