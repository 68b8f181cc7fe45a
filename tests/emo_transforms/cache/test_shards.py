from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.cache.columns import array_of
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import ROW_GROUP, ShardWriter, maps_of, read_footer, read_rows
from emobeam.schemas.config import SCHEMA_VERSION
from emobeam.schemas.records import EmobeamError, InputError, VideoFacts
from emobeam.schemas.tables import FOOTER_KEY, feature_schema, map_column
from tests.emo_transforms.caches import SHAPES, Seen, footer, write_shard

MAPS = [map_column(name) for name in SHAPES]


def columns(count: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "video": ["a/clip"] * count,
        "track": rng.integers(0, 3, count).tolist(),
        "frame": list(range(1, count + 1)),
        "time": [n / 25 for n in range(count)],
        "box": [list(row) for row in rng.normal(size=(count, 4)).astype(np.float32)],
        "score": rng.random(count).astype(np.float32),
        "landmarks": [list(row) for row in rng.normal(size=(count, 10)).astype(np.float32)],
        "crop": [rng.bytes(int(size)) for size in rng.integers(1, 9, count)],
    }
    for name, shape in SHAPES.items():
        values[map_column(name)] = rng.normal(scale=20, size=(count, *shape)).astype(np.float32)
    return values


def footer_of(count: int, **changes: Any) -> Footer:
    """The footer of so many rows as :func:`columns` makes."""
    frames = tuple(range(1, max(count, 25) + 1))
    times = tuple(number / 25 for number in frames)
    return footer(**{"rows": count, "frames": frames, "times": times, **changes})


def write(path: Path, rows: dict[str, Any], about: Footer | None = None, pieces: tuple[int, ...] = ()) -> ShardWriter:
    """Writes rows in pieces that end at the given places."""
    writer = ShardWriter(str(path), feature_schema(SHAPES, crop=True))
    edges = [0, *sorted(pieces), len(rows["video"])]
    for start, end in pairwise(edges):
        writer.add({key: value[start:end] for key, value in rows.items()})
    writer.close(about or footer_of(len(rows["video"])))
    return writer


def test_rows_and_footer_come_back(tmp_path: Path) -> None:
    path, rows = tmp_path / "s.parquet", columns(300)
    seen = (True, False, True, False, True)
    facts = VideoFacts(-0.5, (640, 480), 90, ("Ö",))
    about = footer_of(300, video="Größe, 1", decoded=seen, note="Ä", times=(), clipped=7, facts=facts)
    writer = write(path, rows, about, pieces=(0, 16, 32, 290))
    assert writer.rows == 300
    assert read_footer(str(path)) == about
    assert about.lost == (6, 16)
    tables = list(read_rows(str(path)))
    assert [len(table) for table in tables] == [128, 128, 44]
    table = pa.concat_tables(tables)
    assert table.schema.equals(feature_schema(SHAPES, crop=True))
    for key in ("video", "track", "frame", "time", "crop"):
        assert table[key].to_pylist() == rows[key]
    for key in ("box", "score", "landmarks"):
        np.testing.assert_array_equal(np.array(table[key].to_pylist(), np.float32), np.array(rows[key]))


def test_maps_are_the_float16_of_what_was_put(tmp_path: Path) -> None:
    path, rows = tmp_path / "s.parquet", columns(150)
    write(path, rows)
    for name, shape in SHAPES.items():
        found = np.concatenate([maps_of(table, name) for table in read_rows(str(path), [map_column(name)])])
        assert found.dtype == np.float16
        assert found.shape == (150, *shape)
        np.testing.assert_array_equal(found, rows[map_column(name)].astype(np.float16))


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write(tmp_path / "s.parquet", columns(3))
    (table,) = read_rows(str(tmp_path / "s.parquet"), ["frame", "map_s32"])
    assert table.column_names == ["frame", "map_s32"]


def write_vectors(path: Path, count: int, *, views: bool = False, **changes: Any) -> dict[str, Any]:
    """A shard of embeddings and scores, every third row being view 0 where there are views."""
    rng = np.random.default_rng(1)
    rows = columns(count) | {
        "embedding": rng.normal(size=(count, 5)).astype(np.float32),
        "scores": rng.normal(scale=1e6, size=(count, 2)).astype(np.float32),
        "view": [number % 3 for number in range(count)],
        **changes,
    }
    writer = ShardWriter(str(path), feature_schema({}, embedding=5, scores=2, views=views))
    writer.add(rows)
    writer.close(footer_of(count))
    return rows


