"""Leftovers of processes that died: whose unfinished things are, and the removal of those that nobody will finish.

The one rule: unfinished things are named after the machine and process that make them (:func:`owner_mark`). What is to
be renamed to its place lies beside it (:func:`unfinished_beside`), all else below the system's temporary folder
(:func:`make_scratch`). Whoever is killed can't clear away; the next process of emobeam that writes there does.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import psutil

_NAME = re.compile(r"emobeam-(?P<kind>[a-z]+)-(?P<mark>.+-[0-9]+)-[a-z0-9_]+")
_STALE_AFTER = 7 * 24 * 3600.0
_BESIDE = re.compile(r"\.emobeam-(?P<mark>.+-[0-9]+)-[0-9a-z]+(\.(?P<place>.+)\.old|\.tmp)")
_BESIDE_STALE_AFTER = 24 * 3600.0


def host_name() -> str:
    """This machine's name as it can stand in a file name."""
    return socket.gethostname().replace("/", "_")


def owner_mark() -> str:
    """``HOST-REALM-PID-BEGUN`` of this process.

    REALM stands for those among whom a process id means one process: a start of a machine, and on it a container.
    Names of hosts don't tell, for two machines or containers may have the same.
    """
    pid = os.getpid()
    return f"{host_name()}-{_realm()}-{pid}-{_begun(pid)}"


def is_abandoned(mark: str, made: float, stale_after: float) -> bool:
    """Whether nobody works on a thing any more.

    Args:
        mark: see :func:`owner_mark`. Of those of other machines and containers, of before the machine was started
            again, and of versions of emobeam without REALM and BEGUN, nobody here can tell whether they live.
        made: when the thing was made or last changed, in seconds since the epoch.
        stale_after: seconds after which things of such owners count as abandoned.
    """
    process = _process_here(mark)
    if process is None:
        return time.time() - made > stale_after
    pid, begun = process
    try:
        return _begun(pid) != begun
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return time.time() - made > stale_after


def is_ours(mark: str) -> bool:
    """Whether a mark is that of this process, or of one that it, or one of these, has started and that lives."""
    process = _process_here(mark)
    if process is None:
        return False
    pid, begun = process
    with suppress(psutil.Error):
        mine = pid == os.getpid() or os.getpid() in {parent.pid for parent in psutil.Process(pid).parents()}
        return mine and _begun(pid) == begun
    return False


def _process_here(mark: str) -> tuple[int, int] | None:
    """Id and begin of a process, where a mark is of this realm."""
    parts = mark.rsplit("-", 3)
    if len(parts) < 4 or parts[:2] != [host_name(), _realm()] or not (parts[2].isdigit() and parts[3].isdigit()):
        return None
    return int(parts[2]), int(parts[3])


@lru_cache(maxsize=1)
def _realm() -> str:
    """In hexadecimal digits.

    On Linux a digest of the id of the boot and of the process ids' namespace. Where these can't be seen there is one
    for each process and those that it forks: better are leftovers that stay for a while than work that is taken away.
    """
    if not sys.platform.startswith("linux"):
        return "0"  # no containers: the ids and begins of processes are enough
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid")
    except OSError:
        return secrets.token_hex(6)
    return hashlib.sha256(f"{boot} {namespace.st_dev} {namespace.st_ino}".encode()).hexdigest()[:12]


def _begun(pid: int) -> int:
    """When a process began, as a number that another process of the same id doesn't share.

    On Linux in ticks since the machine was started, which no change of the clock moves.

    Raises:
        psutil.NoSuchProcess: there is none, or it ended and waits for its parent to ask.
        psutil.AccessDenied: it can't be seen.
    """
    if not sys.platform.startswith("linux"):
        return round(100 * psutil.Process(pid).create_time())
    try:
        # The second field, the name of the program, may hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if psutil.pid_exists(pid):  # of another user, where /proc hides those
            raise psutil.AccessDenied(pid) from None
        raise psutil.NoSuchProcess(pid) from None
    except PermissionError:
        raise psutil.AccessDenied(pid) from None
    if fields[0] in (b"Z", b"X"):
        raise psutil.NoSuchProcess(pid)
    return int(fields[19])


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


TORCH_FOLDER = "TORCHINDUCTOR_CACHE_DIR"
"""Names the folder that torch makes as soon as it is imported, else ``torchinductor_USER``, which stays for ever."""


def own_torch_folder() -> None:
    """Has torch, which is not imported yet, make its folder where this process, or the next one, removes it."""
    if TORCH_FOLDER not in os.environ:
        folder = os.path.join(tempfile.gettempdir(), f"{scratch_prefix('torch')}0")
        os.environ[TORCH_FOLDER] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def unfinished_beside(place: Path) -> Path:
    """Where to make a file or folder that is then renamed to ``place``; what was left beside it goes first.

    The folder around must be there. Nothing is made.
    """
    _sweep_beside_once(place.parent)
    return place.parent / f".emobeam-{owner_mark()}-{uuid.uuid4().hex}.tmp"


def replace_folder(made: Path, place: Path) -> None:
    """Renames a folder that is whole to its place, instead of the one that may be there.

    Between two renames there is neither: whoever dies there leaves the old one to be put back by the next who sweeps.

    Raises:
        OSError: it can't be renamed; the old one stays.
    """
    if not place.exists():
        os.rename(made, place)
        return
    old = place.parent / f".emobeam-{owner_mark()}-{uuid.uuid4().hex}.{place.name}.old"
    os.rename(place, old)
    try:
        os.rename(made, place)
    except OSError:
        os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep_beside(folder: Path) -> int:
    """Removes from a folder what writers left that died on this machine; that of others when it is a day old.

    Returns:
        How many things were removed, or put back (see :func:`replace_folder`).
    """
    removed = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [match for entry in entries if (match := _BESIDE.fullmatch(entry.name))]:
            path = folder / name[0]
            with suppress(OSError):
                if is_abandoned(name["mark"], path.lstat().st_mtime, _BESIDE_STALE_AFTER):
                    _remove(path, folder / name["place"] if name["place"] else None)
                    removed += 1
    return removed


def _remove(path: Path, place: Path | None) -> None:
    if place is not None and not place.exists():
        os.rename(path, place)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _sweep_beside_once(folder: Path) -> int:
    return sweep_beside(folder)
