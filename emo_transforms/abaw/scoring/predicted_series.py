"""Predictions as the scorer reads them: a submission (label form) or predictions tables (scores), by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import compound_from_expressions, with_neutral
from emobeam.emo_transforms.abaw.submissions.reading import find_submissions, read_submission
from emobeam.emo_transforms.abaw.text_files import is_file
from emobeam.emo_transforms.networks.heads.output_quality import marks_in
from emobeam.emo_transforms.prediction.postprocessing import confident, postprocess, rows_with_value, weighted_mean
from emobeam.emo_transforms.prediction.prediction_tables import predicted_tasks, read_part_footer
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.post_config import PostConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tables import FOOTER_KEY
from emobeam.schemas.tasks import TASKS, Task, task_named

Place = tuple[str, str]
"""(video id, subject) of a table; (name, "") of a submission."""


@dataclass(frozen=True, eq=False)
class Series:
    """What is predicted for one person in one video.

    Attributes:
        frames: ``[n]`` native frame numbers, ascending; for clips ``[1]``.
        values: ``[n, C]`` scores, or ``[n, K]`` in label form; NaN where there is no value.
        known: ``[n]`` rows that had a value before anything was interpolated.
        times: ``[n]`` s, NaN where unknown.
        positive: ``[n]`` probability of "yes" that a submission holds beside its labels, or None.
        unknown: outputs that nobody taught the heads; their values are the neutral ones.
        experimental: outputs that the heads say are not to be relied on.
    """

    frames: NDArray[np.int32]
    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    times: NDArray[np.float64]
    positive: NDArray[np.float32] | None = None
    unknown: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()


class Predictions(Protocol):
    """A set of predictions of one task.

    Attributes:
        scores: values are scores, one column per output; else they are in label form.
        places: all there are, sorted.
    """

    @property
    def scores(self) -> bool:
        """Whether values are scores, see above."""

    @property
    def places(self) -> Sequence[Place]:
        """All there are, sorted."""

    def read(self, place: Place) -> Series:
        """The series of one of ``places``."""
        ...

    def find(self, names: Sequence[str]) -> dict[str, Place]:
        """The place that each of the organisers' names means, where there is one."""
        ...


@dataclass(frozen=True)
class TablePredictions:
    """Predictions tables; one video's is in memory at a time. A row counts as known where a face gave its value.

    Attributes:
        task: whose tables they are.
        parts: URI of the table of each place.
        compound: the tables are task ``expr``'s and compound expressions are wanted.
    """

    task: Task
    parts: dict[Place, str]
    compound: bool = False
    scores: bool = True

    @property
    def places(self) -> Sequence[Place]:
        """Video and subject of each table, sorted."""
        return sorted(self.parts)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the columns of what it reads."""
        return TASKS["ce"].outputs if self.compound else self.task.outputs

    def read(self, place: Place) -> Series:
        """Face 0 of one video's table; raises :class:`EmobeamError` where the table can't be read."""
        uri = self.parts[place]
        try:
            table = read_parquet(uri)
            footer = parsed((table.schema.metadata or {}).get(FOOTER_KEY, b"{}"))
            keep = np.array([name == place[1] for name in table["subject"].to_pylist()], bool)
            if "face" in table.column_names:
                keep &= table["face"].to_numpy() == 0
            values = [table[name].to_numpy().astype(np.float32)[keep] for name in self.task.outputs]
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise EmobeamError(f"{uri}: the predictions can't be read ({error}); run emobeam predict again") from error
        rows = int(keep.sum())
        marks = marks_in(footer)
        unknown, experimental = marks.unknown, marks.experimental
        stacked = with_neutral(self.task, np.stack(values, axis=1), unknown)
        if self.compound:
            stacked = compound_from_expressions(stacked)
            unknown, experimental = _of_compounds(unknown), _of_compounds(experimental)
            experimental = tuple(name for name in experimental if name not in unknown)
        known = rows_with_value(stacked)
        frames, times = np.ones(rows, np.int32), np.full(rows, np.nan)
        if "frame" in table.column_names:
            frames = table["frame"].to_numpy()[keep].astype(np.int32)
            times = table["time"].to_numpy()[keep].astype(np.float64)
            known &= np.array([source != "absent" for source in table["source"].to_pylist()], bool)[keep]
        return Series(frames, stacked, known, times, unknown=unknown, experimental=experimental)

    def find(self, names: Sequence[str]) -> dict[str, Place]:
        """The table that each of the organisers' names means; ``_left`` and ``_right`` name a subject."""
        found = match_names(names, sorted({video for video, _ in self.parts})).found
        return {name: place for name, place in found.items() if place in self.parts}


