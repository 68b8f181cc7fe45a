"""The columns of a cache as arrays: maps by stride (``s8``), vectors by name (``embedding``), points of a mesh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import MESH, POINTS_PER_PX, VECTORS, column_of


def array_of(table: pa.Table, name: str) -> NDArray[Any]:
    """An input of heads as one array, a row group's worth at a time; not copied where its column is in one piece.

    Returns:
        Maps: float16 ``[rows, C, H, W]``. Vectors: float32 ``[rows, L]``. Neither may be written to.

    Raises:
        EmobeamError: the table lacks the column, or a vector is missing in a row.
    """
    chunk = _in_one_piece(table, column_of(name))
    if name not in (*VECTORS, "shapes"):
        found: NDArray[Any] = chunk.to_numpy_ndarray()
        return found
    if chunk.null_count:
        raise EmobeamError(f"column {column_of(name)} of a shard is empty in {chunk.null_count} rows; extract again")
    return np.asarray(chunk.flatten()).reshape(len(chunk), chunk.type.list_size)


def _in_one_piece(table: pa.Table, column: str) -> pa.Array:
    if column not in table.column_names:
        raise EmobeamError(f"a shard has no column {column}; extract again with --store so that it is stored")
    chunks = table.column(column)
    chunk = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    return chunk.chunk(0) if isinstance(chunk, pa.ChunkedArray) else chunk


def stored_points(points: NDArray[np.floating[Any]], boxes: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    """Points of faces as a shard holds them; what lies 2048 px or more from the centre of its box is moved there.

    Args:
        points: finite ``[rows, 478, 3]`` in px of the frame as shown.
        boxes: ``[rows, 4]`` as they are stored (float32), all 0 where there are none.
    """
    limits = np.iinfo(np.int16)
    steps = np.rint((np.asarray(points, np.float64) - _centres(boxes)) * POINTS_PER_PX)
    return np.clip(steps, limits.min, limits.max).astype(np.int16)


def points_px(stored: NDArray[np.int16], boxes: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The inverse of :func:`stored_points`, to 1/32 px: float32 ``[rows, 478, 3]`` in px of the frame as shown."""
    return (stored.astype(np.float64) / POINTS_PER_PX + _centres(boxes)).astype(np.float32)


def _centres(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Of boxes, as points ``[rows, 1, 3]`` whose z is 0."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    return np.pad(corners.mean(axis=1), ((0, 0), (0, 1)))[:, None, :]


def with_points_in_px(table: pa.Table) -> pa.Table:
    """A table of a shard's rows, its ``points`` as float32 tensors in px of the frame as shown.

    Raises:
        EmobeamError: the table lacks ``points`` or ``box``.
    """
    kind = pa.fixed_shape_tensor(pa.float32(), _in_one_piece(table, MESH[0]).type.shape)
    if not len(table):
        column = pa.array([], kind.storage_type)
    else:
        boxes = [box or (0.0,) * 4 for box in _in_one_piece(table, "box").to_pylist()]
        found = points_px(_in_one_piece(table, MESH[0]).to_numpy_ndarray(), np.array(boxes))
        column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), kind.storage_type.list_size)
    place = table.column_names.index(MESH[0])
    new = pa.field(MESH[0], kind, nullable=False)
    return table.set_column(place, new, pa.ExtensionArray.from_storage(kind, column))
