"""Fingerprints: whether a file is still the one it was, from its size and both of its ends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emobeam.emo_transforms.storage import local_path, locate, read_range
from emobeam.emo_transforms.storage.object_stores import StoreError, reading
from emobeam.schemas.records import Fingerprint, InputError, UsageError

DIGEST_BYTES = 256 * 1024
"""How much of each end of a file enters its fingerprint."""


def unreadable(uri: str, error: OSError) -> InputError:
    """What becomes of an input that a disk or a store fails to give; the next run tries again."""
    text = str(error) if isinstance(error, StoreError) else f"{uri}: can't be read ({error})"
    return InputError(text, stage="open", reason="io", permanent=False)


def fingerprint(uri: str) -> Fingerprint:
    """Size of a file and the sha256 of its first and last 256 KiB (of all of it, up to 512 KiB).

    Raises:
        InputError: the file is ``missing``, or can't be read (``io``); both may end differently next time.
    """
    try:
        fs, path = locate(uri)
        size = reading(uri, lambda: int(fs.size(path)))
        cut = min(size, DIGEST_BYTES) if size > 2 * DIGEST_BYTES else size
        digest = hashlib.sha256(read_range(uri, 0, cut))
        digest.update(read_range(uri, size - DIGEST_BYTES, size) if cut < size else b"")
    except FileNotFoundError as error:
        raise InputError(f"{uri}: no such file", stage="open", reason="missing", permanent=False) from error
    except UsageError as error:  # an address that nobody understands
        raise InputError(str(error), stage="open", reason="unsupported", permanent=False) from error
    except OSError as error:
        raise unreadable(uri, error) from error
    return Fingerprint(size=size, digest=digest.hexdigest())


@contextmanager
def unchanged(uri: str, print_: Fingerprint, look: Callable[[], Fingerprint] | None = None) -> Iterator[None]:
    """Sees to it that an input on a local disk is the one that was planned with, before and after the block.

    Without it, what is made of a file that somebody replaces meanwhile would be stored under the content of before.

    Args:
        look: tells the fingerprint of something that isn't one file; it is asked each time.

    Raises:
        FileNotFoundError: there was no such file before.
        InputError: it has changed, whatever else went wrong in the block for that reason; the next run does it.
    """
    of_file = look is None
    look = look or (lambda: fingerprint(uri))
    before = _stamp(uri) if of_file else None
    if look() != print_:
        raise changed(uri)

    def still() -> bool:
        try:
            now = _stamp(uri) if of_file else None
            if of_file and now == before:
                return True
            # Moved away and put back again: the time of its last change is all that tells, unless that is of links,
            # owners or modes, which are no content.
            swapped = before is not None and now is not None and before[:-1] == now[:-1]
            return not swapped and look() == print_
        except (OSError, InputError):
            return False

    try:
        yield
    except InputError as error:
        if still():
            raise
        raise changed(uri) from error
    if not still():
        raise changed(uri)


def changed(uri: str) -> InputError:
    """What to say of an input that isn't what it was when it was looked at."""
    text = f"{uri}: has changed since it was looked at; run again"
    return InputError(text, stage="open", reason="changed", permanent=False)


def _stamp(uri: str) -> tuple[int, ...]:
    """What changes with a file: which it is, size, time of its content, links, mode, owners; last, when any changed."""
    of = os.stat(local_path(uri))
    return (
        of.st_dev,
        of.st_ino,
        of.st_size,
        of.st_mtime_ns,
        of.st_nlink,
        of.st_mode,
        of.st_uid,
        of.st_gid,
        of.st_ctime_ns,
    )
