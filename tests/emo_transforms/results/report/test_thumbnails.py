"""Pictures: whose they are, where they were taken, how many."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.extraction.video_plans import find_videos, fingerprint_of
from emobeam.emo_transforms.prediction.prediction_tables import list_parts
from emobeam.emo_transforms.results.report.gather import gather
from emobeam.emo_transforms.results.report.series import read_series
from emobeam.emo_transforms.results.report.thumbnails import EDGE, MOST, Pictures, _coarse_first, pictures_per_face
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Video
from tests.clips import portrait
from tests.emo_transforms.caches import Seen, footer, write_shard
from tests.emo_transforms.results.report.outputs import (
    DIGEST,
    SIZE,
    face_row,
    table_of,
    write_cache,
    write_collection,
    write_table,
)


def test_stored_crops_of_two_faces_stay_apart(tmp_path: Path) -> None:
    names = write_collection(tmp_path, 2, 60, ["va"], faces=2)
    write_cache(tmp_path, names, 60, faces=2)
    found = gather(str(tmp_path))
    segments, _ = make_index(found.features)
    shards = {row["video"]: [row["shard"]] for row in segments}
    part = read_series(list_parts(str(tmp_path)).parts["va"][names[1]])
    with Pictures(found.features, read_dataset(found.features).config, shards, {}, per_face=10) as pictures:
        sprites, note = pictures.of_video(names[1], (SIZE, DIGEST), part.faces, found.faces[names[1]], 5)
    assert note == ""
    assert [(sprite.face, len(sprite.at)) for sprite in sprites] == [(0, 10), (1, 10)]
    for sprite in sprites:
        sheet = np.asarray(Image.open(io.BytesIO(sprite.data)).convert("RGB"))
        assert sheet.shape == (EDGE, EDGE * 10, 3)
        assert np.median(sheet[..., 1]) == pytest.approx(60 * sprite.face + 40, abs=25)
        assert list(sprite.at) == sorted(sprite.at)
        assert set(sprite.at) <= set(part.faces[0].axis.tolist())
        # Nobody is there from 30 to 34 s.
        assert not any(30 < at < 34 for at in sprite.at)
        assert np.diff(sprite.at).max() < 12


def test_no_picture_where_it_may_be_someone_else(tmp_path: Path) -> None:
    """Two faces cross: where they are near each other, the boxes don't tell them apart."""
    about = footer(video="a")
    close = [(100.0, 50, 180, 150), (120.0, 50, 200, 150)]
    faces = [Seen(frame, track, box=close[track]) for frame in about.sampled for track in (0, 1)]
    write_shard(tmp_path, "s", about, faces)
    write_table(tmp_path, "va", "a", table_of("a", "va", 1, faces=2))
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a"])
    rows = [face_row("a", face, 1) | {"box": list(close[face])} for face in (0, 1)]
    with Pictures(str(tmp_path), ExtractConfig(store=("maps",)), {"a": ["s"]}, {}) as pictures:
        assert pictures.of_video("a", (SIZE, DIGEST), part.faces, rows, 5)[0] == []
        assert pictures.of_video("a", (SIZE, DIGEST), part.faces[:1], rows[:1], 5)[1].startswith("No face pictures")


def test_pictures_are_decoded_again_from_the_video(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    portrait(clip, frames=50)
    config = ExtractConfig(store=("maps",))
    video = find_videos([str(clip)])[0]
    print_ = fingerprint_of(video, config)
    about = footer(video="a", frames=tuple(range(1, 51)), times=tuple(n / 25 for n in range(50)))
    box = (100.0, 60.0, 200.0, 180.0)
    write_shard(tmp_path, "s", about, [Seen(frame, box=box) for frame in about.sampled])
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a"])
    rows = [face_row("a", 0, 2) | {"box": list(box)}]
    with Pictures(str(tmp_path), config, {"a": ["s"]}, {"a": video}) as pictures:
        sprites, note = pictures.of_video("a", (print_.size, print_.digest), part.faces, rows, 30)
        assert (len(sprites), note) == (1, "")
        assert np.asarray(Image.open(io.BytesIO(sprites[0].data))).std() > 5
        assert "has changed" in pictures.of_video("a", (1, "other"), part.faces, rows, 30)[1]
        pictures.inputs = {}
        assert "--videos" in pictures.of_video("a", (print_.size, print_.digest), part.faces, rows, 30)[1]


def test_without_time_left_no_input_is_touched(tmp_path: Path) -> None:
    """The cache isn't even there: a video without time for it costs nothing at all."""
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a"])
    gone = Video("a", "nowhere://bucket/a.mp4")
    with Pictures(str(tmp_path), ExtractConfig(), {"a": ["s"]}, {"a": gone}, seconds=0) as pictures:
        sprites, note = pictures.of_video("a", (1, "x"), part.faces, [face_row("a", 0, 2)], pictures.share(3))
        assert (sprites, pictures._decoder) == ([], None)
        assert "have taken the 0 s" in note


def test_time_that_failing_inputs_take_counts(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    portrait(clip, frames=50)
    about = footer(video="a", frames=tuple(range(1, 51)), times=tuple(n / 25 for n in range(50)))
    write_shard(tmp_path, "s", about, [Seen(frame, box=(100.0, 60.0, 200.0, 180.0)) for frame in about.sampled])
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a"])
    video = find_videos([str(clip)])[0]
    clip.write_bytes(b"no video")
    with Pictures(str(tmp_path), ExtractConfig(), {"a": ["s"]}, {"a": video}) as pictures:
        assert "No face pictures" in pictures.of_video("a", (None, None), part.faces, [face_row("a", 0, 2)], 9)[1]
        assert pictures._spent > 0


def test_large_videos_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    portrait(tmp_path / "a.mp4", frames=50)
    store = fsspec.filesystem("memory")
    store.pipe_file("/large/a.mp4", (tmp_path / "a.mp4").read_bytes())
    about = footer(video="a", frames=tuple(range(1, 51)), times=tuple(n / 25 for n in range(50)))
    write_shard(tmp_path, "s", about, [Seen(frame, box=(100.0, 60.0, 200.0, 180.0)) for frame in about.sampled])
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    part = read_series(list_parts(str(tmp_path)).parts["va"]["a"])
    (video,) = find_videos(["memory://large/a.mp4"])
    with Pictures(str(tmp_path), ExtractConfig(), {"a": ["s"]}, {"a": video}) as pictures:
        ask = ("a", (None, None), part.faces, [face_row("a", 0, 2)], 30)
        assert len(pictures.of_video(*ask)[0]) == 1
        monkeypatch.setattr("emobeam.emo_transforms.results.report.thumbnails.FETCHED", 1000)
        assert "too much to fetch for them; name a copy with --videos" in pictures.of_video(*ask)[1]


def test_many_faces_share_the_budget() -> None:
    assert pictures_per_face(100, 8_000_000) == MOST
    assert pictures_per_face(2000, 8_000_000) == 3
    assert 3 <= pictures_per_face(600, 8_000_000) < MOST


def test_coarse_first_is_a_permutation_that_starts_in_the_middle() -> None:
    for count in range(12):
        order = _coarse_first(list(range(count)))
        assert sorted(order) == list(range(count))
    assert _coarse_first(list(range(7)))[:3] == [3, 1, 5]
