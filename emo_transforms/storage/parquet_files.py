"""Reading small Parquet tables whole."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms.storage.files import read_bytes


def read_parquet(uri: str) -> pa.Table:
    """A table that fits into memory, of one file.

    ``pyarrow.parquet.read_table`` would import pyarrow's datasets and pandas with them: half a second.

    Raises:
        OSError: there is no such file, or it can't be read.
        pyarrow.ArrowException: it is no Parquet file.
    """
    return pq.ParquetFile(pa.BufferReader(read_bytes(uri))).read()
