"""Python workers that leave when their run is over, whether or not the engine lets go of them.

Engines end the workers of a job with the job. Beam's Flink runner forgets one where a task is cancelled while it opens,
as happens when a task manager was lost: ``FlinkExecutableStageFunction.open`` takes hold of the worker and, when it
fails after that, nobody gives the hold back. Such a worker and its children would stay, with their memory, as long as
their task manager does.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms.storage.run_mailbox import Exchange

_WORKER = "apache_beam.runners.worker.sdk_worker_main"


@dataclass(frozen=True)
class Patience:
    """How long a worker waits, in seconds.

    Attributes:
        idle: without anything to do before it looks whether the run is over; busy workers never look.
        look_every: between two looks.
        looks: that have to find it over, one after the other.
    """

    idle: float = 20.0
    look_every: float = 10.0
    looks: int = 2


class Presence:
    """Knows when this process last had something to do, and ends it when it has none and the run is over.

    There is one per process and run.

    Args:
        watched: whether the process may be ended; None: if it is nothing but a Beam worker. A launcher that has workers
            in threads goes on.
    """

    def __init__(self, exchange: Exchange, patience: Patience | None = None, *, watched: bool | None = None) -> None:
        self._exchange = exchange
        self._patience = patience or Patience()
        self._watched = is_worker() if watched is None else watched
        self._before: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._busy = 0
        self._thread: threading.Thread | None = None

    def sign(self) -> None:
        """Something was done; the first call starts the watch."""
        self._last = time.monotonic()
        with self._lock:
            if self._watched and self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="presence")
                self._thread.start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Work that may take long; the process stays at least as long."""
        with self._lock:
            self._busy += 1
        try:
            self.sign()
            yield
        finally:
            with self._lock:
                self._busy -= 1
            self._last = time.monotonic()

    def before_leaving(self, action: Callable[[], None]) -> None:
        """Something to be done before the process ends; its errors don't keep it."""
        self._before.append(action)

    def _watch(self) -> None:
        found_over = 0
        while True:
            time.sleep(self._patience.look_every)
            idle = not self._busy and time.monotonic() - self._last >= self._patience.idle
            found_over = found_over + 1 if idle and self._is_over() else 0
            if found_over >= self._patience.looks:
                self._leave()

    def _is_over(self) -> bool:
        with suppress(Exception):  # a store that doesn't answer says nothing
            return not self._exchange.alive()
        return False

    def _leave(self) -> NoReturn:
        logging.getLogger(__name__).info("the run is over and this worker was not ended; it leaves")
        for action in self._before:
            with suppress(Exception):  # the process ends in any case
                action()
        with suppress(OSError):
            downloads.leave()
        sys.stderr.flush()
        # An orderly end would wait for the engine to close its connections.
        os._exit(0)


def is_worker() -> bool:
    """Whether this process was started as one of Beam's Python workers, and is nothing else."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == _WORKER
