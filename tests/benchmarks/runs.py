"""``extract`` as users start it, watched: when its segments began and ended, and what its workers took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.pipelines.stages.extract import ExtractRequest, run_extract
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from emobeam.schemas.records import EmobeamError
from tests.benchmarks.measure import Spent, cpu_seconds, timed


@dataclass
class Watch:
    """A Ui that keeps the times of the first ``start`` and the last ``done`` of the segments."""

    seconds: float = 0.0
    cpu: float = 0.0
    done: int = 0
    warned: list[str] = field(default_factory=list)
    _begin: float = 0.0
    _cpu: float = 0.0
    _on: bool = False

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def note(self, text: str, output: str) -> None:
        pass

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self._on, self._begin = name == "extract", 0.0

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        if not self._on:
            return
        if event == "start" and not self._begin:
            self._begin, self._cpu = time.perf_counter(), cpu_seconds()
        elif event == "done":  # workers are alive, so their CPU time can still be read
            self.seconds, self.cpu = time.perf_counter() - self._begin, cpu_seconds() - self._cpu
            self.done += 1

    def finish(self) -> None:
        self._on = False


def extract(clip: Path, features: Path, dataset: Dataset, *, workers: int) -> Spent:
    """Runs ``extract`` with one torch thread per worker; start-up apart: from the first start to the last done."""
    watch = Watch()
    local = LocalConfig(workers=workers, threads=1)
    result = run_extract(ExtractRequest(find_videos([str(clip)]), str(features), dataset, local=local), watch)
    if result.some_failed or not watch.done:
        raise EmobeamError(f"{clip}: nothing to measure, {result.outcomes}")
    return Spent(watch.seconds, watch.cpu)


def whole_run(path: Path, features: Path, dataset: Dataset, pool: LocalPool) -> Spent:
    """A run of ``extract`` from its plan to its indexes, with workers that are there already."""

    def work() -> None:
        request = ExtractRequest(find_videos([str(path)]), str(features), dataset, local=pool.config)
        result = run_extract(request, Watch(), pool)
        if result.some_failed:
            raise EmobeamError(f"{path}: nothing to measure, {result.outcomes}")

    return timed(work)


KINDS = {
    "decoder": "emobeam.emo_transforms.video.decoding_child",
    "worker": "emobeam.runners.children.child",
    "beam": "apache_beam.runners.worker.sdk_worker_main",
    "launcher": "bin/emobeam ",
}
"""What a process is, by what stands in its command line."""


def below() -> list[psutil.Process]:
    """The processes that this one has started, and theirs."""
    return psutil.Process().children(recursive=True)


@dataclass
class PeakMemory:
    """Peak resident memory of the processes of a run while the block runs, in MB (10^6 bytes).

    On Linux the kernel's own high-water mark of each process is read, so no peak is missed; elsewhere the largest
    sample. ``together`` adds the peaks of a worker and its decoding process: an upper bound, in which the pictures on
    their way between the two (up to 64 MB) count twice. Libraries count in full, though all processes share one copy.

    Attributes:
        processes: those that are watched, where :data:`KINDS` knows them.
    """

    processes: Callable[[], Sequence[psutil.Process]] = below
    launcher: float = 0.0
    worker: float = 0.0
    decoder: float = 0.0
    beam: float = 0.0
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def together(self) -> float:
        return self.worker + self.decoder

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        assert self._thread is not None
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    # Between fork and exec a process still is its parent, peak and all.
                    line = " ".join(process.cmdline())
                    for kind in (kind for kind, words in KINDS.items() if words in line):
                        setattr(self, kind, max(getattr(self, kind), peak_mb(process)))


def peak_mb(process: psutil.Process) -> float:
    """Its highest resident memory so far in MB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float(process.memory_info().rss) / 1e6
