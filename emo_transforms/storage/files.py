"""Files that are whole or not there, on any file system fsspec knows.

Local files are written under a temporary name beside their destination, flushed to the disk and renamed.
Objects in a store are finished locally and then put in one request: fsspec's ``open("wb")`` would commit
half a file when the writer raises.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec

from emobeam.emo_transforms.storage import object_stores
from emobeam.emo_transforms.storage.addresses import file_system, is_local, local_path
from emobeam.emo_transforms.storage.leftovers import make_scratch, scratch_folder, sweep_beside, unfinished_beside
from emobeam.emo_transforms.storage.output_errors import OutputError, explained, same_or_refused
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.wording import data_without_secrets

T = TypeVar("T")
R = TypeVar("R")

_unfinished: set[Path] = set()


def exists(uri: str) -> bool:
    """Whether a file or folder is there."""
    fs, path = _fresh(uri)
    return object_stores.reading(uri, lambda: bool(fs.exists(path)))


def file_exists(uri: str) -> bool:
    """Whether a file is there; in an object store by a single request."""
    fs, path = file_system(uri)
    if uri.partition("://")[0] in object_stores.OBJECT_STORES and "/" not in path.strip("/"):
        return False  # a bucket, which has no first byte to ask for
    return os.path.isfile(path) if is_local(uri) else object_stores.there(fs, path)


def names(uri: str, suffix: str) -> set[str]:
    """Names (without folder and suffix) of the files in a folder, by one listing; empty if there is none."""
    fs, path = _fresh(uri)
    try:
        entries = object_stores.reading(uri, lambda: fs.ls(path, detail=False))
    except FileNotFoundError:
        return set()
    return set(_named((str(entry) for entry in entries), suffix))


def sizes(uri: str, suffix: str) -> dict[str, int]:
    """Names (without folder and suffix) and sizes in bytes of the files in a folder; empty if there is none."""
    fs, path = _fresh(uri)
    try:
        entries = object_stores.reading(uri, lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return {}
    size_of = {str(entry["name"]): int(entry["size"] or 0) for entry in entries}
    return {name: size_of[entry] for name, entry in _named(size_of, suffix).items()}


def sizes_below(uri: str) -> dict[str, int]:
    """Bytes by first path component below a folder (files of the folder itself by their name); empty without one."""
    fs, root = _fresh(uri)
    found: dict[str, int] = {}
    for path, info in object_stores.reading(uri, lambda: fs.find(root, detail=True)).items():
        part = str(path).removeprefix(str(root).rstrip("/")).lstrip("/").partition("/")[0]
        found[part] = found.get(part, 0) + int(info.get("size") or 0)
    return dict(sorted(found.items()))


def stamps(uri: str, suffix: str) -> dict[str, str]:
    """Names (without folder and suffix) of the files in a folder, each with a text that changes with its content.

    By one listing of an object store. On a file system, which would have to look at each file, the texts are empty.
    """
    if is_local(uri):
        return dict.fromkeys(names(uri, suffix), "")
    fs, path = _fresh(uri)
    try:
        entries = object_stores.reading(uri, lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return {}
    stamp_of = {str(entry["name"]): repr([entry.get(key) for key in _CHANGING]) for entry in entries}
    return {name: stamp_of[entry] for name, entry in _named(stamp_of, suffix).items()}


_CHANGING = ("size", "ETag", "etag", "generation", "LastModified", "updated", "created", "mtime")
"""What clients of stores list of an object that another content of it doesn't share."""


def _named(entries: Iterable[str], suffix: str) -> dict[str, str]:
    found = {entry.rsplit("/", 1)[-1]: entry for entry in entries}
    return {n.removesuffix(suffix): entry for n, entry in found.items() if n.endswith(suffix) and n[0] != "."}


