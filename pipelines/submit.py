"""The job ``submit``: predictions tables -> the submission file of a challenge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from emo_transforms import storage
from emo_transforms.abaw.submission import FramePredictions, SubmissionReport, write_submission
from emo_transforms.predict import part_uri, read_part_footer
from schemas.records import EmobeamError
from schemas.tasks import Task


@dataclass(frozen=True)
class Tables:
    """The predictions tables of one task in an output folder; one video's table is in memory at a time.

    Attributes:
        pairs: (video, subject) of all tables there are.
        thresholds: of the heads that made them, or empty.
    """

    output: str
    task: Task
    pairs: tuple[tuple[str, str], ...]

    def __call__(self, video: str, subject: str) -> FramePredictions | None:
        """Values of face 0 of a subject, None where there is no table."""
        if (video, subject) not in self.pairs:
            return None
        fs, path = storage.file_system(part_uri(self.output, self.task.name, video))
        try:
            with fs.open(path, "rb") as file:
                table = pq.read_table(file)
        except OSError as error:
            raise EmobeamError(f"{path}: the predictions can't be read ({error}); run emobeam predict again") from error
        mask = np.array([name == subject for name in table["subject"].to_pylist()], bool)
        if self.task.scope == "frame":
            mask &= table["face"].to_numpy() == 0
            frames = table["frame"].to_numpy()[mask]
        else:
            frames = np.ones(int(mask.sum()), np.int32)
        columns = [table[name].to_numpy().astype(np.float32)[mask] for name in self.task.outputs]
        return FramePredictions(frames.astype(np.int32), np.stack(columns, axis=1))


def open_tables(output: str, task: Task) -> Tables:
    """Finds the predictions tables of a task.

    Raises:
        EmobeamError: there are none.
    """
    folder = storage.join(output, "predictions", task.name)
    pairs = []
    for name in sorted(storage.names(folder, ".parquet")):
        footer = read_part_footer(storage.join(folder, f"{name}.parquet"))
        pairs += [(footer["video"], subject) for subject in footer["subjects"]]
    if not pairs:
        raise EmobeamError(
            f"{folder}: no predictions of task {task.name}; run emobeam predict --task {task.name} first"
        )
    return Tables(output, task, tuple(sorted(pairs)))


def run_submit(
    output: str, task: Task, edition: int, *, template: str = "", thresholds: Sequence[float] = ()
) -> tuple[str, SubmissionReport]:
    """Writes ``OUT/submission/<task>/predictions.txt`` (or ``.csv``); returns where and what.

    Args:
        thresholds: of binary tasks, one per output; default 0.5.

    Raises:
        EmobeamError: no predictions, or an unusable template.
        UsageError: the edition has no such task.
    """
    tables = open_tables(output, task)
    destination = storage.join(output, "submission", task.name, task.form.file)
    report = write_submission(
        task, edition, destination, predictions=tables, tables=tables.pairs, template=template, thresholds=thresholds
    )
    return destination, report
