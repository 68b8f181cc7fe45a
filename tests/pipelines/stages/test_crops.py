"""Folders of cropped faces, from images to submissions: every image by default, missing frames stay missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.records import UsageError
from tests.clips import face, irregular_pts, variable_rate
from tests.pipelines.runs import Row, extract, failures, part, predict, rows, videos

SEEN = (1, 2, 3, 4, 7, 8, 9, 10, 11, 13, 14, 15, 40, 41)
"""Frames with a crop."""


def write_crops(folder: Path, frames: Sequence[int], name: str, first: int) -> Path:
    """Images of a face, numbered as a layout has it: ``name`` formats the number, frame 1 having ``first``."""
    folder.mkdir(parents=True)
    for frame in frames:
        Image.fromarray(face(frame, (112, 112))).save(folder / name.format(frame - 1 + first), quality=90)
    return folder


def config(source: str, crops_fps: float = 0.0, store: tuple[str, ...] = ("maps",)) -> ExtractConfig:
    return ExtractConfig(source=source, sampling=SamplingConfig(fps=0.0, crops_fps=crops_fps), store=store)


def feature_rows(features: Path, video: str) -> list[Row]:
    names = [row["shard"] for row in rows(features / "segments.parquet") if row["video"] == video]
    return [row for name in names for row in rows(features / "shards" / f"{name}.parquet")]


# --- Aff-Wild2: frames from 1, five digits ----------------------------------------------------------------


@pytest.fixture(scope="module")
def affwild2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cropped_aligned")
    write_crops(folder / "14-30-1920x1080", SEEN, "{:05d}.jpg", 1)
    write_crops(folder / "video49_left", range(1, 7), "{:05d}.jpg", 1)
    (folder / "14-30-1920x1080" / "00008.jpg").write_bytes(b"no image")
    (folder / "14-30-1920x1080" / ".DS_Store").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def untimed(affwild2: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    output = tmp_path_factory.mktemp("untimed")
    template = output / "template.txt"
    names = ["14-30-1920x1080/00001.jpg", "14-30-1920x1080/00005.jpg", "14-30-1920x1080/00043.jpg"]
    header = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26\n"
    template.write_text(header + "".join(f"{name},\n" for name in [*names, "video49_left/00003.jpg"]))
    extract([affwild2], output / "features", pool, config=config("affwild2", store=("maps", "crops")))
    predict(output / "features", output, pool, edition=8, template=[str(template)])
    return output


def test_every_image_becomes_a_row(affwild2: Path, untimed: Path) -> None:
    found = feature_rows(untimed / "features", "14-30-1920x1080")
    assert [row["frame"] for row in found] == [frame for frame in SEEN if frame != 8]
    for row in found:
        assert row["image"] == f"{row['frame']:05d}.jpg"
        assert (row["time"], row["box"], row["score"], row["landmarks"], row["track"]) == (None, None, None, None, 0)
        assert row["crop"] == (affwild2 / "14-30-1920x1080" / row["image"]).read_bytes(), "official crops keep bytes"
        assert len(row["map_s32"]) == 2 * 128 * 7 * 7


def test_a_damaged_image_costs_its_frame(untimed: Path) -> None:
    features = untimed / "features"
    row, record = videos(features)["14-30-1920x1080"], failures(features)["14-30-1920x1080"]
    assert (row["outcome"], row["reason"], row["lost"], row["sampled"]) == ("partial", "lost_frames", 1, len(SEEN))
    assert record["frames"] == [8]
    assert record["permanent"]
    assert videos(features)["video49_left"]["outcome"] == "ok"


def test_frames_without_image_have_rows_without_invented_time(untimed: Path) -> None:
    table = part(untimed, "au", "14-30-1920x1080")
    assert [row["frame"] for row in table] == list(range(1, 42))
    assert {row["time"] for row in table} == {None}
    sources = {row["frame"]: row["source"] for row in table}
    assert [frame for frame in sources if sources[frame] == "sampled"] == [f for f in SEEN if f != 8]
    # Gaps are judged at 30 frames per second: even the one from 15 to 40 is bridged, being shorter than a second.
    assert {sources[frame] for frame in (5, 6, 8, 12, 16, 27, 39)} == {"interpolated"}


def test_the_template_decides_the_rows(untimed: Path) -> None:
    lines = (untimed / "submission" / "au" / "predictions.txt").read_text().splitlines()
    expected = [line.split(",")[0] for line in (untimed / "template.txt").read_text().splitlines()[1:]]
    assert [line.split(",")[0] for line in lines[1:]] == expected
    assert all(set(line.split(",")[1:]) <= {"0", "1"} and line.count(",") == 12 for line in lines[1:])


def test_crops_of_one_subject_keep_their_own_name(untimed: Path) -> None:
    table = part(untimed, "au", "video49_left")
    assert {row["subject"] for row in table} == {""}, "video49_left is a folder of its own, not a side of video49"
    (stretch,) = [row for row in rows(untimed / "faces.parquet") if row["video"] == "video49_left"]
    assert (stretch["first_frame"], stretch["last_frame"], stretch["sampled"]) == (1, 6, 6)
    assert (stretch["first_time"], stretch["box"], stretch["score"]) == (None, None, None)


def test_a_rate_supplies_time(affwild2: Path, tmp_path: Path, pool: LocalPool) -> None:
    _, told = extract([affwild2], tmp_path / "features", pool, config=config("affwild2", crops_fps=10.0))
    assert told.items("extract") == 2
    predict(tmp_path / "features", tmp_path, pool)
    table = part(tmp_path, "au", "14-30-1920x1080")
    np.testing.assert_allclose([row["time"] for row in table], np.arange(41) / 10)
    absent = [row["frame"] for row in table if row["source"] == "absent"]
    assert absent == list(range(21, 35)), "half a second is five frames now"
    assert all(row["AU1"] is None for row in table if row["source"] == "absent")


def test_a_video_supplies_time(affwild2: Path, tmp_path: Path, pool: LocalPool) -> None:
    raw = variable_rate(tmp_path / "raw_14-30-1920x1080.mkv", frames=45)
    (tmp_path / "raw").mkdir()
    raw = raw.rename(tmp_path / "raw" / "14-30-1920x1080.mkv")
    variable_rate(tmp_path / "raw" / "video49.mkv", frames=6)
    extract([affwild2], tmp_path / "features", pool, config=config("affwild2"), videos=str(tmp_path / "raw"))
    predict(tmp_path / "features", tmp_path, pool)
    table = part(tmp_path, "au", "14-30-1920x1080")
    assert [row["frame"] for row in table] == list(range(1, 46)), "all native frames of the video"
    pts = np.array(irregular_pts(45))
    np.testing.assert_allclose([row["time"] for row in table], (pts - pts[0]) / 1000, atol=1e-6)
    assert len(part(tmp_path, "au", "video49_left")) == 6


def test_an_image_more_or_less_is_another_content(affwild2: Path, tmp_path: Path, pool: LocalPool) -> None:
    folder = tmp_path / "crops"
    write_crops(folder / "clip", range(1, 5), "{:05d}.jpg", 1)
    features = tmp_path / "features"
    extract([folder], features, pool, config=config("affwild2"))
    _, told = extract([folder], features, pool, config=config("affwild2"))
    assert told.items("extract") == 0
    (folder / "clip" / "00004.jpg").unlink()
    _, told = extract([folder], features, pool, config=config("affwild2"))
    assert told.items("extract") == 1
    assert [row["frame"] for row in feature_rows(features, "clip")] == [1, 2, 3]
    assert len(list((features / "shards").iterdir())) == 1


def test_the_wrong_layout_is_told(affwild2: Path, tmp_path: Path, pool: LocalPool) -> None:
    result, _ = extract([affwild2], tmp_path / "features", pool, config=config("bah"))
    assert result.outcomes == {"failed": 2}
    record = failures(tmp_path / "features")["video49_left"]
    assert (record["stage"], record["reason"], record["permanent"]) == ("open", "layout", True)
    assert "is --crops bah right?" in record["message"]


# --- Hume-Vidmimic2 and BAH: frames from 0 ----------------------------------------------------------------


def test_emi(tmp_path: Path, pool: LocalPool) -> None:
    """Clips shorter and longer than a window, and one whose images are all damaged."""
    folder = tmp_path / "face_images"
    for name, count in (("00012", 5), ("00345", 20)):
        write_crops(folder / name, range(1, count + 1), "{:d}.jpg", 0)
    (folder / "00999").mkdir()
    (folder / "00999" / "0.jpg").write_bytes(b"")
    result, _ = extract([folder], tmp_path / "features", pool, config=config("emi"))
    assert result.outcomes == {"ok": 2, "partial": 1}
    predict(tmp_path / "features", tmp_path, pool, tasks=["emi"], edition=8)
    assert [row["frame"] for row in feature_rows(tmp_path / "features", "00012")] == [1, 2, 3, 4, 5]
    lines = (tmp_path / "submission" / "emi" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    assert [line.split(",")[0] for line in lines[1:]] == ["00012", "00345", "00999"]
    written = np.array([[float(value) for value in line.split(",")[1:]] for line in lines[1:]])
    np.testing.assert_allclose(written[2], 0.5)
    assert np.abs(written[0] - written[1]).max() > 1e-6
    (row,) = part(tmp_path, "emi", "00012")
    np.testing.assert_allclose([row[name] for name in lines[0].split(",")[1:]], written[0], atol=1e-6)


def test_bah(tmp_path: Path, pool: LocalPool) -> None:
    name = "82711/Visite_1/82711_Question_1_Video"
    write_crops(tmp_path / "crops" / f"{name}.mp4", (1, 2, 4), "frame-{:d}.jpg", 0)
    extract([tmp_path / "crops"], tmp_path / "features", pool, config=config("bah"))
    template = tmp_path / "template.txt"
    keys = [f"{name}.mp4/frame-{number}.jpg" for number in (3, 0, 1, 2, 4)]
    template.write_text("".join(f"{key},0\n" for key in keys))
    predict(tmp_path / "features", tmp_path, pool, tasks=["ah"], edition=8, template=[str(template)])
    table = part(tmp_path, "ah", name)
    assert [row["frame"] for row in table] == [1, 2, 3, 4]
    assert [row["source"] for row in table] == ["sampled", "sampled", "interpolated", "sampled"]
    lines = (tmp_path / "submission" / "ah" / "predictions.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == keys


def test_sampling_by_time_needs_time(affwild2: Path, tmp_path: Path, pool: LocalPool) -> None:
    at_six = replace(config("affwild2"), sampling=SamplingConfig(fps=6.0))
    with pytest.raises(UsageError, match=r"take every image \(--fps native\) or say where the videos are"):
        extract([affwild2], tmp_path / "features", pool, config=at_six)


def test_the_raw_videos_of_these_tests_have_the_times_they_say(tmp_path: Path) -> None:
    with av.open(str(variable_rate(tmp_path / "clip.mkv", frames=10))) as container:
        pts = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
    assert pts == irregular_pts(10)
