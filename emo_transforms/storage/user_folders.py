"""Where things lie that are kept for a user of this machine: what was fetched, what was made once."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(name: str) -> Path:
    """``emobeam/NAME`` in the platform's folder for caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "emobeam" / name
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "emobeam" / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "emobeam" / name
