"""One predictions table as the report shows it: rows where a face was looked at, and stretches in between.

A table holds a row for every native frame. The page keeps those that a network has looked at (``sampled``) and the
ends of every stretch that is something else, so that each shown number is a number of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms.prediction.prediction_tables import Part
from emobeam.emo_transforms.prediction.video_prediction import NOMINAL_FPS
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import SOURCES
from emobeam.schemas.task_form import OutputGroup
from emobeam.schemas.tasks import TASKS, Task

SAMPLED, INTERPOLATED, NEAREST, ABSENT = range(len(SOURCES))
LONG_GAP = 1.5
"""Interpolation over more than this many usual distances between sampled rows is marked as a stretch."""

BINS = 400
"""Bins of the counts behind distributions and quantiles, over the range of an output."""


@dataclass(frozen=True)
class Stretch:
    """Rows between ``first`` and ``last`` (places on the axis, both ends included) that were not looked at.

    Attributes:
        source: place in ``emobeam.schemas.tables.SOURCES``: 1 interpolated, 2 nearest, 3 absent.
    """

    first: float
    last: float
    source: int


@dataclass(frozen=True, eq=False)
class FaceSeries:
    """The kept rows of one face in one table.

    Attributes:
        subject, face: as in the table; face 0 is the subject's main face.
        frames: int32[n], native frames from 1, ascending.
        times: float64[n] in s, or None where nothing supplies time: the axis is then the frame's number.
        sources: uint8[n], places in ``emobeam.schemas.tables.SOURCES``.
        values: float32[n, C], NaN where the table holds none.
        seen: float32[m, C], values of all sampled rows, those that are left out too: what figures are made of.
        stretches: what lies between sampled rows other than the usual interpolation.
        rows: native rows of the table by source, the same order.
        thinned: sampled rows that are left out.
    """

    subject: str
    face: int
    frames: NDArray[np.int32]
    times: NDArray[np.float64] | None
    sources: NDArray[np.uint8]
    values: NDArray[np.float32]
    seen: NDArray[np.float32]
    stretches: tuple[Stretch, ...]
    rows: tuple[int, int, int, int]
    thinned: int = 0

    @property
    def axis(self) -> NDArray[np.float64]:
        """Where the rows lie on the axis: seconds, or frame numbers."""
        return self.frames.astype(np.float64) if self.times is None else self.times


@dataclass(frozen=True, eq=False)
class ClipRow:
    """One row of a table of a clip-level task; values[C] are NaN where nothing was seen."""

    subject: str
    values: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PartSeries:
    """What one predictions table holds, for one video and task."""

    video: str
    task: Task
    faces: tuple[FaceSeries, ...] = ()
    clips: tuple[ClipRow, ...] = ()


@dataclass
class Distribution:
    """How the values of one output are distributed over all sampled rows; filled a table at a time.

    Attributes:
        low, high: ends of the output's range; values beyond it count in the outer bins.
        counts: int64[BINS].
        total, squares: sums of the values and of their squares.
    """

    output: str
    low: float
    high: float
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: NDArray[np.floating]) -> None:
        """Counts values[n]; NaN are passed over."""
        known = np.asarray(values[np.isfinite(values)], np.float64)
        place = ((known - self.low) / (self.high - self.low) * BINS).astype(np.int64)
        self.counts += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
        self.total += float(known.sum())
        self.squares += float(np.square(known).sum())

    @property
    def rows(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Of the values, NaN where there are none."""
        return self.total / self.rows if self.rows else float("nan")

    @property
    def deviation(self) -> float:
        """Population standard deviation."""
        return float(np.sqrt(max(self.squares / self.rows - self.mean**2, 0.0))) if self.rows else float("nan")

    def quantile(self, share: float) -> float:
        """The value below which a share of the rows lies, exact to a bin's width (1/400 of the range)."""
        if not self.rows:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.rows))
        return self.low + (min(place, BINS - 1) + 0.5) / BINS * (self.high - self.low)

    def share_from(self, value: float) -> float:
        """Share of rows of at least a value, exact where it is the edge of a bin."""
        if not self.rows:
            return float("nan")
        first = round((value - self.low) / (self.high - self.low) * BINS)
        return float(self.counts[first:].sum()) / self.rows


def groups_of(task: Task) -> list[OutputGroup]:
    """The group of every output of a task, in the order of the outputs."""
    return [group for group in task.groups for _ in group.outputs]


def distributions_of(task: Task) -> list[Distribution]:
    """An empty distribution for every output."""
    pairs = zip(task.outputs, groups_of(task), strict=True)
    return [Distribution(output, group.low, group.high) for output, group in pairs]


def read_series(part: Part, *, rate: float = 0.0) -> PartSeries:
    """Reads one predictions table.

    Args:
        rate: keep at most so many sampled rows a second; 0 keeps all.

    Raises:
        EmobeamError: the table is damaged.
    """
    task = TASKS[part.task]
    try:
        table = read_parquet(part.uri)
        values = np.stack([np.asarray(table[name].to_numpy(), np.float32) for name in task.outputs], axis=1)
        subjects = _texts(table["subject"])
        if task.scope == "clip":
            rows = tuple(ClipRow(str(subject), values[index]) for index, subject in enumerate(subjects))
            return PartSeries(part.video, task, clips=rows)
        return PartSeries(part.video, task, faces=_faces(table, subjects, values, rate))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise EmobeamError(
            f"{part.uri}: the predictions can't be read ({' '.join(str(error).split())}); run emobeam predict again"
        ) from error


