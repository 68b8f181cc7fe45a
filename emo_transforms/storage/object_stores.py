"""Object stores: what is tried again, and reading parts of objects by ranged requests.

The clients try again themselves (gcsfs six times on 408, 429, 5xx and lost connections; s3fs and botocore five times
each), but not on everything: time-outs, connections reset while a body is sent, and long outages come through. Here
every call gets a few more chances; what will not pass by itself (403, 404, a missing bucket) fails at once.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import TypeVar

from fsspec import AbstractFileSystem
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

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


def is_transient(error: BaseException) -> bool:
    """Whether what went wrong may go well in a moment: throttling, server errors, lost connections, time-outs."""
    if isinstance(error, (FileNotFoundError, PermissionError, FileExistsError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    code = getattr(error, "code", None) or getattr(error, "status", None)
    if isinstance(code, (int, str)) and str(code).isdigit():
        return int(code) in _CODES
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NUMBERS
    return any(kind.__name__ in _NAMES for kind in type(error).__mro__)


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
        OSError: it can't be read; :class:`FileNotFoundError` and :class:`PermissionError` stay what they are.
    """
    try:
        return patiently(call, alive=alive)
    except ImportError:
        raise
    except OSError as error:
        if error.errno is None and type(error) is OSError:  # like pyarrow's complaints about what isn't Parquet
            raise OSError(errno.EIO, f"the store failed: {error}", uri) from error
        raise
    except Exception as error:  # every client has exceptions of its own
        raise OSError(errno.EIO, f"the store failed: {type(error).__name__}: {error}", uri) from error


def read_range(fs: AbstractFileSystem, path: str, start: int, end: int) -> bytes:
    """Bytes ``start`` to ``end`` (excluded) of an object by one ranged request; raises ``OSError``."""
    if start >= end:
        return b""
    data = reading(path, lambda: fs.cat_file(path, start=start, end=end))
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

    return reading(path, look)


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
        size = reading(path, lambda: int(fs.size(path)))
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
