"""The job ``tune``: labelled predictions -> a JSON file of thresholds and half-windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.labels.reading import chosen_partition
from emobeam.emo_transforms.abaw.scoring.fitted_videos import fitted_by
from emobeam.emo_transforms.abaw.scoring.tuning import HALF_WINDOWS, THRESHOLDS, tune
from emobeam.pipelines.challenge.score import edition_of, read_description
from emobeam.pipelines.console import Ui
from emobeam.schemas.post_config import PostConfig, post_to_json
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted


def run_tune(
    task: Task,
    truth: str,
    predictions: Sequence[str],
    output: str,
    *,
    ui: Ui,
    edition: int = 0,
    partition: str = "",
    holdout_of: str = "",
    smoothing: str = "box",
    half_windows: Sequence[int] = HALF_WINDOWS,
    thresholds: Sequence[float] = THRESHOLDS,
    weights: Sequence[float] = (),
    gate: str = "",
) -> PostConfig:
    """Fits post-processing and writes it; see :func:`emobeam.emo_transforms.abaw.scoring.tuning.tune`.

    Args:
        output: the JSON file to write.
        ui: told of what makes the fit mean less than it seems to.
        partition: of the labels; where there are several and none is named, those to train on.
        holdout_of: folder of the head that made the predictions; only videos that it held out are fitted on.

    Raises:
        EmobeamError, UsageError: see there.
    """
    head = read_description(holdout_of, task, "--holdout-of") if holdout_of else None
    if head is not None and not head.tuned_on:
        raise UsageError(f"--holdout-of {holdout_of}: nothing was held out when it was trained")
    chosen, there = chosen_partition(truth, task, partition, "train")
    if official := [part for part in there if part not in ("", "train")]:
        some = " and ".join(official)
        ui.warn(f"{truth}: {some} is an official partition, and no figure on it is evidence after this fit")
    config = tune(
        task,
        edition_of(task, edition),
        truth,
        predictions,
        warn=ui.warn,
        partition=chosen,
        only=head.tuned_on if head is not None else None,
        fitted=fitted_by([head]) if head is not None else None,
        smoothing=smoothing,
        half_windows=half_windows,
        thresholds=thresholds,
        weights=weights,
        gate=gate,
    )
    if ui.warned:
        config = replace(config, metrics={**config.metrics, "warnings": list(ui.warned)})
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
