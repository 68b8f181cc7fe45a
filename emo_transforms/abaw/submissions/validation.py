"""Would an organiser's scorer read this submission? All that it would choke on, with file and line.

Errors are what makes a scorer fail or score other rows than meant; warnings are what most, but not all, read well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.abaw.scoring.fitted_videos import fitted_videos
from emobeam.emo_transforms.abaw.submissions.column_spread import Spread, constant_note
from emobeam.emo_transforms.abaw.submissions.key_index import KeyIndex
from emobeam.emo_transforms.abaw.submissions.reading import Submission, find_submissions, parse_number
from emobeam.emo_transforms.abaw.submissions.row_formats import RowError, RowFormat, parse_row, submission_format
from emobeam.emo_transforms.abaw.submissions.templates import read_template, read_video_list
from emobeam.emo_transforms.abaw.text_files import base_name, is_file, read_lines
from emobeam.emo_transforms.storage import open_read
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import format_key, parse_key, split_row, strange_folders
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted

SHOWN = 5
"""Findings of one kind that are kept for a report; all are counted."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, in which file, on which line (None: on no line in particular)."""

    line: int | None
    text: str
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line is not None else self.file
        return f"{place}: {self.text}" if place else self.text


@dataclass(frozen=True)
class ValidationReport:
    """What a validation found.

    Attributes:
        errors, warnings: at most :data:`SHOWN` of each kind, in the order they were met.
        rows: data rows read, of all files.
        error_count, warning_count: of all findings, those that aren't listed included.
        files: how many files were read.
    """

    errors: list[Finding]
    warnings: list[Finding]
    rows: int
    error_count: int
    warning_count: int
    files: int

    @property
    def ok(self) -> bool:
        """No errors."""
        return not self.error_count


def validate(uri: str, task: Task, edition: int, template: str = "") -> ValidationReport:
    """Checks a submission as an organiser would: header, keys, rows, order, ranges, form of numbers.

    Args:
        uri: the file, or the folder of a submission of several files.
        task, edition: what it is submitted to.
        template: the organisers' rows. With it missing, surplus and moved rows are errors; without it rows that are out
            of order or skip frames are warnings.

    Raises:
        EmobeamError: there is no submission at ``uri``, or the template can't be used.
        UsageError: the edition has no such task.
    """
    notes = _Notes()
    rows = files = 0
    for submission in find_submissions(uri, task, edition):
        index, spread = KeyIndex(), Spread()
        expected = submission_format(task, submission.form)
        for name, file in submission.files:
            _check_file(file, name, submission, task, expected, notes, index, spread)
        rows += index.rows
        files += len(submission.files)
        where = submission.files[0][1] if len(submission.files) == 1 and is_file(uri) else uri
        if submission.form.key.per_video:
            _check_videos(where, task, submission, template, index, notes, whole=not is_file(uri))
        elif template:
            _check_template(submission.files[0][1], task, template, index, notes)
        else:
            _check_order(submission.files[0][1], task, index, notes, dense=submission.form.dense)
        _check_sense(where, task, index, spread, expected, notes)
    return ValidationReport(notes.errors, notes.warnings, rows, notes.error_count, notes.warning_count, files)


@dataclass
class _Notes:
    """Collects findings: all are counted, a few of each kind are kept."""

    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    error_count: int = 0
    warning_count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def error(self, kind: str, file: str, line: int | None, text: str, count: int = 1) -> None:
        self.error_count += count
        self._keep(self.errors, kind, Finding(line, text, file))

    def warn(self, kind: str, file: str, line: int | None, text: str, count: int = 1) -> None:
        self.warning_count += count
        self._keep(self.warnings, kind, Finding(line, text, file))

    def _keep(self, findings: list[Finding], kind: str, finding: Finding) -> None:
        self.kinds[kind] += 1
        if self.kinds[kind] <= SHOWN:
            findings.append(finding)


def _check_sense(where: str, task: Task, index: KeyIndex, spread: Spread, expected: RowFormat, notes: _Notes) -> None:
    """What a scorer reads well, and nobody can mean."""
    if columns := spread.constant([column.name for column in expected.columns]):
        notes.warn("constant", where, None, constant_note(columns))
    for text in fitted_videos([where], task).notes(list(index.names)):
        notes.warn("fitted", where, None, text)
    if note := strange_folders(task, index.names):
        notes.warn("folder", where, None, note)


