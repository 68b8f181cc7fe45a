"""Files that are whole or not there, on any file system fsspec knows.

Local files are written under a temporary name beside their destination, flushed to the disk and renamed.
Objects in a store are finished locally and then put in one request: fsspec's ``open("wb")`` would commit
half a file when the writer raises.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import psutil
from fsspec.core import url_to_fs

from schemas.records import EmobeamError

_TEMPORARY = ".emobeam-"
_STALE_AFTER = 24 * 3600.0
_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class OutputError(EmobeamError):
    """The output can't be written at all (disk full, no permission): the run stops."""


def file_system(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI and the path on it."""
    fs, path = url_to_fs(uri)
    return fs, str(path)


def is_local(uri: str) -> bool:
    """True for paths and ``file://`` URIs."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The path of a local URI."""
    return Path(uri.removeprefix("file://")).expanduser()


def join(uri: str, *parts: str) -> str:
    """Path components appended to a URI."""
    folder = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return folder + "/".join(parts)


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = _fresh(uri)
    return bool(fs.exists(path))


def names(uri: str, suffix: str) -> set[str]:
    """Names (without folder and suffix) of the files in a folder, by one listing; empty if there is none."""
    fs, path = _fresh(uri)
    try:
        entries = fs.ls(path, detail=False)
    except FileNotFoundError:
        return set()
    found = (str(entry).rsplit("/", 1)[-1] for entry in entries)
    return {name.removesuffix(suffix) for name in found if name.endswith(suffix) and not name.startswith(".")}


def size(uri: str) -> int:
    """Size of a file in bytes."""
    fs, path = _fresh(uri)
    return int(fs.size(path))


def read_bytes(uri: str) -> bytes:
    """Content of a file."""
    with fsspec.open(uri, "rb") as file:
        data: bytes = file.read()
    return data


def read_json(uri: str) -> Any:
    """Content of a JSON file; raises :class:`EmobeamError` naming the file where it is no JSON."""
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except ValueError as error:
        raise EmobeamError(f"{uri}: not valid JSON ({error}); remove it and run again") from error


def remove(uri: str) -> None:
    """Removes a file if it is there."""
    fs, path = file_system(uri)
    try:
        fs.rm_file(path)
    except FileNotFoundError:
        return


def make_folder(uri: str) -> None:
    """Makes a folder with its parents; raises :class:`OutputError` where that isn't possible."""
    if is_local(uri):
        with _explained(uri):
            local_path(uri).mkdir(parents=True, exist_ok=True)
        return
    with _accepted(uri):
        fs, path = file_system(uri)
        fs.makedirs(path, exist_ok=True)


@contextmanager
def atomic_file(uri: str) -> Iterator[str]:
    """Yields a local path to write to; the file appears at ``uri`` as a whole when the block ends well.

    Raises:
        OutputError: the destination can't be written (disk full, permission, credentials).
    """
    with _explained(uri):
        if is_local(uri):
            destination = local_path(uri)
            destination.parent.mkdir(parents=True, exist_ok=True)
            temporary = destination.parent / _temporary_name()
            try:
                yield str(temporary)
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, destination)
            finally:
                temporary.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix="emobeam-") as folder:
            temporary = Path(folder) / "object"
            yield str(temporary)
            with _accepted(uri):
                fs, path = file_system(uri)
                fs.put_file(str(temporary), path)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file atomically."""
    with atomic_file(uri) as path:
        Path(path).write_bytes(data)


def write_json(uri: str, data: Any) -> None:
    """Writes JSON atomically, keys sorted, so that equal data gives equal bytes."""
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(uri, text.encode("utf-8", "backslashreplace"))  # names of files need not be text


@contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """Yields a local path with the content of ``uri``: itself if local, else a temporary download."""
    if is_local(uri):
        yield str(local_path(uri))
        return
    with tempfile.TemporaryDirectory(prefix="emobeam-") as folder:
        copy = os.path.join(folder, uri.rsplit("/", 1)[-1] or "object")
        fs, path = file_system(uri)
        fs.get_file(path, copy)
        yield copy


def sweep_temporaries(folder: str) -> int:
    """Removes temporary files that writers killed on this machine left in a local folder.

    Files of other machines go when they are a day old. Returns how many were removed.
    """
    if not is_local(folder) or not local_path(folder).is_dir():
        return 0
    removed = 0
    for path in local_path(folder).glob(f"{_TEMPORARY}*.tmp"):
        host, _, pid = path.name.removeprefix(_TEMPORARY).rpartition("-")[0].rpartition("-")
        try:
            old = time.time() - path.stat().st_mtime > _STALE_AFTER
        except FileNotFoundError:
            continue
        if old or (host == _host() and pid.isdigit() and not psutil.pid_exists(int(pid))):
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _fresh(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """As :func:`file_system`, but clients of object stores forget their listings, which others may have outdated."""
    fs, path = file_system(uri)
    fs.invalidate_cache(path)
    return fs, path


def _temporary_name() -> str:
    return f"{_TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"


def _host() -> str:
    return socket.gethostname().replace("/", "_")


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise OutputError(f"{uri}: can't be written ({error.strerror or error}); choose another --output") from error
    except OSError as error:
        if error.errno in _STOPPING:
            text = f"{uri}: can't be written ({error.strerror}); free some space or choose another --output"
            raise OutputError(text) from error
        raise


@contextmanager
def _accepted(uri: str) -> Iterator[None]:
    # Every client has its own exceptions for refused credentials and missing buckets, few of them OSErrors;
    # what may pass by itself they have tried again before they raise.
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise OutputError(f"{uri}: the store doesn't take it ({reason}); check address and credentials") from error
