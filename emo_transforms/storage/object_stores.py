"""Object stores: what is tried again, and reading parts of objects by ranged requests.

The clients try again themselves (gcsfs six times on 408, 429, 5xx and lost connections; s3fs and botocore five times
each), but not on everything: time-outs, connections reset while a body is sent, and long outages come through. Here
every call gets a few more chances; what will not pass by itself (403, 404, a missing bucket) fails at once.
"""

from __future__ import annotations

import errno
import io
import os
import socket
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.wording import without_secrets

T = TypeVar("T")

PART_BYTES = 16 << 20
"""What a download asks for at a time: small enough to be a sign of life on slow lines."""

TAIL_BYTES = 128 << 10
"""Read ahead at the end of an object; footers of shards have 20 to 60 kB, but with less, rows take a request more."""

OBJECT_STORES = frozenset({"gs", "gcs", "s3", "s3a", "abfs", "abfss", "az", "adl", "oci", "oss"})
"""Protocols without folders: nothing has to be made before an object is put."""

AT_ONCE = 16
"""Requests side by side where many small ones are due: stores answer late, but many at a time."""

_ATTEMPTS = 4
_PATIENCE = 180.0
_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
_NUMBERS = frozenset(
    getattr(errno, name)
    for name in (
        *("EBUSY", "EAGAIN", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE"),
        *("ENETUNREACH", "ENETRESET", "EHOSTUNREACH", "EREMOTEIO"),
    )
    if hasattr(errno, name)
)
_NAMES = frozenset(
    {
        *("ClientConnectionError", "ClientPayloadError", "HTTPClientError", "ChunkedEncodingError", "IncompleteRead"),
        *("ProxyError", "ChecksumError", "ResponseParserError", "TransportError", "ServerTimeoutError"),
        *("ConnectionError", "Timeout"),
    }
)
"""Classes of the clients' HTTP libraries (aiohttp, requests, botocore, google-auth), which need not be imported."""

_REFUSALS = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("UnauthorizedSSOTokenError", "DefaultCredentialsError", "RefreshError"),
    }
)
"""Those of credentials that aren't there, or are good no longer."""


class StoreError(OSError, EmobeamError):
    """A store, or what else is behind an address, doesn't give what it is asked for; the message says what it said."""

    def __init__(self, number: int, said: str, uri: str) -> None:
        OSError.__init__(self, number, said, uri)

    def __str__(self) -> str:
        return without_secrets(f"{self.filename}: {self.strerror}")


class StoreRefused(PermissionError, StoreError):
    """A store lets nobody in with these credentials."""


def is_transient(error: BaseException) -> bool:
    """Whether what went wrong may go well in a moment: throttling, server errors, lost connections, time-outs."""
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if (code := _code(error)) is not None:
        return code in _CODES
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NUMBERS
    return _is_one_of(error, _NAMES)


def _code(error: BaseException) -> int | None:
    """The status that a server answered with, where the exception tells."""
    code = getattr(error, "code", None) or getattr(error, "status", None)
    return int(code) if isinstance(code, (int, str)) and str(code).isdigit() else None


def _is_one_of(error: BaseException, names: frozenset[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def uri_of(fs: AbstractFileSystem, path: str) -> str:
    """The inverse of ``locate``: a plain path if local, else with its protocol."""
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def check_endpoint(uri: str) -> None:
    """Asks once whether somebody listens where the environment says that a store is.

    Clients try again for minutes, as they should in a run; before one, a mistake in the address is likelier.

    Raises:
        StoreError: nobody does.
    """
    protocol = uri.partition("://")[0]
    endpoint = next((os.environ[name] for name in _ENDPOINTS.get(protocol, ()) if os.environ.get(name)), "")
    place = urlsplit(endpoint)
    if not place.hostname or any(name.endswith("_proxy") and value for name, value in os.environ.items()):
        return  # a proxy is asked where one is named
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname, port), timeout=_LISTENING).close()
    except (ConnectionRefusedError, socket.gaierror) as error:
        raise StoreError(errno.ECONNREFUSED, f"nobody listens at {endpoint} ({error.strerror})", uri) from error
    except (OSError, ValueError):
        return  # slow, or odd: the client tells better


_S3 = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_GS = ("STORAGE_EMULATOR_HOST",)
_ENDPOINTS = {"s3": _S3, "s3a": _S3, "gs": _GS, "gcs": _GS}
_LISTENING = 5.0


def patiently(call: Callable[[], T], *, alive: Callable[[], None] = lambda: None) -> T:
    """Calls until it goes well, with growing random pauses (1 to 20 s), a few times at most.

    Args:
        alive: called before each pause.

    Raises:
        Exception: what the last call raised, unchanged.
    """
    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=1, max=20),
        stop=stop_after_attempt(_ATTEMPTS) | stop_after_delay(_PATIENCE),
        before_sleep=lambda state: alive(),
        reraise=True,
    )
    return retrying(call)


