"""The picture of where a second goes: CPU time of stage 1 by step, each bar one second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.figures import Section

STEPS = ("decode", "detect", "align", "embed", "write", "Beam", "rest")
"""In the order of the data; steps of other names come after them."""

BEAM = "Beam"
"""Milliseconds per frame that Beam adds, as ``beam_cost`` tells them; added to every bar but the plain script's."""

_PLAIN = "plain"


def bars(sections: Sequence[Section]) -> dict[str, dict[str, float]]:
    """CPU milliseconds per sampled frame by step, of everything that was profiled."""
    found: dict[str, dict[str, float]] = {}
    beam = 0.0
    for section in sections:
        for label, steps in section.steps.items():
            if label == BEAM:
                beam = steps.get(BEAM, 0.0)
            else:
                found[label] = dict(steps)
    for label, steps in found.items():
        if not label.startswith(_PLAIN):
            steps[BEAM] = steps.get(BEAM, 0.0) + beam
    order = sorted(
        found, key=lambda label: (label.rpartition(", ")[2] != "360p", label.rpartition(", ")[2], _rank(label))
    )
    return {label: found[label] for label in order if sum(found[label].values()) > 0}


def _rank(label: str) -> int:
    """Slowest first."""
    return next((rank for rank, start in enumerate((_PLAIN, "exact")) if label.startswith(start)), 2)


def shares(steps: Mapping[str, float]) -> dict[str, float]:
    """Seconds of one second by step, in the order of :data:`STEPS`; they add up to 1."""
    total = sum(steps.values())
    order = [*STEPS, *sorted(steps.keys() - set(STEPS))]
    return {step: steps[step] / total for step in order if steps.get(step, 0.0) > 0}


def draw(sections: Sequence[Section], path: Path) -> bool:
    """Draws all bars into a file (the extension decides its kind); False where there is nothing to draw."""
    everything = bars(sections)
    if not everything:
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import patches
    from matplotlib import pyplot as plt

    divided = {label: shares(steps) for label, steps in everything.items()}
    names = list(dict.fromkeys(step for parts in divided.values() for step in parts))
    names.sort(key=lambda step: STEPS.index(step) if step in STEPS else len(STEPS))
    colours = dict(zip(names, mpl.color_sequences["tab10"], strict=False))
    figure, axes = plt.subplots(figsize=(9, 0.6 * len(divided) + 1.6), layout="constrained")
    for row, (label, parts) in enumerate(divided.items()):
        left = 0.0
        for step, share in parts.items():
            axes.barh(row, share, left=left, color=colours[step], edgecolor="white", linewidth=0.5)
            if share >= 0.05:
                axes.text(
                    left + share / 2, row, f"{100 * share:.0f} %", ha="center", va="center", color="white", fontsize=8
                )
            left += share
        axes.text(1.01, row, f"{1000 / sum(everything[label].values()):.1f} frames/s", va="center", fontsize=8)
    axes.set_yticks(range(len(divided)), list(divided))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("seconds of CPU time")
    axes.set_title("Where a second of stage 1 goes, one core")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [patches.Rectangle((0, 0), 1, 1, color=colours[step]) for step in names]
    axes.legend(handles, names, ncols=len(names), loc="upper center", bbox_to_anchor=(0.45, -0.12), frameon=False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
    return True
