"""The store of prepared networks: a folder for each, whole or not there, every byte of which is checked when read.

OpenVINO reads damaged files without complaint and computes wrong numbers, so the bytes whose digest was compared are
those that it is given.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emobeam.emo_transforms.networks.prepared.keys import Key, builders, can_build
from emobeam.emo_transforms.storage.leftovers import is_abandoned, owner_mark
from emobeam.schemas.plain_json import parsed

_MANIFEST, _LOCKS = "manifest.json", "locks"
_STALE_AFTER = 24 * 3600.0
_TOLD_AFTER, _LOOK = 2.0, 0.05

MOST_WAITING = 180.0
"""Seconds for which a process waits for another one that prepares what it needs."""


@dataclass(frozen=True)
class Entry:
    """A prepared network.

    Attributes:
        facts: what is known of it, plain JSON data.
        files: content by name.
    """

    facts: Mapping[str, Any]
    files: Mapping[str, bytes]


class Store:
    """A folder of prepared networks; any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: Key) -> Entry | None:
        """An entry with all its files, None where it isn't there or isn't as it was written.

        Where those that make networks aren't installed, one that any version of them has made will do.
        """
        for place in self._places(key):
            if (entry := _read(place, key)) is not None:
                return entry
        return None

    def place(self, key: Key) -> Path:
        """Where an entry lies that is made here."""
        return self.folder / key.name

    def _places(self, key: Key) -> list[Path]:
        if can_build():
            return [self.place(key)]
        with suppress(OSError):
            return sorted(place for place in self.folder.iterdir() if place.name.startswith(key.prefix))
        return []

    def write(self, key: Key, entry: Entry) -> None:
        """Puts an entry into the store; one that is there already, and whole, stays.

        Raises:
            OSError: the store can't be written to.
        """
        fresh = self.folder / f".{key.name}.{owner_mark()}.{uuid.uuid4().hex[:8]}"
        fresh.mkdir(parents=True)
        try:
            for name, data in entry.files.items():
                _write(fresh / name, data)
            _write(fresh / _MANIFEST, _manifest(key, entry))
            _flush(fresh)
            self._put(fresh, key)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _put(self, fresh: Path, key: Key) -> None:
        target = self.place(key)
        try:
            os.rename(fresh, target)
        except OSError:
            if _read(target, key) is not None:
                return
            self.remove(key)
            os.rename(fresh, target)
        _flush(self.folder)

    def remove(self, key: Key) -> None:
        """Removes what lies in an entry's place, if anything does.

        Raises:
            OSError: it can't be removed.
        """
        aside = self.folder / f".{key.name}.{owner_mark()}.{uuid.uuid4().hex[:8]}"
        with suppress(FileNotFoundError):
            os.rename(self.place(key), aside)  # nobody may see half of it
            shutil.rmtree(aside)

    @contextmanager
    def lock(self, key: Key, tell: Callable[[str], None], limit: float = MOST_WAITING) -> Iterator[None]:
        """Held by the one process that prepares a network; whoever comes meanwhile waits, and a dead one lets go.

        One that is stopped doesn't: after ``limit`` seconds nobody waits for it any more.

        Args:
            tell: gets a line where somebody has to wait, and one where that is given up.

        Raises:
            OSError: the store can't be written to.
        """
        locks = self.folder / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / key.name, "a") as file:
            _take(file, tell, limit)
            self._sweep()
            yield

    def _sweep(self) -> None:
        """What processes left that died while they wrote."""
        for place in self.folder.glob(".*-*.*.*"):
            with suppress(OSError):
                if is_abandoned(place.name.rsplit(".", 2)[1], place.stat().st_mtime, _STALE_AFTER):
                    shutil.rmtree(place, ignore_errors=True)


def _take(file: IO[str], tell: Callable[[str], None], limit: float) -> None:
    """Without the lock what is made twice is made twice; nothing is half of it."""
    began, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - began
        except OSError:  # a file system without locks
            return
        if waited >= limit:
            tell(f"another process has been preparing it for more than {limit:.0f} s; is it stopped? Preparing it here")
            return
        if waited >= _TOLD_AFTER and not told:
            tell("another process is preparing a network that is needed here; waiting for it ...")
            told = True
        time.sleep(_LOOK)


def _manifest(key: Key, entry: Entry) -> bytes:
    content = {
        "key": key.content,
        "made_by": builders(),
        "facts": entry.facts,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in entry.files.items()},
    }
    return json.dumps({"content": content, "sha256": _digest(content)}, indent=1).encode()


def _read(place: Path, key: Key) -> Entry | None:
    try:
        manifest = parsed((place / _MANIFEST).read_bytes())
        content = manifest["content"]
        if manifest["sha256"] != _digest(content) or content["key"] != key.content:
            return None
        files = {name: (place / name).read_bytes() for name in content["files"]}
        if any(hashlib.sha256(data).hexdigest() != content["files"][name] for name, data in files.items()):
            return None
        return Entry(content["facts"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
