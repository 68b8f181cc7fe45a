"""What stage 1 leaves behind: shards that others can read, indexes that agree with them, real clips."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import maps_of, read_footer
from emobeam.emo_transforms.cache.stored_form import as_tensors
from emobeam.emo_transforms.storage import downloads
from emobeam.pipelines.cli import main
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import RunStopped
from emobeam.schemas.config import AlignConfig, SamplingConfig
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError
from tests.clips import FPS, portrait, two_faces
from tests.pipelines.conftest import Run
from tests.pipelines.runs import ONE_SECOND, Told, extract, part, predict, rows, shards_of, videos

SHAPES = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}


def footers(features: Path, video: str) -> list[Footer]:
    """Footers of a video's shards in the order of segments."""
    index = [row["shard"] for row in rows(features / "segments.parquet") if row["video"] == video]
    return [read_footer(str(features / "shards" / f"{shard}.parquet")) for shard in index]


@pytest.mark.parametrize(("video", "frames"), [("talk", 75), ("day 1/pair", 50), ("absent", 75), ("nobody", 25)])
def test_shards_hold_every_native_frame_once(video: str, frames: int, reference: Run) -> None:
    found = footers(reference.features, video)
    assert [footer.segment for footer in found] == list(range(len(found)))
    assert {footer.count for footer in found} == {len(found)} == {frames // FPS}
    assert [frame for footer in found for frame in footer.frames] == list(range(1, frames + 1))
    times = [time for footer in found for time in footer.times]
    np.testing.assert_allclose(times, np.arange(frames) / FPS, atol=1e-6)
    sampled = [frame for footer in found for frame in footer.sampled]
    targets = np.arange(0, frames / FPS, 1 / 6)
    np.testing.assert_allclose([times[frame - 1] for frame in sampled], targets, atol=0.5 / FPS + 1e-6)


def test_rows_agree_with_footers_and_indexes(reference: Run) -> None:
    table = {row["shard"]: row for row in rows(reference.features / "segments.parquet")}
    for shard, row in table.items():
        path = reference.features / "shards" / f"{shard}.parquet"
        footer, content = read_footer(str(path)), pq.read_table(path, columns=["frame", "track"])
        assert (row["rows"], row["bytes"]) == (len(content), path.stat().st_size)
        counts = dict.fromkeys(footer.sampled, 0)
        for frame in content["frame"].to_pylist():
            counts[frame] += 1
        assert tuple(counts.values()) == footer.faces
        assert content.num_rows == len({tuple(pair.values()) for pair in content.to_pylist()}), "a track once per frame"
    for video, row in videos(reference.features).items():
        mine = [segment for segment in table.values() if segment["video"] == video]
        assert row["rows"] == sum(segment["rows"] for segment in mine)
        assert row["frames"] == sum(segment["frames"] for segment in mine)


def test_faces_are_where_the_picture_has_them(reference: Run) -> None:
    """The portrait's face fills the middle of 256 px; landmarks lie inside the box, eyes above the mouth."""
    for name in shards_of(reference.features, "talk"):
        table = pq.read_table(reference.features / "shards" / name, columns=["box", "landmarks", "score"])
        for row in table.to_pylist():
            left, top, right, bottom = row["box"]
            x, y = np.array(row["landmarks"]).reshape(5, 2).T
            assert 60 < right - left < 200
            assert left < x.min() < x.max() < right
            assert top < y.min() < y.max() < bottom
            assert max(y[:2]) < min(y[3:])
            assert 0.9 <= row["score"] <= 1


def test_shards_open_elsewhere(reference: Run) -> None:
    index = rows(reference.features / "segments.parquet")
    first = next(row["shard"] for row in index if (row["video"], row["segment"]) == ("talk", 0))
    path = str(reference.features / "shards" / f"{first}.parquet")
    arrow = pq.read_table(path)
    maps = {key: maps_of(as_tensors(arrow), key) for key in SHAPES}
    assert {key: array.shape[1:] for key, array in maps.items()} == SHAPES
    frame = pd.read_parquet(path)
    polar = pl.read_parquet(path)
    (row,) = duckdb.execute("select frame, map_s32 from read_parquet(?) order by frame limit 1", [path]).fetchall()
    for key, shape in SHAPES.items():
        for values in (frame[f"map_{key}"], polar[f"map_{key}"]):
            np.testing.assert_array_equal(np.frombuffer(b"".join(values), "<f2").reshape(-1, *shape), maps[key])
    np.testing.assert_array_equal(np.frombuffer(row[1], "<f2").reshape(SHAPES["s32"]), maps["s32"][0])
    assert row[0] == frame["frame"][0] == polar["frame"][0] == 1
    assert all(np.abs(array).max() > 0 for array in maps.values())


def test_the_record_of_a_run(reference: Run) -> None:
    record = json.loads(min((reference.features / "runs").glob("*.json")).read_text())
    assert record["outcomes"] == {"ok": 3, "no_face": 1}
    assert record["segments_of_this_run"] == len(rows(reference.features / "segments.parquet"))
    assert {"decode", "detect", "align", "embed", "write"} <= set(record["seconds_by_step"])
    assert record["versions"]["apache-beam"] != "not installed"
    assert record["counters"]["videos"] == 4
    assert record["counters"]["segments"] == record["counters"]["segments_planned"] == record["segments_of_this_run"]
    assert record["counters"]["faces"] == sum(row["rows"] for row in rows(reference.features / "segments.parquet"))
    assert json.loads((reference.output / "run.json").read_text())["counters"]["videos_predicted"] == 4


def test_the_index_is_made_of_what_the_steps_tell(
    reference: Run, tmp_path: Path, pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_footer(uri: str, **more: int) -> Footer:
        raise AssertionError(f"{uri} is read again")

    monkeypatch.setattr("emobeam.emo_transforms.cache.index.read_footer", read_footer)
    extract([reference.inputs], tmp_path, pool, only="talk")
    table = [row for row in rows(reference.features / "segments.parquet") if row["video"] == "talk"]
    assert rows(tmp_path / "segments.parquet") == table


@pytest.mark.parametrize("flags", [[], ["--quiet"], ["--json"], ["--json", "--quiet"]], ids="".join)
def test_who_is_told_what(flags: list[str], reference: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Results on standard output, all else on standard error; a finished run serves to see it."""
    command = ["extract", str(reference.inputs), "--output", str(reference.features), "--segment-seconds", "1"]
    command += ["--backbone-weights", "untrained"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *flags])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0, err
    assert err.count("is untrained") == 1
    if "--quiet" in flags:
        assert all(line.startswith("warning: ") for line in err.splitlines())
    else:
        assert "0 to do" in err
    if "--json" in flags:
        told = json.loads(out)
        assert (told["videos"], told["features"]) == ({"ok": 3, "no_face": 1}, str(reference.features))
        assert Path(told["record"]).exists()
    else:
        assert bool(out) == (flags == [])


def test_other_settings(tmp_path: Path, pool: LocalPool) -> None:
    """Every frame, five-point alignment, one map, and the crops themselves."""
    two_faces(tmp_path / "pair.mp4", frames=6)
    config = replace(
        ONE_SECOND,
        sampling=SamplingConfig(fps=0.0, segment_seconds=1.0),
        align=AlignConfig(style="5pt"),
        maps=("s32",),
        store=("maps", "crops"),
    )
    extract([tmp_path / "pair.mp4"], tmp_path / "features", pool, config=config)
    (footer,) = footers(tmp_path / "features", "pair")
    assert footer.sampled == footer.frames == (1, 2, 3, 4, 5, 6)
    (path,) = (tmp_path / "features" / "shards").glob("*.parquet")
    table = pq.read_table(path)
    assert [name for name in table.column_names if name.startswith("map_")] == ["map_s32"]
    seen = table.drop_columns("map_s32").to_pylist()
    assert [(row["frame"], row["track"]) for row in seen] == [(n, track) for n in range(1, 7) for track in (0, 1)]
    for row in seen:
        (tmp_path / "crop").write_bytes(row["crop"])
        with Image.open(tmp_path / "crop") as crop:
            longer = max(row["box"][2] - row["box"][0], row["box"][3] - row["box"][1])
            assert crop.size == (round(longer * 1.2),) * 2
    predict(tmp_path / "features", tmp_path, pool, config=PredictConfig(faces="all"))
    assert {row["source"] for row in part(tmp_path, "au", "pair")} == {"sampled"}


def test_only_some_of_the_inputs(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    result, _ = extract([reference.inputs], tmp_path, pool, only="pair")
    assert [row["video"] for row in result.videos.to_pylist()] == ["day 1/pair"]
    assert shards_of(tmp_path, "day 1/pair") == shards_of(reference.features, "day 1/pair")


def outage(patch: pytest.MonkeyPatch, what: Exception, then: BaseException | None = None) -> Told:
    """While workers work, the disk or store with the cache goes away."""

    def lost(uri: str, suffix: str) -> dict[str, int]:
        raise what

    def full() -> int:
        raise OSError(errno.EIO, "the temporary folder, too")

    def on(event: str, data: object) -> None:
        if event == "done" and told.started[-1][0] == "extract":
            patch.setattr(storage, "sizes", lost)
            patch.setattr(downloads, "sweep", full)
            if then is not None:
                raise then

    told = Told(on=on)
    return told


@pytest.mark.parametrize("what", [OSError(errno.EIO, "the store failed"), EmobeamError("the second error")])
@pytest.mark.parametrize(
    "then",
    [RunStopped("the first error"), pytest.param(KeyboardInterrupt("the first error"), marks=pytest.mark.thorough)],
)
def test_an_outage_does_not_hide_what_stopped_the_run(
    what: Exception, then: BaseException, reference: Run, tmp_path: Path, pool: LocalPool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        told = outage(patch, what, then)
        with pytest.raises(type(then), match="the first error"):
            extract([reference.inputs / "nobody.mp4"], tmp_path / "features", pool, told=told)


def test_an_outage_at_the_end_of_a_run_is_told(
    reference: Run, copy_of_features: Callable[[], Path], pool: LocalPool
) -> None:
    features = copy_of_features()
    shard = rows(features / "segments.parquet")[0]["shard"]
    (features / "shards" / f"{shard}.parquet").unlink()
    with pytest.MonkeyPatch.context() as patch:
        told = outage(patch, OSError(errno.EIO, "the store failed"))
        with pytest.raises(RunStopped, match=rf"{features}: the work is done.*the store failed.*goes on from there"):
            extract([reference.inputs], features, pool, told=told)
    extract([reference.inputs], features, pool)
    assert videos(features) == videos(reference.features)


def test_two_runs_on_one_cache(tmp_path: Path, pool: LocalPool) -> None:
    """A shard that another run has written meanwhile is left as it is."""
    clip = portrait(tmp_path / "talk.mp4", frames=25)
    features = tmp_path / "features"
    extract([clip], features, pool)
    (shard,) = (features / "shards").iterdir()
    content = shard.read_bytes()
    shard.unlink()
    (features / "segments.parquet").unlink()

    def other_run(event: str, data: object) -> None:
        if event == "done" and told.started[-1][0] == "probe":
            shard.write_bytes(content)

    told = Told(on=other_run)
    extract([clip], features, pool, told=told)
    assert told.items("extract") == 1
    before = shard.stat().st_mtime_ns
    assert shard.read_bytes() == content
    extract([clip], features, pool)
    assert shard.stat().st_mtime_ns == before


# --- real clips -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_videos: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    """Real clips with one man, twice the same man side by side, and none, in segments of a second."""
    output = tmp_path_factory.mktemp("real")
    names = ("faces/single_face.mp4", "faces/two_faces_side_by_side.mp4", "broken/truncated.webm")
    extract([shared_videos / name for name in names], output / "features", pool)
    predict(output / "features", output, pool, config=PredictConfig(faces="all"))
    return output


def test_one_man_stays_one_man(real: Path) -> None:
    assert videos(real / "features")["single_face"]["segments"] == 3
    (stretch,) = [row for row in rows(real / "faces.parquet") if row["video"] == "single_face"]
    assert (stretch["face"], stretch["person"], stretch["first_frame"]) == (0, 0, 1)
    table = part(real, "au", "single_face")
    assert [(row["face"], row["frame"]) for row in table] == [(0, frame) for frame in range(1, 73)]
    assert {row["source"] for row in table} <= {"sampled", "interpolated", "nearest"}


def test_two_men_are_two(real: Path) -> None:
    seen = [row for row in rows(real / "faces.parquet") if row["video"] == "two_faces_side_by_side"]
    assert {row["person"] for row in seen} == {0, 1}
    width = videos(real / "features")["two_faces_side_by_side"]["width"]
    sides = {row["person"]: (row["box"][0] + row["box"][2]) / 2 < width / 2 for row in seen}
    assert sorted(sides.values()) == [False, True]
    for person in sides:
        assert sum(row["sampled"] for row in seen if row["person"] == person) >= 12


def test_a_real_cut_short_clip(real: Path) -> None:
    row = videos(real / "features")["truncated"]
    assert (row["outcome"], row["frames"]) == ("partial", 40)
    assert [each["frame"] for each in part(real, "au", "truncated")] == list(range(1, 41))


def test_a_moving_rate_keeps_its_times(shared_videos: Path, tmp_path: Path, pool: LocalPool) -> None:
    clip = shared_videos / "faces" / "single_face_vfr.mp4"
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        pts = sorted(float(p.pts * stream.time_base) for p in container.demux(stream) if p.pts is not None)
    extract([clip], tmp_path, pool)
    times = [time for footer in footers(tmp_path, "single_face_vfr") for time in footer.times]
    np.testing.assert_allclose(times, np.array(pts) - pts[0], atol=1e-6)
    assert len({round(b - a, 4) for a, b in pairwise(times)}) > 2
