"""Supervised local runs: worker processes that may die without taking the run with them.

Beam's own multi-processing runner hangs when a worker dies. Here every worker runs Beam's in-process runner over
slices of the work; when one dies, what was in flight is tried once more by another, and what it had not begun
goes back to the queue. Slices shrink towards the end, so that workers finish together.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.emo_transforms.storage.leftovers import scratch_prefix
from emobeam.runners.local_worker import Job, send
from emobeam.schemas.records import EmobeamError

_MAX_DEATHS = 2
_MAX_FAILED_STARTS = 3
_MAX_SLICE = 256
_LOG_TAIL = 1500

ALLOCATOR = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
"""Environment of a worker. One pool keeps its memory low; big arrays that come and go with every frame stay mapped,
instead of being asked of the system anew. What the user has set goes first."""

Listener = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event and its data: ``start``, ``frames``, ``done``, ``failed`` of an element (by ``key``),
``died`` of a worker."""


class RunStopped(EmobeamError):
    """The run can't go on (disk full, workers that don't start); what is done stays done."""


@dataclass(frozen=True)
class Work:
    """One element of a run.

    Attributes:
        key: the name under which workers report on it.
        weight: a measure of how long it takes (sampled frames).
        element: what the job gets.
    """

    key: str
    weight: int
    element: Any


@dataclass(frozen=True)
class Crash:
    """An element that was in flight when a worker died twice, or stood still."""

    work: Work
    reason: str
    message: str


@dataclass(frozen=True)
class LocalConfig:
    """How many processes, and how patient.

    Attributes:
        workers: processes.
        threads: torch threads of each.
        stall_timeout: seconds without any sign of life of an element after which its worker is killed.
        verbose: let workers write to standard error.
    """

    workers: int = 1
    threads: int = 1
    stall_timeout: float = 900.0
    verbose: bool = False


