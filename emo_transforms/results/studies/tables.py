"""Tables of studies as files: CSV or Parquet by the extension, with what made them beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.inputs.user_tables import MEDIA_OFFSET
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import FOOTER_KEY
from emobeam.schemas.wording import data_without_secrets, in_cell

EVENTS = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("subject", pa.string(), nullable=False),
        pa.field("face", pa.int16(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("onset", pa.float64(), nullable=False),
        pa.field("offset", pa.float64(), nullable=False),
        pa.field("duration", pa.float64(), nullable=False),
        pa.field("onset_frame", pa.int32(), nullable=False),
        pa.field("offset_frame", pa.int32(), nullable=False),
        pa.field("peak", pa.float64(), nullable=False),
        pa.field("peak_time", pa.float64(), nullable=False),
        pa.field("peak_frame", pa.int32(), nullable=False),
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("cut", pa.string(), nullable=False),
        pa.field("on", pa.float64()),
        pa.field("off", pa.float64()),
        pa.field("baseline", pa.string(), nullable=False),
        pa.field("baseline_level", pa.float64()),
        pa.field("speech", pa.float64()),
        pa.field(MEDIA_OFFSET, pa.float64()),
        pa.field("note", pa.string(), nullable=False),
    ]
)
"""``emobeam events``: one row per event. ``speech`` is the share of its duration that overlaps speech, null where no
speech was named; ``baseline_level`` what was taken from the values. Times are from the first frame; ``media_offset`` is
its place on the media's own clock in s, null where that isn't known (older versions, crops)."""

SUMMARIES = pa.schema(
    [
        pa.field("by", pa.string(), nullable=False),
        pa.field("video", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("face", pa.int16()),
        pa.field("person", pa.string()),
        pa.field("segment", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("direction", pa.string(), nullable=False),
        pa.field("mean", pa.float64()),
        pa.field("sd", pa.float64()),
        pa.field("median", pa.float64()),
        pa.field("active", pa.float64()),
        pa.field("events", pa.int32()),
        pa.field("events_cut", pa.int32()),
        pa.field("events_per_minute", pa.float64()),
        pa.field("mean_duration", pa.float64()),
        pa.field("seen", pa.float64(), nullable=False),
        pa.field("total", pa.float64(), nullable=False),
        pa.field("coverage", pa.float64()),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("videos", pa.int32(), nullable=False),
        pa.field("baseline", pa.string(), nullable=False),
        pa.field("note", pa.string(), nullable=False),
    ]
)
"""``emobeam summarise``: one row per unit of analysis, condition (``all``, ``speech``, ``no speech``) and output.
``start`` and ``end`` of segments are on the media's own clock."""


def check_destination(uri: str) -> None:
    """Raises :class:`UsageError` where a table can't be written under that name."""
    if not uri.lower().endswith((".csv", ".parquet")):
        raise UsageError(f"--output {uri}: name a .csv or a .parquet file")


def write_table(uri: str, table: pa.Table, settings: Mapping[str, Any]) -> list[str]:
    """Writes a table as a whole, and ``<file>.json`` with what made it.

    Args:
        settings: plain JSON data.

    Returns:
        The URIs written.

    Raises:
        UsageError: another extension.
        OutputError: the destination can't be written.
    """
    write_file(uri, table, settings)
    return [uri, write_settings(uri, settings)]


def write_settings(uri: str, settings: Mapping[str, Any]) -> str:
    """Writes ``<file>.json``, what made a table; returns its URI."""
    storage.write_record(f"{uri}.json", dict(settings))
    return f"{uri}.json"


def write_file(uri: str, table: pa.Table, settings: Mapping[str, Any]) -> None:
    """As :func:`write_table`, the table alone; Parquet holds the settings in its footer."""
    with table_file(uri, table.schema) as file:
        file.add(table)
        file.settings = settings


@contextmanager
def table_file(uri: str, schema: pa.Schema) -> Iterator[TableFile]:
    """Yields a table to be written piece by piece; the file appears as a whole when the block ends well.

    Raises:
        UsageError: another extension than ``.csv`` or ``.parquet``.
        OutputError: the destination can't be written.
    """
    check_destination(uri)
    with storage.atomic_file(uri) as path:
        csv = uri.lower().endswith(".csv")
        options = pacsv.WriteOptions(quoting_style="needed")
        # Without Arrow's own schema in it, what is added to the footer at the end is read as the schema's metadata.
        writer = (
            pacsv.CSVWriter(path, schema, write_options=options)
            if csv
            else pq.ParquetWriter(path, schema, compression="zstd", store_schema=False)
        )
        file = TableFile(writer, schema, csv)
        try:
            yield file
            file.flush()
            if not csv:
                text = json.dumps(data_without_secrets(dict(file.settings)), ensure_ascii=False, sort_keys=True)
                writer.add_key_value_metadata({FOOTER_KEY.decode(): text})
        finally:
            writer.close()


class TableFile:
    """A table under way; see :func:`table_file`.

    Attributes:
        settings: plain JSON data that made the table, for the footer of Parquet; may be set until the end.
        rows: how many were added.
    """

    def __init__(self, writer: Any, schema: pa.Schema, csv: bool) -> None:
        self.settings: Mapping[str, Any] = {}
        self.rows = 0
        self._writer, self._schema, self._csv = writer, schema, csv
        self._waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Adds rows; they are written some thousands at a time."""
        self.rows += len(table)
        self._waiting.append(table)
        if sum(len(each) for each in self._waiting) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting:
            whole = pa.concat_tables(self._waiting)
            self._waiting = []
            self._writer.write_table(_for_csv(whole) if self._csv else whole)


_ROWS_AT_ONCE = 20_000


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; NaN becomes null."""
    plain = [{key: None if value != value else value for key, value in row.items()} for row in rows]
    return pa.Table.from_pylist(plain, schema)


def _for_csv(table: pa.Table) -> pa.Table:
    """Seconds and values to the microsecond and the millionth: more digits of a float32 are noise. Texts that a
    spreadsheet would take for formulas are spelt as such (see ``emobeam.schemas.wording.in_cell``).
    """
    return pa.Table.from_arrays([_column(table[field.name]) for field in table.schema], schema=table.schema)


def _column(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(values.type):
        return pc.round(values, 6)
    if pa.types.is_string(values.type):
        texts = [None if text is None else in_cell(text) for text in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, values.type)])
    return values
