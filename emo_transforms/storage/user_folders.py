"""Where things lie that are kept for a user of this machine: what was fetched, what was made once."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

_KEPT = 7 * 86400.0
"""Seconds after which a terminal's session is taken for over."""


def cache_folder(name: str) -> Path:
    """``emobeam/NAME`` in the platform's folder for caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "emobeam" / name
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "emobeam" / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "emobeam" / name


def heard_in_session(text: str) -> bool:
    """Whether a text was told in this terminal's session before; from now on it was.

    Where nothing can be kept it is told again.
    """
    folder = cache_folder("told")
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if old.stat().st_mtime < time.time() - _KEPT:
                old.unlink(missing_ok=True)
        with (folder / _session()).open("a+", encoding="ascii") as file:
            file.seek(0)
            if digest in file.read().split():
                return True
            file.write(f"{digest}\n")
    return False


def _session() -> str:
    """A name for the session, by its leader and, where the system tells, when that began: numbers come again."""
    leader, began = os.getsid(0), "0"
    with suppress(OSError, IndexError):
        began = Path(f"/proc/{leader}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{leader}-{began}"
