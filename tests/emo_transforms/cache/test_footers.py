from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.cache.footers import footer_from, footer_text
from emobeam.emo_transforms.cache.shards import maps_of, read_footer, read_rows
from emobeam.schemas.plain_json import to_text
from emobeam.schemas.records import CodedSize, Display, EmobeamError, VideoFacts
from emobeam.schemas.tables import FOOTER_KEY
from tests.emo_transforms.caches import Seen, footer, maps_of_face, write_shard

SHOWN = Display(sizes=(CodedSize(1, 320, 180, (4, 3)),), mirrored=True, clock=((3, 40),))


def old_text(display: Display) -> str:
    """A footer as shards of form 1 have it."""
    document = asdict(footer(rows=2))
    for younger in ("display", "facts", "form"):
        del document[younger]
    return json.dumps(document if display.plain else {**document, "display": to_text(display)})


def test_footers_come_back_with_all_that_is_known() -> None:
    about = footer(display=SHOWN, facts=VideoFacts(0.25, (320, 180), 90, ("a note",)))
    assert footer_from(footer_text(about)) == about
    told = json.loads(footer_text(about))
    assert told["display"]["sizes"] == [{"frame": 1, "width": 320, "height": 180, "aspect": [4, 3]}]
    assert told["facts"] == {"offset": 0.25, "coded": [320, 180], "rotation": 90, "notes": ["a note"]}
    assert told["form"] == 2


@pytest.mark.parametrize("display", [Display(), SHOWN])
def test_a_shard_of_form_1_is_read(tmp_path: Path, display: Display) -> None:
    """As version 0.1 wrote it: maps in Arrow's tensors of float16, a display as text or not at all."""
    path, shape = tmp_path / "s.parquet", (4, 2, 2)
    maps = np.stack([maps_of_face(Seen(frame))["s32"] for frame in (1, 6)])
    kind = pa.fixed_shape_tensor(pa.float16(), shape)
    table = pa.table(
        {
            "video": ["a/clip"] * 2,
            "frame": pa.array([1, 6], pa.int32()),
            "map_s32": pa.ExtensionArray.from_storage(
                kind, pa.FixedSizeListArray.from_arrays(pa.array(maps.reshape(-1)), 16)
            ),
        }
    )
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: old_text(display).encode()}), path)
    found = read_footer(str(path))
    assert (found.form, found.display, found.facts, found.rows) == (1, display, None, 2)
    (rows,) = read_rows(str(path), ["frame", "map_s32"])
    np.testing.assert_array_equal(maps_of(rows, "s32"), maps)
    new = write_shard(tmp_path, "new", footer(), [Seen(1), Seen(6)])
    (other,) = read_rows(str(tmp_path / "shards" / f"{new}.parquet"), ["frame", "map_s32"])
    assert other.schema.types == rows.schema.types, "what readers get is the same"
    np.testing.assert_array_equal(maps_of(other, "s32"), maps)


def changed(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(frames=[1, 2, 2_000_000_000], times=[]), "frames 1 to 2000000000 without times in one segment"),
        (changed(frames=[1, 2, 2**40]), "out of order"),
        (changed(frames=[2, 1], times=[0.0, 1.0]), "frames out of order"),
        (changed(frames="many"), "frames isn't a list"),
        (changed(frames=[1.5, 2]), "frames isn't a whole number"),
        (changed(frames=[True]), "frames isn't a whole number"),
        (changed(times=[0.0]), "1 times for 25 frames"),
        (changed(times=[float("nan")] * 25), "times isn't a number"),
        (changed(sampled=[1, 2, 3, 4, 99]), "aren't among all frames"),
        (changed(decoded=[True]), "1 decoded or not"),
        (changed(faces=[-1, 0, 0, 0, 0]), "fewer than no faces"),
        (changed(rows=10**12), "rows"),
        (changed(rows=4), "tells of 4 rows, the file has 2"),
        (changed(count=0), "segment 0 of 0"),
        (changed(width="wide"), "width isn't a whole number"),
        (changed(video=["a"]), "video isn't text"),
        (changed(note="\ud800"), "note isn't text"),
        (changed(size=-1), "-1 bytes"),
        (changed(display={"sizes": 3}), "sizes isn't a list"),
        (changed(display=[]), "display isn't an object"),
        (changed(facts={"offset": 1e400}), "offset isn't a number"),
        (changed(form="x"), "form x"),
        (changed(schema_version={}), "schema version"),
        (lambda document: document.pop("faces"), "faces is missing"),
        (changed(frames=[30, 31], times=[0.0, 1.0], sampled=[], decoded=[], faces=[]), "rows of frames 1 to 6"),
    ],
)
def test_a_footer_that_can_not_be_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = tmp_path / "s.parquet"
    document = json.loads(footer_text(footer(rows=2)))
    change(document)
    table = pa.table({"frame": pa.array([1, 6], pa.int32())})
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(document).encode()}), path)
    with pytest.raises(EmobeamError, match=rf"s\.parquet: .*{message}.*; remove it and run extract again"):
        read_footer(str(path))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", '{"schema_version": ' + "9" * 5000 + "}", "\x00"])
def test_json_that_is_no_footer(text: str) -> None:
    with pytest.raises(ValueError, match=r"its footer isn't emobeam's|nested too deeply|schema version|value|Exceeds"):
        footer_from(text)
