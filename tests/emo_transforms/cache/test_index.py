from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.cache.index import read_index, rebuild_index, settle_index
from emobeam.emo_transforms.cache.video_facts import read_facts
from emobeam.schemas.records import Display, EmobeamError, Fingerprint, VideoFacts
from emobeam.schemas.tables import SEGMENTS, VIDEOS
from tests.emo_transforms.cache.segments import CACHE, NEW, OLD, fail, put, segment, videos
from tests.emo_transforms.caches import file_bytes


def test_index_of_a_cache(tmp_path: Path) -> None:
    lost = segment("b", 1, 2, decoded=(True, False, True, True, False), faces=(2, 0, 1, 0, 0), clipped=4)
    names = put(tmp_path, segment("b", 0, 2), lost, segment("a/x", 0, 1, times=(), width=0, height=0))
    table = rebuild_index(str(tmp_path))
    assert table.schema == VIDEOS
    assert table["video"].to_pylist() == ["a/x", "b"]
    assert pq.read_table(tmp_path / "videos.parquet").equals(table)
    found = table.to_pylist()[1]
    expected = {
        "outcome": "partial",
        "stage": "decode",
        "reason": "lost_frames",
        "segments": 2,
        "segments_done": 2,
        "frames": 50,
        "sampled": 10,
        "lost": 2,
        "with_face": 7,
        "rows": 8,
        "width": 640,
        "size": 1000,
        "digest": "d1",
    }
    assert {key: found[key] for key in expected} == expected
    assert found["duration"] == pytest.approx(49 / 25)
    assert table.to_pylist()[0]["duration"] is None

    rows = read_index(str(tmp_path))
    assert pq.read_schema(tmp_path / "segments.parquet").equals(SEGMENTS)
    assert [(row["video"], row["segment"], row["shard"]) for row in rows] == [
        ("a/x", 0, names[2]),
        ("b", 0, names[0]),
        ("b", 1, names[1]),
    ]
    assert (rows[2]["first_frame"], rows[2]["last_frame"], rows[2]["clipped"], rows[2]["lost"]) == (26, 50, 4, 2)
    assert rows[2]["bytes"] == (tmp_path / "shards" / f"{names[1]}.parquet").stat().st_size


def test_index_of_nothing(tmp_path: Path) -> None:
    assert read_index(str(tmp_path)) == []
    assert len(rebuild_index(str(tmp_path))) == 0
    assert read_index(str(tmp_path)) == []


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(order=st.permutations(range(5)), stops=st.sets(st.integers(0, 4)))
def test_the_index_is_the_same_bytes_in_whatever_order_shards_come(
    tmp_path_factory: pytest.TempPathFactory, order: Sequence[int], stops: set[int]
) -> None:
    work = [segment("b", 0, 2), segment("b", 1, 2), segment("a", 0, 1), segment("c", 0, 2), segment("c", 1, 2)]
    straight, mixed = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("mixed")
    put(straight, *work)
    fail(straight, "b", 2)
    rebuild_index(str(straight))
    fail(mixed, "b", 2)
    for place, index in enumerate(order):
        put(mixed, work[index])
        if place in stops:
            rebuild_index(str(mixed))
    rebuild_index(str(mixed))
    assert file_bytes(mixed) == file_bytes(straight)
    rebuild_index(str(mixed), trust=False)
    assert file_bytes(mixed) == file_bytes(straight)


def test_trust_takes_known_rows_and_distrust_reads_the_footers(tmp_path: Path) -> None:
    (name,) = put(tmp_path, segment("a", 0, 1))
    rebuild_index(str(tmp_path))
    (tmp_path / "shards" / f"{name}.parquet").write_bytes(b"damaged")
    assert videos(tmp_path)["a"]["outcome"] == "ok"
    with pytest.raises(EmobeamError, match=name):
        rebuild_index(str(tmp_path), trust=False)