def _faces(
    table: pa.Table, subjects: NDArray[np.object_], values: NDArray[np.float32], rate: float
) -> tuple[FaceSeries, ...]:
    faces = np.asarray(table["face"].to_numpy(), np.int64)
    frames = np.asarray(table["frame"].to_numpy(), np.int32)
    times = np.asarray(table["time"].to_numpy(), np.float64)
    sources = _codes(table["source"])
    found = []
    keys = [(subject, face) for subject in sorted(set(subjects.tolist())) for face in np.unique(faces).tolist()]
    for subject, face in keys:
        rows = np.flatnonzero((faces == face) & (subjects == subject))
        if not len(rows):
            continue
        rows = rows[np.argsort(frames[rows], kind="stable")]
        timed = None if np.isnan(times[rows]).any() else times[rows]
        found.append(face_series(subject, face, frames[rows], timed, sources[rows], values[rows], rate=rate))
    return tuple(found)


def _codes(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Places in SOURCES, whatever order the file's own dictionary has."""
    encoded = column.combine_chunks().cast(pa.string()).dictionary_encode()
    order = np.array([SOURCES.index(name) for name in encoded.dictionary.to_pylist()], np.uint8)
    return order[encoded.indices.to_numpy()] if len(order) else np.zeros(0, np.uint8)


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """A column of few different texts."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()], object)


def face_series(
    subject: str,
    face: int,
    frames: NDArray[np.int32],
    times: NDArray[np.float64] | None,
    sources: NDArray[np.uint8],
    values: NDArray[np.float32],
    *,
    rate: float = 0.0,
) -> FaceSeries:
    """Chooses the rows to keep of one face; arguments hold all native rows, ascending."""
    clock = times if times is not None else (frames - 1) / NOMINAL_FPS
    axis = times if times is not None else frames.astype(np.float64)
    state = _without_usual(sources, clock)
    edges = np.flatnonzero(np.diff(state)) + 1
    starts, ends = np.append(0, edges)[: len(state)], np.append(edges, len(state))[: len(state)] - 1
    stretches = []
    keep = sources == SAMPLED
    total = int(keep.sum())
    if rate > 0:
        keep = _thinned(keep, clock, rate)
    thinned = total - int(keep.sum())
    for first, last in zip(starts.tolist(), ends.tolist(), strict=False):
        if state[first] != SAMPLED:
            stretches.append(Stretch(float(axis[first]), float(axis[last]), int(state[first])))
            keep[[first, last]] = True
    counts = np.bincount(sources, minlength=len(SOURCES))
    return FaceSeries(
        subject,
        face,
        frames[keep],
        None if times is None else times[keep],
        sources[keep],
        values[keep],
        values[sources == SAMPLED],
        tuple(stretches),
        (int(counts[0]), int(counts[1]), int(counts[2]), int(counts[3])),
        thinned,
    )


def _without_usual(sources: NDArray[np.uint8], clock: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Sources with the interpolation between two neighbouring samples counted as sampled."""
    state = sources.copy()
    seen = np.flatnonzero(sources == SAMPLED)
    if len(seen) < 2:
        return state
    gaps = np.diff(clock[seen])
    usual = float(np.median(gaps))
    for first, last in zip(seen[:-1][gaps <= LONG_GAP * usual], seen[1:][gaps <= LONG_GAP * usual], strict=True):
        between = state[first:last]
        between[between == INTERPOLATED] = SAMPLED
    return state


def _thinned(keep: NDArray[np.bool_], clock: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    rows = np.flatnonzero(keep)
    cell = np.floor(clock[rows] * rate + 1e-6)
    chosen = np.zeros(len(keep), bool)
    chosen[rows[np.diff(cell, prepend=-1) > 0]] = True
    return chosen


def statistics_of(values: NDArray[np.float32]) -> list[list[float | int | None]]:
    """Of each column of values[n, C]: rows with a value, mean, population standard deviation, least, greatest, and the
    share of values of at least 0.5; None for what no row gives.
    """
    figures: list[list[float | int | None]] = []
    for column in values.T:
        known = column[np.isfinite(column)].astype(np.float64)
        if not len(known):
            figures.append([0, None, None, None, None, None])
            continue
        spread = (known.mean(), known.std(), known.min(), known.max(), (known >= 0.5).mean())
        figures.append([len(known), *(round(float(figure), 5) for figure in spread)])
    return figures


def count_values(parts: Sequence[PartSeries], into: Sequence[Distribution]) -> None:
    """Adds all sampled rows (or clips) of some tables of one task to its distributions."""
    for part in parts:
        for face in part.faces:
            for place, distribution in enumerate(into):
                distribution.add(face.seen[:, place])
        for clip in part.clips:
            for place, distribution in enumerate(into):
                distribution.add(clip.values[place : place + 1])
