"""Fingerprints: whether a file is still the one it was, from its size and both of its ends."""

from __future__ import annotations

import hashlib

from emobeam.emo_transforms.storage import locate, read_range
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