@pytest.mark.parametrize("content", [b"", b"no Parquet"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, segment("a", 0, 1))
    rebuild_index(str(tmp_path))
    before = file_bytes(tmp_path)
    (tmp_path / "segments.parquet").write_bytes(content)
    assert read_index(str(tmp_path)) == []
    rebuild_index(str(tmp_path))
    assert file_bytes(tmp_path) == before


def test_shards_that_are_gone_leave_the_index(tmp_path: Path) -> None:
    names = put(tmp_path, segment("a", 0, 2), segment("a", 1, 2))
    assert videos(tmp_path)["a"]["outcome"] == "ok"
    (tmp_path / "shards" / f"{names[1]}.parquet").unlink()
    row = videos(tmp_path)["a"]
    assert (row["outcome"], row["reason"], row["segments"], row["segments_done"]) == ("partial", "incomplete", 2, 1)


def test_outcomes(tmp_path: Path) -> None:
    nobody = (0,) * 5
    put(tmp_path, segment("ok", 0, 2), segment("ok", 1, 2, faces=nobody))
    put(tmp_path, segment("no_face", 0, 1, faces=nobody))
    put(tmp_path, segment("lost", 0, 1, decoded=(True,) * 4 + (False,)))
    put(tmp_path, segment("noted", 0, 1, note="damaged packet"))
    put(tmp_path, segment("incomplete", 0, 2))
    put(tmp_path, segment("half", 0, 2))
    fail(tmp_path, "half", 1)
    fail(tmp_path, "all segments", 0, 1)
    fail(tmp_path, "unreadable", stage="open", reason="no_video", message="no video stream")
    fail(tmp_path, "missing", reason="missing", content=Fingerprint(-1, ""))
    found = videos(tmp_path)
    assert {video: row["outcome"] for video, row in found.items()} == {
        "ok": "ok",
        "no_face": "no_face",
        "lost": "partial",
        "noted": "partial",
        "incomplete": "partial",
        "half": "partial",
        "all segments": "failed",
        "unreadable": "failed",
        "missing": "failed",
    }
    assert found["ok"]["reason"] is None
    assert found["noted"]["message"] == "damaged packet"
    assert (found["half"]["reason"], found["half"]["segments"], found["half"]["segments_done"]) == ("damaged", 2, 1)
    assert (found["all segments"]["segments"], found["all segments"]["segments_done"]) == (2, 0)
    assert (found["unreadable"]["stage"], found["unreadable"]["message"]) == ("open", "no video stream")
    assert found["missing"]["size"] == -1


def test_the_shards_of_two_contents_are_not_added_up(tmp_path: Path) -> None:
    """A file changed, and the run that followed stopped half-way."""
    put(tmp_path, *(segment("a", index, 3) for index in range(3)))
    put(tmp_path, segment("a", 0, 4, content=NEW))
    row = videos(tmp_path)["a"]
    assert (row["outcome"], row["segments"], row["segments_done"], row["digest"]) == ("ok", 3, 3, OLD.digest)
    fail(tmp_path, "a", 1, 2, 3, content=NEW)
    row = videos(tmp_path)["a"]
    assert (row["outcome"], row["segments"], row["segments_done"], row["digest"]) == ("partial", 4, 1, NEW.digest)
    assert row["sampled"] == 5


def test_facts_of_a_video_are_told_by_its_shards(tmp_path: Path) -> None:
    facts = VideoFacts(0.52, (640, 360), 180, ("has 2 video streams",))
    put(tmp_path, segment("a", 0, 1, display=Display(mirrored=True), facts=facts))
    put(tmp_path, segment("b", 0, 1))  # as one of form 1, which says nothing
    settle_index(str(tmp_path), {"a": OLD, "b": OLD}, CACHE, {"a": facts, "b": VideoFacts(1.0)})
    assert read_facts(str(tmp_path)).keys() == {("b", OLD.size, OLD.digest)}, "nothing is told twice"
    (tmp_path / "probes.parquet").unlink()
    row, other = videos(tmp_path)["a"], videos(tmp_path)["b"]
    assert (row["offset"], row["coded_width"], row["rotation"], row["notes"]) == (0.52, 640, 180, facts.notes[0])
    assert (row["mirrored"], other["offset"]) == (True, None)


def test_damaged_shards_are_left_out_where_that_is_asked(tmp_path: Path) -> None:
    sound, other = put(tmp_path, segment("a", 0, 1), segment("b", 0, 1))
    (tmp_path / "shards" / f"{other}.parquet").write_bytes(b"damaged")
    table = rebuild_index(str(tmp_path), trust=False, without={other})
    assert table["video"].to_pylist() == ["a"]
    assert [row["shard"] for row in read_index(str(tmp_path))] == [sound]
