"""Submission files: the organisers' header and rows, a value on every row.

Tables hold null where nobody was seen; organisers want a number on every row. Here, and only here, gaps are
filled: from the nearest frame of the same video that has a value, else with the task's neutral value.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import checked_thresholds, decide
from emobeam.emo_transforms.abaw.submissions.column_spread import Spread
from emobeam.emo_transforms.abaw.submissions.row_formats import DECIMALS, format_rows
from emobeam.emo_transforms.abaw.submissions.templates import read_template, read_video_list, template_names
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import format_key, format_name, match_names
from emobeam.schemas.tasks import SubmissionForm, Task


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """What is known of one subject of one video.

    Attributes:
        frames: int[n], native frame numbers from 1, ascending; for clip-level tasks one entry of any value.
        values: float32[n, K], one column per output of the task; a row that isn't finite throughout has no value.
        unknown: outputs that nobody taught the heads; their values are the neutral ones.
        experimental: outputs that the heads say are not to be relied on.
    """

    frames: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]
    unknown: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()


Predictions = Callable[[str, str], FramePredictions | None]
"""(video id, subject) -> what is known, or None where there is no table."""


@dataclass(frozen=True)
class SubmissionReport:
    """Where the rows of a submission come from: ``rows == exact + nearest + neutral``.

    Attributes:
        rows: data rows written.
        exact: rows with a value of their own frame.
        nearest: rows with the value of the nearest frame of their video.
        neutral: rows with the task's neutral value: their video has no value at all.
        videos_missing: the template's names (without template: those of the tables) that no predictions exist for.
        destination: the file, or the folder where the form has several.
        files: all files written.
        unknown: outputs that nobody taught the heads: the neutral value stands in their rows.
        experimental: outputs that the heads say are not to be relied on, for one of the videos at least.
        names: of the videos whose rows have values, as the file calls them.
        unasked: the template's names for a person of a video whose tables were made without that person.
        constant: columns that hold one value in every row of a file that has many, ``unknown`` ones left out.
    """

    rows: int
    exact: int
    nearest: int
    neutral: int
    videos_missing: list[str]
    destination: str
    files: list[str]
    unknown: list[str] = field(default_factory=list)
    experimental: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)

    @property
    def mostly_neutral(self) -> bool:
        """Whether more than half of the rows say nothing."""
        return 2 * self.neutral > self.rows


class ImpossibleKeys(EmobeamError):
    """Names that make no keys, or the same one, so that nothing is written."""


class OnlyNeutralRows(EmobeamError):
    """A submission that would say nothing is not written, and what is there stays.

    Attributes:
        report: what it would have been.
    """

    def __init__(self, report: SubmissionReport) -> None:
        super().__init__(f"{report.destination}: not written, no row would have a value")
        self.report = report


class _Block(NamedTuple):
    """Consecutive rows of one name. ``frames`` is None for clips."""

    name: str
    keys: list[str]
    frames: npt.NDArray[np.int64] | None
    known: FramePredictions | None


def write_submission(
    task: Task,
    edition: int,
    folder: str,
    *,
    predictions: Predictions,
    tables: Iterable[tuple[str, str]],
    template: str = "",
    thresholds: Sequence[float] = (),
    decimals: int | None = DECIMALS,
) -> SubmissionReport:
    """Writes a submission; each of its files appears as a whole or not at all, and refusing it removes nothing.

    One video's predictions are in memory at a time, as long as the template keeps its rows together. Where the
    edition wants one file per video, files of earlier runs that aren't written again are removed.

    Args:
        task: what is submitted.
        edition: ABAW edition, for instance 8.
        folder: the task's folder, anything fsspec can write; the edition's forms say what the files in it are called.
        predictions: gives the table of a (video id, subject).
        tables: (video id, subject) of all tables there are; their ids are what the template's names are matched with.
        template: the organisers' file whose rows are wanted, in their order (one file per video: their list of names,
            or a folder of examples). Without one, the rows are the frames of the tables, sorted by name.
        thresholds: of binary outputs, see :func:`emobeam.emo_transforms.abaw.decisions.checked_thresholds`.
        decimals: digits after the point of values; None: as few as a float32 needs.

    Raises:
        UsageError: the edition has no such task, or thresholds don't fit.
        EmobeamError: the template is unusable, a name in it may mean several videos, or there is no row to write, or
            only such as say nothing (:class:`OnlyNeutralRows`).
    """
    limits = checked_thresholds(task, thresholds)
    pairs = sorted(set(tables))
    reports = []
    for form in task.forms_of(edition):
        rows = _Rows(task, form, predictions, limits, decimals)
        if form.key.per_video:
            reports.append(_write_per_video(rows, folder, pairs, template))
        else:
            reports.append(_write_one(rows, storage.join(folder, form.file), pairs, template))
    if len(reports) == 1:
        return reports[0]
    return replace(reports[0], destination=folder, files=[file for report in reports for file in report.files])


@dataclass
class _Rows:
    """Makes the rows of one file or several, and counts where their values come from."""

    task: Task
    form: SubmissionForm
    predictions: Predictions
    limits: npt.NDArray[np.float32]
    decimals: int | None
    exact: int = 0
    nearest: int = 0
    neutral: int = 0
    missing: dict[str, None] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)
    valued: dict[str, None] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    experimental: set[str] = field(default_factory=set)
    spread: Spread = field(default_factory=Spread)

    def texts(self, block: _Block) -> Iterator[str]:
        """The lines of a block."""
        count = len(block.keys)
        if block.known is None:
            self.missing[block.name] = None
        else:
            self.unknown |= set(block.known.unknown)
            self.experimental |= set(block.known.experimental)
        filled, own = fill(self.task, block.frames, count, block.known)
        if filled is None:
            self.neutral += count
            filled = np.tile(np.array(self.task.neutral, np.float32), (count, 1))
        else:
            self.valued[block.name] = None
            self.exact += own
            self.nearest += count - own
        self.spread.add(decide(self.task, filled, self.limits))
        values = format_rows(self.task, self.form, filled, self.limits, self.decimals)
        if self.form.key.kind == "place":
            return (f"{text}\n" for text in values)
        return (f"{key},{text}\n" for key, text in zip(block.keys, values, strict=True))

    def report(self, destination: str, files: list[str]) -> SubmissionReport:
        """What has been made so far."""
        rows = self.exact + self.nearest + self.neutral
        unknown = [name for name in self.task.outputs if name in self.unknown]
        doubtful = [name for name in self.task.outputs if name in self.experimental]
        unknown_columns = {*unknown, *(group.name for group in self.task.groups if set(group.outputs) <= self.unknown)}
        constant = [name for name in self.spread.constant(self.task.label_columns) if name not in unknown_columns]
        found = SubmissionReport(
            rows,
            self.exact,
            self.nearest,
            self.neutral,
            list(self.missing),
            destination,
            files,
            unknown,
            doubtful,
            list(self.valued),
            self.unasked,
            constant,
        )
        if rows and self.neutral == rows:
            raise OnlyNeutralRows(found)
        return found


def _write_one(rows: _Rows, destination: str, pairs: list[tuple[str, str]], template: str) -> SubmissionReport:
    """A file that holds all videos."""
    task = rows.task
    # What can be wrong with a template shows here, before anything is written; its rows are read a second time below.
    if template:
        places = _template_places(rows, template_names(template, task), pairs)
        blocks = _template_blocks(task, template, places, rows.predictions)
    else:
        blocks = _own_blocks(task, _own_places(task, rows.form, pairs), rows.predictions)
    with storage.atomic_file(destination) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
        if rows.form.header is not None:
            file.write(rows.form.header + "\n")
        for block in blocks:
            file.writelines(rows.texts(block))
        report = rows.report(destination, [destination])
        if not report.rows:
            raise EmobeamError(f"{destination}: not written, there are no predictions of task {task.name}")
    return report


def _write_per_video(rows: _Rows, folder: str, pairs: list[tuple[str, str]], template: str) -> SubmissionReport:
    """A folder with one file per video."""
    task, (below, _, pattern) = rows.task, rows.form.file.rpartition("/")
    destination = storage.join(folder, below)
    if template:
        wanted = read_video_list(template, task, rows.form)
        places = _template_places(rows, wanted, pairs)
    else:
        places = _own_places(task, rows.form, pairs)
        wanted = dict.fromkeys(sorted(places))
    files: dict[str, bytes] = {}
    for name, listed in wanted.items():
        known = rows.predictions(*places[name]) if name in places else None
        predicted = int(known.frames.max()) if known is not None and len(known.frames) else 0
        count = predicted if listed is None else listed
        if not count:  # no predictions, and the list of names doesn't say how many rows to make up
            rows.missing[name] = None
            continue
        frames = np.arange(1, count + 1, dtype=np.int64)
        block = _Block(name, [str(frame) for frame in frames.tolist()], frames, known)
        uri = storage.join(destination, pattern.format(name=name))
        files[uri] = "".join([f"{rows.form.header}\n", *rows.texts(block)]).encode()
    if not files:
        raise EmobeamError(f"{destination}: not written, there are no predictions of task {task.name}")
    report = rows.report(destination, list(files))  # which may refuse: so nothing is written before
    for uri, data in files.items():
        storage.write_bytes(uri, data)
    _drop_others(folder, rows.form, files)
    return report


def drop_submission(task: Task, edition: int, folder: str) -> None:
    """Removes a submission whose predictions are gone: it would be taken for that of a later run.

    Raises:
        UsageError: the edition has no such task.
    """
    for form in task.forms_of(edition):
        if form.key.per_video:
            _drop_others(folder, form, ())
        else:
            storage.remove(storage.join(folder, form.file))


def _template_places(
    rows: _Rows, names: Iterable[str], pairs: Sequence[tuple[str, str]]
) -> Mapping[str, tuple[str, str]]:
    """The table that each of a template's names means; notes those that mean a person without one."""
    there = set(pairs)
    found = match_names(names, [video for video, _ in pairs]).found
    rows.unasked += [name for name, place in found.items() if place not in there]
    return found


