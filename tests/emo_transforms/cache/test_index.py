from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.failures import drop_failure, failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.index import as_shown, read_index, read_segments, rebuild_index, settle, settle_index
from emobeam.emo_transforms.cache.shards import Footer, read_footer
from emobeam.emo_transforms.cache.video_facts import read_facts
from emobeam.schemas.config import shard_name
from emobeam.schemas.records import Display, EmobeamError, Failure, Fingerprint, VideoFacts
from emobeam.schemas.tables import FOOTER_KEY, SEGMENTS, VIDEOS
from tests.emo_transforms.caches import Seen, file_bytes, footer, write_shard

CACHE = "cace"
OLD, NEW = Fingerprint(1000, "d1"), Fingerprint(1001, "d2")


def segment(video: str, index: int, count: int = 3, content: Fingerprint = OLD, **changes: Any) -> Footer:
    """A second of video at 25 frames per second, five of them sampled."""
    frames = tuple(range(25 * index + 1, 25 * index + 26))
    values: dict[str, Any] = {
        "video": video,
        "size": content.size,
        "digest": content.digest,
        "segment": index,
        "count": count,
        "start": float(index),
        "frames": frames,
        "times": tuple((frame - 1) / 25 for frame in frames),
        "sampled": frames[::5],
        "cache_id": CACHE,
    }
    return footer(**{**values, **changes})


def name_of(about: Footer) -> str:
    print_ = Fingerprint(about.size, about.digest)
    return shard_name(about.video, print_, about.start, about.cache_id, about.display)


def put(features: Path, *segments: Footer) -> list[str]:
    """Writes shards with a row for every face in their footers."""
    names = []
    for about in segments:
        rows = [Seen(frame) for frame, faces in zip(about.sampled, about.faces, strict=True) for _ in range(faces)]
        names.append(write_shard(features, name_of(about), replace(about, rows=len(rows)), rows))
    return names


def failure(video: str, *indices: int, content: Fingerprint = OLD, **changes: Any) -> Failure:
    segments = [segment(video, index, content=content) for index in indices]
    values: dict[str, Any] = {
        "video": video,
        "uri": f"/in/{video}.mp4",
        "outcome": "failed",
        "stage": "decode",
        "reason": "damaged",
        "message": "invalid data",
        "permanent": True,
        "segments": indices,
        "shards": tuple(name_of(about) for about in segments),
        "frames": tuple(frame for about in segments for frame in about.sampled),
        "size": content.size,
        "digest": content.digest,
    }
    return Failure(**{**values, **changes})


def fail(features: Path, video: str, *indices: int, **changes: Any) -> None:
    """Writes records as a run does: one per failed segment, or one for the whole video."""
    for index in indices:
        record = failure(video, index, **changes)
        write_failure(str(features), record.shards[0], record)
    if not indices:
        record = failure(video, **changes)
        write_failure(str(features), failure_name(video, Fingerprint(record.size, record.digest), CACHE), record)


def videos(features: Path) -> dict[str, dict[str, Any]]:
    return {row["video"]: row for row in rebuild_index(str(features)).to_pylist()}


def settled(features: Path, video: str, content: Fingerprint | None = OLD) -> list[Failure]:
    """The records of a video at the end of a run."""
    rebuild_index(str(features))
    settle(str(features), {video: content}, CACHE)
    return [record for record in read_failures(str(features)).values() if record.video == video]


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


def test_a_record_goes_when_its_shard_is_there(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 2))
    fail(tmp_path, "a", 1, permanent=False)
    fail(tmp_path, "b", 0)
    assert len(settled(tmp_path, "a")) == 1
    put(tmp_path, segment("a", 1, 2))
    assert settled(tmp_path, "a") == []
    assert [record.video for record in read_failures(str(tmp_path)).values()] == ["b"]  # not of this run


def test_one_record_per_partial_video_with_all_it_lost(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 3, decoded=(True, False, True, True, False)))
    fail(tmp_path, "a", 1, message="first")
    fail(tmp_path, "a", 2, message="second", permanent=False)
    (record,) = settled(tmp_path, "a")
    assert list(read_failures(str(tmp_path))) == [failure_name("a", OLD, CACHE)]
    assert (record.outcome, record.message, record.permanent) == ("partial", "first", False)
    assert record.segments == (1, 2)
    assert set(record.shards) == {name_of(segment("a", 1)), name_of(segment("a", 2))}
    assert record.frames == (6, 21, *segment("a", 1).sampled, *segment("a", 2).sampled)
    before = file_bytes(tmp_path)
    assert settled(tmp_path, "a") == [record]
    assert file_bytes(tmp_path) == before


