"""Libraries that talk while they are imported, kept quiet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Keeps back what libraries log while they are imported (Beam misses optional parts), and the handler they add."""
    before = logging.root.manager.disable
    stand_in = logging.NullHandler()
    logging.root.addHandler(stand_in)
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(stand_in)
