"""The job ``tune``: labelled predictions -> a JSON file of thresholds and half-windows."""

from __future__ import annotations

from collections.abc import Sequence

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.scoring.tuning import HALF_WINDOWS, THRESHOLDS, tune
from emobeam.pipelines.challenge.score import edition_of
from emobeam.schemas.post_config import PostConfig, post_to_json
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted


def run_tune(
    task: Task,
    truth: str,
    predictions: Sequence[str],
    output: str,
    *,
    edition: int = 0,
    partition: str = "",
    smoothing: str = "box",
    half_windows: Sequence[int] = HALF_WINDOWS,
    thresholds: Sequence[float] = THRESHOLDS,
    weights: Sequence[float] = (),
    gate: str = "",
) -> PostConfig:
    """Fits post-processing and writes it; see :func:`emobeam.emo_transforms.abaw.scoring.tuning.tune`.

    Args:
        output: the JSON file to write.

    Raises:
        EmobeamError, UsageError: see there.
    """
    config = tune(
        task,
        edition_of(task, edition),
        truth,
        predictions,
        partition=partition,
        smoothing=smoothing,
        half_windows=half_windows,
        thresholds=thresholds,
        weights=weights,
        gate=gate,
    )
    storage.write_record(output, post_to_json(config))
    return config


def tune_summary(config: PostConfig, output: str) -> str:
    """One paragraph for people."""
    metrics = config.metrics
    lines = [
        (
            f"{output}: task {config.task}, {metrics['measure']}: {metrics['untuned']:.4f} -> {metrics['tuned']:.4f} "
            f"on the {counted(metrics['videos'], 'video')} it was fitted on"
        )
    ]
    if metrics.get("unknown"):
        names = ", ".join(metrics["unknown"])
        lines.append(f"  {names}: unknown to the head; left at the defaults, counted as neutral")
    if config.half_windows:
        lines.append(f"  {config.smoothing}, half-windows in frames: {', '.join(map(str, config.half_windows))}")
    if config.thresholds:
        lines.append(f"  thresholds: {', '.join(f'{limit:g}' for limit in config.thresholds)}")
    if config.gate < 1:
        lines.append(f"  confidence gate: {config.gate:g}")
    return "\n".join(lines)