def test_a_mended_segment_leaves_the_record_of_the_others(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 3))
    fail(tmp_path, "a", 1, message="time-out", permanent=False)
    fail(tmp_path, "a", 2, message="time-out", permanent=False)
    settled(tmp_path, "a")
    put(tmp_path, segment("a", 1, 3))
    (record,) = settled(tmp_path, "a")
    two = segment("a", 2)
    assert (record.segments, record.shards, record.frames) == ((2,), (name_of(two),), two.sampled)


def test_the_newest_word_on_a_segment_counts(tmp_path: Path) -> None:
    """What timed out is now known to be damaged for good, and needs no third try."""
    put(tmp_path, segment("a", 0, 3))
    fail(tmp_path, "a", 1, 2, message="time-out", permanent=False)
    settled(tmp_path, "a")
    fail(tmp_path, "a", 1, 2, message="damaged", permanent=True)
    (record,) = settled(tmp_path, "a")
    assert (record.segments, record.permanent, record.message) == ((1, 2), True, "damaged")


def test_a_video_that_only_lost_frames_has_a_record_of_them(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 2, decoded=(True, True, False, True, True)), segment("a", 1, 2))
    (record,) = settled(tmp_path, "a")
    assert (record.outcome, record.reason, record.permanent) == ("partial", "lost_frames", True)
    assert (record.frames, record.segments, record.shards) == ((11,), (), ())
    assert (record.size, record.digest) == (OLD.size, OLD.digest)
    assert settled(tmp_path, "a") == [record]
    assert videos(tmp_path)["a"]["outcome"] == "partial"


def test_a_whole_video_that_failed_keeps_its_record_until_it_works(tmp_path: Path) -> None:
    fail(tmp_path, "a", reason="io", permanent=False)
    (record,) = settled(tmp_path, "a")
    assert (record.outcome, record.reason) == ("failed", "io")
    put(tmp_path, segment("a", 0, 1))
    assert settled(tmp_path, "a") == []


def test_records_outlive_a_run_that_can_not_read_the_input(tmp_path: Path) -> None:
    fail(tmp_path, "a", reason="damaged")
    fail(tmp_path, "a", reason="missing", content=Fingerprint(-1, ""))
    records = settled(tmp_path, "a", None)
    assert sorted(record.reason for record in records) == ["damaged", "missing"]
    (record,) = settled(tmp_path, "a", OLD)
    assert record.reason == "damaged"


def test_shards_of_an_earlier_content_stay_until_the_new_ones_are_complete(tmp_path: Path) -> None:
    old = put(tmp_path, segment("a", 0, 2), segment("a", 1, 2))
    other = put(tmp_path, segment("b", 0, 1))
    fail(tmp_path, "a", 5)
    new = put(tmp_path, segment("a", 0, 2, content=NEW))
    shards = tmp_path / "shards"

    def there() -> set[str]:
        return {path.stem for path in shards.iterdir()}

    assert settled(tmp_path, "a", NEW) == []  # the record of the earlier content goes at once
    assert there() == {*old, *other, *new}
    new += put(tmp_path, segment("a", 1, 2, content=NEW))
    assert settled(tmp_path, "a", NEW) == []
    assert there() == {*other, *new}
    assert videos(tmp_path)["a"]["digest"] == NEW.digest


def test_shards_of_pictures_taken_as_coded_go_once_those_as_shown_are_complete(tmp_path: Path) -> None:
    shown = Display(mirrored=True)
    old = put(tmp_path, segment("a", 0, 2), segment("a", 1, 2))
    plain = put(tmp_path, segment("b", 0, 1))
    new = put(tmp_path, segment("a", 0, 2, display=shown))
    assert not set(new) & set(old)
    assert settled(tmp_path, "a", OLD) == []
    assert {path.stem for path in (tmp_path / "shards").iterdir()} == {*old, *plain, *new}
    assert videos(tmp_path)["a"]["outcome"] == "partial"  # what is there of the right ones
    new += put(tmp_path, segment("a", 1, 2, display=shown))
    assert settled(tmp_path, "a", OLD) == []
    assert {path.stem for path in (tmp_path / "shards").iterdir()} == {*plain, *new}
    assert videos(tmp_path)["a"]["outcome"] == "ok"


