"""Where prepared networks are looked for, and where new ones go."""

from __future__ import annotations

import atexit
import os
import shutil
from functools import lru_cache
from pathlib import Path

from emobeam.emo_transforms.storage.leftovers import make_scratch
from emobeam.emo_transforms.storage.user_folders import cache_folder

VARIABLE = "EMOBEAM_PREPARED"
"""Names the folders, with colons between several: all are looked at, new networks go to the first that takes them."""


def store_folders() -> tuple[Path, ...]:
    """What the environment names, else ``emobeam/prepared`` in the user's folder for caches."""
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return tuple(named) or (cache_folder("prepared"),)


@lru_cache(maxsize=1)
def private_folder() -> Path:
    """A folder for this process and those that it starts, where no other can be written to; it goes at the end."""
    folder = make_scratch("prepared")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def for_children() -> dict[str, str]:
    """The environment in which processes that this one starts find what it has prepared for itself alone."""
    if not private_folder.cache_info().currsize:
        return {}
    return {VARIABLE: os.pathsep.join(map(str, (*store_folders(), private_folder())))}
