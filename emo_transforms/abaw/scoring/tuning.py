"""Fits thresholds and half-windows on labelled predictions by the challenge's own measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.decisions import decide
from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, Warn, read_labels
from emobeam.emo_transforms.abaw.scoring.fitted_videos import FittedVideos, fitted_videos, names_among
from emobeam.emo_transforms.abaw.scoring.measures import (
    Group,
    Measure,
    Sums,
    group_score,
    measure_of,
    merged,
    per_output,
    sums_of,
    task_score,
)
from emobeam.emo_transforms.abaw.scoring.predicted_series import Series, TablePredictions, combine, open_tables
from emobeam.emo_transforms.abaw.scoring.scores import align
from emobeam.schemas.post_config import PostConfig, check_fits
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(1, 10))
"""Thresholds tried for yes-or-no outputs."""

DECISION = 0.5
"""The threshold that needs no tuning."""

HALF_WINDOWS = (0, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120)
"""Half-windows tried, in native frames."""

GATES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Confidences tried where a gate is given; 1 leaves it out."""


@dataclass(frozen=True)
class _Trial:
    """One point of the grid and the sums of all videos there."""

    gate: float
    half: int
    threshold: float
    sums: Mapping[str, Sums]


@dataclass(frozen=True)
class _Choice:
    """What suits one output best, or all outputs of a group that is measured as one."""

    figure: float
    half: int
    threshold: float


def tune(
    task: Task,
    edition: int,
    truth_uri: str,
    predictions_uri: str | Sequence[str],
    *,
    warn: Warn,
    partition: str = "",
    only: Sequence[str] | None = None,
    fitted: FittedVideos | None = None,
    smoothing: str = "box",
    half_windows: Sequence[int] = HALF_WINDOWS,
    thresholds: Sequence[float] = THRESHOLDS,
    weights: Sequence[float] = (),
    gate: str = "",
) -> PostConfig:
    """Searches a grid for the post-processing with the best figure over all valid rows.

    An output with a figure of its own (valence, an action unit) gets its own half-window and threshold; classes share
    theirs. Of equal figures the shorter window wins, then the threshold nearer to 0.5. The result names the videos it
    was fitted on: a figure on the same videos is no evidence, and ``score`` says so.

    Args:
        truth_uri, partition: as for :func:`emobeam.emo_transforms.abaw.labels.reading.read_labels`.
        warn: told of what makes the fit mean less than it seems to.
        only: names or ids of videos to fit on; None: all that are labelled and predicted.
        fitted: what the heads were fitted on; None: what the records beside the predictions say.
        predictions_uri: an output of ``emobeam predict`` or a folder of its tables; several are averaged.
        smoothing: the filter, ``none`` to leave values as they are.
        half_windows, thresholds: the grid; clips aren't smoothed, and thresholds are for yes-or-no outputs alone.
        weights: of the averaged predictions.
        gate: tables whose confident scores are preferred; then the confidence is searched as well (EXPR alone).

    Raises:
        EmobeamError: no labelled predictions, or unusable files.
        UsageError: predictions without scores, or options that don't go together.
    """
    uris = [predictions_uri] if isinstance(predictions_uri, str) else list(predictions_uri)
    measure = measure_of(task)
    if gate and [group.kind for group in measure.groups] != ["classes"]:
        raise UsageError(f"task {task.name} has no classes, so there is nothing that a gate could be sure of")
    base = PostConfig(task.name, weights=tuple(weights), smoothing=smoothing if task.scope == "frame" else "none")
    check_fits(base, task)
    halves = sorted(set(half_windows)) if base.smoothing != "none" else [0]
    labels = list(read_labels(truth_uri, task, edition=edition, partition=partition, warn=warn))
    if only is not None:
        kept = set(names_among([entry.name for entry in labels], only))
        labels = [entry for entry in labels if entry.name in kept]
    videos = _labelled(truth_uri, labels, [_opened(uri, task) for uri in uris])
    seen = fitted_videos(uris, task) if fitted is None else fitted
    if trained := replace(seen, tuned_on=()).notes([entry.name for entry, _, _ in videos]):
        warn(f"{trained[0]}; --holdout-of HEAD fits on those that it held out")
    gates = _opened(gate, task) if gate else None
    binary = any(group.kind in {"binary", "two_classes"} for group in measure.groups)
    limits = sorted({DECISION, *thresholds}, key=lambda limit: (abs(limit - DECISION), limit)) if binary else [DECISION]
    trials = [
        _Trial(confidence, half, limit, sums)
        for confidence in sorted(GATES if gates else [1.0], reverse=True)
        for half in halves
        for limit, sums in _sums(task, measure, videos, replace(base, gate=confidence), half, limits, gates)
    ]
    ((_, plain),) = _sums(task, measure, videos, PostConfig(task.name, weights=base.weights), 0, [DECISION], None)
    untuned = float(task_score(measure, plain))
    found = _fitted(base, task, measure, trials, untuned, tuple(truth.name for truth, _, _ in videos))
    unknown = [name for name in task.outputs if _unknown(name, videos)]
    return replace(found, metrics={**found.metrics, "unknown": unknown}) if unknown else found


