"""Figures of a network of expressions (and valence, arousal) on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.scoring.partial_sums import ConfusionSums, MomentSums


def affect_figures(
    outputs: NDArray[np.float32], labels: NDArray[np.int64], va: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, Any]:
    """Accuracy, recall, precision and F1 of each class, confusion, CCC and error of valence and arousal.

    Args:
        outputs: ``[n, C]`` logits of the classes, or ``[n, C + 2]`` with valence and arousal behind them.
        labels: ``[n]``, places in ``classes``.
        va: ``[n, 2]``, NaN where there is no label.

    Returns:
        Plain JSON data. ``accuracy_7`` is that of the images that aren't Contempt among the other seven classes,
        where there are eight; ``score`` is the mean recall, averaged with the mean CCC where there is one.
    """
    count = len(classes)
    said = outputs[:, :count].argmax(axis=1)
    sums = ConfusionSums.of(labels, said, count)
    table = sums.counts.astype(np.float64)
    right = np.diagonal(table)
    recall, precision = _share(right, table.sum(axis=1)), _share(right, table.sum(axis=0))
    present = table.sum(axis=1) > 0
    figures: dict[str, Any] = {
        "images": len(labels),
        "accuracy": float(right.sum() / max(table.sum(), 1)),
        "mean_recall": float(recall[present].mean()) if present.any() else 0.0,
        "macro_f1": float(np.nan_to_num(sums.macro_f1())),
        "classes": {
            name: {
                "images": int(table[index].sum()),
                "recall": float(recall[index]),
                "precision": float(precision[index]),
                "f1": float(np.nan_to_num(sums.f1())[index]),
            }
            for index, name in enumerate(classes)
        },
        "confusion": sums.counts.tolist(),
    }
    figures["score"] = figures["mean_recall"]
    if count == 8 and "Contempt" in classes:
        out = list(classes).index("Contempt")
        rest = labels != out
        among = np.where(np.arange(count) == out, -np.inf, outputs[:, :count])[rest].argmax(axis=1)
        figures["accuracy_7"] = float((among == labels[rest]).mean()) if rest.any() else 0.0
    known = ~np.isnan(va).any(axis=1)
    if outputs.shape[1] == count + 2 and known.any():
        truth, values = va[known].astype(np.float64), outputs[known, count:].astype(np.float64)
        ccc = MomentSums.of(truth, np.clip(values, -1, 1)).ccc()
        rmse = np.sqrt(np.square(np.clip(values, -1, 1) - truth).mean(axis=0))
        for index, name in enumerate(("valence", "arousal")):
            figures[name] = {"images": int(known.sum()), "ccc": float(ccc[index]), "rmse": float(rmse[index])}
        figures["score"] = (figures["mean_recall"] + float(ccc.mean())) / 2
    return figures


def flat_figures(figures: dict[str, Any]) -> dict[str, float]:
    """The single numbers of :func:`affect_figures`, for curves."""
    flat = {name: float(figures[name]) for name in ("score", "accuracy", "mean_recall", "macro_f1")}
    for name in ("valence", "arousal"):
        if name in figures:
            flat[f"ccc_{name}"] = float(figures[name]["ccc"])
    return flat


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
