"""Shards: the Parquet file of one segment.

Row groups hold at most 128 rows. Maps are stored as bytes (see ``stored_form``), without dictionary and statistics
and with Snappy, which every reader knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.footers import Footer, check_rows, footer_from, footer_text
from emobeam.emo_transforms.cache.stored_form import as_tensors, is_tensor, packed, stored_schema
from emobeam.emo_transforms.storage import is_local
from emobeam.emo_transforms.storage import size as size_of
from emobeam.emo_transforms.storage.parquet_files import open_parquet
from emobeam.schemas.records import EmobeamError, InputError
from emobeam.schemas.tables import FOOTER_KEY, VECTORS, map_column

ROW_GROUP = 128

_PAGE_ROWS = 16
"""Rows after which a page may end, so that readers need not unpack a whole row group of maps at once."""

_VECTORS = (*VECTORS, "shapes")

_FLOAT16_MAX = float(np.finfo(np.float16).max)


class ShardWriter:
    """Writes the rows of one segment in order, a row group at a time (bounded memory)."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        plain = [field.name for field in schema if not is_tensor(field)]
        self._schema = schema
        self._stored = stored_schema(schema)
        self._writer = pq.ParquetWriter(
            path,
            self._stored,
            # Zstandard saves a few more bytes and takes several times as long to write and to read.
            compression="snappy",
            use_dictionary=["video"],
            write_statistics=plain,
            write_batch_size=_PAGE_ROWS,
        )
        self._pending: list[pa.Table] = []
        self._waiting = 0
        self.rows = 0
        self.clipped = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Adds rows: plain lists or arrays by column; maps as float arrays [n, C, H, W], vectors as [n, D].

        Points as int16 ``[n, 478, 3]`` (see ``emobeam.emo_transforms.cache.columns``).

        Raises:
            InputError: a map or a vector holds NaN.
        """
        arrays = []
        for column in self._schema:
            values = columns[column.name]
            if is_tensor(column):
                arrays.append(packed(self._numbers(column, values)))
            elif column.name in _VECTORS:
                arrays.append(_vectors(column, values))
            else:
                arrays.append(pa.array(values, column.type))
        table = pa.Table.from_arrays(arrays, schema=self._stored)
        self.rows += len(table)
        self._pending.append(table)
        self._waiting += len(table)
        while self._waiting >= ROW_GROUP:
            self._flush(ROW_GROUP)

    def close(self, footer: Footer) -> None:
        """Writes what is left and the footer, in which the number of rows is that of the file."""
        if self._waiting:
            self._flush(self._waiting)
        self._writer.add_key_value_metadata({FOOTER_KEY.decode(): footer_text(replace(footer, rows=self.rows))})
        self._writer.close()

    def abandon(self) -> None:
        """Closes the file without a footer; the caller throws it away."""
        self._writer.close()

    def _flush(self, count: int) -> None:
        table = pa.concat_tables(self._pending)
        self._writer.write_table(table.slice(0, count).combine_chunks(), row_group_size=ROW_GROUP)
        rest = table.slice(count)
        self._pending = [rest] if len(rest) else []
        self._waiting = len(rest)

    def _numbers(self, field: pa.Field, values: NDArray[Any]) -> NDArray[Any]:
        """As they are stored, in one piece."""
        if field.type.value_type == pa.int16():
            return np.ascontiguousarray(values, dtype="<i2")
        lowest, highest = values.min(initial=0.0), values.max(initial=0.0)  # both are NaN where any value is
        if np.isnan(highest):
            raise InputError("the backbone gave NaN", stage="embed", reason="nan", permanent=True)
        if max(-lowest, highest) > _FLOAT16_MAX:
            self.clipped += int((np.abs(values) > _FLOAT16_MAX).sum())
            values = np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX)
        from emobeam.emo_transforms.cache.half_floats import to_half  # Numba is for those that write

        return to_half(values)


def _vectors(field: pa.Field, values: NDArray[np.floating[Any]]) -> pa.Array:
    if np.isnan(values).any():
        raise InputError("the backbone gave NaN", stage="embed", reason="nan", permanent=True)
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=field.type)


def read_footer(uri: str, *, size: int | None = None) -> Footer:
    """The footer of a shard.

    Args:
        size: of the file in bytes, where it is known already; then a store is asked once.

    Raises:
        EmobeamError: the file is no shard of emobeam, or one of a newer version, or its footer can't be that of its
            rows.
    """
    with _readable(uri), open_parquet(uri, size=_size(uri) if size is None else size) as parquet:
        found = parquet.metadata
    text = (found.metadata or {}).get(FOOTER_KEY)
    if text is None:
        raise EmobeamError(f"{uri}: not a shard of emobeam (no footer of its own)")
    try:
        footer = footer_from(text)
        check_rows(footer, found)
    except ValueError as error:
        raise EmobeamError(f"{uri}: {error}; remove it and run extract again") from error
    return footer


def read_rows(uri: str, columns: Sequence[str] | None = None, *, view: int | None = 0) -> Iterator[pa.Table]:
    """The rows of a shard, one row group at a time.

    Args:
        view: of caches with augmented views: the view read, by default the plain one; None reads all. The column
            ``view`` is returned only with None.

    Raises:
        EmobeamError: the file is damaged.
    """
    with ExitStack() as held:
        with _readable(uri):
            parquet = held.enter_context(open_parquet(uri, size=_size(uri)))
        one_view = view is not None and "view" in parquet.schema_arrow.names
        wanted = [*columns, "view"] if one_view and columns is not None else columns
        for group in range(parquet.num_row_groups):
            with _readable(uri):
                table = parquet.read_row_group(group, columns=wanted, use_threads=False)
            if one_view:
                table = table.filter(pc.equal(table["view"], view)).drop_columns("view")
                if not len(table):
                    continue
            try:
                table = as_tensors(table)
            except EmobeamError as error:
                raise EmobeamError(f"{uri}: {error}; remove it and run extract again") from error
            yield table


@lru_cache(maxsize=1 << 16)
def _size(uri: str) -> int | None:
    """Of a shard in a store, asked once: its name is a digest of what it holds."""
    return None if is_local(uri) else size_of(uri)


def maps_of(table: pa.Table, name: str) -> NDArray[np.float16]:
    """A column of maps as one array [rows, C, H, W]; ``name`` is ``s8``, ``s16`` or ``s32``."""
    column = table.column(map_column(name)).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    array: NDArray[np.float16] = column.to_numpy_ndarray()
    return array


@contextmanager
def _readable(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Of pyarrow's own complaints some are plain OSErrors; the system's carry a number, those of stores have a kind.
        if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
            raise
        raise EmobeamError(f"{uri}: not a whole Parquet file ({error}); remove it and run extract again") from error
