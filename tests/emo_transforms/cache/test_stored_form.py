from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import emobeam as eb
from emobeam.emo_transforms.cache.columns import array_of, points_px, stored_points, with_points_in_px
from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset, read_dataset, shard_uri
from emobeam.emo_transforms.cache.shards import ShardWriter, read_rows
from emobeam.emo_transforms.cache.stored_form import as_tensors
from emobeam.emo_transforms.storage import atomic_file
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import FACE_SHAPES, MESH, POINTS, feature_schema
from tests.emo_transforms.caches import SHAPES, Seen, footer, maps_of_face, write_shard


def write_mesh(features: Path, count: int = 5) -> dict[str, Any]:
    """A cache of one shard with the columns of a face's mesh; what was put into them."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 4000, (count, 2, 2)).astype(np.float32).cumsum(axis=1).reshape(count, 4)
    points = (
        rng.normal(scale=60, size=(count, *POINTS)) + np.pad(boxes.reshape(-1, 2, 2).mean(1), ((0, 0), (0, 1)))[:, None]
    )
    put = {
        "points": points,
        "boxes": boxes,
        "shapes": rng.random((count, FACE_SHAPES)).astype(np.float32),
        "points_score": rng.random(count).astype(np.float32),
    }
    open_dataset(str(features), Dataset(ExtractConfig(), {}, mesh=MESH))
    about = footer()
    with atomic_file(shard_uri(str(features), "s")) as path:
        writer = ShardWriter(path, feature_schema({}, mesh=MESH))
        writer.add(
            {
                "video": [about.video] * count,
                "track": [0] * count,
                "frame": list(about.sampled),
                "time": [0.0] * count,
                "box": list(boxes),
                "score": [0.9] * count,
                "landmarks": [[0.0] * 10] * count,
                "points": stored_points(points, boxes),
                "shapes": put["shapes"],
                "points_score": put["points_score"],
            }
        )
        writer.close(about)
    return put


def test_the_columns_of_a_mesh_come_back(tmp_path: Path) -> None:
    put = write_mesh(tmp_path)
    assert read_dataset(str(tmp_path)).mesh == MESH
    (table,) = read_rows(str(tmp_path / "shards" / "s.parquet"))
    assert table.schema.equals(feature_schema({}, mesh=MESH))
    assert table.schema.field("points").type == pa.fixed_shape_tensor(pa.int16(), POINTS)
    np.testing.assert_array_equal(array_of(table, "shapes"), put["shapes"])
    np.testing.assert_array_equal(table["points_score"].to_numpy(), put["points_score"])
    np.testing.assert_allclose(array_of(with_points_in_px(table), "points"), put["points"], rtol=0, atol=1 / 31)


@pytest.mark.parametrize("form", ["pandas", "arrow", "polars", "torch"])
def test_load_features_gives_points_in_px_of_the_frame(tmp_path: Path, form: Any) -> None:
    put = write_mesh(tmp_path)
    found = eb.load_features(tmp_path, as_=form, columns=["frame", "points"])
    if form == "pandas":
        points = np.stack(found["points"].to_list())
    elif form == "arrow":
        assert found.column_names == ["frame", "points"]
        points = found["points"].combine_chunks().to_numpy_ndarray()
    elif form == "polars":
        points = found["points"].to_numpy()
    else:
        points = np.stack([row["points"].numpy() for row in found])
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, put["points"], rtol=0, atol=1 / 31)


def test_points_and_maps_are_left_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    write_mesh(tmp_path)
    assert {"points", "map_s8", "crop"}.isdisjoint(eb.load_features(tmp_path).columns)
    assert {"shapes", "points_score"} <= {*eb.load_features(tmp_path).columns}


def test_points_far_from_their_box_are_moved_to_the_edge_of_what_can_be_told() -> None:
    box = np.array([[100.0, 100.0, 200.0, 200.0]], np.float32)
    far = np.full((1, 1, 3), 1e6)
    np.testing.assert_array_equal(points_px(stored_points(far, box), box)[0, 0], [150 + 32767 / 16] * 2 + [32767 / 16])


def test_datasets_read_shards_without_being_told_anything(tmp_path: Path) -> None:
    seen = [Seen(frame) for frame in (1, 6, 11)]
    for name in ("one", "two"):
        write_shard(tmp_path, name, footer(), seen)
    files = [str(tmp_path / "shards" / f"{name}.parquet") for name in ("one", "two")]
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "hub"))
    assert found["frame"] == [1, 6, 11] * 2
    assert found[0]["box"] == list(seen[0].box or ())
    maps = np.frombuffer(found[4]["map_s16"], "<f2").reshape(SHAPES["s16"])
    np.testing.assert_array_equal(maps, maps_of_face(seen[1])["s16"])


@pytest.mark.parametrize(
    ("metadata", "values", "message"),
    [
        ({"dtype": "<f2", "shape": "4,2,2"}, [b"\0" * 32, b"\0" * 31], "isn't the 32 bytes of float16"),
        ({"dtype": "<f2", "shape": "4,2,2"}, [b"\0" * 32, None], "isn't the 32 bytes"),
        ({"dtype": "O", "shape": "4,2,2"}, [b"\0" * 32], "doesn't say what its bytes are"),
        ({"dtype": "<f2", "shape": "4,-2"}, [b"\0" * 32], "doesn't say what its bytes are"),
        ({"dtype": "<f2", "shape": ""}, [b"\0" * 32], "doesn't say what its bytes are"),
        ({"dtype": "<f2", "shape": "9999999,9999999"}, [], "which no shard does"),
    ],
)
def test_bytes_that_are_no_tensors_are_named(
    metadata: dict[str, str], values: list[bytes | None], message: str
) -> None:
    schema = pa.schema([pa.field("map_s8", pa.binary(), metadata=metadata)])
    with pytest.raises(EmobeamError, match=f"map_s8.*{message}"):
        as_tensors(pa.table([pa.array(values, pa.binary())], schema=schema))


def test_a_shard_tells_what_its_bytes_are(tmp_path: Path) -> None:
    write_mesh(tmp_path)
    told = pq.read_schema(tmp_path / "shards" / "s.parquet").field("points")
    assert told.type == pa.binary()
    assert {b"dtype": b"<i2", b"shape": b"478,3"}.items() <= told.metadata.items()