@dataclass(frozen=True)
class SubmissionPredictions:
    """A submission file, or a folder of them, in label form; all of it in memory."""

    series: dict[str, Series]
    scores: bool = False

    @property
    def places(self) -> Sequence[Place]:
        """The names in the submission, sorted, each with the subject ``""``."""
        return [(name, "") for name in sorted(self.series)]

    def read(self, place: Place) -> Series:
        """The rows of one name, in label form."""
        return self.series[place[0]]

    def find(self, names: Sequence[str]) -> dict[str, Place]:
        """The part of the submission that each of the organisers' names means."""
        # Names of a submission are the organisers' own: `_left` is no side of another name here.
        found = match_names(names, sorted(self.series)).found
        return {name: place for name, place in found.items() if not place[1]}


@dataclass(frozen=True)
class ProcessedPredictions:
    """Several sets of scores made one, and post-processed.

    Attributes:
        parts: the averaged sets; a place exists where it exists in any of them.
        gate: scores of the same classes that replace the others where they are confident, or None.
    """

    parts: tuple[TablePredictions, ...]
    config: PostConfig
    gate: TablePredictions | None = None
    scores: bool = True

    @property
    def places(self) -> Sequence[Place]:
        """Those of all sets, sorted."""
        return sorted({place for part in self.parts for place in part.places})

    def read(self, place: Place) -> Series:
        """The average of the sets that have the place, gated, smoothed and corrected as ``config`` says."""
        found = [part.read(place) if place in part.parts else None for part in self.parts]
        gate = self.gate.read(place) if self.gate and place in self.gate.parts else None
        return combine(found, self.config, gate, self.parts[0].outputs)

    def find(self, names: Sequence[str]) -> dict[str, Place]:
        """The place that each of the organisers' names means, in whichever of the sets."""
        found = match_names(names, sorted({video for video, _ in self.places})).found
        places = set(self.places)
        return {name: place for name, place in found.items() if place in places}


def combine(
    parts: Sequence[Series | None], config: PostConfig, gate: Series | None = None, outputs: Sequence[str] = ()
) -> Series:
    """Averages, gates, interpolates and smooths the series of one place; None is a set that lacks it.

    What is unknown to one set is taken from the others.

    Args:
        outputs: names of the columns; default: those of the config's task.

    Raises:
        EmobeamError: the config holds another number of weights.
    """
    if config.weights and len(config.weights) != len(parts):
        raise EmobeamError(f"the post-processing holds {len(config.weights)} weights for {len(parts)} predictions")
    there = [part for part in parts if part is not None]
    frames = np.unique(np.concatenate([part.frames for part in there]))
    shares = config.weights or (1.0,) * len(parts)
    weights = [share for share, part in zip(shares, parts, strict=True) if part is not None]
    names = outputs or task_named(config.task).outputs
    knows = np.array([[name not in part.unknown for name in names] for part in there])
    values = weighted_mean([_on(frames, part) for part in there], weights, knows)
    times = np.full(len(frames), np.nan)
    for part in there:
        times[np.searchsorted(frames, part.frames)] = part.times
    if gate is not None and config.gate < 1:
        values = confident(values, _on(frames, gate), config.gate)
    known = rows_with_value(values)
    unknown = tuple(name for name, held in zip(names, np.asarray(knows.any(axis=0)), strict=True) if not held)
    sources = [*there, gate] if gate is not None and config.gate < 1 else there
    doubtful = tuple(
        name for name in names if name not in unknown and any(name in part.experimental for part in sources)
    )
    return Series(frames, postprocess(values, times, config), known, times, unknown=unknown, experimental=doubtful)


def _of_compounds(outputs: Sequence[str]) -> tuple[str, ...]:
    """Compound expressions that are made of some of these basic ones."""
    pairs = zip(TASKS["ce"].outputs, TASKS["ce"].compounds, strict=True)
    return tuple(name for name, pair in pairs if set(pair) & set(outputs))


def _on(frames: NDArray[np.int32], series: Series) -> NDArray[np.float32]:
    """The values of a series at given frames, NaN where it has none."""
    values = np.full((len(frames), series.values.shape[1]), np.nan, np.float32)
    if len(series.frames):
        row = np.minimum(np.searchsorted(series.frames, frames), len(series.frames) - 1)
        own = (series.frames[row] == frames) & series.known[row]
        values[own] = series.values[row[own]]
    return values


