"""One annotation file of each kind, read row by row. All errors name file and line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from emobeam.emo_transforms.abaw.submissions.reading import parse_number
from emobeam.emo_transforms.abaw.submissions.row_formats import RowFormat, is_number, label_format, parse_row
from emobeam.emo_transforms.abaw.text_files import fields_of, read_lines, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import parse_key, split_row
from emobeam.schemas.tasks import Task

_log = logging.getLogger(__name__)


class LabelRow(NamedTuple):
    """One labelled frame or clip: where it stands, the video as the organisers call it, frame from 1, values."""

    uri: str
    line: int
    name: str
    frame: int
    values: tuple[float, ...]


def read_label_file(uri: str, name: str, task: Task) -> Iterator[LabelRow]:
    """Yields the rows of an annotation file in their order.

    Args:
        uri: the file.
        name: of the video, where the file holds one.
        task: its label layout says what kind of file it is.

    Raises:
        EmobeamError: the file can't be read, has no rows, or a row isn't as expected.
    """
    match task.labels.kind:
        case "rows":
            rows = _placed_rows(uri, name, task)
        case "numbered":
            rows = _numbered_rows(uri, name, task)
        case "table":
            rows = _table_rows(uri, task)
        case "bah-clips":
            rows = ((uri, row.line, row.name, 1, (float(row.label),)) for row in read_split(uri, task))
        case "bah-frames":
            from emobeam.emo_transforms.abaw.labels.bah_annotation import read_annotation

            rows = read_annotation(uri, task)
    row = None
    for row in rows:
        yield LabelRow(*row)
    if row is None:
        raise EmobeamError(f"{uri}, line 1: holds no labels of task {task.name}")


class SplitRow(NamedTuple):
    """One line of BAH's split lists: id of the video, 1 if it shows ambivalence or hesitancy, what is said."""

    line: int
    name: str
    label: int
    transcript: str


def read_split(uri: str, task: Task) -> Iterator[SplitRow]:
    """Yields the lines of a BAH split list: ``id,label,transcript``, where the transcript may hold commas.

    Raises:
        EmobeamError: a line isn't of that form.
    """
    for line, text in read_rows(uri):
        fields = text.split(",", 2)
        key = fields[0].strip()
        if len(fields) < 3 or fields[1].strip() not in ("0", "1") or not key.lower().endswith(".mp4"):
            raise EmobeamError(f"{uri}, line {line}: expected '<id>.mp4,<0 or 1>,<transcript>', found {text[:80]!r}")
        yield SplitRow(line, key, int(fields[1]), fields[2])


_Row = tuple[str, int, str, int, tuple[float, ...]]


def _placed_rows(uri: str, name: str, task: Task) -> Iterator[_Row]:
    """Row i is frame i: so an empty line may only stand at the end, and the header must be there."""
    form = label_format(task)
    lines = read_lines(uri)
    _check_header(uri, next(lines, (1, "")), task)
    empty = 0
    for frame, (line, text) in enumerate(lines, start=1):
        if not text:
            empty = empty or line
            continue
        if empty:
            raise EmobeamError(f"{uri}, line {empty}: is empty, so that it isn't clear which frames the next rows mean")
        yield uri, line, name, frame, _values(uri, line, text, form)


def _numbered_rows(uri: str, name: str, task: Task) -> Iterator[_Row]:
    form = label_format(task)
    lines = read_rows(uri)
    _check_header(uri, next(lines, (1, "")), task)
    for line, text in lines:
        key, _, rest = text.partition(",")
        try:
            frame = parse_number(key)
        except ValueError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield uri, line, name, frame, _values(uri, line, rest, form)


def _table_rows(uri: str, task: Task) -> Iterator[_Row]:
    form = label_format(task)
    lines = read_rows(uri)
    _check_header(uri, next(lines, (1, "")), task)
    for line, text in lines:
        key, rest = split_row(task, text)
        try:
            name, frame = parse_key(task, key)
        except EmobeamError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield uri, line, name, frame or 1, _values(uri, line, rest, form)


def _values(uri: str, line: int, text: str, form: RowFormat) -> tuple[float, ...]:
    try:
        return parse_row(text, form)
    except ValueError as error:
        raise EmobeamError(f"{uri}, line {line}: {error}") from None


def _check_header(uri: str, first: tuple[int, str], task: Task) -> None:
    """The first line is the header, whatever it says; but a row there, or one glued to it, would be lost."""
    line, text = first
    wanted = task.labels.header or ""
    fields = fields_of(text)
    if fields == fields_of(wanted):
        return
    if not text or text.startswith(wanted) or any(map(is_number, fields)):
        raise EmobeamError(f"{uri}, line {line}: expected the header {wanted!r}, found {text[:80]!r}")
    _log.warning("%s, line %d: the header is %r, expected %r; read by position", uri, line, text[:200], wanted)