def reading(uri: str, call: Callable[[], T], *, alive: Callable[[], None] = lambda: None) -> T:
    """As :func:`patiently`, for reading; whatever a client raises in the end is an ``OSError``.

    Raises:
        OSError: it can't be read. Of stores it is a :class:`StoreError`, :class:`StoreRefused` where they let nobody
            in; :class:`FileNotFoundError` stays what it is.
    """
    try:
        return patiently(call, alive=alive)
    except (ImportError, StoreError, FileNotFoundError):
        raise
    except Exception as error:  # every client has exceptions of its own
        if isinstance(error, OSError) and "://" not in uri:
            raise
        raise store_error(uri, error) from error


def store_error(uri: str, error: Exception, verb: str = "read") -> StoreError:
    """What a client raised, as one line for people."""
    said = " ".join((str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, PermissionError) or _code(error) in (401, 403) or _is_one_of(error, _REFUSALS):
        return StoreRefused(errno.EACCES, f"can't be {verb}: no access ({text}); check the credentials", uri)
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
    return StoreError(number, f"can't be {verb}: the store failed ({text})", uri)


def read_range(fs: AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (excluded) of an object by one ranged request; raises ``OSError``."""
    if start >= end:
        return b""
    data = reading(uri_of(fs, path), lambda: fs.cat_file(path, start=start, end=end))
    if len(data) > end - start:  # a server that takes no ranges sends all of it
        data = data[start:end]
    return bytes(data)


def there(fs: AbstractFileSystem, path: str) -> bool:
    """Whether a file is there, by one request for its first byte; clients ask twice, to tell it from a folder."""

    def look() -> bool:
        try:
            fs.cat_file(path, start=0, end=1)
        except FileNotFoundError:
            return False
        except Exception as error:
            if is_transient(error):
                raise
            fs.invalidate_cache(path)
            try:
                return bool(fs.info(path)["type"] != "directory")  # empty objects have no first byte, nor have folders
            except FileNotFoundError:
                return False
        return True

    return reading(uri_of(fs, path), look)


def download(
    fs: AbstractFileSystem, path: str, destination: str, size: int, alive: Callable[[], None] = lambda: None
) -> None:
    """Copies an object to a local file, part by part; a part that fails is asked for again, not all of it.

    Args:
        size: of the object in bytes.
        alive: called after every part.

    Raises:
        OSError: it can't be read, or is shorter than ``size``.
    """
    with open(destination, "wb") as file:
        for start in range(0, size, PART_BYTES):
            end = min(size, start + PART_BYTES)
            data = read_range(fs, path, start, end)
            if len(data) < end - start:
                raise OSError(errno.EIO, f"ends after {start + len(data)} of {size} bytes; it is being changed", path)
            file.write(data)
            alive()


def opened(fs: AbstractFileSystem, path: str, size: int | None) -> io.RawIOBase | io.BytesIO:
    """An object to read from; small ones, and those that aren't there, are known after one request.

    Args:
        size: in bytes, None where it isn't known.

    Raises:
        OSError: it can't be read.
    """
    if size is None:
        try:
            first = read_range(fs, path, 0, TAIL_BYTES)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            first = b""  # an empty object has no ranges
        if 0 < len(first) < TAIL_BYTES:
            return io.BytesIO(first)
        size = reading(uri_of(fs, path), lambda: int(fs.size(path)))
    return RangedFile(fs, path, size)


class RangedFile(io.RawIOBase):
    """A readable, seekable object: its end is kept, everything else is one ranged request per read."""

    def __init__(self, fs: AbstractFileSystem, path: str, size: int) -> None:
        super().__init__()
        self._fs = fs
        self._path = path
        self._size = size
        self._place = 0
        self._tail_start = max(0, size - TAIL_BYTES)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: a seek asks the store for nothing."""
        return True

    def tell(self) -> int:
        """Place of the next byte that is read, from the object's beginning."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the place, also beyond the end, and returns it."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes from the place on, all that follow where it is None or negative; raises ``OSError``."""
        end = self._size if size is None or size < 0 else min(self._size, self._place + size)
        start, self._place = self._place, max(self._place, end)
        if start >= self._tail_start:
            if self._tail is None:
                self._tail = read_range(self._fs, self._path, self._tail_start, self._size)
            return self._tail[start - self._tail_start : end - self._tail_start]
        return read_range(self._fs, self._path, start, end)

    def readall(self) -> bytes:
        """All bytes from the place on, by one request; raises ``OSError``."""
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer from the place on and returns how many bytes there were; raises ``OSError``."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
