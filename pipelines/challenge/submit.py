"""The job ``submit``: predictions tables -> the submission file of a challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.scoring.predicted_series import Predictions, open_predictions, open_tables
from emobeam.emo_transforms.abaw.submissions.reading import find_submissions
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, SubmissionReport, write_submission
from emobeam.emo_transforms.networks.heads.output_quality import EXPERIMENTAL_NOTE
from emobeam.emo_transforms.prediction.prediction_tables import predicted_tasks
from emobeam.pipelines.challenge.score import read_post
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted


def run_submit(
    output: str,
    task: Task,
    edition: int,
    *,
    template: str = "",
    thresholds: Sequence[float] = (),
    post: str = "",
    gate: str = "",
) -> SubmissionReport:
    """Writes ``OUT/submission/<task>/predictions.txt``, or what else the edition wants.

    Args:
        thresholds: of binary outputs, one or one for each; default: those of ``post``, else 0.5.
        post: file of ``emobeam tune``: interpolate, smooth, then threshold.
        gate: output whose scores replace the others where they are confident.

    Raises:
        EmobeamError: no predictions, or an unusable template.
        UsageError: the edition has no such task.
    """
    task.forms_of(edition)
    config = read_post(post) if post else None
    # Listings before footers: open_predictions reads those of all tables.
    if not (predicted_tasks(output) or open_tables(output, task) or _is_submission(output, task, edition)):
        raise EmobeamError(f"{output}: no predictions; run emobeam annotate or predict first, or name their output")
    predictions = open_predictions([output], task, edition, post=config, gate=gate)
    if not predictions.scores:
        raise UsageError(f"{output}: is a submission already; name the output folder of emobeam predict")
    binary = sum(len(group.outputs) for group in task.groups if group.kind == "binary")
    limits = tuple(thresholds) * binary if len(thresholds) == 1 else tuple(thresholds)
    return write_submission(
        task,
        edition,
        submission_folder(output, task),
        predictions=_Reader(predictions),
        tables=predictions.places,
        template=template,
        thresholds=limits or (config.thresholds if config else ()),
    )


def submission_folder(output: str, task: Task) -> str:
    """Where the submission of a task lies in an output."""
    return storage.join(output, "submission", task.name)


def _is_submission(uri: str, task: Task, edition: int) -> bool:
    try:
        return bool(find_submissions(uri, task, edition))
    except EmobeamError:
        return False


class _Reader:
    """Reads one table at a time for the writer."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._places = set(predictions.places)

    def __call__(self, video: str, subject: str) -> FramePredictions | None:
        if (video, subject) not in self._places:
            return None
        series = self._predictions.read((video, subject))
        return FramePredictions(series.frames, series.values, series.unknown, series.experimental)


def submission_data(report: SubmissionReport) -> dict[str, Any]:
    """A report as plain JSON data."""
    return asdict(report)


def submission_text(report: SubmissionReport) -> str:
    """A report for people."""
    return (
        f"{report.destination}: {counted(report.rows, 'row')} ({report.exact} of their own frame, "
        f"{report.nearest} of the nearest, {report.neutral} neutral){_marks(report)}"
    )


def _marks(report: SubmissionReport) -> str:
    told = [unknown_text(report)] if report.unknown else []
    if report.experimental:
        told.append(f"{', '.join(report.experimental)}: {EXPERIMENTAL_NOTE}")
    return "".join(f"; {text}" for text in told)


def unknown_text(report: SubmissionReport) -> str:
    """What is said of outputs that no head knows."""
    return f"{', '.join(report.unknown)}: unknown to the head, the neutral value in every row"