def _unknown(output: str, videos: Sequence[Labelled]) -> bool:
    """Whether nobody taught the heads an output; then there is nothing to fit, and the defaults stay."""
    return all(part is None or output in part.unknown for _, series, _ in videos for part in series)


Labelled = tuple[VideoLabels, list[Series | None], tuple[str, str]]


def _labelled(truth_uri: str, labels: Sequence[VideoLabels], tables: Sequence[TablePredictions]) -> list[Labelled]:
    """Labels with the series of each set of predictions, of videos that any of them has."""
    labels = sorted(labels, key=lambda entry: entry.name)
    names = [entry.name for entry in labels]
    found = [table.find(names) for table in tables]
    videos: list[Labelled] = []
    for entry in labels:
        place = next((places[entry.name] for places in found if entry.name in places), None)
        if place is not None:
            series = [
                t.read(places[entry.name]) if entry.name in places else None
                for t, places in zip(tables, found, strict=True)
            ]
            videos.append((entry, series, place))
    if not any(entry.valid.any() for entry, _, _ in videos):
        raise EmobeamError(f"{truth_uri}: no valid row belongs to a video with predictions; nothing to tune on")
    return videos


def _opened(uri: str, task: Task) -> TablePredictions:
    tables = open_tables(uri, task)
    if tables is None:
        raise UsageError(f"{uri}: holds no predictions tables of task {task.name}; a submission has no scores to tune")
    return tables


def _sums(
    task: Task,
    measure: Measure,
    videos: Sequence[Labelled],
    base: PostConfig,
    half: int,
    limits: Sequence[float],
    gates: TablePredictions | None,
) -> list[tuple[float, dict[str, Sums]]]:
    """The sums of all videos at one half-window, for each threshold."""
    config = replace(base, half_windows=(half,))
    parts: dict[float, list[dict[str, Sums]]] = {limit: [] for limit in limits}
    for truth, series, place in videos:
        gate = gates.read(place) if gates is not None and place in gates.parts else None
        values = align(task, truth, combine(series, config, gate), scores=True).values
        valid = np.asarray(truth.valid, bool).reshape(len(truth.frames), -1)
        for limit in limits:
            labels = decide(task, values, np.full(len(task.outputs), limit, np.float32))
            parts[limit].append(sums_of(measure, truth.values, valid, labels))
    return [(limit, merged(of_limit)) for limit, of_limit in parts.items()]


def _fitted(
    base: PostConfig,
    task: Task,
    measure: Measure,
    trials: Sequence[_Trial],
    untuned: float,
    names: tuple[str, ...],
) -> PostConfig:
    """The best of the trials, at the gate's best confidence."""
    found: list[tuple[float, float, list[_Choice]]] = []
    for confidence in dict.fromkeys(trial.gate for trial in trials):
        at_gate = [trial for trial in trials if trial.gate == confidence]
        choices = [choice for group in measure.groups for choice in _choices(measure, group, at_gate)]
        found.append((sum(_group_means(measure, choices)), confidence, choices))
    total, confidence, choices = max(found, key=lambda each: each[0])
    yes_or_no = [k for group in measure.groups if group.kind in {"binary", "two_classes"} for k in _columns(group)]
    thresholds = tuple(choice.threshold if k in yes_or_no else DECISION for k, choice in enumerate(choices))
    config = replace(
        base,
        gate=confidence,
        half_windows=() if base.smoothing == "none" else tuple(choice.half for choice in choices),
        thresholds=thresholds if yes_or_no else (),
        tuned_on=names,
        metrics={"measure": measure.title, "videos": len(names), "untuned": untuned, "tuned": total},
    )
    check_fits(config, task)
    return config


def _choices(measure: Measure, group: Group, trials: Sequence[_Trial]) -> list[_Choice]:
    """One choice per column of the group's scores."""
    if group.kind in {"classes", "two_classes"}:
        figures = np.array([[float(group_score(measure, group, trial.sums[group.name]))] for trial in trials])
    else:
        figures = np.stack([per_output(group, trial.sums[group.name]) for trial in trials])
    chosen = np.nan_to_num(figures, nan=-np.inf).argmax(axis=0)  # the first of equals; trials come in that order
    picked = [
        _Choice(_finite(figures[row, k]), trials[row].half, trials[row].threshold)
        for k, row in enumerate(chosen.tolist())
    ]
    return picked * len(_columns(group)) if len(picked) == 1 else picked


def _columns(group: Group) -> range:
    return range(group.scores.start, group.scores.stop)


def _group_means(measure: Measure, choices: Sequence[_Choice]) -> list[float]:
    figures: NDArray[np.float64] = np.array([choice.figure for choice in choices])
    return [float(figures[group.scores].mean()) for group in measure.groups]


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
