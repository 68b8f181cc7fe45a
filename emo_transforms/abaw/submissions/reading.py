"""Submission files read back: where they lie, their rows, their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.abaw.submissions.row_formats import parse_row, submission_format
from emobeam.emo_transforms.abaw.text_files import base_name, fields_of, is_file, list_folder, read_lines, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import parse_key, split_row
from emobeam.schemas.tasks import SubmissionForm, Task


@dataclass(frozen=True)
class Submission:
    """The file or files of one submission: URIs by the name of the video, ``""`` where one file holds all videos."""

    form: SubmissionForm
    files: tuple[tuple[str, str], ...]


class SubmissionRow(NamedTuple):
    """One row: file, line, key (``""`` where the file has none), name of the video, frame, text of the values."""

    uri: str
    line: int
    key: str
    name: str
    frame: int
    text: str


def find_submissions(uri: str, task: Task, edition: int) -> list[Submission]:
    """The submissions at a place: more than one only where an edition takes a task in several forms.

    Args:
        uri: a file of any form; the folder of a form with one file per video; or ``submission/<task>`` as emobeam
            writes it.

    Raises:
        EmobeamError: there is none.
        UsageError: the edition has no such task.
    """
    forms = task.forms_of(edition)
    if is_file(uri):
        form = forms[0] if len(forms) == 1 else next((form for form in forms if _fits(uri, form)), forms[0])
        name = base_name(uri).removesuffix(_extension(form)) if form.key.per_video else ""
        return [Submission(form, ((name, uri),))]
    found = []
    for form in forms:
        entries = list_folder(uri)
        folder = form.file.rpartition("/")[0]
        inside = entries.named(folder) if folder else {}
        if inside:
            entries = list_folder(next(iter(inside.values())))
        elif len(forms) > 1 and base_name(uri) != folder:
            continue
        files = entries.with_extension(_extension(form))
        if form.key.per_video and files:
            found.append(Submission(form, tuple(files.items())))
        elif files:
            found += [Submission(form, (("", file),)) for file in files.values()]
    if not found:
        raise EmobeamError(f"{uri}: no submission of task {task.name}, edition {edition}; expected {_wanted(forms)}")
    return found


def read_submission(
    uri: str, task: Task, edition: int, *, probabilities: bool = False
) -> Iterator[tuple[str, npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """Yields name, frames and values of the videos of a submission.

    Files are streamed: rows of one name that stand together come together, ascending by frame. A name whose rows
    stand apart comes several times.

    Args:
        uri: as for :func:`find_submissions`; one submission.
        probabilities: of a task that submits them: values are the probability of class 1 instead of the class.

    Yields:
        (name as it stands there, int32[n] frames from 1, float32[n, C] values, one column per
        ``task.label_columns``); clips have the one frame 1.

    Raises:
        EmobeamError: a row that can't be read, holds values out of range or stands there twice, or several
            submissions; names file and line.
    """
    found = find_submissions(uri, task, edition)
    if task.forms_of(edition)[-1].probabilities and (len(found) > 1 or probabilities):
        found = [one for one in found if one.form.probabilities]
    if len(found) != 1:
        listed = ", ".join(one.files[0][1] for one in found[:3]) or "none holds probabilities"
        raise EmobeamError(f"{uri}: {len(found)} submissions fit ({listed}); name one file")
    form = found[0].form
    expected = submission_format(task, form)
    seen: defaultdict[str, list[npt.NDArray[np.int32]]] = defaultdict(list)
    for name, group in groupby(submission_rows(found[0], task), key=attrgetter("name")):
        lines, frames, values = [], [], []
        for row in group:
            try:
                values.append(parse_row(row.text, expected))
            except ValueError as error:
                raise EmobeamError(f"{row.uri}, line {row.line}: {error}; emobeam validate lists all of it") from None
            lines.append(row.line)
            frames.append(row.frame)
        numbers = np.array(frames, np.int32)
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        _check_repeated(row.uri, name, numbers, np.array(lines)[order], seen[name])
        seen[name].append(numbers)
        table = np.array(values, np.float32)[order]
        if form.probabilities:
            table = table[:, 1:2] if probabilities else table[:, 2:]
        yield name, numbers, table
    if not seen:
        raise EmobeamError(f"{found[0].files[0][1]}, line 1: no rows; expected a submission of task {task.name}")


def submission_rows(submission: Submission, task: Task) -> Iterator[SubmissionRow]:
    """Yields all rows, their values still as text.

    Raises:
        EmobeamError: a wrong header, a key that can't be read, an empty line within the rows of a video's own file.
    """
    form = submission.form
    for name, uri in submission.files:
        lines = read_lines(uri) if form.key.per_video else read_rows(uri)
        if form.header is not None:
            line, text = next(lines, (1, ""))
            if fields_of(text) != fields_of(form.header):
                raise EmobeamError(f"{uri}, line {line}: expected the header {form.header!r}, found {text!r}")
        if form.key.per_video:
            yield from _own_rows(uri, name, form, lines)
            continue
        for line, text in lines:
            key, values = split_row(task, text)
            try:
                video, frame = parse_key(task, key)
            except EmobeamError as error:
                raise EmobeamError(f"{uri}, line {line}: {error}") from None
            yield SubmissionRow(uri, line, key, video, frame or 1, values)


def parse_number(text: str) -> int:
    """The number of a frame; raises :class:`ValueError` with what is wrong."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10 and 1 <= int(digits) < 2**31):
        raise ValueError(f"{digits!r} is no frame number (from 1)")
    return int(digits)


def _own_rows(uri: str, name: str, form: SubmissionForm, lines: Iterator[tuple[int, str]]) -> Iterator[SubmissionRow]:
    """Rows of a file that holds one video."""
    empty = rows = 0
    for place, (line, text) in enumerate(lines, start=1):
        if not text:
            empty = empty or line
            continue
        if empty:
            raise EmobeamError(f"{uri}, line {empty}: is empty, but rows follow; remove it or fill it")
        rows += 1
        if form.key.kind == "place":
            yield SubmissionRow(uri, line, "", name, place, text)
            continue
        key, _, rest = text.partition(",")
        try:
            frame = parse_number(key)
        except ValueError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield SubmissionRow(uri, line, key, name, frame, rest)
    if not rows:
        raise EmobeamError(f"{uri}, line 1: no rows follow the header")


def _check_repeated(
    uri: str,
    name: str,
    frames: npt.NDArray[np.int32],
    lines: npt.NDArray[np.int64],
    before: list[npt.NDArray[np.int32]],
) -> None:
    repeated = frames[1:] == frames[:-1]
    if repeated.any():
        first = int(repeated.argmax())
        raise EmobeamError(
            f"{uri}, line {lines[first + 1]}: frame {frames[first]} of {name!r} stands on line {lines[first]} already"
        )
    for earlier in before:
        again = np.isin(frames, earlier)
        if again.any():
            first = int(again.argmax())
            raise EmobeamError(f"{uri}, line {lines[first]}: frame {frames[first]} of {name!r} stands there already")


def _extension(form: SubmissionForm) -> str:
    return "." + form.file.rpartition(".")[2]


def _fits(uri: str, form: SubmissionForm) -> bool:
    """Whether a file's first row has as many fields as the form asks for. Names of forms in question hold no commas."""
    try:
        _, text = next(read_rows(uri), (1, ""))
    except EmobeamError:  # no text: whoever reads the rows says so
        return False
    return len(text.split(",")) == (4 if form.probabilities else 2)


def _wanted(forms: tuple[SubmissionForm, ...]) -> str:
    return " or ".join(form.file.replace("{name}", "<name of a video>") for form in forms)
