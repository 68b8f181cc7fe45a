"""Submission files: one text file, the organisers' header, a value on every row.

Tables hold null where nobody was seen; organisers want a number on every row. Here, and only here, gaps are
filled: from the nearest frame of the same video that has a value, else with the task's neutral value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emo_transforms.abaw.keys import format_key, format_name, match_names
from emo_transforms.abaw.templates import read_template, template_names
from emo_transforms.storage import atomic_file
from schemas.records import EmobeamError, UsageError
from schemas.tasks import TASKS, Task

DECIMALS = 6
"""Digits after the point of submitted values: about float32's own resolution in [-1, 1], and never an exponent."""


@dataclass(frozen=True, eq=False)
class FramePredictions:
    """What is known of one subject of one video.

    Attributes:
        frames: int[n], native frame numbers from 1, ascending; for clip-level tasks one entry of any value.
        values: float32[n, K], one column per output of the task; a row that isn't finite throughout has no value.
    """

    frames: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


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
    """

    rows: int
    exact: int
    nearest: int
    neutral: int
    videos_missing: list[str]


class _Block(NamedTuple):
    """Consecutive rows of one name. ``frames`` is None for clips."""

    name: str
    keys: list[str]
    frames: npt.NDArray[np.int64] | None
    known: FramePredictions | None


def write_submission(
    task: Task,
    edition: int,
    destination: str,
    *,
    predictions: Predictions,
    tables: Iterable[tuple[str, str]],
    template: str = "",
    thresholds: Sequence[float] = (),
) -> SubmissionReport:
    """Writes a submission file; it appears as a whole or not at all.

    One video's predictions are in memory at a time, as long as the template keeps its rows together.

    Args:
        task: what is submitted.
        edition: ABAW edition, for instance 8.
        destination: the file, anything fsspec can write.
        predictions: gives the table of a (video id, subject).
        tables: (video id, subject) of all tables there are; their ids are what the template's names are matched with.
        template: the organisers' file whose rows are wanted, in their order. Without one, the rows are the frames
            of the tables, sorted by name.
        thresholds: of binary tasks, one per output: a score of at least this much is written as 1. Default: 0.5.

    Raises:
        UsageError: the edition has no such task or takes another form, or thresholds don't fit.
        EmobeamError: the template is unusable, a name in it may mean several videos, or there is no row to write.
    """
    _check_edition(task, edition)
    limits = _checked_thresholds(task, thresholds)
    pairs = sorted(set(tables))
    # What can be wrong with a template shows here, before anything is written; its rows are read a second time below.
    if template:
        places = match_names(template_names(template, task), [video for video, _ in pairs]).found
        blocks = _template_blocks(task, template, places, predictions)
    else:
        blocks = _own_blocks(task, _own_places(task, pairs), predictions)

    rows = exact = nearest = neutral = 0
    missing: dict[str, None] = {}
    with atomic_file(destination) as path, open(path, "w", encoding="utf-8", newline="\n") as file:
        if task.form.header is not None:
            file.write(task.form.header + "\n")
        for block in blocks:
            rows += len(block.keys)
            if block.known is None:
                missing[block.name] = None
            filled, own = fill(task, block.frames, len(block.keys), block.known)
            if filled is None:
                neutral += len(block.keys)
                lines = [_neutral_text(task)] * len(block.keys)
            else:
                exact += own
                nearest += len(block.keys) - own
                lines = _value_texts(task, filled, limits)
            file.writelines(f"{key},{line}\n" for key, line in zip(block.keys, lines, strict=True))
        if not rows:
            raise EmobeamError(f"{destination}: not written, there are no predictions of task {task.name}")
    return SubmissionReport(rows, exact, nearest, neutral, list(missing))


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


def _own_places(task: Task, pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    places: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        name = format_name(task, *pair)
        if name in places:
            raise EmobeamError(f"{name!r} in the submission would mean {places[name]} and {pair}; give a template")
        places[name] = pair
    return places


def _value_texts(task: Task, values: npt.NDArray[np.float32], limits: npt.NDArray[np.float32]) -> list[str]:
    if task.kind == "binary":
        return [",".join(map(str, row)) for row in (values >= limits).astype(np.int8).tolist()]
    clipped = np.clip(values.astype(np.float64), task.low, task.high)
    rounded = np.round(clipped, DECIMALS) + 0.0  # turns -0.0 into 0.0
    form = ",".join([f"%.{DECIMALS}f"] * len(task.outputs))
    return [form % tuple(row) for row in rounded.tolist()]


def _neutral_text(task: Task) -> str:
    if task.kind == "binary":
        return ",".join(str(int(value)) for value in task.neutral)
    return ",".join(f"{value:.{DECIMALS}f}" for value in task.neutral)


def _check_edition(task: Task, edition: int) -> None:
    if edition in task.form.editions:
        return
    known = "; ".join(f"{other.name}: {', '.join(map(str, other.form.editions))}" for other in TASKS.values())
    why = "has another form, not written yet" if edition in task.editions else "has no such task"
    raise UsageError(f"no submission of task {task.name} for edition {edition}, which {why}; supported are {known}")


def _checked_thresholds(task: Task, thresholds: Sequence[float]) -> npt.NDArray[np.float32]:
    # Scores are float32: a score of float32(0.7) has to reach a threshold of 0.7.
    limits = np.asarray(thresholds if len(thresholds) else [0.5] * len(task.outputs), np.float32)
    if len(thresholds) and task.kind != "binary":
        raise UsageError(f"task {task.name} submits its values as they are: leave the thresholds out")
    if limits.shape != (len(task.outputs),):
        raise UsageError(f"task {task.name} has {len(task.outputs)} outputs, got {len(thresholds)} thresholds")
    if not ((limits >= task.low) & (limits <= task.high)).all():
        raise UsageError(f"thresholds of task {task.name} lie between {task.low:g} and {task.high:g}, got {thresholds}")
    return limits


def _check_shape(task: Task, known: FramePredictions) -> None:
    rows = len(known.frames)
    if known.frames.ndim != 1 or known.values.shape != (rows, len(task.outputs)):
        raise ValueError(f"{task.name}: {known.frames.shape} frames with values {known.values.shape}")
    if task.scope == "clip" and rows > 1:
        raise ValueError(f"{task.name}: a clip has one row, got {rows}")
    if rows > 1 and not (known.frames[1:] > known.frames[:-1]).all():
        raise ValueError(f"{task.name}: frame numbers must ascend")