def _drop_others(folder: str, form: SubmissionForm, written: Collection[str]) -> None:
    """Removes what earlier runs wrote and this one didn't; a video that lost its predictions has no file either."""
    below, _, pattern = form.file.rpartition("/")
    extension = "." + pattern.rpartition(".")[2]
    found = {
        storage.join(folder, below, name + extension) for name in storage.names(storage.join(folder, below), extension)
    }
    for uri in found - set(written):
        storage.remove(uri)


def fill(
    task: Task, frames: npt.NDArray[np.int64] | None, count: int, known: FramePredictions | None
) -> tuple[npt.NDArray[np.float32] | None, int]:
    """Gives each wanted frame a value of its own video.

    A frame without a value takes that of the nearest frame, by number, that has one; of two as near, the earlier.

    Args:
        task: its scope says whether ``known`` describes frames or a clip.
        frames: int64[count] wanted native frames, None for clips.
        count: how many rows are wanted.
        known: values of the video.

    Returns:
        float32[count, K] and how many rows have the value of their own frame; (None, 0) where nothing is known.

    Raises:
        ValueError: the shape of ``known`` doesn't fit the task.
    """
    if known is None:
        return None, 0
    _check_shape(task, known)
    has_value = np.isfinite(known.values).all(axis=1)
    if not has_value.any():
        return None, 0
    values = known.values[has_value]
    if frames is None:
        return np.repeat(values, count, axis=0), count
    numbers = known.frames[has_value].astype(np.int64)
    after = np.searchsorted(numbers, frames)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(numbers) - 1)
    later_is_nearer = np.abs(numbers[after] - frames) < np.abs(numbers[before] - frames)
    chosen = np.where(later_is_nearer, after, before)
    return values[chosen], int(np.count_nonzero(numbers[chosen] == frames))


