"""A pool of child processes that may die, hang or be stopped without taking the run with them.

When one dies, what was in flight is tried once more by another, and what it had not begun goes back to the queue.
Slices of work shrink towards the end, so that all finish together. A child of which an answer is due and that gives no
sign of life is killed, whatever it is at: it works, it loads what it needs, or somebody stopped it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

from emobeam.emo_transforms.extraction.child_work import Job, Outcome, Report, Work
from emobeam.emo_transforms.networks.prepared.places import for_children
from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.emo_transforms.storage.leftovers import TORCH_FOLDER, scratch_prefix
from emobeam.runners.children.child import packed
from emobeam.runners.children.settings import ALLOCATOR, LocalConfig, RunStopped
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import UsageError

_MAX_DEATHS = 2
_MAX_FAILED_STARTS = 3
_MAX_SLICE = 256
_LOG_TAIL = 1500
_POLL = 0.2  # seconds between two looks whether a run is to stop
_END_SECONDS = 5.0  # for a process that was killed: one that waits for a dead disk can't even die


def _nothing(event: str, data: object) -> None:
    pass


@dataclass(eq=False)
class _Worker:
    """A child as the launcher sees it.

    Attributes:
        jobs: that it has, by their numbers, the one of now last; of those ``early`` it has had no work yet.
        outbox: what its standard input has not yet taken.
        unanswered: messages to it that it has not yet dealt with; ``loading`` of them are jobs.
    """

    process: subprocess.Popen[bytes]
    events: int
    log: Path
    jobs: dict[int, Job] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)
    outbox: bytearray = field(default_factory=bytearray)
    buffer: bytearray = field(default_factory=bytearray)
    assigned: dict[str, Work] = field(default_factory=dict)
    in_flight: str = ""
    unanswered: int = 0
    loading: int = 0
    last_sign: float = field(default_factory=time.monotonic)
    worked: bool = False
    stalled: bool = False

    @property
    def inlet(self) -> int:
        """Where its standard input is written to."""
        return cast(IO[bytes], self.process.stdin).fileno()


class LocalPool:
    """Child processes that serve one job after another; they start when there is work for them.

    Use it as a context manager: leaving it ends all children at once. Not for several threads at once.
    """

    def __init__(self, config: LocalConfig) -> None:
        self.config = config
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._logs = tempfile.TemporaryDirectory(prefix=scratch_prefix("logs"))
        self._started = 0
        self._job: Job | None = None
        self._numbers = 0
        self._reset([], _nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all children."""
        self._end_workers()
        self._selector.close()
        self._logs.cleanup()

    def _end_workers(self) -> None:
        # Closing their standard input would be enough, killing is quicker; files are only ever renamed into place.
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.process.kill()
        for worker in self._workers:
            _wait(worker.process)
            self._close(worker)
        self._workers.clear()

    def start(self, jobs: Sequence[Job], count: int) -> None:
        """Starts children for ``count`` elements that are to come, so that they load meanwhile what the jobs need.

        Args:
            jobs: one after the other; none of them is dropped before there was work for it.
        """
        self._forget_dead()
        idle = [worker for worker in self._workers if not worker.unanswered]
        self._job = jobs[0]
        while len(self._workers) < min(self.config.workers, count):
            idle.append(self._start_worker())
        for worker in idle:
            for self._job in jobs:
                worker.early.add(self._hand(worker))

    def work_off(
        self, job: Job, work: Sequence[Work], listen: Report = _nothing, check: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome]:
        """Has all elements done, the heaviest first, and yields what became of each as soon as that is known.

        Args:
            listen: told what happens, from the thread that asks for the outcomes.
            check: called several times a second; what it raises ends all children.

        Raises:
            RunStopped, UsageError: a child said that the run can't go on, or children can't even start.
        """
        self._job = job
        self._reset(work, listen)
        try:
            self._forget_dead()
            for worker in self._workers if work else []:
                worker.worked = False
                if not worker.unanswered:
                    self._assign(worker)
                # Else its last answer is still to be read, and work is assigned then.
            while len(self._workers) < min(self.config.workers, len(work)):
                self._start_worker()
            while self._queue or any(worker.assigned for worker in self._workers):
                for key, ready in self._selector.select(timeout=_POLL):
                    if key.data not in self._workers:
                        continue  # it has just been buried
                    if ready & selectors.EVENT_WRITE:
                        self._push(key.data)
                    else:
                        self._read(key.data)
                self._kill_stalled()
                check()
                while self._outcomes:
                    yield self._outcomes.popleft()
            while self._outcomes:
                yield self._outcomes.popleft()
        except BaseException:
            self._end_workers()  # they are in the middle of something no one waits for any more
            raise

    def _forget_dead(self) -> None:
        """Lets go of children that were killed while they had nothing to do: that is no failed start."""
        for worker in [each for each in self._workers if not each.loading and each.process.poll() is not None]:
            self._close(worker)
            self._workers.remove(worker)

    def _reset(self, work: Sequence[Work], listen: Report) -> None:
        self._listener = listen
        self._queue = deque(sorted(work, key=lambda item: -item.weight))
        self._deaths: Counter[str] = Counter()
        self._outcomes: deque[Outcome] = deque()
        self._failed_starts = 0

    def _start_worker(self) -> _Worker:
        read_end, write_end = os.pipe()
        self._started += 1
        log = Path(self._logs.name) / f"worker-{self._started}.log"
        threads = {"OMP_NUM_THREADS": str(self.config.threads), "PYTHONFAULTHANDLER": "1"}
        torch = {TORCH_FOLDER: os.path.join(self._logs.name, "torch")}
        environment = {**ALLOCATOR, **torch, **os.environ, **same_imports(), **for_children(), **threads}
        try:
            with open(log, "wb") as file:
                output = None if self.config.verbose else file
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "emobeam.runners.children.child", str(write_end)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    pass_fds=(write_end,),
                    env=environment,
                    bufsize=0,
                    start_new_session=True,  # Ctrl-C is the launcher's business
                )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        worker = _Worker(process, read_end, log)
        os.set_blocking(worker.inlet, False)
        self._workers.append(worker)
        self._selector.register(read_end, selectors.EVENT_READ, worker)
        self._hand(worker)
        return worker

    def _hand(self, worker: _Worker) -> int:
        """Makes the job of now one that a child has, and gives its number."""
        job = cast(Job, self._job)  # there is one before any worker
        number = next((number for number, known in worker.jobs.items() if known == job), 0)
        if number:
            worker.jobs[number] = worker.jobs.pop(number)
            return number
        self._drop(worker, self.config.jobs - 1)
        self._numbers += 1
        worker.jobs[self._numbers] = job
        worker.unanswered += 1
        worker.loading += 1
        worker.last_sign = time.monotonic()
        self._send(worker, ("job", self._numbers, job))
        return self._numbers

    def _drop(self, worker: _Worker, room: int) -> None:
        """Leaves a child the jobs that came last, and those that it has had no work of."""
        old = [number for number in worker.jobs if number not in worker.early]
        for number in old[: max(0, len(old) - room)]:
            del worker.jobs[number]
            self._send(worker, ("drop", number))

    def _send(self, worker: _Worker, message: Any) -> None:
        waiting = bool(worker.outbox)
        worker.outbox += packed(message)
        if not waiting:
            self._push(worker)

    def _push(self, worker: _Worker) -> None:
        """Writes what a child takes now: one that is stopped takes nothing, and holds nobody up."""
        try:
            while worker.outbox:
                del worker.outbox[: os.write(worker.inlet, worker.outbox)]
        except BlockingIOError:
            with contextlib.suppress(KeyError):  # it is registered already
                self._selector.register(worker.inlet, selectors.EVENT_WRITE, worker)
            return
        except BrokenPipeError:  # its death is met when its events end
            worker.outbox.clear()
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.inlet)

    def _read(self, worker: _Worker) -> None:
        data = os.read(worker.events, 1 << 20)
        if not data:
            self._bury(worker)
            return
        worker.buffer += data
        if b"\n" not in data:
            return
        *lines, rest = worker.buffer.split(b"\n")
        worker.buffer = bytearray(rest)
        for line in lines:
            message = parsed(line)
            self._handle(worker, message.pop("event"), message)

    def _handle(self, worker: _Worker, event: str, data: dict[str, Any]) -> None:
        worker.last_sign = time.monotonic()
        if event == "fatal":
            raise (UsageError if data["usage"] else RunStopped)(data["message"])
        if event in ("ready", "idle"):
            worker.unanswered -= 1
            worker.loading -= event == "ready"
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
            work = worker.assigned.pop(key, None)
            if work is not None:
                failed = "failed" if event == "failed" else ""
                result = data.pop("result", None)
                self._outcomes.append(Outcome(work, failed, data.get("message", ""), result))
        self._listener(event, data)

    def _give_up_unreported(self, worker: _Worker) -> None:
        for item in worker.assigned.values():  # would otherwise be waited for without end
            self._fail(item, "crash", "its worker did not report on it")
        worker.assigned.clear()

    def _assign(self, worker: _Worker) -> None:
        remaining = sum(item.weight for item in self._queue)
        share = remaining / (2 * self.config.workers)
        piece: list[Work] = []
        weight = 0
        while self._queue and len(piece) < _MAX_SLICE and (not piece or weight + self._queue[0].weight <= share):
            piece.append(self._queue.popleft())
            weight += piece[-1].weight
        if piece:
            number = self._hand(worker)
            worker.early.discard(number)
            self._drop(worker, self.config.jobs)
            worker.assigned = {item.key: item for item in piece}
            worker.last_sign = time.monotonic()
            worker.unanswered += 1
            self._send(worker, ("do", number, [item.element for item in piece]))

    def _kill_stalled(self) -> None:
        for worker in self._workers:
            patience = self.config.start_timeout if worker.loading else self.config.stall_timeout
            if worker.unanswered and time.monotonic() - worker.last_sign > patience:
                worker.stalled = True
                worker.process.kill()

    def _bury(self, worker: _Worker) -> None:
        _wait(worker.process)
        self._close(worker)
        self._workers.remove(worker)
        if not worker.worked:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                why = "stood still and was killed" if worker.stalled else f"said:\n{_tail(worker.log)}"
                raise RunStopped(f"worker processes can't start; the last one {why}")
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
        self._outcomes.append(Outcome(work, reason, message))
        self._listener("failed", {"key": work.key})

    def _close(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.inlet)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.events)
            os.close(worker.events)
        if worker.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()


def _wait(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)


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
