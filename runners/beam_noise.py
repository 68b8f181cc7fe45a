"""What Beam says that nobody needs: while it is imported, of things not used here; while it runs, everything twice."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def quieten() -> None:
    """Keeps the handlers of the root logger from telling it; call it once they are there."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(worth_telling)


def worth_telling(record: logging.LogRecord) -> bool:
    """False for what Beam says of BigQuery and its clients."""
    return "bigquery" not in record.name and not str(record.msg).startswith("apitools not found")


@contextmanager
def only_critical() -> Iterator[None]:
    """Silences the root logger for a while, unless it is verbose: what goes wrong in a step is told by its error."""
    root = logging.getLogger()
    before = root.level
    if before > logging.INFO:
        root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


_READERS = "wait_until_finish_read"
"""Name of Beam's threads that read what a job server says; they end with a traceback when the job is cancelled."""


@contextmanager
def readers_end_in_silence() -> Iterator[None]:
    """What Beam's readers end by is not shown; where the block ends by an error, also of those that outlive it."""
    before = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        if args.thread is None or args.thread.name != _READERS:
            before(args)

    threading.excepthook = tell
    yield
    threading.excepthook = before
