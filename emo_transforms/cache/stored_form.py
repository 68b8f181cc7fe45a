"""How tensors lie in a shard: maps and points as the bytes of their numbers, little-endian and row-major.

A column of bytes opens in everything that reads Parquet. Lists of float16 don't: Spark refuses the whole file, and
``datasets`` any file with Arrow's tensors. What the bytes are stands in the column's metadata. Shards of earlier
versions hold Arrow's ``fixed_shape_tensor``; readers of both get that type.
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.schemas.records import EmobeamError

_TYPES = {"<f2": pa.float16(), "<i2": pa.int16()}
"""NumPy's names of what is stored so."""

MOST_NUMBERS = 1 << 28
"""Of one map or vector, at most: what readers allocate by what a file says stays within reason."""


def is_tensor(field: pa.Field) -> bool:
    """Whether readers see tensors."""
    return isinstance(field.type, pa.FixedShapeTensorType)


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the file whose readers see ``schema``."""
    return pa.schema([_stored(field) if is_tensor(field) else field for field in schema])


def _stored(field: pa.Field) -> pa.Field:
    (dtype,) = (name for name, kind in _TYPES.items() if kind == field.type.value_type)
    shape = ",".join(str(length) for length in field.type.shape)
    return pa.field(field.name, pa.binary(), nullable=field.nullable, metadata={"dtype": dtype, "shape": shape})


def packed(values: NDArray[np.generic]) -> pa.Array:
    """Tensors ``[n, ...]``, contiguous, as a column of bytes; not copied."""
    count, length = len(values), values[:1].nbytes
    offsets = np.arange(count + 1, dtype=np.int32) * length
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(values)])


def array_of_column(column: pa.Array, field: pa.Field) -> NDArray[np.generic]:
    """A stored column of tensors as an array ``[n, ...]`` that may not be written to; not copied.

    Args:
        field: of the file's own schema.

    Raises:
        EmobeamError: the bytes aren't those of such tensors.
    """
    if is_tensor(field):
        found: NDArray[np.generic] = column.to_numpy_ndarray()
        return found
    dtype, shape = _told(field)
    count, length = len(column), math.prod(shape) * dtype.itemsize
    _, places, data = column.buffers()
    edges = np.frombuffer(places, np.int32)[column.offset :][: count + 1] if count else np.zeros(1, np.int32)
    if column.null_count or (np.diff(edges) != length).any():
        raise EmobeamError(f"a value of column {field.name} isn't the {length} bytes of {dtype.name} {list(shape)}")
    numbers = np.frombuffer(data, dtype, math.prod(shape) * count, int(edges[0])) if count else np.zeros(0, dtype)
    return numbers.reshape(count, *shape)


def _told(field: pa.Field) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    told = field.metadata or {}
    name, text = told.get(b"dtype", b"").decode(errors="replace"), told.get(b"shape", b"").decode(errors="replace")
    lengths = text.split(",")
    if name not in _TYPES or not all(each.isdecimal() and each.isascii() and 0 < len(each) < 8 for each in lengths):
        raise EmobeamError(f"column {field.name} doesn't say what its bytes are (dtype '{name}', shape '{text}')")
    shape = tuple(int(each) for each in lengths)
    if math.prod(shape) > MOST_NUMBERS:
        raise EmobeamError(f"column {field.name} shall hold tensors of {list(shape)}, which no shard does")
    return np.dtype(name), shape


def as_tensors(table: pa.Table) -> pa.Table:
    """A table as it was read, its stored tensors in Arrow's type.

    Raises:
        EmobeamError: see :func:`array_of_column`.
    """
    for place, field in enumerate(table.schema):
        if b"shape" not in (field.metadata or {}):
            continue
        dtype, shape = _told(field)
        kind = pa.fixed_shape_tensor(_TYPES[dtype.str], shape)
        pieces = [_tensor(array_of_column(chunk, field), kind) for chunk in table.column(place).chunks]
        new = pa.field(field.name, kind, nullable=field.nullable)
        table = table.set_column(place, new, pa.chunked_array(pieces, kind))
    return table


def _tensor(array: NDArray[np.generic], kind: pa.FixedShapeTensorType) -> pa.Array:
    flat = pa.Array.from_buffers(kind.value_type, array.size, [None, pa.py_buffer(array)])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, math.prod(kind.shape)))
