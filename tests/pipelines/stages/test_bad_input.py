"""Every way an input can be bad costs its own rows and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from emobeam.pipelines.stages.extract import ExtractResult
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import DecoderConfig
from tests.clips import portrait
from tests.pipelines.runs import (
    ONE_SECOND,
    Row,
    Told,
    extract,
    failures,
    files,
    rows,
    temporaries,
    videos,
)

GOOD = {
    # name of the clip: displayed frames, width, height
    "portrait.mp4": (50, 256, 256),
    "one_frame.mp4": (1, 256, 256),
    "rotated_90.mp4": (12, 320, 240),
    "rotated_180.mp4": (12, 320, 240),
    "rotated_270.mp4": (12, 320, 240),
    "variable.mkv": (60, 256, 256),
    "edit_list.mp4": (45, 256, 256),
    "ten_bit.mp4": (50, 256, 256),
    "av1.mp4": (20, 256, 256),
}
FAILED = {
    # name of the clip: stage, reason
    "empty.mp4": ("open", "empty"),
    "text.mp4": ("open", "damaged"),
    "truncated.mp4": ("open", "damaged"),
    "audio_only.m4a": ("open", "no_video"),
    "huge.avi": ("probe", "too_large"),
    "missing.mp4": ("open", "missing"),
}
PARTIAL = ("damaged.mp4", "truncated_announced.mp4", "truncated.webm")
FACELESS = "no_face.mp4"


@dataclass(frozen=True)
class Mixed:
    """One run over good and bad clips, and the same command once more."""

    inputs: list[Path]
    features: Path
    first: ExtractResult
    second: ExtractResult
    told_first: Told
    told_second: Told
    files_between: dict[str, bytes]


@pytest.fixture(scope="module")
def mixed(clips: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Mixed:
    folder = tmp_path_factory.mktemp("mixed")
    for name in (*GOOD, *FAILED, *PARTIAL, FACELESS):
        if name not in ("missing.mp4", "truncated.webm"):
            shutil.copy(clips(name), folder)
    shutil.copy(clips("truncated.webm"), folder / "cut_short.webm")
    inputs = [folder, folder / "missing.mp4", folder / "audio_only.m4a"]
    features = folder / "features"
    first, told_first = extract(inputs, features, pool)
    between = files(features)
    second, told_second = extract(inputs, features, pool)
    return Mixed(inputs, features, first, second, told_first, told_second, between)


def key(name: str) -> str:
    return "cut_short" if name == "truncated.webm" else Path(name).stem


@pytest.mark.parametrize("name", GOOD)
def test_unusual_videos_are_fine(name: str, mixed: Mixed) -> None:
    row = videos(mixed.features)[key(name)]
    frames, width, height = GOOD[name]
    assert (row["outcome"], row["stage"], row["reason"], row["message"]) == ("ok", None, None, None)
    assert (row["frames"], row["width"], row["height"]) == (frames, width, height)
    assert row["segments"] == row["segments_done"]
    assert row["with_face"] == row["sampled"] == row["rows"] > 0
    assert row["lost"] == 0


def test_no_face_is_no_failure(mixed: Mixed) -> None:
    row = videos(mixed.features)[key(FACELESS)]
    assert (row["outcome"], row["rows"], row["with_face"]) == ("no_face", 0, 0)
    assert row["sampled"] > 0
    assert key(FACELESS) not in failures(mixed.features)


@pytest.mark.parametrize("name", FAILED)
def test_unusable_videos_are_told_with_stage_and_reason(name: str, mixed: Mixed) -> None:
    row, record = videos(mixed.features)[key(name)], failures(mixed.features)[key(name)]
    for told in (row, record):
        assert (told["outcome"], told["stage"], told["reason"]) == ("failed", *FAILED[name])
        assert name in told["message"]
    assert record["uri"].endswith(name)
    assert record["permanent"] == (name != "missing.mp4")
    assert (row["segments"], row["frames"], row["rows"]) == (0, 0, 0)


@pytest.mark.parametrize("name", PARTIAL)
def test_damage_costs_the_frames_it_hits(name: str, mixed: Mixed) -> None:
    row, record = videos(mixed.features)[key(name)], failures(mixed.features)[key(name)]
    for told in (row, record):
        assert (told["outcome"], told["stage"], told["reason"]) == ("partial", "decode", "lost_frames")
        assert told["message"]
    assert record["permanent"]
    assert row["segments"] == row["segments_done"] > 0
    assert len(record["frames"]) == row["lost"]
    assert row["with_face"] == row["rows"] == row["sampled"] - row["lost"] > 0
    seen = rows_of(mixed.features, key(name))
    assert {each["frame"] for each in seen}.isdisjoint(record["frames"])


def test_damage_in_the_middle_spares_what_comes_after(mixed: Mixed) -> None:
    lost = failures(mixed.features)["damaged"]["frames"]
    assert lost
    assert all(28 <= frame <= 40 for frame in lost), "packets 30 and 31 are damaged, a group has 12 frames"
    seen = [row["frame"] for row in rows_of(mixed.features, "damaged")]
    assert min(seen) < 10
    assert max(seen) > 60


def rows_of(features: Path, video: str) -> list[Row]:
    index = [row["shard"] for row in rows(features / "segments.parquet") if row["video"] == video]
    return [row for shard in index for row in rows(features / "shards" / f"{shard}.parquet")]


def test_the_result_counts_them(mixed: Mixed) -> None:
    expected = {"ok": len(GOOD), "no_face": 1, "partial": len(PARTIAL), "failed": len(FAILED)}
    assert mixed.first.outcomes == mixed.second.outcomes == expected
    assert mixed.first.some_failed
    assert temporaries(mixed.features) == []
    assert set(failures(mixed.features)) == {key(name) for name in (*FAILED, *PARTIAL)}


def test_what_stays_bad_is_not_tried_again(mixed: Mixed) -> None:
    assert mixed.told_second.items("extract") == 0
    assert [name for event, name in mixed.told_second.events if event == "failed"] == ["missing"]
    after = files(mixed.features)
    same = [name for name in after if not name.startswith("runs/")]
    assert {name: after[name] for name in same} == {name: mixed.files_between[name] for name in same}


def test_a_missing_file_that_turns_up_is_done(mixed: Mixed, pool: LocalPool, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(mixed.features, features)
    there = mixed.inputs[1]
    portrait(there, frames=10)
    try:
        result, told = extract(mixed.inputs, features, pool)
    finally:
        there.unlink()
    assert told.items("extract") == 1
    assert videos(features)["missing"]["outcome"] == "ok"
    assert "missing" not in failures(features)
    assert result.outcomes["failed"] == len(FAILED) - 1


def test_a_mended_file_is_done(mixed: Mixed, pool: LocalPool, tmp_path: Path) -> None:
    features = tmp_path / "features"
    shutil.copytree(mixed.features, features)
    mended = tmp_path / "truncated.mp4"
    portrait(mended, frames=10)
    result, told = extract([mended], features, pool)
    assert told.items("extract") == 1
    assert result.outcomes == {"ok": 1}
    assert "truncated" not in failures(features)


# --- decoders that misbehave ------------------------------------------------------------------------------

MISBEHAVING = {
    # clip: reason, whether it is given up
    "crash": ("crash", True),
    "hang": ("timeout", False),
    "eat": ("memory", False),
    "gulp": ("memory", False),
    "stumble": ("damaged", True),
    "deadly": ("crash", False),
}


SHORT = ("deadly", "hang")
"""Clips of one segment: each death costs the start of a worker, each silence the whole limit of time."""

LIMITED = DecoderConfig("tests.pipelines.decoders:by_name", timeout=5.0, memory_mb=300)
"""Limits that good videos keep on a busy machine too."""


@dataclass(frozen=True)
class Faulty:
    folder: Path
    features: Path
    result: ExtractResult
    told: Told


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Faulty:
    folder = tmp_path_factory.mktemp("faulty")
    good = portrait(folder / "good.mp4", frames=30)
    for name in (*MISBEHAVING, "half_crash"):
        shutil.copy(good, folder / f"{name}.mp4")
    for name in SHORT:
        portrait(folder / f"{name}.mp4", frames=20)
    result, told = extract([folder], folder / "features", pool, config=replace(ONE_SECOND, decoder=LIMITED))
    return Faulty(folder, folder / "features", result, told)


def test_good_videos_beside_misbehaving_decoders_are_done(faulty: Faulty) -> None:
    assert videos(faulty.features)["good"]["outcome"] == "ok"
    assert faulty.result.outcomes == {"ok": 1, "partial": 1, "failed": len(MISBEHAVING)}
    assert temporaries(faulty.features) == []


@pytest.mark.parametrize("name", MISBEHAVING)
def test_misbehaving_decoders_fail_their_video(name: str, faulty: Faulty) -> None:
    row, record = videos(faulty.features)[name], failures(faulty.features)[name]
    reason, permanent = MISBEHAVING[name]
    for told in (row, record):
        assert (told["outcome"], told["reason"]) == ("failed", reason)
        assert f"{name}.mp4" in told["message"]
    assert record["stage"] == ("extract" if name == "deadly" else "decode")
    assert record["permanent"] is permanent
    assert record["segments"] == ([0] if name in SHORT else [0, 1])


def test_a_worker_that_dies_twice_with_a_segment_is_not_given_it_a_third_time(faulty: Faulty) -> None:
    assert [event for event, _ in faulty.told.events].count("died") == 2
    assert "2 times" in failures(faulty.features)["deadly"]["message"]


def test_what_comes_before_a_crash_is_kept(faulty: Faulty) -> None:
    row, record = videos(faulty.features)["half_crash"], failures(faulty.features)["half_crash"]
    assert (row["outcome"], row["reason"], row["segments"], row["segments_done"]) == ("partial", "crash", 2, 1)
    assert record["segments"] == [1]
    assert record["frames"] == sorted(record["frames"])
    assert min(record["frames"]) > 25


def test_limits_are_tried_again_and_crashes_of_decoders_are_not(faulty: Faulty, pool: LocalPool) -> None:
    inputs = [faulty.folder / f"{name}.mp4" for name in ("good", "crash", "eat", "hang")]
    _, told = extract(inputs, faulty.features, pool, config=replace(ONE_SECOND, decoder=LIMITED))
    assert told.items("extract") == 3
    assert set(failures(faulty.features)) == {*MISBEHAVING, "half_crash"}


# --- the surroundings -------------------------------------------------------------------------------------
