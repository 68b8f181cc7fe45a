"""Labels beside predictions: the figure of every video, and the labels at the rows that the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, Warn, read_labels, scored_partition
from emobeam.emo_transforms.abaw.scoring.measures import measure_of
from emobeam.emo_transforms.abaw.scoring.predicted_series import TablePredictions
from emobeam.emo_transforms.abaw.scoring.scores import score_labels
from emobeam.emo_transforms.prediction.prediction_tables import Part
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import Task

Place = tuple[str, str]
"""Video id and subject."""


@dataclass(frozen=True)
class Figure:
    """The challenge's measure for one person in one video.

    Attributes:
        score: of all outputs together, None where no labelled row is.
        outputs: of each output, as the measure names them.
    """

    score: float | None
    outputs: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskTruth:
    """What is known of one task's truth.

    Attributes:
        measure: the measure's name.
        score: over all videos.
        figures: by place.
        labels: by place; none where only ``metrics.json`` told.
    """

    measure: str
    score: float | None
    figures: Mapping[Place, Figure]
    labels: Mapping[Place, VideoLabels] = field(default_factory=dict)


def read_truth(parts: Iterable[Part], task: Task, truth: str, partition: str = "", *, warn: Warn) -> TaskTruth:
    """Reads labels and scores the tables of a task; tables that can't be read are left out.

    Raises:
        EmobeamError: no labels of this task there, or none of a predicted video.
    """
    chosen, _ = scored_partition(truth, task, partition, warn)
    labels = list(read_labels(truth, task, partition=chosen, warn=warn))
    predictions = TablePredictions(
        task, {(part.video, subject): part.uri for part in parts for subject in part.subjects}
    )
    try:
        data = _scored(task, labels, predictions)
    except EmobeamError:
        readable = {place: uri for place, uri in predictions.parts.items() if _readable(predictions, place)}
        if len(readable) == len(predictions.parts):
            raise
        predictions = TablePredictions(task, readable)
        data = _scored(task, labels, predictions)
    places = predictions.find([entry.name for entry in labels])
    of_name = {entry.name: entry for entry in labels}
    return TaskTruth(
        data["measure"],
        data["score"],
        {places[row["video"]]: _figure(row) for row in data["per_video"] if row["video"] in places},
        {place: of_name[name] for name, place in places.items()},
    )


def _scored(task: Task, labels: list[VideoLabels], predictions: TablePredictions) -> Mapping[str, Any]:
    return score_labels(task, max(task.editions), measure_of(task), labels, predictions, resamples=0).data


def _readable(predictions: TablePredictions, place: Place) -> bool:
    try:
        predictions.read(place)
    except EmobeamError:
        return False
    return True


def truth_of_metrics(data: Mapping[str, Any], videos: list[str]) -> TaskTruth:
    """The figures that ``metrics.json`` holds of a task."""
    rows = {str(row.get("video")): row for row in data.get("per_video") or []}
    try:
        found = match_names(rows, videos).found
    except EmobeamError:  # another selection of videos; a figure that may be of another video is left out
        found = {name: (name, "") for name in rows if name in videos}
    figures = {place: _figure(rows[name]) for name, place in found.items()}
    return TaskTruth(str(data.get("measure") or ""), data.get("score"), figures)


def _figure(row: Mapping[str, Any]) -> Figure:
    return Figure(row.get("score"), dict(row.get("outputs") or {}))


def labels_at(task: Task, labels: VideoLabels, frames: NDArray[np.int32]) -> NDArray[np.float32]:
    """Labels as values of outputs at given frames.

    Returns:
        float32[n, C], one column per output: yes or no as 1 or 0, the true class as 1 and the others as 0; NaN where
        there is no valid label.
    """
    values = np.full((len(frames), len(task.outputs)), np.nan, np.float32)
    if not len(labels.frames):
        return values
    row = np.minimum(np.searchsorted(labels.frames, frames), len(labels.frames) - 1)
    own = labels.frames[row] == frames
    output = column = 0
    for index, group in enumerate(task.groups):
        width, columns = len(group.outputs), len(group.label_columns)
        rows = own & labels.valid[row, index]
        given = labels.values[row[rows], column : column + columns]
        if group.kind == "class":
            given = (given == np.arange(width)).astype(np.float32)
        values[rows, output : output + width] = given
        output, column = output + width, column + columns
    return values
