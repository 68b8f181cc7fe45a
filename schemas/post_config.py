"""How predictions are post-processed, as stored beside them and written by ``emobeam tune``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import Task

POST_VERSION = 1
"""Version of the JSON layout."""

SMOOTHINGS = ("none", "box", "gaussian", "median")


@dataclass(frozen=True)
class PostConfig:
    """All optional steps after the heads. The order is: average, gate, interpolate, smooth, threshold or argmax.

    Attributes:
        task: name of the task whose outputs it is about.
        weights: of the averaged sets of predictions, in their order; empty: all alike.
        gate: where the gate's largest class score is above this, the gate's scores replace the others; 1 is never.
        smoothing: ``none``, ``box``, ``gaussian`` or ``median``.
        half_windows: frames on each side of a frame that its filter sees, one per output (one alone: for all).
        sigma: standard deviation of the Gaussian in frames; 0: half of the half-window.
        thresholds: one per output, of which only those of binary outputs mean anything; empty: 0.5.
        tuned_on: names of the videos on whose labels any of this was fitted.
        metrics: plain JSON data of the fit, for people.
    """

    task: str
    weights: tuple[float, ...] = ()
    gate: float = 1.0
    smoothing: str = "none"
    half_windows: tuple[int, ...] = ()
    sigma: float = 0.0
    thresholds: tuple[float, ...] = ()
    tuned_on: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    schema_version: int = POST_VERSION


def post_to_json(config: PostConfig) -> dict[str, Any]:
    """The config as plain JSON data."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return data


def post_from_json(data: Any) -> PostConfig:
    """The inverse of :func:`post_to_json`.

    Raises:
        EmobeamError: not such a config: unknown or missing keys, values of the wrong type or out of range.
    """
    if not isinstance(data, dict):
        raise EmobeamError("not a JSON object")
    if data.get("schema_version") != POST_VERSION:
        raise EmobeamError(f"schema_version is {data.get('schema_version')!r}, this program reads {POST_VERSION}")
    if unknown := sorted(set(data) - {entry.name for entry in fields(PostConfig)}):
        raise EmobeamError(f"unknown keys: {', '.join(map(str, unknown))}")
    kinds: dict[str, tuple[type, ...]] = {
        "task": (str,),
        "weights": (float, int),
        "gate": (float, int),
        "smoothing": (str,),
        "half_windows": (int,),
        "sigma": (float, int),
        "thresholds": (float, int),
        "tuned_on": (str,),
        "metrics": (dict,),
        "schema_version": (int,),
    }
    lists = {"weights", "half_windows", "thresholds", "tuned_on"}
    for key, value in data.items():
        entries = value if key in lists else [value]
        fine = isinstance(entries, list) and all(
            isinstance(entry, kinds[key]) and not isinstance(entry, bool) for entry in entries
        )
        if not fine:
            raise EmobeamError(f"{key} is {value!r}")
    if "task" not in data:
        raise EmobeamError("task is missing")
    values: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in data.items()}
    config = PostConfig(**values)
    _check(config)
    return config


def check_fits(config: PostConfig, task: Task) -> None:
    """Raises :class:`EmobeamError` where the config is another task's or has the wrong number of entries."""
    _check(config)
    if config.task != task.name:
        raise EmobeamError(f"the post-processing is task {config.task}'s, not {task.name}'s")
    outputs = len(task.outputs)
    if len(config.half_windows) not in {0, 1, outputs}:
        raise EmobeamError(f"{len(config.half_windows)} half-windows for {outputs} outputs of task {task.name}")
    if config.thresholds and not any(group.kind == "binary" for group in task.groups):
        raise EmobeamError(f"task {task.name} has no yes-or-no outputs: leave the thresholds out")
    if len(config.thresholds) not in {0, outputs}:
        raise EmobeamError(f"{len(config.thresholds)} thresholds for {outputs} outputs of task {task.name}")


def _check(config: PostConfig) -> None:
    checks = [
        (config.smoothing in SMOOTHINGS, f"smoothing is {config.smoothing!r}, expected one of {', '.join(SMOOTHINGS)}"),
        (min(config.half_windows, default=0) >= 0, "half_windows must not be negative"),
        (0 <= config.sigma < float("inf"), f"sigma is {config.sigma}, expected a number of frames"),
        (0 <= config.gate <= 1, f"gate is {config.gate}, expected a number between 0 and 1"),
        (all(0 <= limit <= 1 for limit in config.thresholds), "thresholds lie between 0 and 1"),
        (all(0 <= weight < float("inf") for weight in config.weights), "weights must not be negative"),
        (not config.weights or sum(config.weights) > 0, "weights are all 0"),
    ]
    for fine, problem in checks:
        if not fine:
            raise EmobeamError(problem)
