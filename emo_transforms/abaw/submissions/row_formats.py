"""The values of one row, as text and as numbers: what may stand behind the key in labels and submissions."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.abaw.decisions import decide
from emobeam.schemas.tasks import SubmissionForm, Task

DECIMALS = 6
"""Digits after the point of submitted values: about float32's own resolution in [-1, 1], and never an exponent."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A column of values: its name, its range with both ends, integers only or not, and the marker for no label."""

    name: str
    low: float
    high: float
    integer: bool
    invalid: float | None = None


@dataclass(frozen=True)
class RowFormat:
    """The values of a row.

    Attributes:
        columns: in their order.
        strict: as an organiser's scorer may want it: integers as digits alone, probabilities that sum to exactly 1.
        probabilities: the first two columns are those of class 0 and class 1.
    """

    columns: tuple[Column, ...]
    strict: bool = False
    probabilities: bool = False


def label_format(task: Task) -> RowFormat:
    """What stands on a row of a task's labels."""
    return RowFormat(_columns(task, marked=True))


def submission_format(task: Task, form: SubmissionForm) -> RowFormat:
    """What stands on a row of a submission, for whoever reads one; markers for missing labels don't."""
    columns = _columns(task, marked=False)
    if form.probabilities:
        columns = (Column("p0", 0.0, 1.0, False), Column("p1", 0.0, 1.0, False), *columns)
    return RowFormat(columns, strict=True, probabilities=form.probabilities)


class RowError(ValueError):
    """What is wrong with the values of a row; ``kind`` is the same for mistakes of one kind."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@lru_cache(maxsize=1 << 14)
def parse_row(text: str, form: RowFormat) -> tuple[float, ...]:
    """Reads the values of a row.

    Args:
        text: all that follows the key's comma.
        form: what is expected.

    Raises:
        RowError: with what is wrong, for people; the caller adds file and line.
    """
    fields = text.split(",")
    if len(fields) != len(form.columns):
        names = ", ".join(column.name for column in form.columns)
        found = _count(len(fields) if text else 0)
        raise RowError("fields", f"expected {_count(len(form.columns))} ({names}), found {found}")
    values = tuple(_value(field, column, form.strict) for field, column in zip(fields, form.columns, strict=True))
    if form.strict and form.probabilities and values[0] + values[1] != 1.0:
        raise RowError("sum", f"p0 + p1 is {values[0] + values[1]!r}, it has to be exactly 1.0")
    return values


def is_number(text: str) -> bool:
    """Whether a field is a number, as far as labels and submissions know numbers."""
    return _NUMBER.fullmatch(text) is not None


def format_rows(
    task: Task,
    form: SubmissionForm,
    values: npt.NDArray[np.float32],
    limits: npt.NDArray[np.float32],
    decimals: int | None = DECIMALS,
) -> list[str]:
    """Writes the values of rows, the inverse of :func:`parse_row`.

    Args:
        values: float32[n, K], one column per output of the task, all finite; they are clipped to the task's range.
        limits: float32[K], from :func:`emobeam.emo_transforms.abaw.decisions.checked_thresholds`.
        decimals: digits after the point of values; None: as few as a float32 needs.

    Returns:
        n texts without line ends.
    """
    labels = decide(task, values, limits)
    columns = submission_format(task, form).columns
    if form.probabilities:
        # Exact for up to 6 digits: both are the nearest doubles to k / 10^d and (10^d - k) / 10^d.
        scale = 10.0 ** (DECIMALS if decimals is None else decimals)
        second = np.round(np.clip(values[:, :1].astype(np.float64), 0.0, 1.0) * scale)
        labels = np.concatenate([(scale - second) / scale, second / scale, labels], axis=1)
        decimals = DECIMALS if decimals is None else decimals
    if decimals is None:
        return [",".join(map(_shortest, row, columns)) for row in labels.astype(np.float32)]
    rounded = np.round(labels, decimals) + 0.0  # turns -0.0 into 0.0
    text = ",".join("%d" if column.integer else f"%.{decimals}f" for column in columns)
    return [text % tuple(row) for row in rounded.tolist()]


def _columns(task: Task, *, marked: bool) -> tuple[Column, ...]:
    return tuple(
        Column(name, *group.label_range, group.kind != "value", group.invalid if marked else None)
        for group in task.groups
        for name in group.label_columns
    )


def _value(field: str, column: Column, strict: bool) -> float:
    text = field.strip(" \t")
    if not is_number(text):
        raise RowError("number", f"{column.name}: {_shown(text)} is not a number")
    value = float(text)
    if value == column.invalid:
        return value
    if not column.low <= value <= column.high or math.isinf(value):
        marker = " (that marks rows without label, and may not be submitted)" if value in (-5, -1) else ""
        kind = "marker" if marker else "range"
        raise RowError(kind, f"{column.name}: {_shown(text)} is outside {column.low:g} to {column.high:g}{marker}")
    if column.integer and (value != int(value) or (strict and not _INTEGER.fullmatch(text))):
        raise RowError("integer", f"{column.name}: {_shown(text)} has to be an integer, written without a point")
    return value


def _count(fields: int) -> str:
    return "no value" if fields == 0 else "1 value" if fields == 1 else f"{fields} values"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _shortest(value: np.float32, column: Column) -> str:
    return str(int(value)) if column.integer else np.format_float_positional(value + np.float32(0), trim="0")
