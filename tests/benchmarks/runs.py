"""``extract`` as users start it, watched: when its segments began and ended, and what its workers took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
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


@dataclass
class PeakMemory:
    """Peak resident memory of workers and their decoding processes while the block runs, in MB (10^6 bytes).

    On Linux the kernel's own high-water mark of each process is read, so no peak is missed; elsewhere the largest
    sample. ``together`` adds the two peaks: an upper bound, in which the pictures on their way between
    the two (up to 64 MB) count twice. Libraries count in full, though all processes share one copy.
    """

    worker: float = 0.0
    decoder: float = 0.0
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
        while not self._end.wait(0.05):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "emobeam.runners.children.child" not in child.cmdline():
                        continue  # the launcher's own probing
                    self.worker = max(self.worker, peak_mb(child))
                    for grandchild in child.children():
                        # Between fork and exec it still is its parent, peak and all.
                        if "emobeam.emo_transforms.video.decoding_child" not in grandchild.cmdline():
                            continue
                        self.decoder = max(self.decoder, peak_mb(grandchild))


def peak_mb(process: psutil.Process) -> float:
    """Its highest resident memory so far in MB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float(process.memory_info().rss) / 1e6
