"""What ``plan`` says, against what ``extract`` then does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from emobeam.pipelines.cli import main
from emobeam.schemas.records import Segment
from tests.benchmarks.plan_scale import LENGTHS, make_videos
from tests.pipelines.conftest import Run
from tests.pipelines.runs import rows


def call(capsys: pytest.CaptureFixture[str], *args: Path | str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *map(str, args)])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def planned(capsys: pytest.CaptureFixture[str], *args: Path | str) -> dict[str, Any]:
    code, out, err = call(capsys, *args, "--json", "--quiet")
    assert code == 0, err
    data: dict[str, Any] = json.loads(out)
    return data


def test_what_is_planned_is_what_extract_did(reference: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(
        capsys, reference.inputs, "--segment-seconds", "1", "--workers", "2", "--backbone-weights", "untrained"
    )
    segments = rows(reference.features / "segments.parquet")
    assert found["videos"] == found["probed"] == 4
    assert found["segments"] == dict.fromkeys(("low", "value", "high"), len(segments))
    assert found["frames"]["value"] == sum(row["sampled"] for row in segments)
    assert found["native_frames"]["value"] == sum(row["last_frame"] - row["first_frame"] + 1 for row in segments)
    assert found["element_bytes"] < 1000
    assert found["shuffle_bytes"]["value"] < 1000 * len(segments)
    cache = sum(path.stat().st_size for path in (reference.features / "shards").iterdir())
    assert 0.4 * cache < found["cache_bytes"]["value"] < 2.5 * cache  # clips with one face, two and none
    assert set(found["by_step"]) == {"probe", "decode", "detect", "align", "embed", "write"}
    assert all(seconds > 0 for seconds in found["by_step"].values())
    assert sum(found["by_step"].values()) == pytest.approx(found["core_seconds"]["value"])
    assert 0.001 < found["core_seconds"]["value"] / found["frames"]["value"] < 2.0
    assert 10**8 < found["worker_bytes"] < 10**10
    assert list(found["wall_seconds"]) == ["2"]


def test_people_read_a_table_and_warnings(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    os.link(reference.inputs / "talk.mp4", folder / "talk.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    code, out, err = call(capsys, folder, "--runner", "flink", "--no-measure")
    assert code == 1
    assert "broken" in err
    assert "docs/speed.md" in err
    for name in ("videos", "segments", "core-seconds", "network", "cache", "memory", "16 workers", "256 workers"):
        assert any(line.startswith(name) for line in out.splitlines()), out
    assert not list(tmp_path.rglob("*.parquet"))


def test_what_can_not_be_planned_is_told(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    code, _, err = call(capsys, tmp_path, "--no-measure")
    assert code == 2
    assert "broken.mp4" in err
    (tmp_path / "faces" / "clip").mkdir(parents=True)
    os.link(tmp_path / "broken.mp4", tmp_path / "faces" / "clip" / "00001.jpg")
    code, _, err = call(capsys, tmp_path / "faces", "--crops", "affwild2", "--no-measure")
    assert code == 2
    assert "plan is for videos" in err


def test_many_videos_are_planned_from_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole size (100,000 videos, 3,000 hours) is measured by tests/benchmarks/plan_scale.py."""
    hours = make_videos(tmp_path, 4000)
    began, before = time.process_time(), psutil.Process().memory_info().rss
    found = planned(capsys, tmp_path / "videos", "--no-measure", "--sample", "24", "--runner", "dataflow")
    assert time.process_time() - began < 20
    assert psutil.Process().memory_info().rss - before < 500e6
    assert found["videos"] == 4000
    assert found["probed"] == 24
    assert abs(found["hours"]["value"] / hours - 1) < 0.03
    assert found["hours"]["low"] <= found["hours"]["value"] <= found["hours"]["high"]
    segments = sum(-(-LENGTHS[number % len(LENGTHS)] // 60) for number in range(4000))
    assert abs(found["segments"]["value"] / segments - 1) < 0.05
    assert found["element_bytes"] < 1000


def test_a_stretch_is_the_start_of_a_segment() -> None:
    from emobeam.pipelines.stages.plan import stretch
    from emobeam.schemas.records import Fingerprint, Video

    frames = tuple(range(1, 101))
    times = tuple(frame / 25 for frame in frames)
    segment = Segment(
        Video("v", "v.mp4"), Fingerprint(1, ""), 0, 1, 0.0, frames, times, frames[::4], pts=frames, shard="s"
    )
    part = stretch(segment, 8)
    assert part.sampled == frames[::4][:8]
    assert part.frames == part.pts == frames[:29]
    assert part.times == times[:29]
    assert stretch(segment, 100) is segment
