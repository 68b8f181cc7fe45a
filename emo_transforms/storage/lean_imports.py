"""Leaving out what libraries import just in case: seconds and megabytes in every process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Without:
    """A finder that hides packages from one thread, or from those who import it in one package."""

    def __init__(self, names: Sequence[str], importer: str = "") -> None:
        self._names = frozenset(names)
        self._thread = threading.get_ident()
        self._importer = importer

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Raises ModuleNotFoundError for what is hidden; knows of nothing else."""
        if self._names & {name, name.partition(".")[0]} and self._hides():
            raise ModuleNotFoundError(f"{name} is left out here", name=name)
        return None

    def _hides(self) -> bool:
        if not self._importer:
            return threading.get_ident() == self._thread
        frame = sys._getframe(2)  # noqa: SLF001 - the public ways to the caller read the files of all callers
        while frame.f_code.co_filename.startswith("<frozen importlib") and frame.f_back is not None:
            frame = frame.f_back
        return str(frame.f_globals.get("__name__")).partition(".")[0] == self._importer


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


def beam_without_stores() -> None:
    """Hides from Beam, for as long as the process lives, what a run in this process never asks it for.

    These are clients of stores, which take as long as Beam itself to load, and pandas. So this is for processes that
    are all emobeam's, and whose work stays here.
    """
    sys.meta_path.insert(0, _Without(["boto3", "google.cloud.storage", "pandas", "pymongo"], importer="apache_beam"))
