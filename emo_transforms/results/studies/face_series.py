"""Predictions tables as traces: what one face showed over the time of one video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import checked_thresholds, heads_thresholds
from emobeam.emo_transforms.networks.heads.output_quality import Marks
from emobeam.emo_transforms.prediction.prediction_tables import list_parts, marks_of_parts, predicted_tasks, read_run
from emobeam.emo_transforms.results.studies.events import frame_ends
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError, InputError, UsageError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.task_form import Task
from emobeam.schemas.tasks import TASKS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trace:
    """The rows of one face of one subject in one video.

    Attributes:
        frames: ``[n]`` native frame numbers, ascending.
        times, ends: ``[n]`` s; a frame is shown from its time until its end.
        values: ``[n, K]``, one column per output of the task, NaN where nobody was seen.
        sampled: ``[n]`` frames that were looked at themselves.
        start, stop: of the video, in s; a face other than 0 has rows only from its first to its last sighting.
    """

    video: str
    subject: str
    face: int
    frames: NDArray[np.int32]
    times: Floats
    ends: Floats
    values: NDArray[np.float32]
    sampled: NDArray[np.bool_]
    start: float
    stop: float

    @property
    def shown(self) -> Floats:
        """``[n]`` seconds for which each frame is shown."""
        return self.ends - self.times

    @property
    def key(self) -> tuple[str, str, int]:
        """Video, subject and face."""
        return self.video, self.subject, self.face


@dataclass(frozen=True)
class Source:
    """The predictions of one task in an output folder.

    Attributes:
        output: the folder.
        task: whose predictions.
        parts: URI of the table of each video that was asked for, sorted by id.
        every: the same of all videos of the output: what holds for a person (a baseline) is made from all of theirs.
        failed: videos asked for whose table is damaged, with the reason.
        damaged: ids of all videos whose table is damaged.
        thresholds: of each output, float32[K]: those of the heads, 0.5 where they have none.
        untrained: a head whose values mean nothing made them.
        subjects: names of all subjects in the parts.
        heads: name, weights and digest of the heads, as ``run.json`` has them.
        marks: outputs that no head knows, or whose values are not to be relied on.
    """

    output: str
    task: Task
    parts: Mapping[str, str]
    every: Mapping[str, str]
    failed: Mapping[str, str]
    damaged: frozenset[str]
    thresholds: NDArray[np.float32]
    untrained: bool
    subjects: frozenset[str]
    heads: Sequence[Mapping[str, Any]]
    marks: Marks = field(default_factory=Marks)


def frame_tasks_in(output: str) -> list[str]:
    """Names of the frame-level tasks that an output folder holds predictions of.

    Raises:
        EmobeamError: there is no such folder.
    """
    if not storage.exists(output):
        raise EmobeamError(f"{output}: no such folder; name the output of emobeam annotate or predict")
    return [name for name in predicted_tasks(output) if TASKS[name].scope == "frame"]


def open_source(output: str, task: Task, only: str = "", progress: Callable[[int, int], None] | None = None) -> Source:
    """Lists the predictions of a task.

    Args:
        only: names of videos, separated by commas; ``""``: all.
        progress: told how many of how many tables were found out about.

    Raises:
        EmobeamError: there are none, or all of them are damaged.
        UsageError: a clip-level task, or ``only`` names a video that isn't there.
    """
    if task.scope == "clip":
        raise UsageError(f"task {task.name} has one set of values per clip, which has no course in time")
    there = frame_tasks_in(output)
    if task.name not in there:
        held = f"it holds {', '.join(there)}" if there else "run emobeam annotate or predict first"
        raise EmobeamError(f"{output}: no predictions of task {task.name}; {held}")
    listing = list_parts(output, [task.name], progress=progress)
    every = dict(listing.parts.get(task.name, {}))
    failed = listing.failed
    chosen = {*every, *failed}
    if only:
        names = [name.strip() for name in only.split(",") if name.strip()]
        matches = match_names(names, sorted(chosen))
        if matches.missing or not names:
            lacking = ", ".join(matches.missing) or repr(only)
            raise UsageError(f"--only: no predictions of a video called {lacking}")
        chosen = {video for video, _ in matches.found.values()}
    parts = {video: part for video, part in every.items() if video in chosen}
    damaged = frozenset(failed)
    failed = {video: reason for video, reason in failed.items() if video in chosen}
    if failed and not parts:
        first = next(iter(failed.values()))
        raise EmobeamError(f"{output}: none of the {len(failed)} tables of task {task.name} can be read: {first}")
    heads = _heads(output, task)
    limits = checked_thresholds(task, heads_thresholds(head.get("thresholds") for head in heads))
    return Source(
        output,
        task,
        {video: part.uri for video, part in parts.items()},
        {video: part.uri for video, part in every.items()},
        failed,
        damaged,
        limits,
        any(part.untrained for part in parts.values()),
        frozenset(subject for part in parts.values() for subject in part.subjects),
        heads,
        marks_of_parts(task.name, parts.values()),
    )


def _heads(output: str, task: Task) -> list[dict[str, Any]]:
    heads: list[dict[str, Any]] = ((read_run(output) or {}).get("heads") or {}).get(task.name, [])
    return heads


def read_traces(source: Source, video: str, fps: float = 0.0) -> list[Trace]:
    """All faces of a video.

    Args:
        fps: frames per second where the table has no times (folders of crops); 0: unknown.

    Raises:
        InputError: the table can't be read, or has no times and ``fps`` is 0.
    """
    uri = source.every[video]
    try:
        return traces_of(read_parquet(uri), source.task, video, fps)
    except (OSError, KeyError, pa.ArrowException) as error:
        text = f"{uri}: the predictions can't be read ({error}); run emobeam predict again"
        raise InputError(text, stage="open", reason="damaged", permanent=True) from error


def traces_of(table: pa.Table, task: Task, video: str, fps: float = 0.0) -> list[Trace]:
    """All faces in the predictions table of a video, by subject and face.

    Args:
        table: of ``emobeam.schemas.tables.predictions_schema``.
        fps: as for :func:`read_traces`.

    Raises:
        InputError: the table has no times and ``fps`` is 0.
        KeyError: a column is missing.
    """
    subjects = np.array(table["subject"].to_pylist(), object)
    faces = table["face"].to_numpy()
    frames = table["frame"].to_numpy().astype(np.int32)
    times = table["time"].to_numpy().astype(np.float64)
    values = np.stack([table[name].to_numpy().astype(np.float32) for name in task.outputs], axis=1)
    origin = np.array(table["source"].to_pylist(), object)
    values[origin == "absent"] = np.nan
    if np.isnan(times).any():
        if not fps > 0:
            text = f"{video}: the table has no times (a folder of crops); name the frame rate by --fps"
            raise InputError(text, stage="open", reason="unsupported", permanent=True)
        times = (frames - 1) / fps
    start = float(times.min()) if len(times) else 0.0
    stop = float(frame_ends(np.unique(times), None)[-1]) if len(times) else 0.0
    traces = []
    for subject, face in sorted(set(zip(subjects.tolist(), faces.tolist(), strict=True))):
        mine = np.flatnonzero((subjects == subject) & (faces == face))
        mine = mine[np.argsort(frames[mine], kind="stable")]
        # A face that leaves before the video ends is shown until the next frame of the video.
        clock = times[mine]
        later = times[times > clock[-1]]
        ends = frame_ends(clock, float(later.min()) if len(later) else stop)
        sampled = origin[mine] == "sampled"
        traces.append(Trace(video, subject, int(face), frames[mine], clock, ends, values[mine], sampled, start, stop))
    return traces