def local_config(workers: int, *, verbose: bool = False) -> LocalConfig:
    """``workers`` processes (0: one per core), the cores divided among them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = workers or cores
    return LocalConfig(workers=count, threads=max(1, cores // count), verbose=verbose)


def run_locally(job: Job, work: Sequence[Work], config: LocalConfig, listener: Listener) -> list[Crash]:
    """Runs one job in a pool of its own; see :meth:`LocalPool.run`."""
    with LocalPool(config) as pool:
        return pool.run(job, work, listener)


@dataclass
class _Worker:
    """A worker as the launcher sees it. ``unanswered`` counts messages to it that it has not yet dealt with."""

    process: subprocess.Popen[bytes]
    events: int
    log: Path
    job: Job | None = None
    buffer: bytes = b""
    assigned: dict[str, Work] = field(default_factory=dict)
    in_flight: str = ""
    unanswered: int = 0
    last_sign: float = field(default_factory=time.monotonic)
    worked: bool = False
    stalled: bool = False


class LocalPool:
    """Worker processes that serve one job after another; they start when there is work for them.

    Use it as a context manager: leaving it ends all workers at once.
    """

    def __init__(self, config: LocalConfig) -> None:
        self.config = config
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._logs = tempfile.TemporaryDirectory(prefix=scratch_prefix("logs"))
        self._started = 0
        self._reset(None, [], lambda event, data: None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers."""
        self._end_workers()
        self._selector.close()
        self._logs.cleanup()

    def _end_workers(self) -> None:
        # Closing their standard input would be enough, killing is quicker; files are only ever renamed into place.
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.process.kill()
            worker.process.wait()
            self._close(worker)
        self._workers.clear()

    def run(self, job: Job, work: Sequence[Work], listener: Listener) -> list[Crash]:
        """Runs a job over all elements and returns those that could not be done because workers died.

        Raises:
            RunStopped: a worker said that the run can't go on, or workers can't even start.
        """
        self._reset(job, work, listener)
        for worker in self._workers if work else []:
            worker.worked = False
            if worker.job is not job:
                self._hand(worker, job)
            elif not worker.unanswered:
                self._assign(worker)
            # Else its last answer is still to be read, and work is assigned then: the job, sent again, would load anew.
        while len(self._workers) < min(self.config.workers, len(work)):
            self._start_worker()
        try:
            while self._queue or any(worker.assigned for worker in self._workers):
                for key, _ in self._selector.select(timeout=1.0):
                    self._read(key.data)
                self._kill_stalled()
        except BaseException:
            self._end_workers()  # they are in the middle of something no one waits for any more
            raise
        return self._crashes

    def _reset(self, job: Job | None, work: Sequence[Work], listener: Listener) -> None:
        self._job = job
        self._listener = listener
        self._queue = deque(sorted(work, key=lambda item: -item.weight))
        self._deaths: Counter[str] = Counter()
        self._crashes: list[Crash] = []
        self._failed_starts = 0

    def _start_worker(self) -> None:
        read_end, write_end = os.pipe()
        self._started += 1
        log = Path(self._logs.name) / f"worker-{self._started}.log"
        threads = {"OMP_NUM_THREADS": str(self.config.threads), "PYTHONFAULTHANDLER": "1"}
        environment = {**ALLOCATOR, **os.environ, **same_imports(), **threads}
        with open(log, "wb") as file:
            output = None if self.config.verbose else file
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "emobeam.runners.local_worker", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(write_end,),
                env=environment,
                start_new_session=True,  # Ctrl-C is the launcher's business
            )
        os.close(write_end)
        worker = _Worker(process, read_end, log)
        self._workers.append(worker)
        self._selector.register(read_end, selectors.EVENT_READ, worker)
        self._hand(worker, self._job)

    def _hand(self, worker: _Worker, job: Job | None) -> None:
        worker.job = job
        self._send(worker, job)

    def _send(self, worker: _Worker, message: Any) -> None:
        worker.unanswered += 1
        with contextlib.suppress(BrokenPipeError):  # its death is met when its events end
            send(cast(BinaryIO, worker.process.stdin), message)

    def _read(self, worker: _Worker) -> None:
        data = os.read(worker.events, 65536)
        if not data:
            self._bury(worker)
            return
        *lines, worker.buffer = (worker.buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self._handle(worker, message.pop("event"), message)

    def _handle(self, worker: _Worker, event: str, data: dict[str, Any]) -> None:
        worker.last_sign = time.monotonic()
        if event == "fatal":
            raise RunStopped(data["message"])
        if event in ("ready", "idle"):
            worker.unanswered -= 1
            if not worker.unanswered:  # else it is the end of an earlier job
                self._give_up_unreported(worker)
                self._assign(worker)
            return
        worker.worked = True
        self._failed_starts = 0
        key = data["key"]
        if event == "start":
            worker.in_flight = key
        elif event in ("done", "failed"):
            worker.in_flight = ""
            worker.assigned.pop(key, None)
        self._listener(event, data)

    def _give_up_unreported(self, worker: _Worker) -> None:
        for item in worker.assigned.values():  # would otherwise be waited for without end
            self._fail(item, "crash", "its worker did not report on it")
        worker.assigned.clear()

    def _assign(self, worker: _Worker) -> None:
        remaining = sum(item.weight for item in self._queue)
        share = remaining / (2 * self.config.workers)
        piece: list[Work] = []
        while (
            self._queue and len(piece) < _MAX_SLICE and (not piece or _weight(piece) + self._queue[0].weight <= share)
        ):
            piece.append(self._queue.popleft())
        if piece:
            worker.assigned = {item.key: item for item in piece}
            worker.last_sign = time.monotonic()
            self._send(worker, [item.element for item in piece])

    def _kill_stalled(self) -> None:
        for worker in self._workers:
            if worker.assigned and time.monotonic() - worker.last_sign > self.config.stall_timeout:
                worker.stalled = True
                worker.process.kill()

    def _bury(self, worker: _Worker) -> None:
        worker.process.wait()
        self._close(worker)
        self._workers.remove(worker)
        if not worker.worked:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise RunStopped(f"worker processes can't start; the last one said:\n{_tail(worker.log)}")
        unfinished = dict(worker.assigned)
        if worker.in_flight in unfinished:
            self._blame(unfinished.pop(worker.in_flight), worker)
        self._queue.extendleft(reversed(unfinished.values()))
        self._listener("died", {"key": worker.in_flight, "code": worker.process.returncode})
        for other in [other for other in self._workers if not other.unanswered]:
            self._assign(other)
        if self._queue:
            self._start_worker()

    def _blame(self, work: Work, worker: _Worker) -> None:
        self._deaths[work.key] += 1
        if self._deaths[work.key] < _MAX_DEATHS:
            self._queue.appendleft(work)
            self._listener("retry", {"key": work.key})
            return
        reason = "timeout" if worker.stalled else "crash"
        code = worker.process.returncode
        how = "stood still and was killed" if worker.stalled else f"died (exit status {code})"
        last = _last_words(worker.log)
        self._fail(work, reason, f"its worker {how} {_MAX_DEATHS} times" + (f"; last words: {last}" if last else ""))

    def _fail(self, work: Work, reason: str, message: str) -> None:
        self._crashes.append(Crash(work, reason, message))
        self._listener("failed", {"key": work.key})

    def _close(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.events)
            os.close(worker.events)
        if worker.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()


def _weight(piece: Sequence[Work]) -> int:
    return sum(item.weight for item in piece)


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    return ""


def _last_words(log: Path) -> str:
    """What a process said last: the line before Python's dump of its stacks, where there is one."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return (fatal or lines or [""])[-1]
    return ""