def test_vectors_come_back_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    rows = write_vectors(path, 150)
    table = pa.concat_tables(read_rows(str(path)))
    frame, polar = pd.read_parquet(path), pl.read_parquet(path)
    duck = duckdb.execute("select embedding, scores from read_parquet(?)", [str(path)]).fetchall()
    for place, name in enumerate(("embedding", "scores")):
        assert table.schema.field(name).type == pa.list_(pa.float32(), rows[name].shape[1])
        np.testing.assert_array_equal(np.concatenate([array_of(t, name) for t in read_rows(str(path))]), rows[name])
        np.testing.assert_array_equal(np.stack(frame[name].to_list()), rows[name])
        np.testing.assert_array_equal(polar[name].to_numpy(), rows[name])
        np.testing.assert_array_equal(np.array([row[place] for row in duck], np.float32), rows[name])


def test_vectors_that_are_no_numbers_fail_the_segment(tmp_path: Path) -> None:
    broken = np.zeros((3, 5), np.float32)
    broken[1, 2] = np.nan
    with pytest.raises(InputError, match="NaN") as caught:
        write_vectors(tmp_path / "s.parquet", 3, embedding=broken)
    assert caught.value.reason == "nan"


def test_readers_see_the_plain_view_unless_they_ask(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    rows = write_vectors(path, 300, views=True)
    plain = pa.concat_tables(read_rows(str(path), ["frame"]))
    assert plain.column_names == ["frame"]
    assert plain["frame"].to_pylist() == rows["frame"][::3]
    whole = pa.concat_tables(read_rows(str(path)))
    assert "view" not in whole.column_names
    assert whole["frame"].to_pylist() == rows["frame"][::3]
    second = pa.concat_tables(read_rows(str(path), ["frame"], view=2))
    assert second["frame"].to_pylist() == rows["frame"][2::3]
    every = pa.concat_tables(read_rows(str(path), view=None))
    assert every["view"].to_pylist() == rows["view"]
    assert list(read_rows(str(path), view=7)) == []


def test_a_shard_without_rows_is_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    writer = ShardWriter(str(path), feature_schema(SHAPES))
    writer.close(footer(rows=0, faces=(0,) * 5))
    assert list(read_rows(str(path))) == []
    assert read_footer(str(path)).faces == (0,) * 5
    assert len(pd.read_parquet(path)) == 0


def test_layout_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write(path, columns(300))
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        assert metadata.row_group(group).num_rows <= ROW_GROUP
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            assert column.compression == "SNAPPY"
            name = column.path_in_schema.split(".")[0]
            if name in MAPS:
                assert not column.is_stats_set
                assert (column.physical_type, str(column.path_in_schema)) == ("BYTE_ARRAY", name)
                assert set(column.encodings) == {"PLAIN", "RLE"}
            if name == "frame":
                assert column.is_stats_set


def fetch(query: str) -> list[tuple[Any, ...]]:
    relation = duckdb.sql(query)
    assert relation is not None
    return relation.fetchall()


def test_the_file_opens_without_emobeam(tmp_path: Path) -> None:
    path, rows = tmp_path / "s.parquet", columns(140)
    write(path, rows)
    wanted = {name: rows[name].astype("<f2") for name in MAPS}
    frame = pd.read_parquet(path)
    polar = pl.read_parquet(path)
    duck = fetch(f"SELECT * FROM read_parquet('{path}') ORDER BY frame")
    names = [field[0] for field in fetch(f"DESCRIBE SELECT * FROM read_parquet('{path}')")]
    for numbers in (frame["frame"].tolist(), polar["frame"].to_list(), [row[names.index("frame")] for row in duck]):
        assert numbers == rows["frame"]
    for name in MAPS:
        told = pq.read_schema(path).field(name).metadata
        shape = [int(length) for length in told[b"shape"].split(b",")]
        for values in (frame[name], polar[name], [row[names.index(name)] for row in duck]):
            found = np.frombuffer(b"".join(values), told[b"dtype"].decode()).reshape(-1, *shape)
            np.testing.assert_array_equal(found, wanted[name])
    boxes = np.array(rows["box"], np.float32)
    np.testing.assert_array_equal(np.stack(frame["box"].tolist()), boxes)
    np.testing.assert_array_equal(np.array(polar["box"].to_list(), np.float32), boxes)
    np.testing.assert_array_equal(np.array([row[names.index("box")] for row in duck], np.float32), boxes)


def test_the_shard_of_a_folder_of_crops_opens_without_emobeam(tmp_path: Path) -> None:
    uri = tmp_path / "shards" / "s.parquet"
    write_shard(tmp_path, "s", footer(), [Seen(frame, box=None) for frame in (1, 2)])
    frame, polar = pd.read_parquet(uri), pl.read_parquet(uri)
    for name in ("box", "score", "landmarks"):
        assert frame[name].isna().tolist() == [True, True]
        assert polar[name].to_list() == [None, None]
        assert fetch(f"SELECT {name} FROM read_parquet('{uri}')") == [(None,), (None,)]
    assert frame["image"].tolist() == ["00001.jpg", "00002.jpg"]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.integers(0, 200), max_size=6).map(tuple))
