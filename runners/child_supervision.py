"""The heavy step on other engines: each element is worked on in a child process of the Beam worker.

An engine runs bundles of one Python worker side by side in threads, and takes the death of a worker for a reason to do
everything in flight again, a few times, and then to give up the job. So work that may crash, hang or swell, and that
is not made for threads, happens in children, supervised as in local runs: what was in flight at a death is tried once
more and then given up, alone. When the Beam worker dies its children go with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.storage import downloads
from emobeam.runners.local import LocalConfig, LocalPool, Work
from emobeam.runners.local_worker import Job
from emobeam.runners.worker_progress import Beats
from emobeam.schemas.records import NotDone

_NAMESPACE = "emobeam"


class Task(Protocol):
    """What is done with an element, and what is known of it beforehand; crosses to workers by pickle."""

    def job(self) -> Job:
        """What a child does; see ``emobeam.runners.local_worker.Job``."""

    def key(self, element: Any) -> str:
        """The name under which a child reports on an element."""

    def give_up(self, element: Any, reason: str, message: str) -> None:
        """Notes that an element could not be done."""


class Children:
    """The child processes of one Beam worker: as many as there are threads that want one, ``most`` at a time.

    They outlive bundles, so that models are loaded once.

    Attributes:
        beats: of the process, so that all of its threads write one file.
    """

    def __init__(self, job: Job, beats: Beats, config: LocalConfig, most: int) -> None:
        self.job = job
        self.beats = beats
        self._config = config
        self._free = threading.Semaphore(most)
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

    def run(self, work: Work, listener: Any) -> list[Any]:
        """Runs one element in a child; see :meth:`emobeam.runners.local.LocalPool.run`."""
        with self._free:
            with self._lock:
                pool = self._idle.pop() if self._idle else None
            pool = pool or LocalPool(self._config)
            try:
                crashes = pool.run(self.job, [work], listener)
            except BaseException:
                pool.close()
                raise
            with self._lock:
                self._idle.append(pool)
            return crashes


class _SupervisedDoFn(beam.DoFn):  # type: ignore[misc]
    _children: Children  # from setup to teardown

    def __init__(self, task: Task, beats: Beats, shared: Shared, config: LocalConfig, most: int) -> None:
        self._task = task
        self._beats = beats
        self._shared = shared
        self._config = config
        self._most = most

    def setup(self) -> None:
        self._beats.exchange.check()  # else a folder that isn't shared would fill up unseen on this machine's own disk
        most = self._most or os.cpu_count() or 1
        self._children = self._shared.acquire(lambda: Children(self._task.job(), self._beats, self._config, most))
        self._beats = self._children.beats
        self._children.enter()

    def teardown(self) -> None:
        if hasattr(self, "_children"):  # else setup failed
            self._children.leave()
            del self._children

    def process(self, element: Any) -> Iterator[NotDone]:
        failed: dict[str, str] = {}

        def listen(event: str, data: Mapping[str, Any]) -> None:
            if event == "failed" and "message" in data:
                failed[data["key"]] = data["message"]
            if event == "frames":
                Metrics.counter(_NAMESPACE, "frames").inc(data["frames"])
            elif event in ("done", "failed", "died"):
                Metrics.counter(_NAMESPACE, event).inc()
            for step, seconds in data.get("seconds", {}).items():
                Metrics.distribution(_NAMESPACE, f"ms_{step}").update(round(1000 * seconds))
            self._beats(event, data)

        key = self._task.key(element)
        with self._beats.busy():
            crashes = self._children.run(Work(key, 1, element), listen)
        for crash in crashes:
            self._task.give_up(element, crash.reason, crash.message)
            yield NotDone(key, crash.reason, crash.message)
        if not crashes and key in failed:
            yield NotDone(key, "failed", failed[key])

    def finish_bundle(self) -> None:
        self._beats("bundle", {})


@dataclass
class Supervised(beam.PTransform):  # type: ignore[misc, type-arg]
    """Elements in; what could not be done comes out (NotDone).

    Attributes:
        threads: torch threads of a child.
        most: children of one Beam worker at a time; 0: one per core.
        hints: resource hints of the step.
    """

    name: str
    task: Task
    beats: Beats
    threads: int = 1
    most: int = 0
    hints: Mapping[str, str] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    def expand(self, elements: Any) -> Any:
        """Elements of the task in, NotDone out."""
        config = LocalConfig(workers=1, threads=self.threads)
        work: Any = beam.ParDo(_SupervisedDoFn(self.task, self.beats, self.shared, config, self.most))
        if self.hints:
            work = work.with_resource_hints(**self.hints)
        return elements | self.name >> work.with_output_types(NotDone)
