"""The folder through which a launcher and its workers on other machines talk about one run.

Tasks lie there as files instead of in the graph, which engines limit to a few megabytes; workers leave there how far
they are, and what the launcher has to know in the end. It goes when the run ends; that of a launcher that was killed
goes when the next run on the same output begins.
"""

from __future__ import annotations

import re
import socket
import time
from calendar import timegm
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage import object_stores
from emobeam.emo_transforms.storage.leftovers import is_abandoned, owner_mark
from emobeam.schemas.plain_json import from_text, to_text
from emobeam.schemas.records import EmobeamError

T = TypeVar("T")

TASKS_PER_FILE = 250

_PREFIX = ".emobeam-"
_SUFFIX = ".work"
_NAME = re.compile(r"\.emobeam-(?P<mark>.+-[0-9]+)-(?P<began>[^-]+)-[^-]+\.work")
_STALE_AFTER = 7 * 24 * 3600.0
_NOBODY = "detached-0"
_MARKER = "open"
_FOLDERS = ("", "runs", "shards", "failures", "predictions", "submission")
_PARENTS = ("predictions", "submission")
"""Folders of an output that files are written to, and those whose subfolders are."""


@dataclass(frozen=True)
class Exchange:
    """Such a folder; ``uri`` must mean the same to the launcher and to the workers."""

    uri: str

    def place(self, *parts: str) -> str:
        """URI of something in the folder."""
        return storage.join(self.uri, *parts)

    def begin(self) -> None:
        """Tells workers that the run is on."""
        storage.write_bytes(self.place(_MARKER), b"")

    def alive(self) -> bool:
        """Whether the run is still on: workers of a job that was cancelled go on for a while, and shall write nothing.

        One request to a store. Raises ``OSError`` where it fails.
        """
        return storage.file_exists(self.place(_MARKER))

    def check(self) -> None:
        """Where workers make sure, before they write anything, that their folder is the launcher's.

        Raises:
            EmobeamError: this machine doesn't see the folder, or the run is over.
            OSError: see :meth:`alive`.
        """
        if not self.alive():
            raise EmobeamError(
                f"{self.uri}: the worker on {socket.gethostname()} doesn't see the folder of this run; either the run "
                "is over, or output and inputs don't lie in a bucket or on a path that all workers share"
            )

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
    mark = _NOBODY if keep else owner_mark()
    exchange = Exchange(storage.join(parent, f"{_PREFIX}{mark}-{run_id}{_SUFFIX}"))
    exchange.begin()
    try:
        yield exchange
    finally:
        if not keep:
            _remove(exchange.uri)


def sweep_output(output: str) -> None:
    """Removes what killed runs left in a cache or an output: exchanges, and temporaries of local writers.

    What other machines left goes when it is old enough, see :func:`sweep_exchanges` and ``storage.sweep_temporaries``.
    Two requests to a store. Raises ``OSError`` where it can't be listed.
    """
    for parent in (output, storage.join(output, "runs")):
        sweep_exchanges(parent)
    if not storage.is_local(output):
        return
    for name in _FOLDERS:
        storage.sweep_temporaries(storage.join(output, name))
    for name in _PARENTS:
        for folder in storage.local_path(storage.join(output, name)).glob("*/"):
            storage.sweep_temporaries(str(folder))


def sweep_exchanges(parent: str) -> int:
    """Removes exchanges of launchers that were killed: those of this machine at once, others after a week."""
    removed = 0
    for name in _names(parent):
        parts = _NAME.fullmatch(name)
        if parts is not None and is_abandoned(parts["mark"], _began(parts["began"]), _STALE_AFTER):
            _remove(storage.join(parent, name))
            removed += 1
    return removed


def _began(text: str) -> float:
    """When a run began, in seconds since the epoch, by its id (see ``emobeam.pipelines.run_origin.new_run_id``)."""
    with suppress(ValueError):
        return float(timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))
    return time.time()


def _names(parent: str) -> list[str]:
    fs, path = storage.file_system(parent)
    fs.invalidate_cache(path)
    try:
        entries = object_stores.reading(parent, lambda: fs.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)
    return sorted(name for name in found if _NAME.fullmatch(name))


def _remove(uri: str) -> None:
    """Removes an exchange, first of all the marker, so that workers leave it alone."""
    with suppress(Exception):  # whatever a store's client raises: what stays is removed by a later run
        storage.remove(storage.join(uri, _MARKER))
    fs, path = storage.file_system(uri)
    for _ in range(3):  # a worker that looked for the marker before may put one more file into it
        fs.invalidate_cache(path)
        try:
            with suppress(FileNotFoundError):
                object_stores.patiently(lambda: fs.rm(path, recursive=True))
            if not object_stores.patiently(lambda: fs.exists(path)):
                return
        except Exception as error:  # noqa: BLE001 - clients of stores have their own; the run is over and must not fail
            if object_stores.is_transient(error):
                return
        time.sleep(0.5)
