"""The job ``submit``: predictions tables -> the submission file of a challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.scoring.fitted_videos import FittedVideos, fitted_videos
from emobeam.emo_transforms.abaw.scoring.predicted_series import Predictions, open_predictions, open_tables
from emobeam.emo_transforms.abaw.submissions.column_spread import constant_note
from emobeam.emo_transforms.abaw.submissions.reading import find_submissions
from emobeam.emo_transforms.abaw.submissions.templates import template_of
from emobeam.emo_transforms.abaw.submissions.writing import (
    FramePredictions,
    ImpossibleKeys,
    OnlyNeutralRows,
    SubmissionReport,
    write_submission,
)
from emobeam.emo_transforms.networks.heads.output_quality import EXPERIMENTAL_NOTE
from emobeam.emo_transforms.networks.shipped import told_weights
from emobeam.emo_transforms.prediction.prediction_tables import predicted_tasks, read_run
from emobeam.pipelines.challenge.score import read_post
from emobeam.pipelines.console import Ui
from emobeam.pipelines.inspect.problems import predict_command
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import strange_folders
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted, noun


class RefusedSubmission(EmobeamError):
    """A submission that can't be meant; what was there before stays."""


def run_submit(
    output: str,
    task: Task,
    edition: int,
    *,
    ui: Ui,
    template: str = "",
    thresholds: Sequence[float] = (),
    post: str = "",
    gate: str = "",
    fitted: FittedVideos | None = None,
) -> SubmissionReport:
    """Writes ``OUT/submission/<task>/predictions.txt``, or what else the edition wants.

    Args:
        ui: told of what makes the file say less than it seems to.
        template: the organisers' rows, or a folder with the templates of several tasks.
        thresholds: of binary outputs, one or one for each; default: those of ``post``, else 0.5.
        post: file of ``emobeam tune``: interpolate, smooth, then threshold.
        gate: output whose scores replace the others where they are confident.
        fitted: what the heads were fitted on; None: what ``run.json`` says.

    Raises:
        EmobeamError: no predictions, or an unusable template.
        RefusedSubmission: no row would have a value, or names make no keys.
        UsageError: the edition has no such task.
    """
    task.forms_of(edition)
    config = read_post(post) if post else None
    # Listings before footers: open_predictions reads those of all tables.
    if not (predicted_tasks(output) or open_tables(output, task) or _is_submission(output, task, edition)):
        raise EmobeamError(f"{output}: no predictions; run emobeam annotate or predict first, or name their output")
    template = template_of([template], task, edition) if template else ""
    predictions = open_predictions([output], task, edition, post=config, gate=gate)
    if not predictions.scores:
        raise UsageError(f"{output}: is a submission already; name the output folder of emobeam predict")
    binary = sum(len(group.outputs) for group in task.groups if group.kind == "binary")
    limits = tuple(thresholds) * binary if len(thresholds) == 1 else tuple(thresholds)
    try:
        report = write_submission(
            task,
            edition,
            submission_folder(output, task),
            predictions=_Reader(predictions),
            tables=predictions.places,
            template=template,
            thresholds=limits or (config.thresholds if config else ()),
        )
    except ImpossibleKeys as error:
        raise RefusedSubmission(f"{error}; what was there before stays as it was") from None
    except OnlyNeutralRows as error:
        why = _unasked(error.report, output, edition, template) or _strangers(error.report, predictions)
        raise RefusedSubmission(f"{error}: {why}; what was there before stays as it was") from None
    fitted = fitted_videos([output], task) if fitted is None else fitted
    for text in (
        *_notes(report, _unasked(report, output, edition, template)),
        strange_folders(task, report.names),
        *fitted.notes(report.names),
    ):
        if text:
            ui.warn(f"{report.destination}: {text}")
    return report


def _strangers(report: SubmissionReport, predictions: Predictions) -> str:
    """Why nothing is known of any name."""
    places = [video for video, _ in predictions.places]
    if not report.videos_missing:
        return f"no face was seen in any video ({', '.join(places[:2])})"
    wanted = ", ".join(map(repr, report.videos_missing[:2]))
    return f"it would be of {wanted}, and predictions are of {', '.join(map(repr, places[:2]))}: are these its videos?"


def _unasked(report: SubmissionReport, output: str, edition: int, template: str) -> str:
    """What to do where a template asks for one of two people, and the tables were made without."""
    if not report.unasked:
        return ""
    try:
        run = read_run(output) or {}
    except EmobeamError:
        run = {}
    line = predict_command(
        run, str(run.get("features") or "FEATURES"), output, ["--edition", str(edition), "--template", template]
    )
    names = f"{counted(len(report.unasked), 'name')} ({', '.join(report.unasked[:2])})"
    return f"{names} ask for a person whose rows these tables don't tell apart; {line} writes them"


def _notes(report: SubmissionReport, unasked: str) -> list[str]:
    """What to warn of in a submission."""
    missing = [name for name in report.videos_missing if name not in report.unasked]
    notes = [unasked]
    if report.mostly_neutral:
        notes.append(f"MOSTLY NEUTRAL: {report.neutral:,} of {counted(report.rows, 'row')} say nothing")
    if missing:
        some = f"{counted(len(missing), 'name')} {noun(len(missing), 'has', 'have')}"
        hold = noun(len(missing), "holds", "hold")
        notes.append(f"{some} no predictions and {hold} neutral values: {', '.join(missing[:5])}")
    if report.unknown:
        notes.append(unknown_text(report))
    if report.constant:
        notes.append(constant_note(report.constant))
    return notes


def keep_counts(output: str, task: Task, report: SubmissionReport, ui: Ui) -> None:
    """Puts what is known of a submission into the ``run.json`` of the output, beside those of other tasks.

    One that isn't as predict writes it is left alone, and ``ui`` told of it: the submission is written by now.
    """
    uri = storage.join(output, "run.json")
    try:
        run = read_run(output)
    except EmobeamError:
        ui.warn(f"{uri}: not as emobeam predict writes it, and left so: it says nothing of {report.destination}")
        return
    if run is None:
        return
    heads = (run.get("heads") or {}).get(task.name) or ()
    weights = [told_weights(str(head.get("weights") or ""), str(head.get("sha256") or "")) for head in heads]
    held = run.get("submissions") or {}
    run["submissions"] = {**held, task.name: {**submission_data(report), "weights": weights}}
    storage.write_json(uri, run)


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
    """A report as plain JSON data, without the names of all videos."""
    return {key: value for key, value in asdict(report).items() if key != "names"}


def submission_text(report: SubmissionReport) -> str:
    """A report for people."""
    return (
        f"{report.destination}: {rows_text(report.rows, report.exact, report.nearest, report.neutral)}{_marks(report)}"
    )


def rows_text(rows: int, exact: int, nearest: int, neutral: int) -> str:
    """Where the rows of a submission come from, for people."""
    return f"{counted(rows, 'row')} ({exact:,} of their own frame, {nearest:,} of the nearest, {neutral:,} neutral)"


def _marks(report: SubmissionReport) -> str:
    told = [unknown_text(report)] if report.unknown else []
    if report.experimental:
        told.append(f"{', '.join(report.experimental)}: {EXPERIMENTAL_NOTE}")
    return "".join(f"; {text}" for text in told)


def unknown_text(report: SubmissionReport) -> str:
    """What is said of outputs that no head knows."""
    return f"{', '.join(report.unknown)}: unknown to the head, the neutral value in every row"
