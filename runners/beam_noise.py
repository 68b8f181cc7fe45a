"""What Beam complains about while it is imported, though nothing here uses it."""

from __future__ import annotations

import logging


def quieten() -> None:
    """Keeps the handlers of the root logger from telling it; call it once they are there."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(worth_telling)


def worth_telling(record: logging.LogRecord) -> bool:
    """False for what Beam says of BigQuery and its clients."""
    return "bigquery" not in record.name and not str(record.msg).startswith("apitools not found")
