"""Ctrl-C and SIGTERM while Beam runs in this process: told where the run looks for it, not in the middle of a step.

An interrupt that is raised inside a step comes out of Beam as another error, with a hundred lines on standard error.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from emobeam.schemas.records import EmobeamError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPATIENT = 3.0
"""Seconds after which another signal is obeyed at once: whatever the run is at, it does not look."""

Handler = Callable[[int, FrameType | None], Any]


class Interrupted(EmobeamError):
    """The run was told to end; what was told is raised once Beam has let go."""


@dataclass
class Interrupts:
    """What came while a block ran.

    Attributes:
        number: the first signal; 0: none.
    """

    number: int = 0
    _before: dict[int, Handler] = field(default_factory=dict)
    _came: float = 0.0

    def check(self) -> None:
        """Raises :class:`Interrupted` where a signal came."""
        if self.number:
            raise Interrupted("stopped")

    def obey(self) -> None:
        """Does what the first signal would have done outside of the block."""
        if self.number:
            self._before[self.number](self.number, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and time.monotonic() - self._came > _IMPATIENT:
            self._before[number](number, frame)
        elif not self.number:
            self.number, self._came = number, time.monotonic()


@contextmanager
def held_back() -> Iterator[Interrupts]:
    """While the block runs signals are noted, for :meth:`Interrupts.check`; at its end they do what they always do.

    Only those that somebody handles in Python, and only in the main thread.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    for each in _SIGNALS:
        handler = signal.getsignal(each)
        if callable(handler):
            interrupts._before[each] = handler
            signal.signal(each, interrupts._note)
    try:
        yield interrupts
    finally:
        for number, handler in interrupts._before.items():
            signal.signal(number, handler)
        interrupts.obey()
