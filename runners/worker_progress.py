"""How workers on other machines tell how far they are: small files in the exchange of the run.

Engines tell little of it while a job runs, each in its own way, and Flink's job server nothing at all.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.runners.idle_exit import Presence
from emobeam.runners.worker_boot import versions
from emobeam.schemas.plain_json import parsed

if TYPE_CHECKING:
    from apache_beam.utils.shared import Shared

_INTERVAL = 5.0
_INTERVAL_IN_A_STORE = 30.0
_FOLDER = "progress"
_READ_AT_ONCE = 32
_FLUSH_SECONDS = 5.0
_HEAR_EVERY = 3.0
_FILES_PER_SECOND = 20.0


class Beats:
    """Counts events and writes the sums every few seconds; each copy on a worker has a file of its own.

    Takes the events ``looked`` (an input: segments and frames to do), ``frames``, ``done``, ``failed``, and ``bundle``
    (on a file system: written at once), from any thread. A thread of its own writes, one file at a time and always the
    newest sums: a store that is slow holds up no work. Once the run's exchange is closed nothing is written any more:
    workers of a job that was cancelled go on for a while. All copies in a process share one
    :class:`emobeam.runners.idle_exit.Presence`.

    Args:
        interval: seconds between two writes at least; None: 5 on a file system, 30 in an object store.
    """

    def __init__(self, exchange: Exchange, interval: float | None = None, shared: Shared | None = None) -> None:
        from apache_beam.utils.shared import Shared  # a launcher that only reads what is told needs no Beam

        self.exchange = exchange
        self.interval = interval
        self._shared = shared or Shared()
        self._local = storage.is_local(exchange.uri)
        self._pause = interval if interval is not None else (_INTERVAL if self._local else _INTERVAL_IN_A_STORE)
        self._counts: Counter[str] = Counter()
        self._name = ""
        self._began_writing = float("-inf")
        self._signs = 0
        self._events = 0
        self._told = 0  # events that a write has dealt with
        self._urgent = False
        self._writing = False
        self._changed = threading.Condition()

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
        """Counts an event; a thread writes it soon, a ``bundle`` on a file system before this returns."""
        self.presence.sign()
        with self._changed:
            if event == "looked":
                self._counts.update(videos=1, planned=data["segments"], planned_frames=data["frames"])
            elif event == "frames":
                self._counts["frames"] += data["frames"]
            elif event in ("done", "failed", "died"):
                self._counts[event] += 1
            self._events += 1
            self._start_writing()
        if event == "bundle" and self._local:
            self.flush()

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Waits until what was counted so far is written, ``seconds`` at most; whether it is, or can't be."""
        with self._changed:
            wanted = self._events
            if self._told >= wanted:
                return True
            self._urgent = True
            self._start_writing()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._told >= wanted, seconds)

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            threading.Thread(target=self._write_on, daemon=True, name="beats").start()

    def _write_on(self) -> None:
        """Writes until nothing is new."""
        while True:
            with self._changed:
                if self._told >= self._events:
                    self._writing = False
                    return
                due = self._began_writing + self._pause
                while not self._urgent and (left := due - time.monotonic()) > 0:
                    self._changed.wait(left)
                self._urgent = False
                self._began_writing = time.monotonic()
                self._signs += 1
                events, data = self._events, {**self._counts, "signs": self._signs}
            with suppress(Exception):  # whether anybody sees it or not, the work goes on
                self._write(data)
            with self._changed:
                self._told = events
                self._changed.notify_all()

    def _write(self, data: dict[str, Any]) -> None:
        host = socket.gethostname()
        self._name = self._name or f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if self.exchange.alive():
            told = json.dumps({**data, "host": host, "versions": versions()})
            self.exchange.put(_FOLDER, f"{self._name}.json", told.encode())


@dataclass
class Heard:
    """What all workers told so far.

    Attributes:
        counts: sums of what they counted. Those of a worker that died stay, so what is done again counts twice.
        workers: files of beats.
        signs: how often anything was written. It grows where counts stand still, as in a long video.
        versions: of Python, Beam and emobeam (see ``emobeam.runners.worker_boot.versions``), by host.
    """

    counts: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    signs: int = 0
    versions: dict[str, dict[str, str]] = field(default_factory=dict)


class Listener:
    """Adds up what workers leave, time and again; files of an object store are read again only if they changed."""

    def __init__(self, exchange: Exchange) -> None:
        self._folder = exchange.place(_FOLDER)
        self._read: dict[str, tuple[str, dict[str, Any]]] = {}

    @property
    def pause(self) -> float:
        """Seconds until it is worth while to listen again: the more workers, the longer."""
        return max(_HEAR_EVERY, len(self._read) / _FILES_PER_SECOND)

    def hear(self) -> Heard:
        """What all workers have left so far. Raises ``OSError`` where the folder can't be listed."""
        stamps = storage.stamps(self._folder, ".json")
        new = [name for name in sorted(stamps) if not stamps[name] or self._stamp(name) != stamps[name]]
        if new:
            local = storage.is_local(self._folder)
            with ThreadPoolExecutor(1 if local else min(_READ_AT_ONCE, len(new))) as pool:
                uris = [storage.join(self._folder, f"{name}.json") for name in new]
                for name, beat in zip(new, pool.map(_beat, uris), strict=True):
                    if beat is not None:
                        self._read[name] = stamps[name], beat
        heard = Heard()
        for _, beat in self._read.values():
            counts = {name: count for name, count in beat.items() if name not in _ABOUT}
            heard.counts.update(counts)
            heard.versions[beat["host"]] = beat["versions"]
            heard.signs += beat["signs"]
            heard.workers += 1
        return heard

    def _stamp(self, name: str) -> str:
        return self._read[name][0] if name in self._read else ""


_ABOUT = frozenset({"host", "versions", "signs"})


def hear(exchange: Exchange) -> Heard:
    """Adds up what workers have left so far."""
    return Listener(exchange).hear()


def _beat(uri: str) -> dict[str, Any] | None:
    """One file; None where it can't be read now, in a few seconds it can."""
    with suppress(Exception):  # whatever a store's client raises
        beat: dict[str, Any] = parsed(storage.read_bytes(uri))
        if beat.keys() >= _ABOUT:
            return beat
    return None