def side_by_side(uri: str, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Results of a call for each item, in order; where ``uri`` is in a store, many calls at a time in threads."""
    if is_local(uri):
        return [call(item) for item in items]
    with ThreadPoolExecutor(object_stores.AT_ONCE) as pool:
        return list(pool.map(call, items))


def size(uri: str) -> int:
    """Size of a file in bytes."""
    fs, path = _fresh(uri)
    return object_stores.reading(uri, lambda: int(fs.size(path)))


def read_bytes(uri: str) -> bytes:
    """Content of a file."""
    fs, path = file_system(uri)
    return object_stores.reading(uri, lambda: bytes(fs.cat_file(path)))


@contextmanager
def open_read(uri: str, *, size: int | None = None) -> Iterator[IO[bytes]]:
    """Yields a seekable file to read from: in an object store, ranged requests for what is read.

    Args:
        size: in bytes, where it is known already; of large objects that saves the question.

    Raises:
        OSError: it can't be read.
    """
    fs, path = file_system(uri)
    if is_local(uri):
        with open(path, "rb") as file:
            yield file
        return
    with object_stores.opened(fs, path, size) as remote:
        yield remote  # type: ignore[misc]  # a RawIOBase is all that readers of Parquet ask for


@contextmanager
def open_text(uri: str, *, encoding: str = "utf-8-sig", errors: str = "strict") -> Iterator[IO[str]]:
    """Yields a file to read text from, line by line; an object is read as a whole. Raises ``OSError``."""
    if is_local(uri):
        with open(file_system(uri)[1], encoding=encoding, errors=errors) as file:
            yield file
        return
    with io.TextIOWrapper(io.BytesIO(read_bytes(uri)), encoding=encoding, errors=errors) as text:
        yield text


def read_range(uri: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (excluded) of a file; raises ``OSError``."""
    fs, path = file_system(uri)
    return object_stores.read_range(fs, path, start, end)


def download(uri: str, destination: str, *, size: int | None = None, alive: Callable[[], None] = lambda: None) -> None:
    """Copies a file to a local path, part by part; ``alive`` is called after each. Raises ``OSError``."""
    fs, path = file_system(uri)
    length = size if size is not None else object_stores.reading(uri, lambda: int(fs.size(path)), alive=alive)
    object_stores.download(fs, path, destination, length, alive)


def read_json(uri: str) -> Any:
    """Content of a JSON file; raises :class:`EmobeamError` naming the file where it is no JSON."""
    data = read_bytes(uri)
    try:
        return parsed(data)
    except ValueError as error:
        raise EmobeamError(f"{uri}: not valid JSON ({error}); remove it and run again") from error


def remove(uri: str) -> None:
    """Removes a file if it is there. Raises ``OSError``."""
    fs, path = file_system(uri)
    try:
        object_stores.reading(uri, lambda: fs.rm_file(path))
    except FileNotFoundError:
        return


def make_folder(uri: str) -> None:
    """Makes a folder with its parents; raises :class:`OutputError` where that isn't possible.

    Object stores have no folders: nothing is asked of them, least of all to make a bucket nobody meant.
    """
    if is_local(uri):
        with explained(uri, None):
            local_path(uri).mkdir(parents=True, exist_ok=True)
        return
    if uri.partition("://")[0] in object_stores.OBJECT_STORES:
        return
    with _accepted(uri):
        fs, path = file_system(uri)
        object_stores.patiently(lambda: fs.makedirs(path, exist_ok=True))


@contextmanager
def atomic_file(uri: str) -> Iterator[str]:
    """Yields a local path to write to; the file appears at ``uri`` as a whole when the block ends well.

    In a folder that can't be written to, a file that is there already with the same content is left as it is.

    Raises:
        OutputError: the destination can't be written (disk full, permission, credentials).
    """
    with explained(uri, local_path(uri).parent if is_local(uri) else None):
        if is_local(uri):
            destination = local_path(uri)
            destination.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(destination.parent, os.W_OK):
                with scratch_folder("same") as elsewhere:
                    yield str(elsewhere / destination.name)
                    same_or_refused(elsewhere / destination.name, destination)
                return
            temporary = unfinished_beside(destination)
            _unfinished.add(temporary)
            try:
                yield str(temporary)
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(temporary, destination)
            finally:
                temporary.unlink(missing_ok=True)
                _unfinished.discard(temporary)
            return
        folder = make_scratch("object")
        _unfinished.add(folder)
        try:
            yield str(folder / "object")
            with _accepted(uri):
                fs, path = file_system(uri)
                object_stores.patiently(lambda: fs.put_file(str(folder / "object"), path))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _unfinished.discard(folder)


def discard_unfinished() -> None:
    """Removes what this process is just writing; for processes that are about to end without unwinding."""
    for temporary in list(_unfinished):
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_bytes(uri: str, data: bytes | memoryview) -> None:
    """Writes a file atomically."""
    with atomic_file(uri) as path:
        Path(path).write_bytes(data)


def write_json(uri: str, data: Any) -> None:
    """Writes JSON atomically, keys sorted, so that equal data gives equal bytes."""
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_bytes(uri, text.encode("utf-8", "backslashreplace"))  # names of files need not be text


def write_record(uri: str, data: Any) -> None:
    """As :func:`write_json`, for what people read of a run: passwords and tokens in addresses are left out."""
    write_json(uri, data_without_secrets(data))


@contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """Yields a local path with the content of ``uri``: itself if local, else a temporary download."""
    if is_local(uri):
        yield str(local_path(uri))
        return
    with scratch_folder("copy") as folder:
        copy = os.path.join(folder, uri.rsplit("/", 1)[-1] or "object")
        download(uri, copy)
        yield copy


def file_sha256(uri: str) -> str:
    """Digest of a file, in hexadecimal digits.

    Raises:
        EmobeamError: it can't be read.
    """
    try:
        with local_copy(uri) as path, open(path, "rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be read ({error})") from error


def sweep_temporaries(folder: str) -> int:
    """Removes what writers that were killed left in a local folder, see :func:`.leftovers.sweep_beside`.

    Returns how many things were removed.
    """
    return sweep_beside(local_path(folder)) if is_local(folder) else 0


def _fresh(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """As :func:`file_system`, but clients of object stores forget their listings, which others may have outdated."""
    fs, path = file_system(uri)
    fs.invalidate_cache(path)
    return fs, path


@contextmanager
def _accepted(uri: str) -> Iterator[None]:
    # Every client has its own exceptions for refused credentials and missing buckets, few of them OSErrors;
    # what may pass by itself has been tried again before.
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise OutputError(f"{uri}: the store doesn't take it ({reason}); check address and credentials") from error
