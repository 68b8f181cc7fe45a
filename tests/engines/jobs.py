"""Running the command line on an engine in a test, watching what it writes, and comparing it with another run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import psutil
import pyarrow.parquet as pq

from tests.engines.clusters import Cluster, running
from tests.pipelines.runs import emobeam, files, hears_interrupts, shards, temporaries

SETTINGS = ("--task", "au", "--edition", "8", "--segment-seconds", "2")
"""Several segments in most clips."""

TIMEOUT = 1200.0
"""Seconds after which a run is taken to hang, on a machine that may have other things to do."""

LEAVE = 120.0
"""Seconds until the last Python worker of a job is gone: by itself within a minute where its engine forgot it."""


@dataclass
class Ended:
    """How a run ended, and after how many seconds."""

    code: int
    seconds: float
    text: str


class Job:
    """``emobeam annotate`` as a process of its own; a context manager that leaves nothing running."""

    def __init__(
        self, inputs: Path | str, output: Path | str, cluster: Cluster | None, environment: str = "process"
    ) -> None:
        self.output = Path(output)
        engine = running(cluster, environment) if cluster else ["--runner", "direct", "--workers", "2"]
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            emobeam("annotate", inputs, "--output", output, *SETTINGS, *engine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=hears_interrupts,
        )
        self._text: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._text.extend(self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            tree = psutil.Process(self.process.pid)
            for process in [*tree.children(recursive=True), tree]:
                process.kill()
            self.process.wait()

    def until(self, what: str, ready: Callable[[], bool]) -> None:
        """Waits until something is so; fails where the run ends before, or takes for ever."""
        deadline = time.monotonic() + TIMEOUT
        while not ready():
            assert self.process.poll() is None, f"ended before {what}:\n{self.text()}"
            assert time.monotonic() < deadline, f"not {what} in {TIMEOUT:.0f} s:\n{self.text()}"
            time.sleep(0.02)

    def until_shards(self, count: int) -> None:
        """Waits until so many shards are written."""
        self.until(f"{count} shards are written", lambda: self.shards_now() >= count)

    def shards_now(self) -> int:
        """Shards that are written."""
        return len(list((self.output / "features" / "shards").glob("*.parquet")))

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def text(self) -> str:
        """What it said so far."""
        return "".join(self._text)[-6000:]

    def wait(self) -> Ended:
        """Waits for the end; fails where that takes for ever."""
        try:
            code = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {TIMEOUT:.0f} s:\n{self.text()}") from None
        self._reader.join(10)
        return Ended(code, time.monotonic() - self._began, self.text())


def annotate(inputs: Path | str, output: Path | str, cluster: Cluster | None, environment: str = "process") -> Ended:
    """Runs both stages to the end; cluster None is this machine."""
    with Job(inputs, output, cluster, environment) as job:
        return job.wait()


@dataclass
class Watcher:
    """Opens every Parquet file below some folders as soon as it can be seen; a context manager.

    Attributes:
        broken: files that could not be read when they appeared, with the reason.
        seen: seconds on the monotonic clock at which each shard appeared.
    """

    output: Path
    broken: list[str] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    opened: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        known: set[tuple[str, int, int]] = set()
        while True:
            last = self._stop.is_set()
            for folder in (self.output / "features" / "shards", self.output / "predictions"):
                for path in folder.glob("**/*.parquet"):
                    self._look(path, known)
            if last:
                return
            time.sleep(0.005)

    def _look(self, path: Path, known: set[tuple[str, int, int]]) -> None:
        if path.name.startswith("."):
            return
        try:
            status = path.stat()
            version = (path.name, status.st_ino, status.st_mtime_ns)
            if version in known:
                return
            known.add(version)
            self.seen.setdefault(path.name, time.monotonic())
            pq.read_table(path)
            self.opened += 1
        except FileNotFoundError:
            return
        except Exception as error:
            self.broken.append(f"{path}: {error!r}")

    def standstill(self, since: float) -> float:
        """Longest time in seconds without a new file after a moment."""
        moments = [since, *sorted(moment for moment in self.seen.values() if moment > since)]
        return max((after - before for before, after in pairwise(moments)), default=0.0)


def written(output: Path) -> dict[str, bytes]:
    """Everything a run promises to be the same whatever ran it: shards, predictions, submission; by path."""
    found = {f"shards/{name}": content for name, content in shards(output / "features").items()}
    for folder in ("predictions", "submission"):
        found |= {f"{folder}/{name}": content for name, content in files(output / folder).items()}
    return found


def told_failures(output: Path) -> dict[str, Any]:
    """Failure records by file name."""
    folder = output / "features" / "failures"
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}


def differences(output: Path, reference: Path) -> list[str]:
    """What is missing, too much, or not the same to the byte; empty where two runs agree."""
    ours, theirs = written(output), written(reference)
    found = [f"missing: {name}" for name in sorted(theirs.keys() - ours.keys())]
    found += [f"too much: {name}" for name in sorted(ours.keys() - theirs.keys())]
    found += [f"other bytes: {name}" for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
    if told_failures(output) != told_failures(reference):
        found.append("other failure records")
    return found


def left_over(output: Path) -> list[str]:
    """Temporary files and folders below an output."""
    hidden = [str(path) for path in output.rglob(".*") if path.is_dir()]
    return [*temporaries(output), *hidden]
