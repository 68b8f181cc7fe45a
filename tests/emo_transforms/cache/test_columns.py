from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from emobeam.emo_transforms.cache.columns import array_of
from emobeam.emo_transforms.cache.shards import ShardWriter, read_rows
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import column_of, feature_schema
from tests.emo_transforms.caches import SHAPES, footer


def columns(count: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    return {
        "video": ["a/clip"] * count,
        "track": [0] * count,
        "frame": list(range(1, count + 1)),
        "time": [n / 6 for n in range(count)],
        "box": [(0.0, 0.0, 9.0, 9.0)] * count,
        "score": [0.9] * count,
        "landmarks": [[0.0] * 10] * count,
        **{f"map_{name}": rng.normal(size=(count, *shape)).astype(np.float16) for name, shape in SHAPES.items()},
        "embedding": rng.normal(size=(count, 7)).astype(np.float32),
        "scores": rng.normal(size=(count, 3)).astype(np.float32),
    }


def test_arrays_are_those_that_were_written(tmp_path: Path) -> None:
    written = columns(300)
    writer = ShardWriter(str(tmp_path / "x.parquet"), feature_schema(SHAPES, embedding=7, scores=3))
    writer.add(written)
    writer.close(footer(rows=300))
    for name in (*SHAPES, "embedding", "scores"):
        column = column_of(name)
        tables = list(read_rows(str(tmp_path / "x.parquet"), [column]))
        found = np.concatenate([array_of(table, name) for table in tables])
        assert found.dtype == (np.float16 if name in SHAPES else np.float32)
        assert np.array_equal(found, written[column])
        several = pa.concat_tables(tables)
        assert several.column(column).num_chunks > 1
        assert np.array_equal(array_of(several, name), written[column])
        assert np.array_equal(array_of(several.slice(100, 150), name), written[column][100:250])  # type: ignore[index]


def test_missing_columns_and_values() -> None:
    with pytest.raises(EmobeamError, match="no column map_s8"):
        array_of(pa.table({"video": ["a"]}), "s8")
    table = pa.table({"embedding": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))})
    with pytest.raises(EmobeamError, match="empty in 1 rows"):
        array_of(table, "embedding")
