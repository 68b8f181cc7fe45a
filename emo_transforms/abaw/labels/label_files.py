"""One annotation file of each kind, read row by row. All errors name file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from emobeam.emo_transforms.abaw.submissions.reading import parse_number
from emobeam.emo_transforms.abaw.submissions.row_formats import is_number, label_format, parse_row
from emobeam.emo_transforms.abaw.text_files import fields_of, plain_name, read_lines, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import parse_key, split_row
from emobeam.schemas.tasks import Task


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
            rows = _keyed_rows(uri, name, task)
        case "table":
            rows = _keyed_rows(uri, "", task)
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
    header = read_header(uri, next(lines, (1, "")), task)
    empty = 0
    for frame, (line, text) in enumerate(lines, start=1):
        if not text:
            empty = empty or line
            continue
        if empty:
            raise EmobeamError(f"{uri}, line {empty}: is empty, so that it isn't clear which frames the next rows mean")
        try:
            values = parse_row(header.split(text, task)[1], form)
        except ValueError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield uri, line, name, frame, values


def _keyed_rows(uri: str, name: str, task: Task) -> Iterator[_Row]:
    """Rows hold the number of a frame of the named video, or a key."""
    form = label_format(task)
    lines = read_rows(uri)
    header = read_header(uri, next(lines, (1, "")), task)
    for line, text in lines:
        try:
            key, rest = header.split(text, task)
            video, frame = (name, parse_number(key)) if name else parse_key(task, key)
            values = parse_row(rest, form)
        except (EmobeamError, ValueError) as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield uri, line, video, frame or 1, values


@dataclass(frozen=True)
class Header:
    """The order of a file's columns, where it isn't the organisers' own.

    Attributes:
        names: of all columns; empty: the organisers' header.
        places: where each value of the task stands in a row.
        key: where the key stands.
    """

    names: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    key: int = 0

    def split(self, text: str, task: Task) -> tuple[str, str]:
        """The key of a row (``""`` where rows have none), and its values in the task's order.

        Raises:
            ValueError: other columns than the header names.
        """
        if self.names:
            fields = text.split(",")
            if len(fields) != len(self.names):
                raise ValueError(f"expected {len(self.names)} values ({', '.join(self.names)}), found {len(fields)}")
            key = fields[self.key].strip() if self.key not in self.places else ""
            return key, ",".join(fields[place] for place in self.places)
        if task.labels.kind == "table":
            return split_row(task, text)
        key, _, rest = text.partition(",") if task.labels.kind == "numbered" else ("", "", text)
        return key, rest


def read_header(uri: str, first: tuple[int, str], task: Task) -> Header:
    """What the first line says of the columns: pandas and spreadsheets like to sort them by name.

    Capitals, blanks and underscores don't matter, nor does the zero of ``AU01``.

    Raises:
        EmobeamError: it isn't the organisers' header, nor the same names in another order; or it names classes in
            another order, and nobody can know whether the numbers of classes followed them.
    """
    line, text = first
    wanted = task.labels.header or ""
    names, ours = ([_plain(field) for field in fields_of(each)] for each in (text, wanted))
    if names == ours:
        return Header()
    key = [] if task.labels.kind == "rows" else ours[:1]
    own = [_plain(name) for name in task.label_columns]
    written = ours[len(key) :] if len(ours) == len(key) + len(own) else own
    given = _spelled_out(names, own)
    for columns in (written, own):
        if sorted(given) == sorted([*key, *columns]):
            places = tuple(given.index(name) for name in columns)
            return Header(tuple(given), places, given.index(key[0]) if key else places[0])
    said = f"{uri}, line {line}: expected the header {wanted!r}, found {text[:200]!r}"
    if sorted(names) == sorted(ours):
        raise EmobeamError(
            f"{said}: these are the classes in another order, and whether the numbers follow it can't be known; "
            "number them as the organisers do, under their header"
        )
    raise EmobeamError(said + _how_it_differs(names, ours, text))


def _spelled_out(names: list[str], columns: list[str]) -> list[str]:
    """The names of MTL, whose header writes one word for all action units."""
    units = [name for name in columns if name.startswith("au")]
    return [inner for name in names for inner in (units if name == "aus" and len(units) > 1 else [name])]


def _plain(name: str) -> str:
    return re.sub(r"(?<=[a-z])0+(?=\d)", "", plain_name(name).replace("_", ""))


def _how_it_differs(names: list[str], wanted: list[str], text: str) -> str:
    if not text or any(map(is_number, names)):
        return "; rows begin below the organisers' header, which counts as a line of its own"
    if len(names) == 1 and len(wanted) > 1 and (mark := next((mark for mark in ";\t|" if mark in text), "")):
        return f"; columns are separated by {mark!r}: save it with commas, and points in numbers"
    lacking, strange = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    told = [f"{verb} {', '.join(some)}" for verb, some in (("lacks", lacking), ("has", strange)) if some]
    return f"; it {' and '.join(told)}" if told else ""
