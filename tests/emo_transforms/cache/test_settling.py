from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.failures import drop_failure, failure_name, read_failures, write_failure
from emobeam.emo_transforms.cache.index import as_shown, read_segments, settle, settle_index
from emobeam.emo_transforms.cache.video_facts import read_facts
from emobeam.schemas.records import Display, Fingerprint, VideoFacts
from tests.emo_transforms.cache.segments import CACHE, NEW, OLD, fail, failure, name_of, put, segment, settled, videos
from tests.emo_transforms.caches import file_bytes


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
