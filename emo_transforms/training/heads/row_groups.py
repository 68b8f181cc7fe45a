"""Row groups of a cache as arrays, read ahead by threads."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.cache.dataset import Dataset, shard_uri
from emobeam.emo_transforms.cache.shards import ROW_GROUP
from emobeam.emo_transforms.cache.stored_form import array_of_column
from emobeam.emo_transforms.storage.parquet_files import open_parquet
from emobeam.emo_transforms.training.heads.window_plans import Unit
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import VECTORS, map_column

Arrays = Mapping[str, NDArray[Any]]

_ROWS = 16
"""Rows unpacked at a time."""

UNPACKING = 2
"""What reading a unit takes beside its rows, in units, at most (measured: pyarrow takes about 7 times the rows that
it unpacks at a time, and the packed row group)."""

MOST_READERS = 16


@dataclass(frozen=True)
class Source:
    """Where rows come from: URI of the cache, and shape and type of what is read, by name."""

    features: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Of what is read, in the order of ``shapes``."""
        return tuple(self.shapes)

    def dtype(self, name: str) -> type[np.generic]:
        """As the cache holds it: vectors in 32 bits, maps in 16."""
        return np.float32 if name in VECTORS else np.float16

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory."""
        return sum(math.prod(shape) * np.dtype(self.dtype(name)).itemsize for name, shape in self.shapes.items())


def source_of(features: str, dataset: Dataset, names: Sequence[str]) -> Source:
    """What a head reads of a cache.

    Raises:
        EmobeamError: the cache lacks some of it.
    """
    known: dict[str, tuple[int, ...]] = {name: tuple(shape) for name, shape in dataset.map_shapes.items()}
    for name in VECTORS:
        if length := int(getattr(dataset, name, 0)):
            known[name] = (length,)
    if missing := [name for name in names if name not in known]:
        raise EmobeamError(
            f"{features}: the head reads {', '.join(names)}, the cache lacks {', '.join(missing)} (it holds "
            f"{', '.join(known)}); extract with --maps or --store so that it has them"
        )
    return Source(features, {name: known[name] for name in names})


def unit_bytes(source: Source, unit: Unit) -> int:
    """Bytes of all rows that reading a unit brings into memory."""
    groups = sum(len(groups) for _, groups in unit.pieces)
    return groups * ROW_GROUP * source.row_bytes


def reader_count(asked: int = 0) -> int:
    """Threads that read: as many as asked for, else one per core, at most :data:`MOST_READERS`."""
    return asked or min(MOST_READERS, os.cpu_count() or 1)


def read_ahead(
    source: Source, units: Sequence[Unit], readers: int, ahead: int
) -> Generator[tuple[Unit, dict[str, NDArray[Any]]], None, None]:
    """Units in order with their row groups' arrays ``[rows read, ...]``, read by threads.

    Args:
        readers: threads; 0: see :func:`reader_count`.
        ahead: bytes that may be read but not taken yet; one unit always may.
    """
    count = reader_count(readers)
    waiting: deque[tuple[Unit, int, Future[dict[str, NDArray[Any]]]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(count, thread_name_prefix="emobeam-read")
    try:
        for unit in units:
            size = unit_bytes(source, unit)
            while waiting and (held + size > ahead or len(waiting) > 2 * count):
                taken, own, future = waiting.popleft()
                held -= own
                yield taken, future.result()
            held += size
            waiting.append((unit, size, pool.submit(read_unit, source, unit)))
        while waiting:
            taken, _, future = waiting.popleft()
            yield taken, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_unit(source: Source, unit: Unit) -> dict[str, NDArray[Any]]:
    """The row groups of a unit as one array ``[rows, ...]`` per name, uncut.

    Raises:
        EmobeamError: a shard is gone or damaged.
    """
    total = 0
    found: dict[str, NDArray[Any]] = {}
    for shard, groups in unit.pieces:
        uri = shard_uri(source.features, shard)
        with _opened(uri) as parquet:
            sizes = [parquet.metadata.row_group(group).num_rows for group in groups]
            if max(sizes, default=0) > ROW_GROUP:
                raise EmobeamError(f"{uri}: {max(sizes)} rows in one row group; remove it and extract again")
            if not found:
                rows = sum(sizes) if len(unit.pieces) == 1 else _rows_of(source, unit)
                found = {name: np.empty((rows, *shape), source.dtype(name)) for name, shape in source.shapes.items()}
            total = _fill(parquet, source, groups, found, total)
    return found


def _rows_of(source: Source, unit: Unit) -> int:
    rows = 0
    for shard, groups in unit.pieces:
        with _opened(shard_uri(source.features, shard)) as parquet:
            rows += sum(parquet.metadata.row_group(group).num_rows for group in groups)
    return rows


def _fill(
    parquet: pq.ParquetFile, source: Source, groups: Sequence[int], target: Mapping[str, NDArray[Any]], start: int
) -> int:
    """Puts the rows of row groups into arrays from row ``start`` on; returns where they end.

    pyarrow unpacks in several times the size, so few rows at a time keep memory small (and are faster).
    """
    columns = [name if name in VECTORS else map_column(name) for name in source.names]
    for rows in parquet.iter_batches(_ROWS, row_groups=list(groups), columns=columns, use_threads=False):
        for name, column in zip(source.names, columns, strict=True):
            values = rows.column(column)
            if name in VECTORS:
                part = values.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
            else:
                part = array_of_column(values, parquet.schema_arrow.field(column))
            if part.shape[1:] != source.shapes[name]:
                shapes = f"{list(part.shape[1:])} instead of {list(source.shapes[name])}"
                raise EmobeamError(f"{source.features}: a shard's {column} is {shapes}; remove it and extract again")
            target[name][start : start + len(rows)] = part
        start += len(rows)
    return start


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_parquet(uri) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: a shard is gone; run emobeam extract again") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise EmobeamError(f"{uri}: not a whole Parquet file ({error}); remove it and extract again") from error


def gathered(unit: Unit, arrays: Arrays, windows: NDArray[np.int32], view: int = 0) -> dict[str, Tensor]:
    """Windows ``[W, T, ...]`` of what was read of a unit."""
    rows = unit.rows[view][windows]
    return {name: torch.from_numpy(array[rows]) for name, array in arrays.items()}
