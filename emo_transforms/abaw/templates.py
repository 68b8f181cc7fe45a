"""Templates: the rows the organisers want filled, in their order.

The organisers hand out samples (``key,``) and examples with dummy values (``key,0.5,-0.5``); teams also make bare
lists of keys (``key``). All three are read; values are ignored. Rows are streamed: a template has about a million.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import fsspec

from emo_transforms.abaw.keys import parse_key, row_key
from schemas.records import EmobeamError
from schemas.tasks import TASKS, Task


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


def template_names(uri: str, task: Task) -> list[str]:
    """The names of the videos in a template, each once, in their order; raises as :func:`read_template`."""
    return list(dict.fromkeys(row.name for row in read_template(uri, task)))


def _rows(uri: str, task: Task) -> Iterator[TemplateRow]:
    """The rows as they come, not checked for repetitions."""
    first = True
    for line, text in _lines(uri):
        if first:
            first = False
            if _is_header(uri, line, text, task):
                continue
        key = row_key(task, text)
        try:
            name, frame = parse_key(task, key)
        except EmobeamError as error:
            raise EmobeamError(f"{uri}, line {line}: {error}") from None
        yield TemplateRow(line, key, name, frame)


def _lines(uri: str) -> Iterator[tuple[int, str]]:
    """Number and stripped text of the lines that aren't blank."""
    try:
        with fsspec.open(uri, "rt", encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text := text.strip():
                    yield line, text
    except UnicodeDecodeError as error:
        raise EmobeamError(f"{uri}: not UTF-8 text ({error.reason}); is this the template?") from error
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: no such file; name the organisers' template") from error
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be read ({error.strerror or error})") from error


def _is_header(uri: str, line: int, text: str, task: Task) -> bool:
    """Whether the first line is the task's header; raises where it is another one's."""
    fields = _fields(text)
    headers = {other.name: _fields(other.form.header) for other in TASKS.values() if other.form.header}
    if fields == headers.get(task.name):
        return True
    if fields[0] not in {header[0] for header in headers.values()}:
        return False
    owner = next((f" (that is task {name}'s)" for name, header in headers.items() if header == fields), "")
    wanted = repr(task.form.header) if task.form.header else "no header"
    raise EmobeamError(f"{uri}, line {line}: task {task.name} has {wanted}, found {text!r}{owner}")


def _fields(header: str) -> list[str]:
    return [field.strip() for field in header.split(",")]
