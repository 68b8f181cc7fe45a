"""An output folder of ``emobeam predict`` as tables: tasks of a face side by side, one video in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.decisions import checked_thresholds, heads_thresholds
from emobeam.emo_transforms.networks.heads.output_quality import Marks
from emobeam.emo_transforms.networks.shipped import told_weights
from emobeam.emo_transforms.prediction.prediction_tables import list_parts, marks_of_parts, read_run
from emobeam.emo_transforms.results.studies.face_series import Trace, traces_of
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.task_form import Task
from emobeam.schemas.tasks import TASKS

Rate = Literal["sampled", "native"]
"""``sampled``: the rows in which a face was looked at; ``native``: every row there is."""

KEY = ("subject", "face", "frame")
"""What a row of a frame-level table is about, within its video."""


@dataclass(frozen=True)
class OutputFolder:
    """What ``emobeam predict`` or ``annotate`` left, or a part of it.

    Attributes:
        uri: the folder.
        run: ``run.json``; empty where there is none.
        parts: by task and video the URI of the table.
        faces: by video the stretches of its faces, as rows of ``emobeam.schemas.tables.FACES``.
        videos: ids of all videos that have a table of any of the tasks and no damaged one, sorted.
        failed: videos with a damaged table, with the reason.
        untrained: names of the tasks whose values an untrained head made, in any of the videos.
        marks: by task, outputs that no head knows, or whose values are not to be relied on.
        weights: by task, the heads that made the values, as people are told of them (``emobeam-au-1 (sha256 ...)``).
    """

    uri: str
    run: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]
    faces: Mapping[str, Sequence[Mapping[str, Any]]]
    videos: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    untrained: tuple[str, ...] = ()
    marks: Mapping[str, Marks] = field(default_factory=dict)
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of ``emobeam.schemas.tasks.TASKS``."""
        return tuple(task for name, task in TASKS.items() if name in self.parts)

    @property
    def frame_tasks(self) -> tuple[Task, ...]:
        """Those with a row per frame."""
        return tuple(task for task in self.tasks if task.scope == "frame")

    @property
    def clip_tasks(self) -> tuple[Task, ...]:
        """Those with a row per video."""
        return tuple(task for task in self.tasks if task.scope == "clip")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people have to be told, ``untrained`` above all: by the tables themselves, and by their last run.

        ``run.json`` is about the last run only, and tables of other tasks are from earlier ones.
        """
        others = {_untrained(name) for name in TASKS if name not in self.parts}
        told = [str(text) for text in self.run.get("warnings", ())]
        unknown = [
            f"task {task.name}: run.json doesn't name its heads, so their thresholds are unknown, and 0.5 is used"
            for task in self.frame_tasks
            if any(group.kind == "binary" for group in task.groups) and not heads_in(self.run, task)
        ]
        doubts = [text for task, marks in self.marks.items() for text in marks.notes(task)]
        texts = [*(text for text in told if text not in others), *map(_untrained, self.untrained), *unknown, *doubts]
        return tuple(dict.fromkeys(texts))


def _untrained(task: str) -> str:
    return f"task {task}: untrained"


def open_output(
    uri: str,
    *,
    tasks: Sequence[str] = (),
    only: Sequence[str] = (),
    tolerant: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> OutputFolder:
    """Finds the tables of an output folder by one listing per task and their footers.

    Args:
        tasks: names of tasks; default: all that have tables.
        only: names of videos, matched by unique path suffix; default: all.
        tolerant: a video with a damaged table stands in ``failed`` instead of ending it all.
        progress: told how many of how many tables were found out about.

    Raises:
        EmobeamError: no tables there, or none of a task asked for; a table is damaged (``tolerant``: all are).
        UsageError: an unknown task, or a video that isn't there.
    """
    listing = list_parts(uri, tasks, progress=progress)
    if lacking := [name for name in tasks if name not in listing.tasks]:
        raise EmobeamError(f"{uri}: holds no predictions of task {', '.join(lacking)}; make them with emobeam predict")
    if not listing.tasks:
        raise EmobeamError(f"{uri}: holds no predictions; name the output folder of emobeam annotate or predict")
    chosen = set(_chosen(uri, sorted({*listing.videos, *listing.failed}), only))
    failed = {video: reason for video, reason in listing.failed.items() if video in chosen}
    videos = sorted(chosen & set(listing.videos) - failed.keys())
    if failed and (not tolerant or not videos):
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise EmobeamError(next(iter(failed.values())) + more)
    faces: dict[str, Sequence[Mapping[str, Any]]] = {}
    for own in listing.parts.values():
        for video, part in own.items():
            faces.setdefault(video, part.footer.get("faces", ()))
    return OutputFolder(
        uri,
        read_run(uri) or {},
        {task: {video: part.uri for video, part in own.items()} for task, own in listing.parts.items()},
        faces,
        tuple(videos),
        failed,
        tuple(
            task
            for task, own in listing.parts.items()
            if any(part.untrained for video, part in own.items() if video in chosen)
        ),
        {
            task: marks_of_parts(task, [part for video, part in own.items() if video in chosen])
            for task, own in listing.parts.items()
        },
        {
            task: tuple(
                dict.fromkeys(
                    told_weights(str(weights), str(digest))
                    for video, part in own.items()
                    if video in chosen
                    for _, weights, digest in part.footer.get("heads", ())
                )
            )
            for task, own in listing.parts.items()
        },
    )


def _chosen(uri: str, videos: Sequence[str], only: Sequence[str]) -> list[str]:
    if not only:
        return list(videos)
    matches = match_names(only, videos)
    if matches.missing:
        raise UsageError(f"--only: {uri} has no predictions of {', '.join(matches.missing)}")
    wanted = {video for video, _ in matches.found.values()}
    return [video for video in videos if video in wanted]


def columns_of(tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """By task and output the name of its column where tasks stand side by side.

    A column is called like its output; an output that two of the tasks have is called ``<task>.<output>`` in both.
    """
    count = Counter(output for task in tasks for output in task.outputs)
    return {
        task.name: {output: output if count[output] == 1 else f"{task.name}.{output}" for output in task.outputs}
        for task in tasks
    }


def source_column(task: Task) -> str:
    """The column that says where a task's values of a row come from: ``au_source``."""
    return f"{task.name}_source"


