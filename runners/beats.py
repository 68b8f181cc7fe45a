"""How workers on other machines tell how far they are: small files in the exchange of the run.

Engines tell little of it while a job runs, each in its own way, and Flink's job server nothing at all.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

from apache_beam.utils.shared import Shared

from emo_transforms import storage
from emo_transforms.exchange import Exchange
from runners.leaving import Presence

_INTERVAL = 5.0
_FOLDER = "progress"
_READ_AT_ONCE = 32


class Beats:
    """Counts events and writes the sums every few seconds; each copy on a worker has a file of its own.

    Takes the events ``looked`` (an input: segments and frames to do), ``frames``, ``done``, ``failed``, and ``bundle``
    (write at once), from any thread. Once the run's exchange is closed nothing is written any more: workers of a job
    that was cancelled go on for a while. All copies in a process share one :class:`runners.leaving.Presence`.
    """

    def __init__(self, exchange: Exchange, interval: float = _INTERVAL, shared: Shared | None = None) -> None:
        self.exchange = exchange
        self.interval = interval
        self._shared = shared or Shared()
        self._counts: Counter[str] = Counter()
        self._name = ""
        self._written = 0.0
        self._signs = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Beats, (self.exchange, self.interval, self._shared)

    @property
    def presence(self) -> Presence:
        """Of this process in the run."""
        found: Presence = self._shared.acquire(lambda: Presence(self.exchange))
        return found

    def busy(self) -> AbstractContextManager[None]:
        """Work during which this process stays even if the run ends."""
        return self.presence.busy()

    def __call__(self, event: str, data: Mapping[str, Any]) -> None:
        self.presence.sign()
        with self._lock:
            if event == "looked":
                self._counts.update(videos=1, planned=data["segments"], planned_frames=data["frames"])
            elif event == "frames":
                self._counts["frames"] += data["frames"]
            elif event in ("done", "failed", "died"):
                self._counts[event] += 1
            now = time.monotonic()
            if event == "bundle" or not self._written or now - self._written >= self.interval:
                self._write(now)

    def _write(self, now: float) -> None:
        self._written = now
        self._signs += 1
        self._name = self._name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        about = {"signs": self._signs, "python": platform.python_version(), "host": socket.gethostname()}
        # Whether anybody sees it or not, the work goes on.
        with suppress(Exception):
            if self.exchange.alive():
                self.exchange.put(_FOLDER, f"{self._name}.json", json.dumps({**self._counts, **about}).encode())


@dataclass
class Heard:
    """What all workers told so far.

    Attributes:
        counts: sums of what they counted. Those of a worker that died stay, so what is done again counts twice.
        workers: files of beats.
        signs: how often anything was written. It grows where counts stand still, as in a long video.
        pythons: versions of Python, by host.
    """

    counts: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    signs: int = 0
    pythons: dict[str, str] = field(default_factory=dict)


def hear(exchange: Exchange) -> Heard:
    """Adds up what workers have left so far."""
    heard = Heard()
    folder = exchange.place(_FOLDER)
    uris = [storage.join(folder, f"{name}.json") for name in sorted(storage.names(folder, ".json"))]
    if not uris:
        return heard
    with ThreadPoolExecutor(1 if storage.is_local(folder) else min(_READ_AT_ONCE, len(uris))) as pool:
        for beat in filter(None, pool.map(_beat, uris)):
            heard.pythons[beat.pop("host")] = beat.pop("python")
            heard.signs += beat.pop("signs")
            heard.counts.update(beat)
            heard.workers += 1
    return heard


def _beat(uri: str) -> dict[str, Any] | None:
    """One file; None where it can't be read now, half a second later it can."""
    with suppress(Exception):
        beat: dict[str, Any] = json.loads(storage.read_bytes(uri))
        if {"host", "python", "signs"} <= beat.keys():
            return beat
    return None
