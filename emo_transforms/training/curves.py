"""A picture of how training went: losses and the hold-out figure by epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(title: str, measure: str, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """A PNG: losses on the left, the hold-out figure on the right, one colour for each run.

    Args:
        measure: what the hold-out figure is; that of an epoch is always untuned.
        histories: figures of each epoch (``loss``, and ``holdout_loss`` and ``holdout_score`` where there is a
            hold-out), by the name of the run.
    """
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for index, (name, history) in enumerate(histories.items()):
        colour = f"C{index % 10}"
        epochs = range(1, len(history) + 1)
        for axes, key, style, label in (
            (losses, "loss", "-", name),
            (losses, "holdout_loss", "--", ""),
            (scores, "holdout_score", "-", name),
        ):
            if history and all(key in row for row in history):
                values = [row[key] for row in history]
                axes.plot(epochs, values, style, color=colour, marker=".", label=label or None)
        if history and "holdout_score" in history[0]:
            best = max(range(len(history)), key=lambda row: history[row]["holdout_score"])
            scores.plot(best + 1, history[best]["holdout_score"], "o", color=colour, fillstyle="none", markersize=9)
    losses.set(title="loss (dashed: hold-out)", xlabel="epoch")
    scores.set(title=f"hold-out, untuned: {measure}", xlabel="epoch")
    for axes in (losses, scores):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()