def open_tables(uri: str, task: Task) -> TablePredictions | None:
    """The tables in ``OUT`` or ``OUT/predictions/<task>``; None where there are none.

    Compound expressions that nobody predicted are taken from the tables of basic ones.

    Raises:
        EmobeamError: a Parquet file there isn't emobeam's, or belongs to another task.
    """
    parts: dict[Place, str] = {}
    if is_file(uri):
        return None
    for folder in (storage.join(uri, "predictions", task.name), uri):
        names = sorted(storage.names(folder, ".parquet") - _OTHER_TABLES)
        tables = [storage.join(folder, f"{name}.parquet") for name in names]
        for part, footer in zip(tables, storage.side_by_side(folder, _footer_of, tables), strict=True):
            if isinstance(footer, Exception):
                raise footer
            if footer["task"] == task.source:
                break
            if footer["task"] != task.name:
                raise EmobeamError(f"{part}: predictions of task {footer['task']}, not {task.name}")
            parts |= {(footer["video"], subject): part for subject in footer["subjects"]}
        if parts:
            return TablePredictions(task, parts)
    if task.compounds and (source := open_tables(uri, task_named(task.source))):
        return TablePredictions(source.task, source.parts, compound=True)
    return None


_OTHER_TABLES = {"faces", "videos", "segments"}


def _footer_of(uri: str) -> dict[str, Any] | Exception:
    """A footer, or why there is none: the first table in order decides what is said, whichever is read first."""
    try:
        return read_part_footer(uri)
    except (EmobeamError, OSError) as error:
        return error


def open_predictions(
    uris: Sequence[str], task: Task, edition: int, *, post: PostConfig | None = None, gate: str = ""
) -> Predictions:
    """Finds out what a URI holds and opens it.

    Args:
        uris: one submission file or folder; or one or several outputs or folders of tables, which are averaged.
        post: how scores are post-processed.
        gate: an output, or folder of tables, of the same task, for the confidence gate.

    Raises:
        UsageError: post-processing, a gate or several sets, where only scores will do.
        EmobeamError: nothing there, or unreadable.
    """
    tables = [open_tables(uri, task) for uri in uris]
    found = tuple(table for table in tables if table is not None)
    if post is None and not gate and len(uris) == 1:
        return found[0] if found else _open_submission(uris[0], task, edition)
    if len(found) < len(uris):
        lacking = next(uri for uri, table in zip(uris, tables, strict=True) if table is None)
        raise UsageError(
            f"{lacking}: holds no predictions tables of task {task.name}; only those can be averaged or post-processed"
        )
    gate_tables = open_tables(gate, task) if gate else None
    if gate and gate_tables is None:
        raise UsageError(f"{gate}: holds no predictions tables of task {task.name} for the gate")
    return ProcessedPredictions(found, post or PostConfig(task.name), gate_tables)


def _open_submission(uri: str, task: Task, edition: int) -> SubmissionPredictions:
    if not storage.exists(uri):
        raise EmobeamError(f"{uri}: no such file or folder; name a submission or the output of emobeam predict")
    if not is_file(uri) and (held := predicted_tasks(uri)):
        raise EmobeamError(
            f"{uri}: no predictions of task {task.name}; it holds {', '.join(held)}. Those of {task.name} are made by "
            f"emobeam predict FEATURES --task {task.name} --output {uri}"
        )
    labels = _gathered(uri, task, edition, probabilities=False)
    sure = {}
    if any(submission.form.probabilities for submission in find_submissions(uri, task, edition)):
        sure = _gathered(uri, task, edition, probabilities=True)
    series = {}
    for name, (frames, values) in labels.items():
        times = np.full(len(frames), np.nan)
        positive = sure[name][1][:, 0] if sure else None
        series[name] = Series(frames, values, rows_with_value(values), times, positive)
    return SubmissionPredictions(series)


def _gathered(
    uri: str, task: Task, edition: int, *, probabilities: bool
) -> dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Frames and values by name, also of names whose rows stand apart."""
    pieces: dict[str, list[tuple[NDArray[np.int32], NDArray[np.float32]]]] = {}
    for name, frames, values in read_submission(uri, task, edition, probabilities=probabilities):
        pieces.setdefault(name, []).append((frames, values))
    whole = {}
    for name, parts in pieces.items():
        frames = np.concatenate([part[0] for part in parts])
        order = np.argsort(frames, kind="stable")
        whole[name] = frames[order], np.concatenate([part[1] for part in parts])[order]
    return whole
