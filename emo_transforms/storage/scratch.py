"""Folders on the local disk for what is unfinished, below the system's temporary one, and their removal by others.

Whoever is killed can't clear away; the next process of emobeam that needs such a folder does.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from emobeam.emo_transforms.storage.owners import is_abandoned, owner_mark

_NAME = re.compile(r"emobeam-(?P<kind>[a-z]+)-(?P<mark>.+-[0-9]+)-[a-z0-9_]+")
_STALE_AFTER = 7 * 24 * 3600.0


def scratch_prefix(kind: str) -> str:
    """What names of such folders begin with, for :mod:`tempfile`; leftovers go first, once per process.

    Args:
        kind: what for, in lower-case letters.
    """
    _sweep_once(tempfile.gettempdir())
    return f"emobeam-{kind}-{owner_mark()}-"


def make_scratch(kind: str) -> Path:
    """Makes a folder that its process removes when done with it, or somebody after its death.

    Raises:
        OSError: the temporary folder can't be written to.
    """
    return Path(tempfile.mkdtemp(prefix=scratch_prefix(kind)))


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """Such a folder for the time of a block."""
    folder = make_scratch(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_scratch() -> int:
    """Removes folders of processes of this user that died: those of this machine at once, others after a week.

    Returns:
        How many were removed.
    """
    removed = 0
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is None:
                continue
            with suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                mine = entry.is_dir(follow_symlinks=False) and found.st_uid == os.getuid()
                if mine and is_abandoned(name["mark"], found.st_mtime, _STALE_AFTER):
                    shutil.rmtree(entry.path, ignore_errors=True)
                    removed += 1
    return removed


@lru_cache(maxsize=4)
def _sweep_once(folder: str) -> int:
    """At the first use in a process."""
    return sweep_scratch()
