"""What a job tells a program: warnings as Python warnings, the rest only where progress is asked for."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from emobeam.pipelines.console import Ui, make_ui
from emobeam.pipelines.quiet_imports import quiet_imports as quiet_imports
from emobeam.schemas.wording import without_secrets

_PACKAGES = ("emobeam", "pipelines", "runners", "emo_transforms", "schemas", "contextlib")

_NOTED: set[tuple[str, str]] = set()
"""Notes on output folders that this session has heard: what stays true of a folder is told once, not by every job."""


class EmobeamWarning(UserWarning):
    """Something that makes results mean less than they seem to (untrained weights above all), or a video left out."""


class Telling:
    """The ``Ui`` of a program.

    Attributes:
        warned: all warnings of the job, in order, each once.
    """

    def __init__(self, *, progress: bool = False) -> None:
        self._shown: Ui | None = make_ui(quiet=False) if progress else None
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        """A line where progress is shown."""
        text = without_secrets(text)
        if self._shown is not None:
            self._shown.say(text)

    def warn(self, text: str) -> None:
        """An :class:`EmobeamWarning` at the caller's line, each text once."""
        text = without_secrets(text)
        if text not in self.warned:
            self.warned.append(text)
            warnings.warn(text, EmobeamWarning, stacklevel=_depth())

    def note(self, text: str, output: str) -> None:
        """A warning that is true of an output folder whatever is made of it: once a session."""
        if (output, text) not in _NOTED:
            _NOTED.add((output, text))
            self.warn(text)
        elif text not in self.warned:
            self.warned.append(text)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        """Begins a bar where progress is shown."""
        if self._shown is not None:
            self._shown.start(name, total, items, unit, measure)

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        """Moves the bar."""
        if self._shown is not None:
            self._shown.event(event, data)

    def finish(self) -> None:
        """Ends the bar."""
        if self._shown is not None:
            self._shown.finish()


def _depth() -> int:
    """``stacklevel`` of the code that called emobeam, so that a warning names the user's own line."""
    frame, depth = inspect.currentframe(), 0
    while frame and frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _PACKAGES:
        frame, depth = frame.f_back, depth + 1
    return depth
