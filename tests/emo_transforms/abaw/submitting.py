"""Submissions made of tables in memory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, SubmissionReport, write_submission
from emobeam.schemas.tasks import TASKS, Task

VA, EXPR, AU, MTL, CE, EMI, AH, AHV, VD = (
    TASKS[name] for name in ("va", "expr", "au", "mtl", "ce", "emi", "ah", "ah-video", "vd")
)
NAN = math.nan

Tables = dict[tuple[str, str], FramePredictions]


def table(frames: list[int], values: list[list[float]]) -> FramePredictions:
    return FramePredictions(np.array(frames, np.int32), np.array(values, np.float32))


def submit(
    task: Task, folder: Path, tables: Tables, template: str = "", thresholds: tuple[float, ...] = ()
) -> tuple[str, SubmissionReport]:
    destination = folder / "submission" / task.form.file
    report = write_submission(
        task,
        task.form.editions[-1],
        str(folder / "submission"),
        predictions=lambda video, subject: tables.get((video, subject)),
        tables=tables,
        template=template,
        thresholds=thresholds,
    )
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]  # no temporary file
    assert report.destination == str(destination)
    return destination.read_bytes().decode(), report


def counts(report: SubmissionReport) -> tuple[int, int, int, int, list[str]]:
    return report.rows, report.exact, report.nearest, report.neutral, report.videos_missing
