"""Templates: the rows the organisers want filled, in their order.

The organisers hand out samples (``key,``) and examples with dummy values (``key,0.5,-0.5``); teams also make bare
lists of keys (``key``). All three are read; values are ignored. Rows are streamed: a template has about a million.
Where a submission has one file per video, its template is the list of names of the test videos, or a folder of
example files; only the latter says how many rows are wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emobeam.emo_transforms.abaw.text_files import fields_of, is_file, list_folder, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import parse_key, row_key
from emobeam.schemas.tasks import TASKS, SubmissionForm, Task


class TemplateRow(NamedTuple):
    """One row: its line in the file (from 1), its key as it stands there, and what the key says."""

    line: int
    key: str
    name: str
    frame: int | None


def read_template(uri: str, task: Task) -> Iterator[TemplateRow]:
    """Yields the rows of a template in their order.

    The file is UTF-8 with or without a byte-order mark, with any line ends; blank lines are skipped. The task's header
    is expected on top if it has one, but a list that starts with its first key is fine too.

    Args:
        uri: anything fsspec can open.
        task: whose template it is.

    Raises:
        EmobeamError: the file can't be read or has no rows, its header is another task's, or a key can't be
            parsed or stands there twice; the message names file and lines.
    """
    seen: defaultdict[str, set[int | None]] = defaultdict(set)
    for row in _rows(uri, task):
        frames = seen[row.name]
        if row.frame in frames:
            first = next(other for other in _rows(uri, task) if other[2:] == row[2:])
            raise EmobeamError(
                f"{uri}: {row.key!r} stands on line {first.line} and again on line {row.line}; remove one of them"
            )
        frames.add(row.frame)
        yield row
    if not seen:
        raise EmobeamError(f"{uri}: no rows; give the organisers' sample or example file of task {task.name}")


def template_names(uri: str, task: Task, edition: int = 0) -> list[str]:
    """The names of the videos in a template, each once, in their order.

    Args:
        edition: where the form of submissions depends on it; 0 is the usual form.

    Raises:
        EmobeamError: as :func:`read_template` and :func:`read_video_list`.
        UsageError: the edition has no such task.
    """
    form = task.forms_of(edition)[0] if edition else task.form
    if form.key.per_video:
        return list(read_video_list(uri, task, form))
    return list(dict.fromkeys(row.name for row in read_template(uri, task)))


def template_of(named: Sequence[str], task: Task, edition: int = 0) -> str:
    """The template of a task among files, or folders of files, that are templates of several; ``""`` where none are.

    The only one is taken whatever it is, and whoever reads it says what is wrong with it; of several the one that has
    the task's header, or where the task has none, its keys.

    Raises:
        EmobeamError: none fits, or several do.
        UsageError: the edition has no such task.
    """
    form = task.forms_of(edition)[0] if edition else task.form
    uris = [uri for place in named for uri in _files_in(place, form)]
    if len(uris) < 2:
        return uris[0] if uris else ""
    fitting = [uri for uri in uris if _fits(uri, task, form)]
    if len(fitting) == 1:
        return fitting[0]
    among = f"{len(fitting)} of {', '.join(uris[:5])}" if fitting else f"none of {', '.join(uris[:5])}"
    raise EmobeamError(f"--template: {among} {'are' if fitting else 'is'} of task {task.name}; name one file of it")


def _files_in(place: str, form: SubmissionForm) -> list[str]:
    if is_file(place):
        return [place]
    folder = list_folder(place)
    if form.key.per_video and folder.with_extension(form.file.rpartition("{name}")[2]):
        return [place]  # examples, one file per video
    return [uri for name, uri in folder.files.items() if name.lower().endswith((".txt", ".csv"))] or [place]


def _fits(uri: str, task: Task, form: SubmissionForm) -> bool:
    try:
        line, text = next(read_rows(uri), (1, ""))
        if form.key.per_video:
            read_video_list(uri, task, form)
        elif not is_header(uri, line, text, task):
            return task.form.header is None and parse_key(task, row_key(task, text)) is not None
    except (EmobeamError, OSError):
        return False
    return True


def read_video_list(uri: str, task: Task, form: SubmissionForm) -> dict[str, int | None]:
    """The template of a submission with one file per video.

    Args:
        uri: a text file with one name per line (the organisers' list of test videos), or a folder of example files.
        form: of the submission; says how example files are named and whether they have a header.

    Returns:
        How many rows each video has, by name in the template's order; None where the list doesn't say.

    Raises:
        EmobeamError: nothing to read, or a line that is no name; names file and line.
    """
    counts: dict[str, int | None] = {}
    if is_file(uri):
        for line, text in read_rows(uri):
            if "," in text or text.endswith(form.key.suffix) or text in counts:
                what = "stands there twice" if text in counts else "is no name of a video"
                raise EmobeamError(f"{uri}, line {line}: {text!r} {what}; expected one name per line")
            counts[text] = None
    else:
        for name, file in list_folder(uri).with_extension(form.file.rpartition("{name}")[2]).items():
            first = next(read_rows(file), (1, ""))
            if first[1] != form.header:
                raise EmobeamError(f"{file}, line {first[0]}: expected {form.header!r}, found {first[1]!r}")
            counts[name] = sum(1 for _ in read_rows(file)) - 1
    if not counts:
        raise EmobeamError(f"{uri}: no names; give a list of names or a folder of example files of task {task.name}")
    return counts


def _rows(uri: str, task: Task) -> Iterator[TemplateRow]:
    """The rows as they come, not checked for repetitions."""
    first = True
    for line, text in read_rows(uri):
        if first:
            first = False
            if is_header(uri, line, text, task):
                continue
        key = row_key(task, text)
        try:
            name, frame = parse_key(task, key)
        except EmobeamError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield TemplateRow(line, key, name, frame)


def is_header(uri: str, line: int, text: str, task: Task) -> bool:
    """Whether the first line is the header of a task; raises :class:`EmobeamError` where it is another one's."""
    fields = fields_of(text)
    headers = {other.name: fields_of(other.form.header) for other in TASKS.values() if other.form.header}
    if fields == headers.get(task.name):
        return True
    if fields[0] not in {header[0] for header in headers.values()}:
        return False
    owner = next((f" (that is task {name}'s)" for name, header in headers.items() if header == fields), "")
    wanted = repr(task.form.header) if task.form.header else "no header"
    raise EmobeamError(f"{uri}, line {line}: task {task.name} has {wanted}, found {text!r}{owner}")
