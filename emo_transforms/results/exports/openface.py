"""Tables in the manner of OpenFace 2 (``FeatureExtraction -aus``), for scripts that read its CSV files.

OpenFace gives an intensity from 0 to 5 (``AU01_r``) and a presence (``AU01_c``) for each unit. The heads here give
values from 0 to 1: the probability of presence, or, with heads of recipe ``soft`` (such as the one that comes with
emobeam), an estimate of how far the unit's shape is activated, shrunk towards what is usual, which is to be compared
with the head's threshold, not with 0.5. Neither is an intensity as FACS coders give it: they stand in columns
``AU01_p``, presence at the head's threshold in ``AU01_c``, and there is no ``_r``.

Fields are separated by a comma and a blank, as in OpenFace's files.
Columns of OpenFace that say nothing here (gaze, pose, landmarks) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emobeam.emo_transforms.results.exports.gather import columns_of, source_column, thresholds_of
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.task_form import Task

_UNIT = re.compile(r"AU(\d+)")


def unit_name(output: str) -> str:
    """The name of an action unit as OpenFace spells it: ``AU1`` -> ``AU01``."""
    match = _UNIT.fullmatch(output)
    if not match:
        raise ValueError(f"{output} is no action unit")
    return f"AU{int(match[1]):02d}"


def units_task(tasks: Sequence[Task]) -> Task:
    """The task whose action units are taken: ``au`` before others that have some.

    Raises:
        EmobeamError: none of them has any.
    """
    having = [task for task in tasks if any(_UNIT.fullmatch(output) for output in task.outputs)]
    if not having:
        raise EmobeamError("no action units were predicted; run emobeam predict with --task au, or take --format csv")
    return min(having, key=lambda task: task.name != "au")


def openface_rows(
    rows: pd.DataFrame,
    tasks: Sequence[Task],
    stretches: Sequence[Mapping[str, Any]],
    run: Mapping[str, Any],
) -> pd.DataFrame:
    """Rows of one subject as OpenFace would name them.

    Args:
        rows: see ``gather.frame_rows``, of one subject.
        tasks: the frame-level tasks of ``rows``.
        stretches: of its video, rows of ``emobeam.schemas.tables.FACES``; they hold the detection score.
        run: ``run.json``, for thresholds.

    Returns:
        ``frame`` (from 1), ``face_id`` (0 is the main face), ``timestamp`` (s), ``confidence`` (mean detection score of
        the stretch in which the face was seen, 0 to 1; 0 without a face), ``success`` (1 where there are values), then
        the ``_p`` and ``_c`` of all units. Sorted by frame and face. Without success units are empty.
    """
    task = units_task(tasks)
    columns, limits = columns_of(tasks)[task.name], thresholds_of(run, task)
    units = [output for output in task.outputs if _UNIT.fullmatch(output)]
    success = rows[source_column(task)].notna() & (rows[source_column(task)] != "absent")
    table = pd.DataFrame(
        {
            "frame": rows["frame"],
            "face_id": rows["face"],
            "timestamp": rows["time"].round(6),
            "confidence": np.where(success, _confidence(rows, stretches), 0.0).round(4),
            "success": success.astype("int8"),
        }
    )
    for output in units:
        table[f"{unit_name(output)}_p"] = rows[columns[output]].where(success)
    for output in units:
        values = table[f"{unit_name(output)}_p"]
        present = (values >= np.float32(limits[output])).astype("Int8")
        table[f"{unit_name(output)}_c"] = present.where(values.notna())
    return table.sort_values(["frame", "face_id"], kind="stable").reset_index(drop=True)


def _confidence(rows: pd.DataFrame, stretches: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Detection score of the stretch nearest to each row, 0 where its face has none."""
    scores = np.zeros(len(rows))
    subject = str(rows["subject"].iloc[0]) if len(rows) else ""
    for face in rows["face"].unique():
        own = [s for s in stretches if s["subject"] == subject and s["face"] == face and s["score"] is not None]
        if not own:
            continue
        mine = (rows["face"] == face).to_numpy()
        frames = rows["frame"].to_numpy()[mine]
        first, last = (np.array([s[key] for s in own]) for key in ("first_frame", "last_frame"))
        away = np.maximum(np.maximum(first - frames[:, None], frames[:, None] - last), 0)
        scores[mine] = np.array([s["score"] for s in own])[away.argmin(axis=1)]
    return scores


def write_openface(table: pd.DataFrame, path: Path) -> None:
    """Writes rows with OpenFace's separator, a comma and a blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [_texts(table[name]) for name in table.columns]
    lines = [", ".join(table.columns), *(", ".join(row) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _texts(column: pd.Series[Any]) -> list[str]:
    if column.dtype == np.float32:
        return ["" if np.isnan(value) else f"{value:.6f}" for value in column.to_numpy()]
    if column.dtype == np.float64:
        return ["" if np.isnan(value) else repr(round(float(value), 6)) for value in column.to_numpy()]
    return ["" if pd.isna(value) else str(value) for value in column]
