"""What Beam says that nobody needs: while it is imported, of things not used here; while it runs, everything twice."""

from __future__ import annotations

import logging
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
