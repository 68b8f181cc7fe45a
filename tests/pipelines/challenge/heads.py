"""Heads on disk whose descriptions say what they were fitted on; their tensors are never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_to_json
from emobeam.emo_transforms.networks.heads.folder import read_head
from emobeam.schemas.tasks import Task


def write_head(folder: Path, task: Task, **fields: Any) -> str:
    """A head's folder; ``trained_on``, ``tuned_on`` and others are fields of ``HeadConfig``."""
    shapes = {"s32": (128, 7, 7)}
    config = HeadConfig("h", task.name, task.outputs, "frame", task.activation, "x", shapes, levels=1, **fields)
    folder.mkdir(parents=True)
    (folder / "head.json").write_text(config_to_json(config))
    save_file({"weight": np.ones(3, np.float32)}, folder / "head.safetensors")
    return str(folder)


def record_heads(output: str, task: Task, *heads: str) -> None:
    """A ``run.json`` that names the heads of a task."""
    entries = [{"name": "h", "weights": "w", "sha256": read_head(head)[1], "uri": head} for head in heads]
    record = {"features": "cache", "edition": 8, "heads": {task.name: entries}, "submissions": {"va": {"rows": 3}}}
    Path(output, "run.json").write_text(json.dumps(record))
