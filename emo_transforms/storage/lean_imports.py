"""Leaving out what libraries import just in case: seconds and megabytes in every process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Without:
    """A finder that hides packages from one thread."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Raises ModuleNotFoundError for what is hidden; knows of nothing else."""
        if threading.get_ident() == self._thread and name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"{name} is left out here", name=name)
        return None


@contextmanager
def imports_without(*names: str) -> Iterator[None]:
    """Within the block, packages that aren't loaded yet look as if they weren't installed."""
    finder = _Without(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def arrow_without_pandas() -> None:
    """Loads pyarrow, which imports pandas when it makes its first array, to know one if it is given one: half a second.

    What asks for a pandas table later gets one. But until then ``pyarrow.array`` takes a Series for any other sequence,
    so this is for processes that are all emobeam's.
    """
    with imports_without("pandas"):
        import pyarrow as pa

        pa.array([0])
