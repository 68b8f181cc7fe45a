"""Shards: the Parquet file of one segment, and the footer that tells how it came about.

Row groups hold at most 128 rows. Maps are stored without dictionary and statistics (3 times faster) and with Snappy,
which every reader knows; the denser byte-stream-split encoding of float16 is left out because DuckDB can't read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emobeam.emo_transforms.storage import is_local, open_read
from emobeam.emo_transforms.storage import size as size_of
from emobeam.schemas.config import SCHEMA_VERSION
from emobeam.schemas.plain_json import from_text, to_text
from emobeam.schemas.records import Display, EmobeamError, InputError
from emobeam.schemas.tables import FOOTER_KEY, VECTORS, map_column

ROW_GROUP = 128

_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Footer:
    """The JSON document in a shard's footer: what the segment is and what was seen in it.

    Attributes:
        frames, times: all native frames of the segment and their presentation times in s, the video's first
            frame being at 0 (``times`` is empty where nothing supplies time).
        sampled, decoded, faces: in parallel: the frames looked at, whether they could be decoded, and the
            number of faces found.
        clipped: feature values beyond float16's range, clipped to it.
        note: damage met while demuxing the video.
        display: how decoded frames became what a player shows; not written where that is plain.
    """

    video: str
    size: int
    digest: str
    segment: int
    count: int
    start: float
    frames: tuple[int, ...]
    times: tuple[float, ...]
    sampled: tuple[int, ...]
    decoded: tuple[bool, ...]
    faces: tuple[int, ...]
    rows: int
    clipped: int
    width: int
    height: int
    note: str
    features_id: str
    cache_id: str
    schema_version: int = SCHEMA_VERSION
    display: Display = field(default_factory=Display)

    @property
    def lost(self) -> tuple[int, ...]:
        """Sampled frames that could not be decoded."""
        return tuple(frame for frame, fine in zip(self.sampled, self.decoded, strict=True) if not fine)


def segment_row(footer: Footer, shard: str, size: int) -> dict[str, Any]:
    """The row of a shard in ``segments.parquet``; ``size`` is that of its file in bytes."""
    return {
        "video": footer.video,
        "segment": footer.segment,
        "shard": shard,
        "start": footer.start,
        "count": footer.count,
        "first_frame": footer.frames[0] if footer.frames else None,
        "last_frame": footer.frames[-1] if footer.frames else None,
        "frames": len(footer.frames),
        "sampled": len(footer.sampled),
        "lost": len(footer.lost),
        "with_face": sum(1 for faces in footer.faces if faces),
        "rows": footer.rows,
        "clipped": footer.clipped,
        "first_time": footer.times[0] if footer.times else None,
        "last_time": footer.times[-1] if footer.times else None,
        "width": footer.width,
        "height": footer.height,
        "size": footer.size,
        "digest": footer.digest,
        "note": footer.note,
        "bytes": size,
        "display": "" if footer.display.plain else to_text(footer.display),
    }


class ShardWriter:
    """Writes the rows of one segment in order, a row group at a time (bounded memory)."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        plain = [field.name for field in schema if not _is_heavy(field)]
        self._schema = schema
        self._writer = pq.ParquetWriter(
            path,
            schema,
            # Zstandard saves a few more bytes and takes several times as long to write and to read.
            compression="snappy",
            use_dictionary=["video"],
            write_statistics=plain,
        )
        self._pending: list[pa.Table] = []
        self._waiting = 0
        self.rows = 0
        self.clipped = 0

    def add(self, columns: Mapping[str, Any]) -> None:
        """Adds rows: plain lists or arrays by column; maps as float arrays [n, C, H, W], vectors as [n, D].

        Raises:
            InputError: a map or a vector holds NaN.
        """
        arrays = []
        for column in self._schema:
            values = columns[column.name]
            if _is_heavy(column):
                arrays.append(self._tensor(column, values))
            elif column.name in VECTORS:
                arrays.append(_vectors(column, values))
            else:
                arrays.append(pa.array(values, column.type))
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self.rows += len(table)
        self._pending.append(table)
        self._waiting += len(table)
        while self._waiting >= ROW_GROUP:
            self._flush(ROW_GROUP)

    def close(self, footer: Footer) -> None:
        """Writes what is left and the footer."""
        if self._waiting:
            self._flush(self._waiting)
        document = asdict(footer)
        if footer.display.plain:  # shards of plain videos are those of before this was known, byte by byte
            del document["display"]
        else:
            document["display"] = to_text(footer.display)
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        self._writer.add_key_value_metadata({FOOTER_KEY.decode(): text})
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

    def _tensor(self, field: pa.Field, values: NDArray[np.floating[Any]]) -> pa.Array:
        lowest, highest = values.min(initial=0.0), values.max(initial=0.0)  # both are NaN where any value is
        if np.isnan(highest):
            raise InputError("the backbone gave NaN", stage="embed", reason="nan", permanent=True)
        if max(-lowest, highest) > _FLOAT16_MAX:
            self.clipped += int((np.abs(values) > _FLOAT16_MAX).sum())
            values = np.clip(values, -_FLOAT16_MAX, _FLOAT16_MAX)
        from emobeam.emo_transforms.cache.half_floats import to_half  # Numba is for those that write

        flat = pa.array(to_half(values).reshape(-1))
        length = int(np.prod(field.type.shape))
        return pa.ExtensionArray.from_storage(field.type, pa.FixedSizeListArray.from_arrays(flat, length))


