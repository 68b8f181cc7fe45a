from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.failures import read_failures
from emobeam.emo_transforms.extraction.plan_job import PlanJob
from emobeam.emo_transforms.extraction.segments import Tools, do_segment
from emobeam.emo_transforms.faces.crops import Faces
from emobeam.emo_transforms.prediction import video_parts
from emobeam.emo_transforms.storage import OutputError, object_stores
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import Failure, Fingerprint, Segment, ShardRecord, Video, VideoFeatures, VideoTask
from tests.object_stores import google_store

CONFIG = ExtractConfig(store=("crops",), maps=())
CLIPS = Callable[[str], Path]
SEGMENT = Segment(Video("a", "/in/a.mp4"), Fingerprint(10, "dd"), 0, 1, 0.0, (1, 2), (0.0, 0.1), (1,), shard="ab12")


def do(segment: Segment, features: str, told: list[str]) -> Any:
    tools: Any = SimpleNamespace(config=CONFIG, backbone=None)
    return do_segment(segment, tools, features, lambda event, data: told.append(event))


def test_a_clip_that_changes_meanwhile_leaves_no_shard_and_is_done_by_the_next_run(tmp_path: Path) -> None:
    clip, kept = tmp_path / "a.mp4", tmp_path / "kept.mp4"
    clip.write_bytes(b"clip")
    segment = replace(SEGMENT, video=Video("a", str(clip)), fingerprint=fingerprint(str(clip)), width=64, height=48)
    found = Faces(np.array([[8.0, 8, 40, 40]], np.float32), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))
    replacing = True

    def frames(path: str, segment: Segment) -> Iterator[tuple[int, Any]]:
        if replacing:
            os.replace(clip, kept)
            clip.write_bytes(b"another clip")
        yield 1, np.zeros((48, 64, 3), np.uint8)

    tools: Any = SimpleNamespace(
        config=CONFIG,
        backbone=None,
        decoder=SimpleNamespace(frames=frames),
        detector=SimpleNamespace(start=lambda: None, detect=lambda pictures, times: [found] * len(pictures)),
    )
    features = tmp_path / "features"
    done = do_segment(segment, tools, str(features), lambda event, data: None)
    assert isinstance(done, Failure)
    assert (done.reason, done.permanent) == ("changed", False)
    assert list((features / "shards").iterdir()) == []
    replacing = False
    os.replace(kept, clip)
    again = do_segment(segment, tools, str(features), lambda event, data: None)
    assert isinstance(again, ShardRecord)
    assert (again.rows, [path.stem for path in (features / "shards").iterdir()]) == (1, [segment.shard])


def test_a_clip_is_extracted_by_the_process_that_looked_at_it(clips: CLIPS, tmp_path: Path) -> None:
    config, decoders = ExtractConfig(store=(), maps=()), Decoders()
    plan = PlanJob(config, str(tmp_path)).open(decoders)
    plan(VideoTask(Video("a", str(clips("portrait.mp4")))), lambda event, data: None)
    tools = Tools(config, decoders)
    assert tools.decoder is not None
    assert tools.decoder.pid is not None
    tools.close()


def test_a_store_that_is_out_fails_the_segment_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_stores, "wait_random_exponential", lambda **limits: lambda state: 0.01)
    told: list[str] = []
    with google_store() as store:
        storage.write_bytes(f"{store.uri}/shards/old.parquet", b"x" * 1000)
        for kind in ("get", "stat", "list"):
            store.proxy.fail(kind, 403, 99)
        for segment, features in (  # it can't be read, or it can't be asked what is there already
            (replace(SEGMENT, origin=f"{store.uri}/shards/old.parquet"), str(tmp_path)),
            (SEGMENT, f"{store.uri}/features"),
        ):
            done = do(segment, features, told)
            assert isinstance(done, Failure)
            assert (done.reason, done.permanent) == ("io", False)
            assert told[-1] == "failed"
        store.proxy.clear()
        assert read_failures(f"{store.uri}/features") == {"ab12": done}
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_full_disk_on_a_worker_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(storage, "download", full)
    with pytest.raises(OutputError, match=r"no room for a copy of memory://b/a\.mp4.*TMPDIR"):
        do(replace(SEGMENT, video=Video("a", "memory://b/a.mp4")), str(tmp_path / "features"), [])
    assert read_failures(str(tmp_path / "features")) == {}


def test_workers_of_a_run_that_has_ended_leave_no_records(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="has ended"):
        do(replace(SEGMENT, timeline=str(tmp_path / "exchange" / "a.segment")), str(tmp_path), [])
    assert read_failures(str(tmp_path)) == {}


@pytest.mark.parametrize(
    ("error", "stops"),
    [(ConnectionResetError(errno.ECONNRESET, "reset"), False), (OSError(errno.ENOSPC, "No space left"), True)],
    ids=["an outage", "a full disk"],
)
def test_a_store_that_is_out_fails_the_video_in_stage_2(
    error: OSError, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(video_parts, "predict_video", broken)
    told: list[tuple[str, Any]] = []
    item, tools = VideoFeatures("a", ("ab12",)), video_parts.PredictTools({}, None)  # type: ignore[arg-type]

    def run() -> object:
        return video_parts.do_video(
            item, tools, "f", "out", PredictConfig(), lambda name, data: told.append((name, data))
        )

    if stops:
        with pytest.raises(OutputError, match="No space left"):
            run()
        return
    assert run() is None
    assert told[-1][0] == "failed"
    assert "reset" in told[-1][1]["message"]
