"""Small jobs for workers, without Beam: each does what its element says."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emobeam.runners.local_worker import PipeReporter
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True)
class Element:
    """What to do under a key: ``fine``, ``abort``, ``abort once``, ``hang``, ``stop``, ``raise``, ``forget``."""

    key: str
    what: str = "fine"
    marker: str = ""


@dataclass(frozen=True)
class ElementsJob:
    """Treats elements one by one, and leaves the names of those it began, with its process, in ``folder``."""

    folder: str

    def run(self, elements: list[Element], reporter: PipeReporter) -> None:
        for element in elements:
            reporter("start", {"key": element.key})
            with open(Path(self.folder) / f"{element.key}.begun", "a") as file:
                file.write(f"{os.getpid()}\n")
            self._treat(element, reporter)

    def _treat(self, element: Element, reporter: PipeReporter) -> None:
        once = Path(self.folder) / f"{element.key}.once"
        if element.what == "abort" or (element.what == "abort once" and not once.exists()):
            once.touch()
            os.abort()
        if element.what == "hang":
            time.sleep(600)
        if element.what == "stop":
            raise EmobeamError("the disk is full")
        if element.what == "raise":
            raise ZeroDivisionError("nobody expected this")
        if element.what != "forget":
            reporter("done", {"key": element.key})


class LoadingJob:
    """Loads what it needs for its first element and keeps it; every load leaves a line in ``folder``."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._loaded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadingJob, (self.folder,)

    def run(self, elements: list[Element], reporter: PipeReporter) -> None:
        if not self._loaded:
            self._loaded = True
            with open(Path(self.folder) / "loads", "a") as file:
                file.write(f"{os.getpid()}\n")
        for element in elements:
            reporter("start", {"key": element.key})
            reporter("done", {"key": element.key})


@dataclass(frozen=True)
class BrokenStartJob:
    """Can't begin anything, as where a library is missing."""

    def run(self, elements: list[Any], reporter: PipeReporter) -> None:
        raise ModuleNotFoundError("No module named 'a_library_that_is_missing'")


@dataclass(frozen=True)
class SlowToLoad:
    """Takes for ever to be received; the process that begins with it leaves its id in ``folder``."""

    folder: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_for_ever, (self.folder,)


def _load_for_ever(folder: str) -> None:
    (Path(folder) / "loading").write_text(str(os.getpid()))
    time.sleep(600)


class Unloadable:
    """Can be sent, but not be received."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _fail, ()


def _fail() -> None:
    raise ModuleNotFoundError("No module named 'a_job_that_is_missing'")
