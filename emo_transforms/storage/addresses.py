"""Addresses of files, paths and URIs, and the file systems behind them."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from emobeam.emo_transforms.storage.object_stores import StoreError, store_error
from emobeam.schemas.records import UsageError

_CHAINED = re.compile(r"^[a-z0-9_+.-]+::|::[a-z0-9_+.-]+://", re.IGNORECASE)
"""``simplecache::gs://...`` and ``zip://a::gs://...`` of fsspec."""

_NO_CHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""What Unicode keeps for a program's own use."""


def file_system(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI and the path on it. ``::`` in a name is part of the name.

    Raises:
        UsageError: the protocol is unknown, or the package that speaks it is not installed.
        StoreError: its client can't be made: it has no credentials, or looks for something that isn't there.
    """
    if is_local(uri):
        return LocalFileSystem(), str(local_path(uri).absolute())
    try:
        return _remote(uri)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{uri}: can't be opened ({error})") from error
    except StoreError:
        raise
    except Exception as error:  # every client has exceptions of its own, and chains open what they are made of
        raise store_error(uri, error, "opened") from error


def _remote(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    if "::" in uri and not _CHAINED.search(uri):
        # fsspec would take the name for a chain, so it sees a character instead that no text has.
        stand_in = next(sign for sign in _NO_CHARACTERS if sign not in uri)
        fs, path = url_to_fs(uri.replace("::", stand_in))
        return fs, str(path).replace(stand_in, "::")
    if uri.startswith(("gs://", "gcs://")) and os.environ.get("STORAGE_EMULATOR_HOST"):
        # Else gcsfs asks for the kind of each bucket by gRPC, which emulators don't speak, and waits a minute.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    fs, path = url_to_fs(uri)
    return fs, str(path)


def locate(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI and the absolute, normalised path on it; raises as :func:`file_system`."""
    fs, path = file_system(uri)
    return fs, posixpath.normpath(path) if isinstance(fs, LocalFileSystem) else path.rstrip("/")


def file_name(uri: str) -> str:
    """The name of the file that a URI is of, without asking its file system; of a web address without its query."""
    links = [link for link in uri.split("::") if "://" in link] if _CHAINED.search(uri) else [uri]
    first = (links or [uri])[0]
    path = first.partition("?")[0] if first.startswith(("http://", "https://")) else first
    return posixpath.basename(path.rstrip("/"))


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
