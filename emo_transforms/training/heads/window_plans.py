"""Windows of labelled rows, put together by what is read together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.prediction.smoothing import runs_of
from emobeam.emo_transforms.training.heads.samples import Joined, LabelledFace

MIN_ROWS = 128
"""Rows that are read together at least: those of a row group."""

Windows = tuple[NDArray[np.int32], NDArray[np.int16]]
"""Positions ``[W, T]`` in a face's rows, the last one repeated beyond the real ones, and their number ``[W]``."""


@dataclass(frozen=True, eq=False)
class Unit:
    """What is read together: rows of one face, and the windows in them.

    Attributes:
        face: index of the face in the plan.
        pieces: shards with the row groups to read, in order.
        rows: int64 ``[V, n]``: places in what was read, of each view of each row.
        positions: int32 ``[n]``, of these rows among those of the face, ascending.
        windows: int32 ``[W, T]``, positions in these rows; the last real one is repeated as padding.
        lengths: int16 ``[W]``, real rows of each window.
    """

    face: int
    pieces: tuple[tuple[str, tuple[int, ...]], ...]
    rows: NDArray[np.int64]
    positions: NDArray[np.int32]
    windows: NDArray[np.int32]
    lengths: NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Plan:
    """Windows of labelled faces, ready to be read.

    Attributes:
        scope: ``frame``: a window is a sample; ``clip``: all windows of a face (each a unit) are one.
        units: in the order of faces and time.
        gap: seconds without a row beyond which a window ended.
    """

    scope: str
    length: int
    faces: tuple[LabelledFace, ...]
    units: tuple[Unit, ...]
    gap: float = 0.5

    @property
    def samples(self) -> int:
        """Windows, or clips."""
        return len(self.units) if self.scope == "clip" else sum(len(unit.windows) for unit in self.units)


def cut_windows(
    time: NDArray[np.float64],
    length: int,
    stride: int = 0,
    gap: float = 0.5,
    *,
    keep: NDArray[np.bool_] | None = None,
    breaks: Sequence[int] = (),
) -> Windows:
    """Cuts rows into windows as ``emobeam.emo_transforms.prediction.windows.windows_of`` does for stage 2.

    Args:
        time: ``[n]`` s, ascending.
        length: rows of a window, T.
        stride: rows between the starts of two windows; 0: ``length``.
        gap: s without a kept row that end a run.
        keep: rows that count, None: all; the others are as if they weren't there.
        breaks: positions where a run ends as well.
    """
    kept = np.arange(len(time)) if keep is None else np.flatnonzero(keep)
    step = stride or length
    windows, lengths = [], []
    for run in runs_of(time[kept], gap):
        rows = kept[run]
        for part in np.split(rows, np.searchsorted(rows, np.asarray(breaks, np.int64))):
            if not len(part):
                continue
            count = 1 if len(part) <= length else 1 + -(-(len(part) - length) // step)
            places = np.arange(count)[:, None] * step + np.arange(length)
            windows.append(part[np.minimum(places, len(part) - 1)])
            lengths.append(np.minimum(len(part) - np.arange(count) * step, length))
    if not windows:
        return np.zeros((0, length), np.int32), np.zeros(0, np.int16)
    return np.concatenate(windows).astype(np.int32), np.concatenate(lengths).astype(np.int16)


def training_plan(
    joined: Joined, scope: str, faces: Sequence[int], *, length: int, stride: int, gap: float, drop_invalid: bool
) -> Plan:
    """Windows to learn from. They end where a row group does, so that every row is read once.

    Windows without any valid label are left out.
    """
    units: list[Unit] = []
    for index in faces:
        face = joined.faces[index]
        if scope == "clip":
            units += _clip_unit(joined, index, length, stride, gap)
            continue
        breaks = _breaks(joined, face, max(MIN_ROWS, 4 * length))
        labelled = np.asarray(face.valid.any(axis=1), bool)
        keep = labelled if drop_invalid else None
        windows, lengths = cut_windows(face.time, length, stride, gap, keep=keep, breaks=breaks)
        useful = labelled[windows].any(axis=1)
        units += _units(joined, index, windows[useful], lengths[useful], breaks)
    return Plan(scope, length, joined.faces, tuple(units), gap)


def evaluation_plan(joined: Joined, scope: str, faces: Sequence[int], *, length: int, gap: float) -> Plan:
    """The windows of stage 2: side by side, over all rows of a face."""
    units: list[Unit] = []
    for index in faces:
        if scope == "clip":
            units += _clip_unit(joined, index, length, 0, gap)
            continue
        face = joined.faces[index]
        windows, lengths = cut_windows(face.time, length, 0, gap)
        units += _units(joined, index, windows, lengths, _breaks(joined, face, max(4 * MIN_ROWS, 4 * length)))
    return Plan(scope, length, joined.faces, tuple(units), gap)


def _clip_unit(joined: Joined, index: int, length: int, stride: int, gap: float) -> list[Unit]:
    face = joined.faces[index]
    if not face.valid.any():
        return []
    windows, lengths = cut_windows(face.time, length, stride, gap)
    return _units(joined, index, windows, lengths, [])


def _breaks(joined: Joined, face: LabelledFace, rows: int) -> list[int]:
    """Positions at row group borders, at least so many rows apart (but for the last part)."""
    group = _group_of(joined, face, face.row[0])
    borders = np.flatnonzero((np.diff(group) != 0) | (np.diff(face.shard) != 0)) + 1
    found: list[int] = []
    for border in borders.tolist():
        if border - (found[-1] if found else 0) >= rows:
            found.append(border)
    return found


def _group_of(joined: Joined, face: LabelledFace, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row group of each row, within its shard."""
    group = np.empty(len(face), np.int64)
    for index in np.unique(face.shard).tolist():
        own = face.shard == index
        group[own] = np.searchsorted(np.cumsum(joined.groups[face.shards[index]]), rows[own], side="right")
    return group


def _units(
    joined: Joined, index: int, windows: NDArray[Any], lengths: NDArray[Any], breaks: Sequence[int]
) -> list[Unit]:
    """Windows put together by where they begin; a unit reads all rows of its windows."""
    if not len(windows):
        return []
    edges = np.searchsorted(windows[:, 0], np.asarray(breaks, np.int64))
    parts = zip(np.split(windows, edges), np.split(lengths, edges), strict=True)
    return [_unit(joined, index, own, real) for own, real in parts if len(own)]


def _unit(joined: Joined, index: int, windows: NDArray[Any], lengths: NDArray[Any]) -> Unit:
    face = joined.faces[index]
    used, places = np.unique(windows, return_inverse=True)
    shard = face.shard[used]
    pieces: list[tuple[str, tuple[int, ...]]] = []
    rows = np.empty((face.row.shape[0], len(used)), np.int64)
    before = 0
    for number in np.unique(shard).tolist():
        own = shard == number
        sizes = np.array(joined.groups[face.shards[number]])
        ends = np.cumsum(sizes)
        inside = face.row[:, used[own]]
        group = np.searchsorted(ends, inside, side="right")
        chosen = np.unique(group)
        offset = np.full(len(sizes), -1, np.int64)
        offset[chosen] = before + np.cumsum(sizes[chosen]) - sizes[chosen]
        rows[:, own] = offset[group] + inside - (ends - sizes)[group]
        before += int(sizes[chosen].sum())
        pieces.append((face.shards[number], tuple(chosen.tolist())))
    shape = windows.shape
    return Unit(index, tuple(pieces), rows, used.astype(np.int32), places.reshape(shape).astype(np.int32), lengths)
