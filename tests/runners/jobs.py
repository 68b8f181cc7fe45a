"""Small jobs for children: each does what its element says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.video.decoding_process import Decoders
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

    def open(self, _: Decoders) -> Callable[[Element, Report], None]:
        return self._treat

    def _treat(self, element: Element, report: Report) -> None:
        report("start", {"key": element.key})
        with open(Path(self.folder) / f"{element.key}.begun", "a") as file:
            file.write(f"{os.getpid()}\n")
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
            report("done", {"key": element.key, "result": element.what})


@dataclass(frozen=True)
class LoadingJob:
    """Every time it is opened a line is left in ``folder``."""

    folder: str

    def open(self, _: Decoders) -> Callable[[Element, Report], None]:
        with open(Path(self.folder) / "loads", "a") as file:
            file.write(f"{os.getpid()}\n")

        def treat(element: Element, report: Report) -> None:
            report("start", {"key": element.key})
            report("done", {"key": element.key})

        return treat


@dataclass(frozen=True)
class BrokenStartJob:
    """Can't begin anything, as where a library is missing."""

    def open(self, _: Decoders) -> Callable[[Any, Report], None]:
        raise ModuleNotFoundError("No module named 'a_library_that_is_missing'")


@dataclass(frozen=True)
class SlowToLoad:
    """Takes for ever to be received; the process that begins with it leaves its id in ``folder``."""

    folder: str

    def open(self, _: Decoders) -> Callable[[Any, Report], None]:
        raise AssertionError

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_for_ever, (self.folder,)


def _load_for_ever(folder: str) -> None:
    with open(Path(folder) / "loading", "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(600)


class Unloadable:
    """Can be sent, but not be received."""

    def open(self, _: Decoders) -> Callable[[Any, Report], None]:
        raise AssertionError

    def __reduce__(self) -> tuple[Any, ...]:
        return _fail, ()


def _fail() -> None:
    raise ModuleNotFoundError("No module named 'a_job_that_is_missing'")