def heads_in(run: Mapping[str, Any], task: Task) -> Sequence[Mapping[str, Any]]:
    """The heads of a task as ``run.json`` names them; empty where it doesn't."""
    return run.get("heads", {}).get(task.name) or ()


def limits_of(run: Mapping[str, Any], task: Task) -> NDArray[np.float32]:
    """Threshold of each output, float32[K]: the heads' as ``run.json`` notes them, else 0.5."""
    return checked_thresholds(task, heads_thresholds(head.get("thresholds") for head in heads_in(run, task)))


def thresholds_of(run: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Threshold of each yes-or-no output of a task, see :func:`limits_of`.

    They are float32 numbers, as the values are: 0.7 reaches a threshold of 0.7.
    """
    binary = {output for group in task.groups if group.kind == "binary" for output in group.outputs}
    limits = zip(task.outputs, limits_of(run, task), strict=True)
    return {output: float(limit) for output, limit in limits if output in binary}


def read_table(uri: str) -> pa.Table:
    """A predictions table; raises :class:`EmobeamError` naming the file where it can't be read."""
    try:
        return read_parquet(uri)
    except (OSError, pa.ArrowException) as error:
        raise EmobeamError(f"{uri}: the predictions can't be read ({error}); run emobeam predict again") from error


def frame_rows(output: OutputFolder, video: str, rate: Rate = "native") -> pd.DataFrame:
    """All frame-level outputs of one video, tasks side by side.

    Args:
        rate: ``sampled`` keeps the rows that some task has by a face seen in this very frame.

    Returns:
        Columns ``video``, ``subject``, ``face`` (int16), ``frame`` (int32), ``time`` (s, float64, NaN where unknown),
        then of each task ``<task>_source`` and its outputs (float32, NaN where nothing was seen), see
        :func:`columns_of`. Sorted by subject, face and frame; a task without a row of that frame has NaN.
    """
    tasks = output.frame_tasks
    names = columns_of(tasks)
    wide: pd.DataFrame | None = None
    for task in tasks:
        if video not in output.parts[task.name]:
            continue
        table = read_table(output.parts[task.name][video]).to_pandas()
        table["source"] = table["source"].astype(object)
        table = table.rename(columns={"source": source_column(task), **names[task.name]}).set_index(list(KEY))
        table = table.drop(columns="video")
        if wide is None:
            wide = table
        else:
            times = wide.pop("time").combine_first(table.pop("time"))
            wide = wide.join(table, how="outer")
            wide["time"] = times
    columns = [column for task in tasks for column in (source_column(task), *names[task.name].values())]
    if wide is None:
        wide = pd.DataFrame({name: [] for name in KEY}).set_index(list(KEY))
    wide = wide.sort_index().reset_index()
    wide.insert(0, "video", video)
    wide = wide.reindex(columns=["video", *KEY, "time", *columns])
    wide = wide.astype({"face": "int16", "frame": "int32", "time": "float64"})
    return at_rate(wide, tasks, rate)


def at_rate(rows: pd.DataFrame, tasks: Sequence[Task], rate: Rate) -> pd.DataFrame:
    """Those of the rows of :func:`frame_rows` that a rate keeps."""
    if rate == "native":
        return rows
    seen = (rows[[source_column(task) for task in tasks]] == "sampled").any(axis=1)
    return rows[seen].reset_index(drop=True)


def video_traces(output: OutputFolder, video: str) -> dict[str, list[Trace]]:
    """By frame-level task that has a table of a video its faces as traces, as events are made of.

    Raises:
        EmobeamError: a table can't be read, or has no times.
    """
    found = {}
    for task in output.frame_tasks:
        if video not in output.parts[task.name]:
            continue
        uri = output.parts[task.name][video]
        table = read_table(uri)
        try:
            if table["time"].null_count:
                raise EmobeamError("its frames have no times; extract again with --videos or --crops-fps")
            found[task.name] = traces_of(table, task, video)
        except KeyError as error:
            raise EmobeamError(f"{uri}: the predictions can't be read ({error}); run emobeam predict again") from error
    return found


def clip_rows(output: OutputFolder, failed: dict[str, str] | None = None) -> pd.DataFrame:
    """All clip-level outputs: one row per video and subject, tasks side by side (see :func:`columns_of`).

    Args:
        failed: gets the videos whose tables can't be read, with the reason; None: they are an error.
    """
    names = columns_of(output.clip_tasks)
    videos = set(output.videos)
    wide: pd.DataFrame | None = None
    for task in output.clip_tasks:
        there = []
        for video, uri in sorted(output.parts[task.name].items()):
            try:
                if video in videos:
                    there.append(read_table(uri))
            except EmobeamError as error:
                if failed is None:
                    raise
                failed[video] = str(error)
        if not there:
            continue
        table = pa.concat_tables(there).to_pandas().rename(columns=names[task.name]).set_index(["video", "subject"])
        wide = table if wide is None else wide.join(table, how="outer")
    columns = [column for task in output.clip_tasks for column in names[task.name].values()]
    if wide is None:
        return pd.DataFrame(columns=["video", "subject", *columns])
    rows = wide.sort_index().reset_index().reindex(columns=["video", "subject", *columns])
    return rows[~rows["video"].isin(list(failed or ()))].reset_index(drop=True)


def frame_schema(tasks: Sequence[Task]) -> pa.Schema:
    """Arrow schema of :func:`frame_rows`."""
    names = columns_of(tasks)
    fields = [
        ("video", pa.string()),
        ("subject", pa.string()),
        ("face", pa.int16()),
        ("frame", pa.int32()),
        ("time", pa.float64()),
    ]
    for task in tasks:
        fields += [(source_column(task), pa.string())]
        fields += [(column, pa.float32()) for column in names[task.name].values()]
    return pa.schema(fields)


def clip_schema(tasks: Sequence[Task]) -> pa.Schema:
    """Arrow schema of :func:`clip_rows`."""
    names = columns_of(tasks)
    values = [(column, pa.float32()) for task in tasks for column in names[task.name].values()]
    return pa.schema([("video", pa.string()), ("subject", pa.string()), *values])
