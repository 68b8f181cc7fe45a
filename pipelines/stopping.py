"""SIGTERM taken as Ctrl-C: what batch systems, containers and service managers send some time before they kill.

A command that is told to end cancels its job on another engine, ends its workers and clears away; without this the
process would be gone at once, and a job on a cluster would go on with nobody to look after it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME = 2.0
"""Seconds within which another SIGTERM is the same one: timeout(1) and batch systems tell the process and its group."""


class Terminated(KeyboardInterrupt):
    """The process was sent SIGTERM."""


class Stops:
    """Knows by what a command was stopped.

    Attributes:
        code: exit code of a command that was stopped: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self) -> None:
        self.code = 128 + signal.SIGINT

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While the block runs, SIGTERM raises :class:`Terminated` in it.

        Whoever handles the signal already goes on doing so, and outside of the main thread nothing is changed.
        """
        on_main = threading.current_thread() is threading.main_thread()
        if not on_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield
            return
        mine, last = os.getpid(), -_SAME

        def end(number: int, frame: FrameType | None) -> None:
            nonlocal last
            if os.getpid() != mine:  # a child that was forked: it ends as if nobody had asked to hear of it
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
                return
            self.code = 128 + number
            now = time.monotonic()
            if now - last >= _SAME:
                last = now
                raise Terminated

        signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