def _check_file(
    file: str,
    name: str,
    submission: Submission,
    task: Task,
    expected: RowFormat,
    notes: _Notes,
    index: KeyIndex,
    spread: Spread,
) -> None:
    """All that shows within one file: encoding, header, keys, values."""
    form = submission.form
    _check_bytes(file, notes)
    before = index.rows
    header = form.header
    try:
        for line, text in _filled_lines(file, notes):
            if header is not None:
                _check_header(file, line, text, header, notes)
                header = None
                continue
            index.rows += 1
            _check_row(file, line, text, name, index.rows - before, task, submission, expected, notes, index, spread)
    except EmobeamError as error:  # not text; read_lines has named file and line
        notes.error("text", "", None, str(error))
    if index.rows == before:
        notes.error("empty", file, None, "holds no rows")


def _check_row(
    file: str,
    line: int,
    text: str,
    name: str,
    place: int,
    task: Task,
    submission: Submission,
    expected: RowFormat,
    notes: _Notes,
    index: KeyIndex,
    spread: Spread,
) -> None:
    kind = submission.form.key.kind
    frame: int | None = place
    key, values = "", text
    try:
        if kind == "number":
            key, _, values = text.partition(",")
            frame = parse_number(key)
        elif kind != "place":
            key, values = split_row(task, text)
            name, frame = parse_key(task, key)
    except (EmobeamError, ValueError) as error:
        notes.error("key", file, line, str(error))
    else:
        index.add(name, frame or 1, line)
        if kind == "image" and key != format_key(task, name, frame):
            index.spelled[name, frame or 1] = key
    try:
        spread.add_row(parse_row(values, expected))
    except RowError as error:
        notes.error(error.kind, file, line, str(error))


def _filled_lines(file: str, notes: _Notes) -> Iterator[tuple[int, str]]:
    """Lines with text; says where there are empty ones before the last of them, and blanks around fields."""
    empty: int | None = None
    for line, text in read_lines(file, strip=False):
        stripped = text.strip()
        if not stripped:
            empty = empty or line
            continue
        if empty is not None:
            notes.error("empty line", file, empty, "is empty; scorers that count lines lose their place")
            empty = None
        if stripped != text or ", " in text or " ," in text:
            notes.warn("blank", file, line, "has blanks around a field; leave them out")
        yield line, stripped
    if empty is not None:
        notes.warn("last line", file, empty, "is empty, at the end of the file")


def _check_bytes(file: str, notes: _Notes) -> None:
    """What shows at the file's ends: a byte-order mark, line ends of Windows, no line end."""
    with open_read(file) as stream:
        head = stream.read(4096)
    if head.startswith(b"\xef\xbb\xbf"):
        notes.warn("mark", file, 1, "begins with a byte-order mark, which some readers take for a part of the header")
    if b"\r" in head:
        notes.warn("ends", file, 1, "has line ends of Windows (CRLF); write plain line feeds")


def _check_header(file: str, line: int, text: str, header: str, notes: _Notes) -> None:
    if text != header:
        notes.error("header", file, line, f"expected the header {header!r}, found {text[:200]!r}")


def _check_order(file: str, task: Task, index: KeyIndex, notes: _Notes, *, dense: bool) -> None:
    """Without a template: rows twice; rows apart, out of order or skipped as far as frames tell."""
    for name, line in index.apart.items():
        if task.scope == "frame":
            notes.warn("apart", file, line, f"rows of {name!r} stand apart from its other rows")
    for name in index.names:
        frames, lines = index.arrays(name)
        _check_repeated(file, task, name, frames, lines, notes)
        if task.scope == "clip":
            continue
        steps = np.diff(frames)
        if (steps < 0).any():
            first = int((steps < 0).argmax()) + 1
            key = _key(task, name, int(frames[first]))
            notes.warn("order", file, int(lines[first]), f"{key!r} comes after a later frame")
        missing = int(frames.max()) - len(np.unique(frames))
        if dense and missing:
            wanted = np.setdiff1d(np.arange(1, int(frames.max()) + 1), frames)[0] if frames.max() < 10**8 else 0
            text = f"frames of {name!r} have no row: {missing}, for example {_key(task, name, int(wanted) or 1)!r}"
            notes.warn("skipped", file, None, text)


