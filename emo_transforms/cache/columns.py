"""The columns of a cache that heads read, as arrays: maps by stride (``s8``), vectors by name (``embedding``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import VECTORS, column_of


def array_of(table: pa.Table, name: str) -> NDArray[Any]:
    """An input of heads as one array, a row group's worth at a time; not copied where its column is in one piece.

    Returns:
        Maps: float16 ``[rows, C, H, W]``. Vectors: float32 ``[rows, L]``. Neither may be written to.

    Raises:
        EmobeamError: the table lacks the column, or a vector is missing in a row.
    """
    column = column_of(name)
    if column not in table.column_names:
        raise EmobeamError(f"a shard has no column {column}; extract again with --store so that it is stored")
    chunks = table.column(column)
    chunk = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):
        chunk = chunk.chunk(0)
    if name not in VECTORS:
        maps: NDArray[np.float16] = chunk.to_numpy_ndarray()
        return maps
    if chunk.null_count:
        raise EmobeamError(f"column {column} of a shard is empty in {chunk.null_count} rows; extract again")
    return np.asarray(chunk.flatten()).reshape(len(chunk), chunk.type.list_size)
