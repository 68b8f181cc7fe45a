"""Ctrl-C and SIGTERM while Beam runs in this process: told where the run looks for it, not in the middle of a step.

An interrupt that is raised inside a step comes out of Beam as another error, with a hundred lines on standard error.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from emobeam.schemas.records import EmobeamError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPATIENT = 3.0
"""Seconds after which another signal is obeyed at once: whatever the run is at, it does not look."""

Handler = Callable[[int, FrameType | None], Any]


class Interrupted(EmobeamError):
    """The run was told to end; what was told is raised once Beam has let go."""


class Interrupts:
    """What comes while a block runs."""

    def __init__(self) -> None:
        self._number = 0
        self._came = 0.0
        self._before: dict[int, Handler] = {}

    def hold_back(self) -> None:
        """From now on signals are noted. Only those that somebody handles in Python, and only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                signal.signal(number, self._note)

    def let_go(self) -> None:
        """Signals do what they always do, and so does the first that was noted."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._number:
            self._before[self._number](self._number, None)

    def check(self) -> None:
        """Raises :class:`Interrupted` where a signal came."""
        if self._number:
            raise Interrupted("stopped")

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._number and time.monotonic() - self._came > _IMPATIENT:
            self._before[number](number, frame)
        elif not self._number:
            self._number, self._came = number, time.monotonic()


@contextmanager
def held_back() -> Iterator[Interrupts]:
    """While the block runs signals are noted, for :meth:`Interrupts.check`; at its end they do what they always do."""
    interrupts = Interrupts()
    interrupts.hold_back()
    try:
        yield interrupts
    finally:
        interrupts.let_go()