def _check_template(file: str, task: Task, template: str, index: KeyIndex, notes: _Notes) -> None:
    """With a template: the same keys, in the same order, spelled alike."""
    wanted = KeyIndex()
    for row in read_template(template, task):
        wanted.rows += 1
        wanted.add(row.name, row.frame or 1, row.line)
        if row.frame is not None and row.key != format_key(task, row.name, row.frame):
            wanted.spelled[row.name, row.frame] = row.key
    for name in dict.fromkeys([*wanted.names, *index.names]):
        frames, lines = index.arrays(name)
        asked, asked_lines = wanted.arrays(name)
        _check_repeated(file, task, name, frames, lines, notes)
        missing = ~np.isin(asked, frames)
        if missing.any():
            key = _key(task, name, int(asked[missing][0]))
            place = f"line {int(asked_lines[missing][0])} of the template"
            many = "all" if missing.all() else "in all"
            more = f", {many} {int(missing.sum())} rows of {name!r} are" if missing.sum() > 1 else ""
            notes.error("missing", file, None, f"{key!r} is missing ({place}){more}", int(missing.sum()))
        surplus = ~np.isin(frames, asked)
        if surplus.any():
            key = _key(task, name, int(frames[surplus][0]))
            more = f", nor are {int(surplus.sum()) - 1} more rows of {name!r}" if surplus.sum() > 1 else ""
            what = f"{key!r} isn't in the template{more}"
            notes.error("surplus", file, int(lines[surplus][0]), what, int(surplus.sum()))
    _check_spelling(file, task, wanted, index, notes)
    if not (notes.kinds["missing"] or notes.kinds["surplus"] or notes.kinds["twice"]):
        _check_sequence(file, task, wanted, index, notes)


def _check_sequence(file: str, task: Task, wanted: KeyIndex, index: KeyIndex, notes: _Notes) -> None:
    """Where two indexes of the same keys first differ in order."""
    for (name, frame, line), (other, number, place) in zip(_in_order(index), _in_order(wanted), strict=False):
        if (name, frame) != (other, number):
            here, there = _key(task, name, frame), _key(task, other, number)
            text = f"the order differs from here on: {here!r}, where line {place} of the template has {there!r}"
            notes.error("order", file, line, text)
            return


def _in_order(index: KeyIndex) -> Iterator[tuple[str, int, int]]:
    """Rows by line. Names that stand together, the usual case, need no sorting."""
    if not index.apart:
        for name, rows in index.names.items():
            for frame, line in zip(rows.frames, rows.lines, strict=True):
                yield name, frame, line
        return
    rows_by_line = [
        (line, name, frame)
        for name, rows in index.names.items()
        for frame, line in zip(rows.frames, rows.lines, strict=True)
    ]
    for line, name, frame in sorted(rows_by_line):
        yield name, frame, line


def _check_spelling(file: str, task: Task, wanted: KeyIndex, index: KeyIndex, notes: _Notes) -> None:
    for name, frame in wanted.spelled.keys() | index.spelled.keys():
        if name not in wanted.names or name not in index.names:
            continue
        usual = _key(task, name, frame)
        here = index.spelled.get((name, frame), usual)
        there = wanted.spelled.get((name, frame), usual)
        rows = index.names[name]
        if here != there and frame in rows.frames and frame in wanted.names[name].frames:
            line = rows.lines[rows.frames.index(frame)]
            notes.error("spelling", file, line, f"{here!r} has to be written {there!r}, as in the template")


def _check_videos(
    uri: str, task: Task, submission: Submission, template: str, index: KeyIndex, notes: _Notes, *, whole: bool
) -> None:
    """One file per video: the files that are wanted, as many rows as are wanted."""
    files = dict(submission.files)
    for name, file in files.items():
        frames, lines = index.arrays(name)
        _check_repeated(file, task, name, frames, lines, notes)
        if (np.diff(frames) < 0).any():
            first = int((np.diff(frames) < 0).argmax()) + 1
            notes.error("order", file, int(lines[first]), f"frame {frames[first]} comes after a later one")
        elif len(frames) and frames[-1] != len(np.unique(frames)):
            missing = int(frames[-1]) - len(np.unique(frames))
            notes.warn("skipped", file, None, f"frames have no row: {missing}; expected all from 1 on")
    if not template:
        return
    counts = read_video_list(template, task, submission.form)
    for name, count in counts.items():
        if name not in files and whole:
            notes.error("missing", uri, None, f"no file for {name!r}, which the template names")
        elif name in files and count is not None and count != len(index.arrays(name)[0]):
            found = len(index.arrays(name)[0])
            notes.error("rows", files[name], None, f"has {counted(found, 'row')}, the template's file has {count}")
    for name, file in files.items():
        if name not in counts:
            notes.error("surplus", file, None, f"{base_name(file)!r} isn't among the template's videos")


def _check_repeated(
    file: str,
    task: Task,
    name: str,
    frames: npt.NDArray[np.int32],
    lines: npt.NDArray[np.int32],
    notes: _Notes,
) -> None:
    order = np.argsort(frames, kind="stable")
    again = np.flatnonzero(np.diff(frames[order]) == 0)
    for position in again.tolist():
        first, second = order[position], order[position + 1]
        key = _key(task, name, int(frames[second]))
        text = f"{key!r} stands on line {lines[first]} already"
        notes.error("twice", file, int(lines[second]), text)


def _key(task: Task, name: str, frame: int) -> str:
    if task.scope == "clip":
        return name
    return f"frame {frame}" if task.form.key.per_video else format_key(task, name, frame)
