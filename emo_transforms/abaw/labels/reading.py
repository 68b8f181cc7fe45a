"""Annotations of every task as arrays by frame number, with a mask of what is valid.

Layouts and markers are those of the ABAW releases: Aff-Wild2 (one text file per video), s-Aff-Wild2 (one per
partition), Hume-Vidmimic2, BAH and DVD. A missing label is a marker (-5, -1) in the file; rows that hold one keep it in
``values`` and are not valid. The number of rows is what the file says, it may differ from that of the video's frames.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.abaw.labels.label_files import LabelRow, read_label_file, read_split
from emobeam.emo_transforms.abaw.text_files import Folder, base_name, is_file, list_folder, plain_name
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted, did_you_mean, noun

_ANNOTATIONS = ("annotation.yml", "annotation.yaml", "video_annotation.yaml", "video_annotation.yml")


@dataclass(frozen=True, eq=False)
class VideoLabels:
    """Labels of one video, or of one of two people in it.

    Attributes:
        name: as the organisers write it, for instance ``video49_left``.
        frames: int32[n], native frame numbers from 1, ascending; ``[1]`` for clip-level tasks.
        values: float32[n, C], one column per ``task.label_columns``; class groups hold the number of the class.
        valid: bool[n, G], one column per group of the task: all of the group's values on that row are labels; but a
            yes-or-no output whose value is NaN has none there (people folders alone hold such).
        also: what a cache may call the video where it knows none called ``name``; ``""``: nothing else.
    """

    name: str
    frames: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    also: str = ""


@dataclass(frozen=True)
class LabelSource:
    """One annotation file: its partition (``""`` where that isn't known), the video it holds (``""``: many), its URI.

    ``only`` are the names that belong to the partition where the file holds those of others too.
    """

    partition: str
    name: str
    uri: str
    only: frozenset[str] | None = None


Warn = Callable[[str], None]
"""Takes one line that people have to be told."""


def read_labels(uri: str, task: Task, *, warn: Warn, edition: int = 0, partition: str = "") -> Iterator[VideoLabels]:
    """Yields the labels of all videos, sorted by name.

    Files of one video each are read one at a time; files of many are read whole.

    Args:
        uri: the root of the annotations, the task's folder in it, a partition's folder, or a file.
        task: whose labels.
        warn: told of videos that belong to the partition and have no labels.
        edition: checked to hold the task, where given.
        partition: ``train``, ``validation``, ``test`` or as the folder or file is called; all where empty.

    Raises:
        EmobeamError: nothing there, a row that isn't as expected, one name twice; names file and line.
        UsageError: the edition has no such task.
    """
    if edition:
        task.forms_of(edition)
    sources = label_sources(uri, task, partition=partition)
    if task.labels.kind in ("rows", "numbered"):
        for source in sources:
            yield _video_labels(task, source.name, list(read_label_file(source.uri, source.name, task)))
        return
    if not partition and task.labels.kind == "bah-frames":  # all videos of the file, in a split list or not
        sources = [LabelSource("", "", sources[0].uri)]
    rows = sorted((row for source in sources for row in _source_rows(source, task, warn)), key=lambda row: row.name)
    for name, group in groupby(rows, key=lambda row: row.name):
        yield _video_labels(task, name, list(group))


def partitions(uri: str, task: Task) -> list[str]:
    """The partitions at a place: ``train``, ``validation``, ``test``, or ``[""]`` where nothing says which it is."""
    found = {source.partition for source in label_sources(uri, task)}
    order = [name for name, _ in task.labels.partitions]
    return sorted(found, key=lambda name: (order.index(name) if name in order else -1, name))


ALL = "all"
"""Stands for all partitions where one of them would be taken else."""


def scored_partition(uri: str, task: Task, partition: str, warn: Warn) -> tuple[str, list[str]]:
    """Which labels a figure is of: those that are asked for, else the official validation part where there is one.

    Args:
        partition: what the user says; :data:`ALL` pools.
        warn: told where several are pooled.

    Returns:
        The partition for :func:`read_labels`, and the names of those it stands for, ``""`` being one nobody knows.
    """
    if partition == ALL:
        chosen, there = "", partitions(uri, task)
    else:
        chosen, there = chosen_partition(uri, task, partition, "validation")
    if len(there) > 1:
        warn(f"{uri}: the labels of {', '.join(there)} are pooled, and papers tell figures of one of them; --partition")
    return chosen, there


def chosen_partition(uri: str, task: Task, partition: str, usual: str) -> tuple[str, list[str]]:
    """The partition that is asked for, else the usual one where there are several; as :func:`scored_partition`.

    Raises:
        EmobeamError: no such partition.
    """
    there = partitions(uri, task)
    if partition:
        label_sources(uri, task, partition=partition)
        chosen = _partition_named(task, partition) or partition
    else:
        chosen = usual if len(there) > 1 and usual in there else ""
    return chosen, [chosen] if chosen else there


def label_sources(uri: str, task: Task, *, partition: str = "") -> list[LabelSource]:
    """The annotation files at a place, sorted by name of the video.

    Raises:
        EmobeamError: there are none, no such partition, or two of one name.
    """
    sources = sorted(_all_sources(uri, task), key=lambda source: (source.name, source.uri))
    if partition:
        wanted = _partition_named(task, partition) or partition
        there = sorted({source.partition for source in sources})
        sources = [source for source in sources if source.partition == wanted]
        if not sources and there == [""]:
            raise EmobeamError(f"{uri}: nothing there says which labels are of {partition!r}; leave --partition out")
        if not sources:
            meant = did_you_mean(partition, there)
            raise EmobeamError(
                f"{uri}: no partition {partition!r} of task {task.name}; there are {', '.join(there)}{meant}"
            )
    for one, other in pairwise(sources):
        if one.name and one.name == other.name:
            raise EmobeamError(f"{one.uri} and {other.uri} both hold {one.name!r}; name a --partition")
    return sources


def _all_sources(uri: str, task: Task) -> list[LabelSource]:
    try:
        return _sources_in(uri, task)
    except _NothingThere as error:
        inside = [inner for inner in list_folder(uri).folders.values() if _has_labels(inner, task)]
        if not inside:
            raise
        raise EmobeamError(f"{error}; they lie one level lower, name {' or '.join(map(repr, inside))}") from None


class _NothingThere(EmobeamError):
    """A folder holds no annotations of a task."""


def _has_labels(folder: str, task: Task) -> bool:
    try:
        return bool(_sources_in(folder, task))
    except EmobeamError:
        return False


def _sources_in(uri: str, task: Task) -> list[LabelSource]:
    per_video = task.labels.kind in ("rows", "numbered")
    if is_file(uri):
        file = base_name(uri)
        name = file.rpartition(".")[0] or file
        return [LabelSource(_partition_named(task, file) or "", name if per_video else "", uri)]
    folder, where = _task_folder(uri, task)
    if task.labels.kind == "bah-frames":
        return _bah_sources(folder, where, task)
    if not per_video:
        found = [
            LabelSource(_partition_named(task, name) or "", "", file)
            for name, file in folder.files.items()
            if _partition_named(task, name)
        ]
    else:
        extension = ".txt" if task.labels.kind == "rows" else ".csv"
        inside = {name: part for name, part in folder.folders.items() if _partition_named(task, name)}
        # A folder without partitions in it is one itself.
        parts = [(name, list_folder(part)) for name, part in inside.items()] or [(base_name(where), folder)]
        found = [
            LabelSource(_partition_named(task, part) or "", name, file)
            for part, entries in parts
            for name, file in entries.with_extension(extension).items()
        ]
    if not found:
        raise _NothingThere(f"{uri}: no annotations of task {task.name}; expected {_wanted(task)}")
    return found


def _task_folder(uri: str, task: Task) -> tuple[Folder, str]:
    """The folder that holds the partitions: that of the task inside an annotation root, else the given one."""
    folder = list_folder(uri)
    wanted = (*task.labels.folders, *(("video-level", "split-*") if task.labels.kind == "bah-clips" else ()))
    inside = {
        name: inner
        for name, inner in folder.folders.items()
        if any(fnmatch.fnmatchcase(plain_name(name), plain_name(pattern)) for pattern in wanted)
    }
    if len(inside) > 1:
        raise EmobeamError(f"{uri}: {' and '.join(sorted(inside))} may all be meant; name one of them")
    return _task_folder(next(iter(inside.values())), task) if inside else (folder, uri)


def _bah_sources(folder: Folder, where: str, task: Task) -> list[LabelSource]:
    """annotation.yml holds all videos; the split lists beside it say which partition each is in."""
    folders = [folder, *(list_folder(inner) for inner in folder.named("default-split").values())]
    if not (folder.files.keys() & set(_ANNOTATIONS)) and base_name(where) == "default-split":
        folders.append(list_folder(where.rstrip("/").rpartition("/")[0]))
    annotations = [uri for entries in folders for name, uri in entries.files.items() if name in _ANNOTATIONS]
    if len(annotations) != 1:
        kind = EmobeamError if annotations else _NothingThere
        raise kind(f"{where}: {len(annotations)} files of labels of task ah; expected one annotation.yml")
    lists = {
        _partition_named(task, name): uri
        for entries in folders
        for name, uri in entries.files.items()
        if _partition_named(task, name)
    }
    return [
        LabelSource(partition or "", "", annotations[0], frozenset(row.name for row in read_split(uri, task)))
        for partition, uri in lists.items()
    ] or [LabelSource("", "", annotations[0])]


def _source_rows(source: LabelSource, task: Task, warn: Warn) -> Iterable[LabelRow]:
    rows = read_label_file(source.uri, source.name, task)
    if source.only is None:
        return rows
    kept = [row for row in rows if row.name in source.only]
    lacking = sorted(source.only - {row.name for row in kept})
    if lacking:
        some = f"{counted(len(lacking), 'video')} of partition {source.partition} {noun(len(lacking), 'has', 'have')}"
        warn(f"{source.uri}: {some} no labels there, for example {lacking[0]!r}")
    return kept


def _video_labels(task: Task, name: str, rows: Sequence[LabelRow]) -> VideoLabels:
    frames = np.array([row.frame for row in rows], np.int64)
    order = np.argsort(frames, kind="stable")
    repeated = np.flatnonzero(np.diff(frames[order]) == 0)
    if len(repeated):
        one, other = rows[order[repeated[0]]], rows[order[repeated[0] + 1]]
        what = repr(name) if task.scope == "clip" else f"frame {one.frame} of {name!r}"
        raise EmobeamError(f"{other.uri}, line {other.line}: {what} stands in {one.uri}, line {one.line} already")
    values = np.array([row.values for row in rows], np.float64)[order]
    valid = np.ones((len(rows), len(task.groups)), bool)
    start = 0
    for index, group in enumerate(task.groups):
        stop = start + len(group.label_columns)
        if group.invalid is not None:
            valid[:, index] = (values[:, start:stop] != group.invalid).all(axis=1)
        start = stop
    return VideoLabels(name, frames[order].astype(np.int32), values.astype(np.float32), valid)


def _partition_named(task: Task, text: str) -> str | None:
    """The partition that a folder or file name, or what a user says, means."""
    for partition, names in task.labels.partitions:
        if plain_name(text) in {plain_name(name) for name in (partition, *names)}:
            return partition
    return None


def _wanted(task: Task) -> str:
    names = [name for _, names in task.labels.partitions for name in names]
    if not names:
        return "a file: no partitions of this task are handed out"
    inside = f" in {' or '.join(task.labels.folders)}" if task.labels.folders else ""
    files = {"rows": " with a .txt file per video", "numbered": " with a .csv file per video"}
    return f"{', '.join(names)}{files.get(task.labels.kind, '')}{inside}"
