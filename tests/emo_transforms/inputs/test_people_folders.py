"""People folders as input: which videos they hold, how those are planned, and what is wrong with broken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.extraction.video_plans import find_videos, plan_people
from emobeam.emo_transforms.inputs.crop_folders import decode_crop
from emobeam.emo_transforms.inputs.people_folders import (
    clips_of,
    is_people_folder,
    people_below,
    people_pictures,
    resolve_people,
)
from emobeam.schemas.config import SamplingConfig
from emobeam.schemas.records import EmobeamError, Fingerprint, InputError, UsageError
from tests.people import clip_rows, crop_row, write_people

PRINT = Fingerprint(1, "d")


def keys(rows: list[tuple[int, int, int, float | None]]) -> pa.Table:
    person, clip, frame, time = (list(column) for column in zip(*rows, strict=True))
    types = (pa.int32(), pa.int32(), pa.int32(), pa.float64())
    names = ("person", "clip", "frame", "time")
    columns = zip(names, (person, clip, frame, time), types, strict=True)
    return pa.table({name: pa.array(values, kind) for name, values, kind in columns})


def test_clips_with_times_and_single_pictures(tmp_path: Path) -> None:
    write_people(tmp_path, [*clip_rows(7, 0, 4), *clip_rows(7, 1, 2)])
    write_people(tmp_path, [crop_row(1234567, 3, frame, None, {}) for frame in (2, 11)])
    found = resolve_people([str(tmp_path)])
    assert [video.id for video in found] == ["000007-0", "000007-1", "1234567-3-0002", "1234567-3-0011"]
    assert {video.kind for video in found} == {"people"}
    assert found == find_videos([str(tmp_path)], "people")
    assert [v.id for v in find_videos([str(tmp_path)], "people", only="000007-1")] == ["000007-1"]


def test_equal_ids_are_an_error_that_names_both(tmp_path: Path) -> None:
    one, other = (write_people(tmp_path / name, clip_rows(7, 0, 2)) for name in ("a", "b"))
    with pytest.raises(UsageError, match=f"000007-0.*{one}/people/000007.parquet.*{other}/people/000007.parquet"):
        resolve_people([str(one), str(other)])
    write_people(other, clip_rows(8, 0, 2))
    above = resolve_people([str(tmp_path)])
    assert [video.id for video in above] == ["a/000007-0", "b/000007-0", "b/000008-0"]


def test_what_is_a_people_folder(tmp_path: Path) -> None:
    inner = write_people(tmp_path / "deep" / "a", clip_rows(7, 0, 2))
    assert is_people_folder(str(inner))
    assert people_below(str(inner))
    assert people_below(str(tmp_path / "deep"))
    assert not is_people_folder(str(tmp_path / "deep"))
    (tmp_path / "labels" / "people").mkdir(parents=True)
    for other in ("labels", "nowhere"):
        assert not people_below(str(tmp_path / other))
    with pytest.raises(UsageError, match="holds no people"):
        resolve_people([str(tmp_path / "labels")])
    with pytest.raises(UsageError, match="leave it out"):
        find_videos([str(inner)], "people", videos=str(tmp_path))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(1, 0, 1, 0.0), (1, 0, 1, 0.5)], "frame 1 of clip 000001-0 is there twice"),
        ([(1, 0, 1, 0.0), (1, 0, 2, None)], "a time for each frame, or none at all"),
        ([(1, 0, 1, 0.5), (1, 0, 2, 0.25)], "times that grow"),
        ([(1, 0, 0, None)], "frames from 1"),
        ([(-1, 0, 1, None)], "count from 0"),
    ],
)
def test_rows_that_make_no_sense(rows: list[tuple[int, int, int, float | None]], said: str) -> None:
    with pytest.raises(EmobeamError, match=f"FILE: .*{said}"):
        clips_of(keys(rows), "FILE")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 9)), unique=True), st.booleans())
def test_every_row_is_in_one_clip_whatever_their_order(found: list[tuple[int, int, int]], timed: bool) -> None:
    rows: list[Any] = [(person, clip, frame, frame / 6 if timed else None) for person, clip, frame in found]
    clips = clips_of(keys(rows), "FILE") if rows else []
    assert sorted(row for clip in clips for row in clip.rows.tolist()) == list(range(len(rows)))
    assert len({clip.name for clip in clips}) == len(clips)
    for clip in clips:
        assert [rows[row][2] for row in clip.rows.tolist()] == clip.frames.tolist() == sorted(clip.frames.tolist())
        wanted = {f"{rows[row][0]:06d}-{rows[row][1]}" + ("" if timed else f"-{rows[row][2]:04d}") for row in clip.rows}
        assert wanted == {clip.name}


def test_clips_are_sampled_by_time_pictures_at_any_rate(tmp_path: Path) -> None:
    write_people(tmp_path, clip_rows(7, 0, 30, fps=30.0))
    write_people(tmp_path, [crop_row(8, 0, 5, None, {})])
    clip, picture = resolve_people([str(tmp_path)])
    (segment,) = plan_people(clip, PRINT, SamplingConfig(6.0), "c")
    assert segment.sampled == (1, 6, 11, 16, 21, 26)
    assert segment.times == pytest.approx([n / 30 for n in range(30)])
    parts = plan_people(clip, PRINT, SamplingConfig(0.0, segment_seconds=0.5), "c")
    assert [len(part.sampled) for part in parts] == [15, 15]
    (segment,) = plan_people(picture, PRINT, SamplingConfig(6.0), "c")
    assert (segment.sampled, segment.times) == ((5,), ())
    with pytest.raises(InputError, match="no longer holds 000007-4"):
        plan_people(replace(clip, id="000007-4"), PRINT, SamplingConfig(6.0), "c")


def test_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [*clip_rows(7, 0, 9), *clip_rows(7, 1, 9), *(crop_row(7, 2, n, None, {}) for n in (1, 3))]
    rows[11]["crop"] = b"no picture"
    write_people(tmp_path, rows, row_group=4)
    videos = {video.id: video for video in resolve_people([str(tmp_path)])}
    for name, own in {"000007-0": rows[:9], "000007-2-0003": rows[-1:]}.items():
        (segment,) = plan_people(videos[name], PRINT, SamplingConfig(0.0), "c")
        read = people_pictures(videos[name])
        assert [read(image)[0] for image in segment.images] == [row["crop"] for row in own]
        for image, row in zip(segment.images, own, strict=True):
            np.testing.assert_array_equal(read(image)[1], decode_crop(row["crop"], ""))
    read = people_pictures(videos["000007-1"])
    with pytest.raises(InputError, match="frame 3 of 000007-1: not a readable image") as damaged:
        read("000007.parquet#1-3")
    assert damaged.value.permanent
    with pytest.raises(InputError, match="frame 44"):
        read("000007.parquet#1-44")


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = write_people(tmp_path, clip_rows(7, 0, 2))
    (video,) = resolve_people([str(folder)])
    pq.write_table(pa.table({"person": [1]}), tmp_path / "people" / "000007.parquet")
    with pytest.raises(EmobeamError, match=r"000007.parquet: no file .*\(no column clip, frame, time\)"):
        resolve_people([str(folder)])
    with pytest.raises(InputError, match="no column"):
        people_pictures(video)
    (tmp_path / "people" / "000007.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(EmobeamError, match="can't be read"):
        resolve_people([str(folder)])
    with pytest.raises(InputError, match="can't be read"):
        plan_people(video, PRINT, SamplingConfig(), "c")
    (tmp_path / "people" / "000007.parquet").unlink()
    with pytest.raises(InputError, match="no such file"):
        people_pictures(video)
