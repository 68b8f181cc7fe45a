"""An output folder of ``emobeam predict`` as tables: tasks of a face side by side, one video in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emo_transforms import storage
from emo_transforms.abaw.decisions import checked_thresholds
from emo_transforms.abaw.keys import match_names
from emo_transforms.parts import read_part_footer
from schemas.records import EmobeamError, UsageError
from schemas.task import Task
from schemas.tasks import TASKS, task_named

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
        faces: by video the stretches of its faces, as rows of ``schemas.tables.FACES``.
        videos: ids of all videos that have a table of any of the tasks, sorted.
    """

    uri: str
    run: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, str]]
    faces: Mapping[str, Sequence[Mapping[str, Any]]]
    videos: tuple[str, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of ``schemas.tasks.TASKS``."""
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
        """What the run had to warn of (``untrained`` above all)."""
        return tuple(str(text) for text in self.run.get("warnings", ()))


def open_output(uri: str, *, tasks: Sequence[str] = (), only: Sequence[str] = ()) -> OutputFolder:
    """Finds the tables of an output folder by one listing per task and their footers.

    Args:
        tasks: names of tasks; default: all that have tables.
        only: names of videos, matched by unique path suffix; default: all.

    Raises:
        EmobeamError: no tables there, or none of a task asked for; a table is damaged.
        UsageError: an unknown task, or a video that isn't there.
    """
    for name in tasks:
        task_named(name)
    parts: dict[str, dict[str, str]] = {}
    faces: dict[str, Sequence[Mapping[str, Any]]] = {}
    for name in tasks or TASKS:
        folder = storage.join(uri, "predictions", name)
        for part in sorted(storage.names(folder, ".parquet")):
            place = storage.join(folder, f"{part}.parquet")
            footer = read_part_footer(place)
            parts.setdefault(name, {})[footer["video"]] = place
            faces.setdefault(footer["video"], footer.get("faces", ()))
    if lacking := [name for name in tasks if name not in parts]:
        raise EmobeamError(f"{uri}: holds no predictions of task {', '.join(lacking)}; make them with emobeam predict")
    if not parts:
        raise EmobeamError(f"{uri}: holds no predictions; name the output folder of emobeam annotate or predict")
    videos = _chosen(uri, sorted({video for own in parts.values() for video in own}), only)
    run_uri = storage.join(uri, "run.json")
    run = storage.read_json(run_uri) if storage.exists(run_uri) else {}
    return OutputFolder(uri, run if isinstance(run, dict) else {}, parts, faces, tuple(videos))


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


def thresholds_of(run: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Threshold of each yes-or-no output of a task: the head's own as ``run.json`` notes them, else 0.5.

    They are float32 numbers, as the values are: 0.7 reaches a threshold of 0.7.
    """
    heads = run.get("heads", {}).get(task.name) or [{}]
    limits = checked_thresholds(task, heads[0].get("thresholds") or ())
    binary = {output for group in task.groups if group.kind == "binary" for output in group.outputs}
    return {output: float(limit) for output, limit in zip(task.outputs, limits, strict=True) if output in binary}


def read_table(uri: str) -> pa.Table:
    """A predictions table; raises :class:`EmobeamError` naming the file where it can't be read."""
    fs, path = storage.file_system(uri)
    try:
        with fs.open(path, "rb") as file:
            return pq.read_table(file)
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


def clip_rows(output: OutputFolder) -> pd.DataFrame:
    """All clip-level outputs: one row per video and subject, tasks side by side (see :func:`columns_of`)."""
    names = columns_of(output.clip_tasks)
    wide: pd.DataFrame | None = None
    for task in output.clip_tasks:
        there = [read_table(uri) for video, uri in sorted(output.parts[task.name].items()) if video in output.videos]
        if not there:
            continue
        table = pa.concat_tables(there).to_pandas().rename(columns=names[task.name]).set_index(["video", "subject"])
        wide = table if wide is None else wide.join(table, how="outer")
    columns = [column for task in output.clip_tasks for column in names[task.name].values()]
    if wide is None:
        return pd.DataFrame(columns=["video", "subject", *columns])
    return wide.sort_index().reset_index().reindex(columns=["video", "subject", *columns])


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
