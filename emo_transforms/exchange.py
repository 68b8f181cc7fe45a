"""The folder through which a launcher and its workers on other machines talk about one run.

Tasks lie there as files instead of in the graph, which engines limit to a few megabytes; workers leave there how far
they are, and what the launcher has to know in the end. It goes when the run ends; that of a launcher that was killed
goes when the next run on the same output begins.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from emo_transforms import storage
from schemas.plain import from_text, to_text

T = TypeVar("T")

TASKS_PER_FILE = 250

_PREFIX = ".emobeam-"
_SUFFIX = ".work"
_NAME = re.compile(r"\.emobeam-.+-[0-9]+-[^-]+-[^-]+\.work")
_STALE_AFTER = 7 * 24 * 3600.0
_NOBODY = "detached"


@dataclass(frozen=True)
class Exchange:
    """Such a folder; ``uri`` must mean the same to the launcher and to the workers."""

    uri: str

    def place(self, *parts: str) -> str:
        """URI of something in the folder."""
        return storage.join(self.uri, *parts)

    def put(self, folder: str, name: str, data: bytes) -> str:
        """Stores bytes, as a whole or not at all, and returns their URI."""
        uri = self.place(folder, name)
        storage.write_bytes(uri, data)
        return uri

    def put_records(self, folder: str, name: str, records: Sequence[Any]) -> str:
        """Stores records of one kind."""
        return self.put(folder, name, "\n".join(to_text(record) for record in records).encode())

    def put_tasks(self, tasks: Sequence[Any]) -> list[str]:
        """Stores tasks in files of a few hundred and returns their URIs."""
        starts = range(0, len(tasks), TASKS_PER_FILE)
        return [self.put_records("tasks", f"{at:09d}.jsonl", tasks[at : at + TASKS_PER_FILE]) for at in starts]

    def records(self, folder: str, kind: type[T]) -> Iterator[T]:
        """All records that workers left in a folder."""
        for name in sorted(storage.names(self.place(folder), ".jsonl")):
            yield from read_records(self.place(folder, f"{name}.jsonl"), kind)


def read_records(uri: str, kind: type[T]) -> list[T]:
    """The records of one file."""
    return [from_text(kind, line) for line in storage.read_bytes(uri).split(b"\n") if line]


@contextmanager
def open_exchange(parent: str, run_id: str, *, keep: bool = False) -> Iterator[Exchange]:
    """An exchange below ``parent``, for the time of a run; leftovers of killed launchers go first.

    Args:
        keep: the launcher ends before the job does; a later run removes the exchange after a week.
    """
    sweep_exchanges(parent)
    host = _NOBODY if keep else _host()
    exchange = Exchange(storage.join(parent, f"{_PREFIX}{host}-{os.getpid()}-{run_id}{_SUFFIX}"))
    try:
        yield exchange
    finally:
        if not keep:
            _remove(exchange.uri)


def sweep_exchanges(parent: str) -> int:
    """Removes exchanges of launchers that were killed: those of this machine at once, others after a week."""
    removed = 0
    for name in _names(parent):
        host, pid = _owner(name)
        gone = not psutil.pid_exists(pid) if host == _host() else _age(name) > _STALE_AFTER
        if gone:
            _remove(storage.join(parent, name))
            removed += 1
    return removed


def _owner(name: str) -> tuple[str, int]:
    """Machine and process id of the launcher; the name ends with the run's id, which has one hyphen."""
    host, pid, _, _ = name.removeprefix(_PREFIX).removesuffix(_SUFFIX).rsplit("-", 3)
    return host, int(pid)


def _age(name: str) -> float:
    """Seconds since the run of an exchange began, by its id (see ``pipelines.records.new_run_id``)."""
    began = name.removesuffix(_SUFFIX).rsplit("-", 2)[-2]
    with suppress(ValueError):
        return time.time() - _utc(began)
    return 0.0


def _utc(text: str) -> float:
    from calendar import timegm

    return float(timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))


def _names(parent: str) -> list[str]:
    fs, path = storage.file_system(parent)
    fs.invalidate_cache(path)
    try:
        entries = fs.ls(path, detail=False)
    except FileNotFoundError:
        return []
    found = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
    return sorted(name for name in found if _NAME.fullmatch(name))


def _remove(uri: str) -> None:
    fs, path = storage.file_system(uri)
    for _ in range(3):  # a worker that is about to end may put one more file into it
        fs.invalidate_cache(path)
        with suppress(FileNotFoundError, OSError):
            fs.rm(path, recursive=True)
        if not fs.exists(path):
            return
        time.sleep(0.5)


def _host() -> str:
    return socket.gethostname().replace("/", "_")
