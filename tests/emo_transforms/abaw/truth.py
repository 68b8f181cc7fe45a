"""Writes invented labels in the organisers' layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.schemas.tasks import Task


def write_labels(folder: Path, task: Task, labels: Sequence[VideoLabels]) -> str:
    """Annotations of VA, EXPR, AU (one file per video, validation) or EMI (one table); returns their root."""
    root = folder / "8th_ABAW_Annotations"
    if task.labels.kind == "table":
        root.mkdir(parents=True)
        rows = [f"{entry.name},{','.join(map(str, entry.values[0].tolist()))}" for entry in labels]
        (root / "valid_split.csv").write_text("\n".join([str(task.labels.header), *rows]) + "\n")
        return str(root)
    place = root / task.labels.folders[0] / "Validation_Set"
    place.mkdir(parents=True)
    (group,) = task.groups
    for entry in labels:
        values = np.where(entry.valid, entry.values, group.invalid)
        rows = [",".join(f"{value:g}" for value in row) for row in values.astype(np.float64).tolist()]
        (place / f"{entry.name}.txt").write_text("\n".join([str(task.labels.header), *rows]) + "\n")
    return str(root)
