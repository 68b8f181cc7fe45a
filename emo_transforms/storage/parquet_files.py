"""Reading Parquet files: the one way that no thread of pyarrow outlives.

``pyarrow.parquet.read_table`` imports pyarrow's datasets and pandas with them (half a second), and its threads, as
those of ``ParquetFile.read``, may let go of Python's bytes when the interpreter has ended, which aborts the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms.storage.addresses import is_local, local_path
from emobeam.emo_transforms.storage.files import open_read, read_bytes


def read_parquet(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A table that fits into memory, of one file; columns that it lacks are left out.

    Raises:
        OSError: there is no such file, or it can't be read.
        pyarrow.ArrowException: it is no Parquet file.
    """
    if is_local(uri):
        with open_parquet(uri) as parquet:
            return parquet.read(columns=columns, use_threads=False)
    with pq.ParquetFile(pa.BufferReader(read_bytes(uri)), pre_buffer=False) as parquet:
        return parquet.read(columns=columns, use_threads=False)


def _own_file(path: Path) -> pa.OSFile:
    try:
        return pa.OSFile(os.fsencode(path))
    except FileNotFoundError:  # as everybody else tells it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


@contextmanager
def open_parquet(uri: str, *, size: int | None = None) -> Iterator[pq.ParquetFile]:
    """Yields a file to read pieces of, with ``use_threads=False``.

    Args:
        size: in bytes, where it is known already; then a store is asked once.

    Raises:
        OSError: there is no such file, or it can't be read.
        pyarrow.ArrowException: it is no Parquet file.
    """
    if is_local(uri):  # pyarrow's own file: Python's would make its threads wait for each other
        with _own_file(local_path(uri)) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
            yield parquet
        return
    # A store is asked once for all neighbouring columns of a row group.
    with open_read(uri, size=size) as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        yield parquet