def test_equal_rows_give_equal_bytes_in_whatever_pieces_they_come(tmp_path: Path, pieces: tuple[int, ...]) -> None:
    rows = columns(200)
    write(tmp_path / "whole.parquet", rows)
    write(tmp_path / "pieces.parquet", rows, pieces=pieces)
    assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "pieces.parquet").read_bytes()


def test_another_value_gives_other_bytes(tmp_path: Path) -> None:
    rows = columns(5)
    write(tmp_path / "one.parquet", rows)
    rows["map_s8"][4, 1, 2, 3] += 1
    write(tmp_path / "two.parquet", rows)
    assert (tmp_path / "one.parquet").read_bytes() != (tmp_path / "two.parquet").read_bytes()


def test_nan_is_refused(tmp_path: Path) -> None:
    rows = columns(5)
    rows["map_s16"][3, 2, 1, 0] = np.nan
    writer = ShardWriter(str(tmp_path / "s.parquet"), feature_schema(SHAPES, crop=True))
    with pytest.raises(InputError, match="NaN") as caught:
        writer.add(rows)
    assert (caught.value.stage, caught.value.reason, caught.value.permanent) == ("embed", "nan", True)
    writer.abandon()
    with pytest.raises(EmobeamError, match="not a shard"):
        read_footer(str(tmp_path / "s.parquet"))


def test_values_beyond_float16_are_clipped_and_counted(tmp_path: Path) -> None:
    path, rows = tmp_path / "s.parquet", columns(5)
    largest = 65504.0
    rows["map_s8"][0, 0, 0, :4] = [1e5, -1e9, np.inf, -np.inf]
    rows["map_s8"][0, 0, 1, :2] = [largest, -largest]
    rows["map_s32"][4, 0, 0, 0] = 70000
    writer = write(path, rows)
    assert writer.clipped == 5
    (table,) = read_rows(str(path))
    assert maps_of(table, "s8")[0, 0, 0, :4].tolist() == [largest, -largest, largest, -largest]
    assert maps_of(table, "s8")[0, 0, 1, :2].tolist() == [largest, -largest]
    assert maps_of(table, "s32")[4, 0, 0, 0] == largest
    assert np.isfinite(maps_of(table, "s8")).all()
    assert rows["map_s32"][4, 0, 0, 0] == 70000  # the caller's array is left alone


def text(path: Path) -> None:
    path.write_text("no Parquet at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damaged_metadata(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-300:-8] = b"\xff" * 292
    path.write_bytes(content)


def another_table(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def other_version(path: Path) -> None:
    write(path, columns(1), replace(footer_of(1), schema_version=SCHEMA_VERSION + 1))


def other_form(path: Path) -> None:
    write(path, columns(1), replace(footer_of(1), form=3))


def other_keys(path: Path) -> None:
    document = json.dumps({"schema_version": SCHEMA_VERSION, "video": "v", "colour": "red"})
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({FOOTER_KEY: document.encode()}), path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (text, "not a whole Parquet file"),
        (empty, "not a whole Parquet file"),
        (cut, "not a whole Parquet file"),
        (damaged_metadata, "not a whole Parquet file"),
        (another_table, "not a shard of emobeam"),
        (other_form, "form 3, this emobeam reads up to 2"),
        (other_version, f"schema version {SCHEMA_VERSION + 1}, this emobeam reads {SCHEMA_VERSION}"),
        (other_keys, "footer"),
    ],
)
def test_what_is_no_shard_is_named(tmp_path: Path, harm: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "s.parquet"
    write(path, columns(2))
    harm(path)
    with pytest.raises(EmobeamError, match=rf"s\.parquet.*{message}"):
        read_footer(str(path))


def test_a_damaged_page_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write(path, columns(20))
    chunk = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).get_field_index("frame"))
    content = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(EmobeamError, match=r"s\.parquet.*not a whole Parquet file"):
        list(read_rows(str(path)))


def test_a_missing_shard_stays_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_footer(str(tmp_path / "s.parquet"))
