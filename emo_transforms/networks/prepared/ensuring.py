"""Finding a prepared network, or having it prepared in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.networks.prepared.keys import Key, can_build
from emobeam.emo_transforms.networks.prepared.places import private_folder, store_folders
from emobeam.emo_transforms.networks.prepared.store import Entry, Store
from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.emo_transforms.storage.leftovers import TORCH_FOLDER, scratch_folder
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError, UsageError

Tell = Callable[[str], None]
"""Takes a line for the user."""

_MODULE = "emobeam.emo_transforms.networks.prepared.preparing"
NO_ROOM = "no-room"
"""What the preparing process answers where it can't write to the store."""


def on_stderr(text: str) -> None:
    """Where nobody else tells the user."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def find(key: Key) -> Entry | None:
    """A network that was prepared before, from the first store that has it."""
    for folder in store_folders():
        if (entry := Store(folder).read(key)) is not None:
            return entry
    return Store(private_folder()).read(key) if private_folder.cache_info().currsize else None


def found_in(key: Key) -> Path | None:
    """The first folder of the environment's that holds a network; None where none does."""
    return next((folder for folder in store_folders() if Store(folder).read(key) is not None), None)


def ensure(key: Key, recipe: Mapping[str, Any], what: str, tell: Tell = on_stderr) -> Entry:
    """A prepared network. Where there is none it is prepared, which takes some seconds; one process does so for all.

    Args:
        recipe: how it is made, see :mod:`.prepared.from_torch`.
        what: names the network to people.
        tell: gets one line before it is prepared.

    Raises:
        UsageError, EmobeamError: it can't be made of what the recipe names; or there is none, and those that make it
            aren't installed.
    """
    if (entry := find(key)) is not None:
        return entry
    if not can_build():
        raise EmobeamError(
            f"{what}: not prepared for this machine, and torch and timm, which that takes, aren't installed; run "
            "emobeam models prepare where they are and bring its folder (EMOBEAM_PREPARED) here, or install them"
        )
    for folder in _takers():
        store = Store(folder)
        with ExitStack() as held:
            try:
                held.enter_context(store.lock(key, tell))
                if (entry := store.read(key)) is not None:
                    return entry
                store.remove(key)
            except OSError:  # nothing can be written there
                continue
            tell(f"preparing {what} for this machine, once ...")
            told = _prepare(folder, key, recipe, what)
        if told == NO_ROOM:
            continue
        if (entry := store.read(key)) is not None:
            return entry
    raise EmobeamError(f"{what}: what was prepared can't be read again; is there room on the disk?")


def _takers() -> Iterator[Path]:
    yield from store_folders()
    yield private_folder()


def _prepare(folder: Path, key: Key, recipe: Mapping[str, Any], what: str) -> str:
    """Has it made; ``""``, or :data:`NO_ROOM`."""
    order = {"folder": str(folder), "content": key.content, "recipe": recipe}
    answer = _asked_here(order) if "torch" in sys.modules else _asked_there(order, what)
    if message := answer.get("message"):
        raise {"UsageError": UsageError}.get(answer["error"], EmobeamError)(message)
    return str(answer.get("error", ""))


def _asked_here(order: dict[str, Any]) -> dict[str, str]:
    """What has torch already needs no other process for it, which would take seconds to load it again."""
    from emobeam.emo_transforms.networks.prepared.preparing import prepared

    return prepared(order)


def _asked_there(order: dict[str, Any], what: str) -> dict[str, str]:
    try:
        with scratch_folder("torch") as folder:
            done = subprocess.run(
                [sys.executable, "-P", "-m", _MODULE],
                input=json.dumps(order),
                capture_output=True,
                text=True,
                env={TORCH_FOLDER: str(folder), **os.environ, **same_imports()},
                check=False,
            )
    except OSError as error:
        raise EmobeamError(f"{what}: can't be prepared: its process can't start ({error})") from error
    try:
        answer: dict[str, str] = parsed(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise EmobeamError(f"{what}: can't be prepared: its process ended with {done.returncode} ({last})") from None
    return answer
