"""From where commands print: what reaches a terminal or a log passes one check.

Ids and paths are other people's text. They may hold what steers a terminal, and addresses may hold passwords; neither
leaves the process (see ``emobeam.schemas.wording``). Tables go through :class:`emobeam.pipelines.console.Terminal`.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.wording import told


class NotPrinted(EmobeamError):
    """Standard output takes nothing (a full disk); what the command has done is done."""


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Prints text on standard output, or on standard error.

    Raises:
        NotPrinted: see :func:`printed`.
    """
    with printed(err=err):
        click.echo(told(text), err=err, nl=nl)


@contextmanager
def printed(*, err: bool = False) -> Iterator[None]:
    """For a block that prints. A standard error that takes nothing keeps no run from its work.

    Raises:
        NotPrinted: standard output can't be written to.
        BrokenPipeError: whoever read it has gone.
    """
    try:
        yield
    except BrokenPipeError:
        if not err:
            raise
    except OSError as error:
        if not err:
            with suppress(OSError):  # what waits in the buffer would fail once more at the end
                _to_nowhere(sys.stdout.fileno())
            raise NotPrinted(f"standard output: can't be written ({error.strerror}); the work is done") from error


def open_closed_streams() -> None:
    """Standard streams that whoever started the process has closed lead to nowhere.

    Otherwise the next file that is opened gets their number, and what libraries print goes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def scarce(error: Exception) -> str | None:
    """What to tell of an error of the machine instead of a traceback; None where it may be emobeam's own."""
    if isinstance(error, OSError) and error.errno is not None and error.errno != errno.ENOMEM:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
        return f"there isn't enough memory or address space ({text or 'allocation failed'}); {_limit()}"
    return None


_NO_MEMORY = ("annot allocate memory", "failed to map segment", "cannot map", "bad_alloc", "can't start new thread")
"""How the system's loader and libraries tell of it."""


def _limit() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return "end other programs, or take fewer --workers"
    return f"this process may take {limit / 1e9:.1f} GB of addresses (ulimit -v), and some libraries map more"


def _to_nowhere(number: int) -> None:
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