def _template_blocks(
    task: Task, template: str, places: Mapping[str, tuple[str, str]], predictions: Predictions
) -> Iterator[_Block]:
    """The template's rows, those of one name together."""
    for name, group in groupby(read_template(template, task), key=attrgetter("name")):
        rows = list(group)
        place = places.get(name)
        yield _Block(
            name=name,
            keys=[row.key for row in rows],
            frames=np.array([row.frame for row in rows], np.int64) if task.scope == "frame" else None,
            known=predictions(*place) if place is not None else None,
        )


def _own_blocks(task: Task, places: Mapping[str, tuple[str, str]], predictions: Predictions) -> Iterator[_Block]:
    """The rows of the tables themselves, sorted by name."""
    for name, place in sorted(places.items()):
        known = predictions(*place)
        if task.scope == "clip":
            yield _Block(name, [format_key(task, name, None)], None, known)
        elif known is None:
            yield _Block(name, [], None, None)
        else:
            keys = [format_key(task, name, frame) for frame in known.frames.tolist()]
            yield _Block(name, keys, known.frames.astype(np.int64), known)


def _own_places(task: Task, form: SubmissionForm, pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    places: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        name = format_name(task, *pair)
        if form.key.per_video:  # the name of a file
            name = name.rpartition("/")[2]
        if any(character == "," or unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
            raise ImpossibleKeys(
                f"{name!r} can't be a key: a comma or a line break in it would break rows; rename the video, or give a "
                "template"
            )
        if name in places:
            raise ImpossibleKeys(f"{name!r} in the submission would mean {places[name]} and {pair}; give a template")
        places[name] = pair
    return places


def _check_shape(task: Task, known: FramePredictions) -> None:
    rows = len(known.frames)
    if known.frames.ndim != 1 or known.values.shape != (rows, len(task.outputs)):
        raise ValueError(f"{task.name}: {known.frames.shape} frames with values {known.values.shape}")
    if task.scope == "clip" and rows > 1:
        raise ValueError(f"{task.name}: a clip has one row, got {rows}")
    if rows > 1 and not (known.frames[1:] > known.frames[:-1]).all():
        raise ValueError(f"{task.name}: frame numbers must ascend")