def test_what_a_look_told_stays_beside_the_shards(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 1, display=Display(mirrored=True)), segment("b", 0, 1))
    facts = VideoFacts(0.52, (640, 360), 180, ("has 2 video streams",))
    settle_index(str(tmp_path), {"a": OLD}, CACHE, {"a": facts})
    settle_index(str(tmp_path), {"b": OLD}, CACHE)  # a run over other videos, which looked at none
    row, other = videos(tmp_path)["a"], videos(tmp_path)["b"]
    assert (row["offset"], row["coded_width"], row["rotation"], row["notes"]) == (0.52, 640, 180, facts.notes[0])
    assert (row["mirrored"], row["aspect"], row["size_changes"]) == (True, "1:1", 0)
    assert other["offset"] is None
    assert read_facts(str(tmp_path)) == {("a", OLD.size, OLD.digest): facts}
    settle_index(str(tmp_path), {"a": NEW}, CACHE)  # the file has changed
    assert read_facts(str(tmp_path)) == {}


def test_footers_of_plain_videos_say_nothing_new(tmp_path: Path) -> None:
    plain, other = put(tmp_path, segment("a", 0, 1), segment("b", 0, 1, display=Display(interlaced=True)))
    texts = {
        name: pq.read_metadata(tmp_path / "shards" / f"{name}.parquet").metadata[FOOTER_KEY] for name in (plain, other)
    }
    assert b"display" not in texts[plain]
    assert b"display" in texts[other]
    assert read_footer(str(tmp_path / "shards" / f"{other}.parquet")).display == Display(interlaced=True)


def test_nothing_is_taken_away_where_the_input_can_not_be_read(tmp_path: Path) -> None:
    names = put(tmp_path, segment("a", 0, 1))
    settled(tmp_path, "a", None)
    assert {path.stem for path in (tmp_path / "shards").iterdir()} == set(names)


def test_an_index_follows_the_records(tmp_path: Path) -> None:
    put(tmp_path, segment("a", 0, 1))
    fail(tmp_path, "a")
    assert videos(tmp_path)["a"]["outcome"] == "partial"
    drop_failure(str(tmp_path), failure_name("a", OLD, CACHE))
    assert videos(tmp_path)["a"]["outcome"] == "ok"


def test_shards_and_records_that_another_job_removes_meanwhile_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, segment("a", 0, 2, decoded=(True,) * 4 + (False,)))
    write_failure(str(tmp_path), "old", failure("a", 1))
    sizes = storage.sizes(str(tmp_path / "shards"), ".parquet")
    monkeypatch.setattr(storage, "sizes", lambda uri, suffix: {**sizes, "gone": 10})
    assert [row["shard"] for row in read_segments(str(tmp_path))] == list(sizes)
    rows = [{**row, "shard": "gone"} for row in read_segments(str(tmp_path))]
    _, records = settle(str(tmp_path), {"a": OLD}, CACHE, rows)
    assert [record.reason for record in records] == ["damaged"]


def test_settling_again_writes_nothing_and_reads_no_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = segment("a", 0, 3, decoded=(True, False, True, True, False)), segment("a", 2, 3, decoded=(False,) * 5)
    put(tmp_path, *lossy)
    fail(tmp_path, "a", 1)
    fail(tmp_path, "b", reason="io")
    first = settle_index(str(tmp_path), {"a": OLD, "b": OLD}, CACHE)
    records = read_failures(str(tmp_path))

    def never(*args: object, **options: object) -> None:
        raise AssertionError(args)

    for name in ("read_footer", "write_failure", "drop_failure"):
        monkeypatch.setattr(f"emobeam.emo_transforms.cache.index.{name}", never)
    assert settle_index(str(tmp_path), {"a": OLD, "b": OLD}, CACHE).equals(first)
    assert read_failures(str(tmp_path)) == records
    (record,) = (record for record in records.values() if record.video == "a")
    assert record.frames == (6, 21, *segment("a", 1).sampled, *segment("a", 2).sampled)


def test_of_two_ways_to_show_a_video_one_counts() -> None:
    """The newer one, once it has as many shards: until then those of before are whole."""
    flat, older, newer = ({"display": text, "segment": 0} for text in ("", "[1]", "[1,true]"))
    assert as_shown([flat, flat]) == [flat, flat]
    assert as_shown([flat, flat, older]) == [older]
    assert as_shown([older, older, newer]) == [older, older]
    assert as_shown([older, older, newer, newer]) == [newer, newer]
