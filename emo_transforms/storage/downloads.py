"""Videos of object stores on the local disk: downloaded once per machine for the probe and all segments.

Copies lie in a folder of the user below the system's temporary one, named by what they hold. A copy in use is
locked (``flock``), so whoever dies lets go of it; a file in it for each process that has used it says whose it is
between two segments. Copies nobody uses go when others need their place, when all runs that used them have ended, and
when they are an hour old.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.fingerprints import changed, fingerprint, unchanged
from emobeam.emo_transforms.storage.leftovers import is_abandoned, is_ours, owner_mark
from emobeam.schemas.config import digest_of
from emobeam.schemas.records import Fingerprint, InputError

MOST_BYTES = 16 << 30
"""What all copies may take, at most; never more than half of what is free. A video larger than that is copied still."""

MOST_COPIES = 64

IDLE_SECONDS = 3600.0
"""How long a copy nobody uses is kept, at most."""

_LOCK, _DONE, _USER = "lock", "done", "user-"
_WAIT = 0.2


@contextmanager
def video_copy(uri: str, print_: Fingerprint, alive: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Yields a local path with a video: itself if local, else a copy that all processes of the machine share.

    Messages of :class:`InputError` raised inside name the URI instead of the copy.

    Args:
        print_: what the video must hold, all the while.
        alive: called now and then while it is downloaded, by this process or another.

    Raises:
        FileNotFoundError: it is no longer there.
        OSError: it can't be read, or the local disk is full.
        InputError: it has changed since it was looked at.
    """
    if storage.is_local(uri):
        with unchanged(uri, print_):
            yield str(storage.local_path(uri))
        return
    place = _place(uri, print_)
    path = place / f"video{posixpath.splitext(uri)[1][:16]}"
    with _held(place, lambda: _fetch(uri, print_, path, alive), alive):
        try:
            yield str(path)
        except InputError as error:
            text = str(error).replace(str(path), uri)
            raise InputError(text, stage=error.stage, reason=error.reason, permanent=error.permanent) from error


def drop(copies: Iterable[tuple[str, Fingerprint]]) -> int:
    """Removes copies that a run has made, by URI and content, unless another run uses them; returns how many."""
    return sum(_let_go(_place(uri, print_)) for uri, print_ in copies if not storage.is_local(uri))


def leave() -> int:
    """Removes the copies that no other process that lives has used, but those that it has started.

    For processes that end without knowing what their run was about. What other jobs may come back to stays.

    Returns:
        How many were removed.
    """
    return sum(_let_go(place) for place, _, _ in _places())


def sweep() -> int:
    """Removes copies that nobody uses and nobody has used for an hour, unfinished ones included.

    Returns:
        How many were removed.
    """
    return sum(_removed(place) for place, used, _ in _places() if time.time() - used >= IDLE_SECONDS)


def _fetch(uri: str, print_: Fingerprint, path: Path, alive: Callable[[], None]) -> None:
    _make_room(print_.size, path.parent)
    storage.download(uri, str(path), size=print_.size, alive=alive)
    if fingerprint(str(path)) != print_:
        raise changed(uri)


def _place(uri: str, print_: Fingerprint) -> Path:
    return _folder() / digest_of([uri, print_.size, print_.digest])


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"emobeam-downloads-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # somebody else was quicker, in a folder everybody may write to
        raise OSError(f"{folder}: belongs to another user; set TMPDIR to a folder of your own")
    return folder


@contextmanager
def _held(place: Path, make: Callable[[], None], alive: Callable[[], None]) -> Iterator[None]:
    """Makes a copy, or waits for who is making it, and holds it."""
    while True:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        try:
            lock: IO[str] = open(place / _LOCK, "a")  # noqa: SIM115  # closed below
        except FileNotFoundError:
            continue  # swept in between
        with lock:
            with contextlib.suppress(FileNotFoundError):  # swept in between, which shows below
                (place / f"{_USER}{owner_mark()}").touch()
            if _hold(place, lock, make):
                os.utime(place / _LOCK)
                yield
                return
        alive()
        time.sleep(_WAIT)


def _hold(place: Path, lock: IO[str], make: Callable[[], None]) -> bool:
    done = place / _DONE
    if not done.exists():
        if not _take(lock, fcntl.LOCK_EX) or not _is_current(place, lock):
            return False
        if not done.exists():
            try:
                make()
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            done.touch()
        fcntl.flock(lock, fcntl.LOCK_SH)  # lets go for a moment, so it is looked at again
    elif not _take(lock, fcntl.LOCK_SH):
        return False
    return _is_current(place, lock) and done.exists()


def _take(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(place: Path, lock: IO[str]) -> bool:
    """Whether the locked file is still the one in the folder."""
    try:
        return os.path.samestat(os.stat(place / _LOCK), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _places() -> list[tuple[Path, float, int]]:
    """Folders of copies with time of last use and bytes, least recently used first."""
    found = []
    for place in _folder().iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            used = (place / _LOCK).stat().st_mtime if (place / _LOCK).exists() else place.stat().st_mtime
            found.append((place, used, sum(file.stat().st_size for file in place.iterdir())))
    return sorted(found, key=lambda entry: entry[1])


def _let_go(place: Path) -> bool:
    """Removes a copy unless somebody holds it, or others who live have used it; those wait for this process no more."""
    marks = [user.name.removeprefix(_USER) for user in place.glob(f"{_USER}*")]
    if not all(is_ours(mark) or _is_gone(place, mark) for mark in marks):
        (place / f"{_USER}{owner_mark()}").unlink(missing_ok=True)
        return False
    return bool(marks) and _removed(place)


def _is_gone(place: Path, mark: str) -> bool:
    try:
        used = (place / f"{_USER}{mark}").stat().st_mtime
    except FileNotFoundError:
        return True
    return is_abandoned(mark, used, IDLE_SECONDS)


def _removed(place: Path) -> bool:
    """Removes a copy unless somebody holds it."""
    try:
        lock = open(place / _LOCK, "a")  # noqa: SIM115  # closed below
    except FileNotFoundError:
        return False
    with lock:
        if not _take(lock, fcntl.LOCK_EX) or not _is_current(place, lock):
            return False
        shutil.rmtree(place, ignore_errors=True)
    return True


def _make_room(size: int, mine: Path) -> None:
    places = [entry for entry in _places() if entry[0] != mine]
    taken = sum(nbytes for _, _, nbytes in places)
    limit = min(MOST_BYTES, (taken + shutil.disk_usage(mine).free) // 2)
    count = len(places)
    for place, used, nbytes in places:
        full = taken + size > limit or count >= MOST_COPIES
        if (full or time.time() - used > IDLE_SECONDS) and _removed(place):
            taken -= nbytes
            count -= 1
