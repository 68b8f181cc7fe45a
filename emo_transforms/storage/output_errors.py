"""What is told where an output can't be written."""

from __future__ import annotations

import errno
import filecmp
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emobeam.schemas.records import EmobeamError

_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class OutputError(EmobeamError):
    """The output can't be written at all (disk full, no permission): the run stops."""


def is_full(error: OSError) -> bool:
    """Whether a disk has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(uri: str, folder: Path | None) -> Iterator[None]:
    """Tells of errors of the system in a block that writes something.

    Args:
        folder: it is written into; None: that is not on a local disk.

    Raises:
        OutputError: it can't be written; other errors pass.
    """
    try:
        yield
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise OutputError(f"{uri}: can't be written ({error.strerror or error}); choose another --output") from error
    except OSError as error:
        if error.errno in _STOPPING:
            way = "" if error.errno == errno.EROFS else "free some space or "
            text = f"{uri}: can't be written ({error.strerror}); {way}choose another --output"
            raise OutputError(text) from error
        if isinstance(error, FileNotFoundError) and folder is not None and not folder.is_dir():
            text = f"{folder}: is no longer there; was the output removed while the run went on?"
            raise OutputError(text) from error
        raise


def same_or_refused(made: Path, destination: Path) -> None:
    """Where nothing can be written a file may be there already as it is to be.

    Raises:
        OSError: it isn't; the system says why nothing can be written.
    """
    if not destination.is_file() or not filecmp.cmp(made, destination, shallow=False):
        probe = destination.with_name(f".{made.name}")
        probe.touch()
        probe.unlink()
        raise PermissionError(errno.EACCES, "it was no folder to write into a moment ago")
