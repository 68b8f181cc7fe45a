"""The children of a Beam worker of an engine, which work off the elements of all steps of a run there.

An engine runs bundles of one Python worker side by side in threads. Each takes a child for itself, one element at a
time; they outlive bundles, so that networks are loaded once. When the Beam worker dies its children go with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.extraction.child_work import Job, Outcome, Report, Work
from emobeam.emo_transforms.storage import downloads
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from emobeam.runners.worker_progress import Beats

_CHILD = LocalConfig(workers=1, threads=1, jobs=2)
"""Engines give one slot per core. An engine that plans while it extracts has a child do both by turns."""


class Children:
    """As many as there are threads that want one, ``most`` at a time (0: one per core).

    Attributes:
        beats: of the process, so that all of its threads write one file.
    """

    together = False

    def __init__(self, beats: Beats, most: int = 0, config: LocalConfig = _CHILD) -> None:
        self.beats = beats
        self._config = config
        self._free = threading.Semaphore(most or os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._idle: list[LocalPool] = []
        self._users = 0
        beats.presence.before_leaving(self._end_idle)

    def enter(self) -> None:
        """One more step uses them."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """One step less; the last one ends all children, and removes their copies of videos."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last:  # the engine may keep its workers, and the launcher can't reach their disks
            self._end_idle()
            self.beats.flush()
            with suppress(OSError):
                downloads.leave()

    def _end_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for pool in idle:
            pool.close()

    def work_off(self, job: Job, work: Sequence[Work], listen: Report) -> Iterator[Outcome]:
        """See :meth:`emobeam.runners.children.pool.LocalPool.work_off`."""
        with self._free, self.beats.busy():
            with self._lock:
                pool = self._idle.pop() if self._idle else None
            pool = pool or LocalPool(self._config)
            try:
                outcomes = list(pool.work_off(job, work, listen))
            except BaseException:
                pool.close()
                raise
            with self._lock:
                self._idle.append(pool)
        yield from outcomes

    def report(self, event: str, data: Mapping[str, Any]) -> None:
        """Counts for the launcher."""
        self.beats(event, data)

    def check(self) -> None:
        """The engine ends what is to end."""


@dataclass(frozen=True)
class OnWorker:
    """Finds the children of a Beam worker; the first step of a run there makes them.

    Attributes:
        most: children of one worker at a time; 0: one per core.
        stall_timeout: of each, see :class:`emobeam.runners.children.settings.LocalConfig`.
    """

    beats: Beats
    most: int = 0
    stall_timeout: float = _CHILD.stall_timeout
    shared: Shared = field(default_factory=Shared)

    def find(self) -> Children:
        """Raises :class:`EmobeamError` where this machine doesn't see the folder of the run: else one that isn't shared
        would fill up unseen on this machine's own disk.
        """
        self.beats.exchange.check()
        found: Children = self.shared.acquire(
            lambda: Children(self.beats, self.most, replace(_CHILD, stall_timeout=self.stall_timeout))
        )
        return found
