"""The challenge figure of a submission or of predictions tables, with all that is needed to trust it.

Truth and predictions are aligned by key, never by position. Every valid row of the truth counts: one without a
prediction is given what the submission writer would write, the nearest frame's value or the task's neutral one. The
second set of figures, over valid rows where a face was seen, is what papers usually report on validation data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.decisions import checked_thresholds, decide
from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, Warn, read_labels, scored_partition
from emobeam.emo_transforms.abaw.labels.unlabelled_rows import unlabelled, unlabelled_text
from emobeam.emo_transforms.abaw.scoring.fitted_videos import FittedVideos, fitted_videos
from emobeam.emo_transforms.abaw.scoring.measures import (
    Measure,
    VideoSums,
    bootstrap,
    group_score,
    measure_of,
    merged,
    per_output,
    sums_of,
    task_score,
)
from emobeam.emo_transforms.abaw.scoring.partial_sums import ApCurve, ConfusionSums
from emobeam.emo_transforms.abaw.scoring.predicted_series import Predictions, Series, open_predictions
from emobeam.emo_transforms.prediction.postprocessing import rows_with_value
from emobeam.schemas.post_config import PostConfig, check_fits, post_to_json
from emobeam.schemas.published_scores import published_for
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import participant_of, without_side
from emobeam.schemas.tasks import Task

LISTED = 5
"""How many missing or surplus keys are named; all are counted."""


@dataclass(frozen=True)
class Score:
    """A figure and what stands behind it.

    Attributes:
        value: the challenge's figure over all valid rows.
        interval: 95 % bootstrap interval of it, or None.
        data: everything, as in ``metrics.json``.
    """

    value: float
    interval: tuple[float, float] | None
    data: dict[str, Any]


@dataclass(frozen=True)
class RowCounts:
    """Where the predictions of rows come from: ``valid == own + interpolated + nearest + neutral``.

    Attributes:
        truth: rows of the labels.
        valid: rows with a label for at least one group of outputs.
        own: valid rows with a prediction of their own.
        interpolated: filled by post-processing.
        nearest, neutral: filled as a submission would be.
        missing: rows of the labels, valid or not, that the predictions have no row for.
        surplus: predicted rows that the labels don't have.
    """

    truth: int = 0
    valid: int = 0
    own: int = 0
    interpolated: int = 0
    nearest: int = 0
    neutral: int = 0
    missing: int = 0
    surplus: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class VideoScore:
    """What one video contributes; all parts merge.

    Attributes:
        every, limited: sums over all valid rows, ``limited`` at given thresholds instead of 0.5 (or None).
        seen: over those where a face was seen (or None: a submission doesn't tell).
        missing: first few rows without prediction, as ``name, frame N``; ``unknown``: outputs counted as neutral.
    """

    name: str
    every: VideoSums
    seen: VideoSums | None
    limited: VideoSums | None
    rows: RowCounts
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def score_video(
    task: Task,
    measure: Measure,
    truth: VideoLabels,
    series: Series | None,
    *,
    scores: bool,
    thresholds: Sequence[float] = (),
) -> VideoScore:
    """Aligns one video and sums it up.

    Args:
        series: what was predicted, None where nothing was.
        scores: the series holds scores, not labels.
        thresholds: of the task's outputs, for ``limited``.

    Raises:
        EmobeamError: a label or prediction that the task doesn't know.
    """
    rows = align(task, truth, series, scores=scores)
    own, has, seen, values = rows.own, rows.has, rows.seen, rows.values
    labels = decide(task, values) if scores else values
    at = decide(task, values, checked_thresholds(task, thresholds)) if scores and len(thresholds) else None
    positive = values[:, 0] if scores else rows.positive
    valid = np.asarray(truth.valid, bool).reshape(len(truth.frames), -1)
    try:
        every = sums_of(measure, truth.values, valid, labels, positive=positive)
        face = sums_of(measure, truth.values, valid & seen[:, None], labels, positive=positive) if scores else None
        limited = sums_of(measure, truth.values, valid, at) if at is not None else None
    except ValueError as error:
        raise EmobeamError(f"{truth.name}: labels or predictions don't fit task {task.name}: {error}") from error
    counted = np.asarray(valid.any(axis=1))
    has_series = series is not None and bool(rows_with_value(series.values).any())
    counts = RowCounts(
        truth=len(counted),
        valid=int(counted.sum()),
        own=int((counted & seen).sum()),
        interpolated=int((counted & has & ~seen).sum()),
        nearest=int((counted & ~has).sum()) if has_series else 0,
        neutral=0 if has_series else int((counted & ~has).sum()),
        missing=int((~own).sum()),
        surplus=len(series.frames) - int(own.sum()) if series is not None else 0,
    )
    missing = tuple(f"{truth.name}, frame {frame}" for frame in truth.frames[~own][:LISTED].tolist())
    return VideoScore(truth.name, every, face, limited, counts, missing, series.unknown if series else ())


@dataclass(frozen=True, eq=False)
class AlignedRows:
    """The predictions at the rows of the truth, all filled.

    Attributes:
        own, has, seen: ``[n]``: there is a row; it has a value; that value was there before anything was interpolated.
        values: ``[n, C]`` scores or ``[n, K]`` labels.
        positive: ``[n]`` probability of "yes" beside labels, or None.
    """

    own: NDArray[np.bool_]
    has: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    values: NDArray[np.float32]
    positive: NDArray[np.float32] | None


def align(task: Task, truth: VideoLabels, series: Series | None, *, scores: bool) -> AlignedRows:
    """Takes the predictions of the labelled frames, the nearest or neutral ones where there are none."""
    count = len(truth.frames)
    neutral = task.neutral if scores else task.neutral_labels
    values = np.repeat(np.asarray([neutral], np.float32), count, axis=0)
    none = np.zeros(count, bool)
    if series is None or not len(series.frames):
        return AlignedRows(none, none, none, values, np.full(count, task.neutral[0], np.float32))
    row = np.minimum(np.searchsorted(series.frames, truth.frames), len(series.frames) - 1)
    own = series.frames[row] == truth.frames
    finite = rows_with_value(series.values)
    has, seen = own & finite[row], own & finite[row] & series.known[row]
    positive = series.positive
    if finite.any():
        chosen = np.flatnonzero(finite)[nearest(series.frames[finite], truth.frames)]
        values = series.values[chosen]
        positive = positive[chosen] if positive is not None else None
    return AlignedRows(own, has, seen, values, positive)


def nearest(numbers: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the number nearest to each wanted one, of two as near the smaller; ``numbers`` ascend."""
    numbers, wanted = np.asarray(numbers, np.int64), np.asarray(wanted, np.int64)
    after = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    before = np.maximum(after - 1, 0)
    later = np.abs(numbers[after] - wanted) < np.abs(numbers[before] - wanted)
    return np.where(later, after, before)


def resampling_unit(task: Task, name: str) -> str:
    """What a video belongs to when subjects are drawn: those of one unit may show the same people.

    BAH: the participant's folder. Aff-Wild2 and DVD: the recording, that is the name without ``_left``/``_right`` and
    part number (``video45_1``, ``122-60-1920x1080-5``); two people in one recording stay together because they share
    the scene. Where names don't tell (EMI): the clip itself.
    """
    if task.labels.subjects == "folder":
        return participant_of(name)
    if task.labels.subjects != "name":
        return name
    stem = without_side(name)
    part = re.fullmatch(r"(.+\d+x\d+)-\d+|(.+)_\d+", stem)
    return (part[1] or part[2]) if part else stem


def score(
    task: Task,
    edition: int,
    truth_uri: str,
    predictions_uri: str | Sequence[str],
    *,
    warn: Warn,
    partition: str = "",
    post: PostConfig | None = None,
    gate: str = "",
    thresholds: Sequence[float] = (),
    fitted: FittedVideos | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """Scores predictions against labels.

    Args:
        truth_uri: as for :func:`emobeam.emo_transforms.abaw.labels.reading.read_labels`.
        warn: told of what makes the figure mean less than it seems to.
        partition: of the labels, see :func:`emobeam.emo_transforms.abaw.labels.reading.scored_partition`.
        predictions_uri: a submission file or folder, an output of ``emobeam predict``, or a folder of its tables;
            several of the latter two are averaged.
        post: how scores are post-processed; its thresholds take the place of ``thresholds``.
        gate: tables whose confident EXPR scores are preferred (see :class:`PostConfig`).
        thresholds: a second set of figures is measured at these, one per output; the first stays at 0.5.
        fitted: what the heads were fitted on; None: what the records beside the predictions say.
        resamples, seed: of the bootstrap.

    Raises:
        EmobeamError: nothing to score, or unusable files.
        UsageError: options that don't go together, thresholds that don't fit.
    """
    if post is not None:
        check_fits(post, task)
        thresholds = post.thresholds or thresholds
    if len(thresholds):
        thresholds = tuple(checked_thresholds(task, thresholds).tolist())
    uris = [predictions_uri] if isinstance(predictions_uri, str) else list(predictions_uri)
    predictions = open_predictions(uris, task, edition, post=post, gate=gate)
    measure = measure_of(task)
    chosen, parts = scored_partition(truth_uri, task, partition, warn)
    labels = list(read_labels(truth_uri, task, edition=edition, partition=chosen, warn=warn))
    fitted = fitted_videos(uris, task) if fitted is None else fitted
    fitted = replace(fitted, tuned_on=(*fitted.tuned_on, *(post.tuned_on if post else ())))
    result = score_labels(
        task, edition, measure, labels, predictions, thresholds=thresholds, resamples=resamples, seed=seed
    )
    names = [entry.name for entry in labels]
    for text in fitted.notes(names):
        warn(text)
    data = result.data | {
        "truth": truth_uri,
        "partition": chosen,
        "partitions": parts,
        "predictions": uris,
        "postprocessing": post_to_json(post) if post is not None else None,
        **fitted.overlap(names),
    }
    return Score(result.value, result.interval, data)


def score_labels(
    task: Task,
    edition: int,
    measure: Measure,
    labels: Sequence[VideoLabels],
    predictions: Predictions,
    *,
    thresholds: Sequence[float] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Score:
    """As :func:`score`, for labels and predictions that are open already.

    Raises:
        EmobeamError: no valid row, or no prediction of any labelled video.
    """
    found = predictions.find([entry.name for entry in labels])
    if not found:
        first = ", ".join(repr(entry.name) for entry in labels[:2])
        other = ", ".join(repr(place[0]) for place in list(predictions.places)[:2])
        raise EmobeamError(
            f"no prediction is of a labelled video: labels name {first}, predictions {other}; "
            "are these the labels of the same videos?"
        )
    parts = [
        score_video(
            task,
            measure,
            entry,
            predictions.read(found[entry.name]) if entry.name in found else None,
            scores=predictions.scores,
            thresholds=thresholds,
        )
        for entry in labels
    ]
    every = merged([part.every for part in parts])
    value = float(task_score(measure, every))
    if not math.isfinite(value):
        why = unlabelled_text(task, unlabelled(task, labels), sum(len(entry.frames) for entry in labels))
        text = f"no valid row{f': {why}' if why else ''}; name another --truth or --partition"
        raise EmobeamError(f"task {task.name}: the labels hold {text}")
    units = [resampling_unit(task, part.name) for part in parts]
    interval = bootstrap(measure, [part.every for part in parts], units, resamples=resamples, seed=seed)
    counts = sum((part.rows for part in parts), RowCounts())
    surplus = sorted(set(predictions.places) - set(found.values()))
    data: dict[str, Any] = {
        "task": task.name,
        "edition": edition,
        "measure": measure.title,
        "score": value,
        "interval": None
        if interval is None
        else {"low": interval[0], "high": interval[1], "level": 0.95, "resamples": resamples, "seed": seed},
        "units": {"of": "subjects" if set(units) != {p.name for p in parts} else "videos", "count": len(set(units))},
        "all_valid_rows": _figures(measure, every),
        "valid_rows_with_face": _figures(measure, merged([p.seen for p in parts if p.seen]))
        if predictions.scores
        else None,
        "at_thresholds": {"thresholds": list(thresholds)}
        | _figures(measure, merged([p.limited for p in parts if p.limited]))
        if parts[0].limited
        else None,
        "rows": vars(counts) | {"missing_first": _first(chain.from_iterable(part.missing for part in parts))},
        "unknown": [name for name in task.outputs if any(name in part.unknown for part in parts)],
        "unlabelled": unlabelled(task, labels),
        "videos": {
            "truth": len(parts),
            "missing": len(parts) - len(found),
            "missing_first": _first(part.name for part in parts if part.name not in found),
            "surplus": len(surplus),
            "surplus_first": _first("_".join(filter(None, place)) for place in surplus),
        },
        "per_video": [_video_row(measure, part) for part in parts],
        "published": published_for(task.name, edition),
    }
    return Score(value, interval, data)


def _figures(measure: Measure, sums: VideoSums) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for group in measure.groups:
        own = sums[group.name]
        outputs = dict(zip(group.outputs, map(_number, per_output(group, own).tolist()), strict=True))
        rows = own.rows if not hasattr(own, "count") else own.count  # type: ignore[union-attr]
        groups[group.name] = {
            "score": _number(float(group_score(measure, group, own))),
            "outputs": outputs,
            "rows": int(np.max(rows)),
        }
        if isinstance(own, ConfusionSums):
            groups[group.name] |= {
                "confusion": own.counts.tolist(),
                "macro_f1": _number(float(own.macro_f1())),
                "weighted_f1": _number(float(own.weighted_f1())),
            }
    figures = {"score": _number(float(task_score(measure, sums))), "groups": groups}
    curve = sums.get("AP")
    if isinstance(curve, ApCurve):
        figures["average_precision"] = _number(float(curve.average_precision()))
    return figures


def _video_row(measure: Measure, part: VideoScore) -> dict[str, Any]:
    outputs = {
        name: _number(value)
        for group in measure.groups
        for name, value in zip(group.outputs, per_output(group, part.every[group.name]).tolist(), strict=True)
    }
    value = _number(float(task_score(measure, part.every)))
    return {"video": part.name, "score": value, "outputs": outputs, **vars(part.rows)}


def _first(entries: Iterable[str]) -> list[str]:
    return [entry for entry, _ in zip(entries, range(LISTED), strict=False)]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
