"""Fetching published weights into a folder of models, whole and checked.

A file is downloaded under a temporary name, its sha256 compared, and renamed. Where the catalogue knows no digest the
first download's is written beside the file (``NAME.lock.json``), and from then on the file has to match it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback
from fsspec.core import url_to_fs

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, Entry
from emobeam.emo_transforms.storage.user_folders import cache_folder
from emobeam.schemas.records import EmobeamError, UsageError

_NOT_WEIGHTS = (b"<!DOCTYPE", b"<!doctype", b"<html", b"version https://git-lfs")

Progress = Callable[[int, int], None]
"""Called with the bytes that came since the last call, and all that are expected (0 where that is unknown)."""


@dataclass(frozen=True)
class Lock:
    """What was fetched, as ``NAME.lock.json`` says it."""

    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Fetched:
    """A model in the folder.

    Attributes:
        path: of the file.
        downloaded: whether it came just now; else it lay there already.
        pinned: whether its digest was known before; else it is the one from now on.
    """

    name: str
    path: Path
    sha256: str
    bytes: int
    downloaded: bool
    pinned: bool


def models_folder() -> Path:
    """Where models are kept: ``EMOBEAM_MODELS``, or ``emobeam/models`` in the platform's folder for caches."""
    named = os.environ.get("EMOBEAM_MODELS")
    return Path(named).expanduser() if named else cache_folder("models")


def fetched(name: str) -> Path | None:
    """The file of a model of the catalogue, where it has been fetched to the usual folder."""
    for entry in CATALOGUE:
        if entry.name == name:
            path = models_folder() / entry.file_name
            return path if path.is_file() else None
    return None


def fetch(
    entry: Entry, folder: Path | None = None, *, accepted: bool, progress: Progress | None = None, sha256: str = ""
) -> Fetched:
    """Brings a model into a folder, unless it is there.

    Args:
        folder: default :func:`models_folder`.
        accepted: the user accepts ``entry.terms``; nothing is downloaded otherwise.
        sha256: what the user expects of the file, 64 hexadecimal digits; ``""`` leaves it to the catalogue, or to the
            first download.

    Raises:
        UsageError: the terms aren't accepted, the publishers give no address a program could use, or ``sha256`` is no
            digest or not the one that is known.
        EmobeamError: it can't be downloaded, or it isn't the file that is expected.
    """
    folder = folder or models_folder()
    path, lock_path = folder / entry.file_name, folder / f"{entry.name}.lock.json"
    lock = _read_lock(lock_path)
    known = entry.sha256 or (lock.sha256 if lock else "")
    expected = _asked(sha256, known, lock_path if lock and not entry.sha256 else None) or known
    if path.is_file():
        return _kept(entry, path, lock_path, expected)
    if not entry.url:
        raise UsageError(f"{entry.name} can't be fetched by a program: {entry.note}")
    if not accepted:
        raise UsageError(f"{entry.name}: {entry.terms}; add --accept-licence if that suits your use")
    with storage.atomic_file(str(path)) as temporary:
        _download(entry, temporary, path, progress)
        found = storage.file_sha256(temporary)
        with open(temporary, "rb") as file:
            if file.read(64).lstrip().startswith(_NOT_WEIGHTS):
                raise EmobeamError(f"{entry.url}: gave a web page or a pointer instead of the weights; has it moved?")
        if expected and found != expected:
            raise EmobeamError(
                f"{entry.url}: the file has sha256 {found}, expected {expected}; it was changed or damaged on the way. "
                f"Nothing was kept{f' (the expectation is in {lock_path})' if lock and not entry.sha256 else ''}"
            )
    size = path.stat().st_size
    _write_lock(lock_path, Lock(entry.url, found, size))
    return Fetched(entry.name, path, found, size, downloaded=True, pinned=bool(expected))


def _asked(sha256: str, known: str, lock_path: Path | None) -> str:
    digest = sha256.strip().lower()
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise UsageError(f"--sha256 {sha256}: a sha256 has 64 hexadecimal digits")
    if digest and known and digest != known:
        where = f"{lock_path} says (remove it if it is wrong)" if lock_path else "the catalogue says"
        raise UsageError(f"--sha256 {sha256}: {where} {known}")
    return digest


def _kept(entry: Entry, path: Path, lock_path: Path, expected: str) -> Fetched:
    found = storage.file_sha256(str(path))
    if expected and found != expected:
        raise EmobeamError(f"{path}: has sha256 {found}, expected {expected}; remove it and fetch it again")
    size = path.stat().st_size
    if not entry.sha256 and not lock_path.is_file():
        _write_lock(lock_path, Lock(str(path), found, size))
    return Fetched(entry.name, path, found, size, downloaded=False, pinned=bool(expected))


def _download(entry: Entry, temporary: str, path: Path, progress: Progress | None) -> None:
    try:
        # A proxy is taken from the environment, as other programs do.
        options = {"client_kwargs": {"trust_env": True}} if entry.url.startswith("http") else {}
        fs, remote = url_to_fs(entry.url, **options)
        fs.get_file(remote, temporary, callback=_Told(progress))
    except FileNotFoundError as error:
        raise EmobeamError(f"{entry.url}: no such file; the publishers may have moved it") from error
    except OSError as error:
        if error.errno in (28, 122):  # no space, over quota: storage tells these
            raise
        raise EmobeamError(_unreachable(entry, path, error)) from error
    except Exception as error:  # every file system has its own exceptions
        raise EmobeamError(_unreachable(entry, path, error)) from error


def _unreachable(entry: Entry, path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else "no answer"
    return (
        f"{entry.url}: can't be downloaded ({type(error).__name__}: {reason}); without network, get it elsewhere, "
        f"put it at {path} and run this again"
    )


class _Told(Callback):  # type: ignore[misc]  # fsspec has no types
    """Passes on how many bytes came."""

    def __init__(self, progress: Progress | None) -> None:
        super().__init__()
        self._progress = progress

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        if self._progress is not None:
            self._progress(inc, int(self.size or 0))


def _read_lock(path: Path) -> Lock | None:
    if not path.is_file():
        return None
    data: Any = storage.read_json(str(path))
    try:
        return Lock(**data)
    except TypeError as error:
        raise EmobeamError(f"{path}: not a lock file; remove it and fetch the model again") from error


def _write_lock(path: Path, lock: Lock) -> None:
    storage.write_json(str(path), asdict(lock))