def _vectors(field: pa.Field, values: NDArray[np.floating[Any]]) -> pa.Array:
    if np.isnan(values).any():
        raise InputError("the backbone gave NaN", stage="embed", reason="nan", permanent=True)
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=field.type)


def _is_heavy(field: pa.Field) -> bool:
    return isinstance(field.type, pa.FixedShapeTensorType)


def read_footer(uri: str, *, size: int | None = None) -> Footer:
    """The footer of a shard.

    Args:
        size: of the file in bytes, where it is known already; then a store is asked once.

    Raises:
        EmobeamError: the file is no shard of emobeam, or one of a newer version.
    """
    with open_read(uri, size=_size(uri) if size is None else size) as file, _readable(uri):
        metadata = pq.read_metadata(file).metadata or {}
    return _parse_footer(uri, metadata)


def read_rows(uri: str, columns: Sequence[str] | None = None, *, view: int | None = 0) -> Iterator[pa.Table]:
    """The rows of a shard, one row group at a time.

    Args:
        view: of caches with augmented views: the view read, by default the plain one; None reads all. The column
            ``view`` is returned only with None.

    Raises:
        EmobeamError: the file is damaged.
    """
    with open_read(uri, size=_size(uri)) as file:
        with _readable(uri):
            # A store is asked once for all neighbouring columns of a row group.
            parquet = pq.ParquetFile(file, pre_buffer=not is_local(uri))
        one_view = view is not None and "view" in parquet.schema_arrow.names
        wanted = [*columns, "view"] if one_view and columns is not None else columns
        for group in range(parquet.num_row_groups):
            with _readable(uri):
                table = parquet.read_row_group(group, columns=wanted)
            if one_view:
                table = table.filter(pc.equal(table["view"], view)).drop_columns("view")
                if not len(table):
                    continue
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


def _parse_footer(uri: str, metadata: Mapping[bytes, bytes]) -> Footer:
    if FOOTER_KEY not in metadata:
        raise EmobeamError(f"{uri}: not a shard of emobeam (no footer of its own)")
    data: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
    if data.get("schema_version") != SCHEMA_VERSION:
        raise EmobeamError(
            f"{uri}: written in schema version {data.get('schema_version')}, this emobeam reads {SCHEMA_VERSION}; "
            "extract again or use the emobeam that wrote it"
        )
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        if "display" in values:
            values["display"] = from_text(Display, values["display"])
        return Footer(**values)
    except (TypeError, ValueError) as error:
        raise EmobeamError(f"{uri}: its footer isn't emobeam's ({error}); remove it and run extract again") from error
