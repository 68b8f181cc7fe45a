"""Stored crops as input, without running a job: what is refused, how crops are cut again, what is carried over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset
from emobeam.emo_transforms.cache.failures import failure_name, write_failure
from emobeam.emo_transforms.cache.stored_crops import (
    carried_failures,
    config_from,
    network_crop,
    origin_of,
    plan_stored,
    read_stored,
    seen_before,
)
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.faces.crops import crop_face, source_crop
from emobeam.emo_transforms.video.sampling import plan_crop_segments, plan_segments
from emobeam.schemas.config import (
    NO_BACKBONE,
    AlignConfig,
    BackboneConfig,
    ExtractConfig,
    OriginConfig,
    SamplingConfig,
    shard_name,
)
from emobeam.schemas.records import Failure, Fingerprint, InputError, Probe, Segment, UsageError, Video
from tests.clips import face
from tests.emo_transforms.caches import Seen, footer, write_shard

CROPS = ExtractConfig(backbone=NO_BACKBONE, maps=(), store=("crops",))
SECOND = ExtractConfig(backbone=BackboneConfig("mobilefacenet", input_size=112), store=("embedding",), maps=())


def write_cache(folder: Path, videos: Sequence[str] = (), config: ExtractConfig = CROPS) -> Path:
    open_dataset(str(folder), Dataset(config, {}))
    for video in videos:
        write_shard(folder, f"shard-of-{video.replace('/', '-')}", footer(video=video), [Seen(1)])
    return folder


def found(*caches: Path, source: str = "video") -> list[Video]:
    return find_videos([str(cache) for cache in caches], source)


# --- which caches -----------------------------------------------------------------------------------------


def test_a_cache_stands_for_its_videos(tmp_path: Path) -> None:
    features = write_cache(tmp_path / "features", ["b", "a/clip"])
    failure = Failure("gone", "gone.mp4", "failed", "open", "missing", "gone.mp4: no such file", False)
    write_failure(str(features), "f", failure)
    videos = found(features)
    assert [video.id for video in videos] == ["a/clip", "b", "gone"]
    assert {(video.kind, video.uri) for video in videos} == {("cache", str(features))}
    assert [video.id for video in find_videos([str(features)], only="clip")] == ["a/clip"]
    assert found(features, features) == videos


def test_a_cache_without_crops_says_what_to_do(tmp_path: Path) -> None:
    maps = write_cache(tmp_path / "maps", ["a"], replace(CROPS, store=("maps",)))
    with pytest.raises(UsageError, match=rf"{maps}: .* holds no crops \(only maps\).* again with --store crops"):
        found(maps)


def test_two_caches_with_one_id(tmp_path: Path) -> None:
    one, two = write_cache(tmp_path / "one", ["a", "b"]), write_cache(tmp_path / "two", ["b", "c"])
    with pytest.raises(UsageError, match=rf"the id 'b': it is in {one} and in {two}"):
        found(one, two)


def test_two_caches_of_one_making_are_joined(tmp_path: Path) -> None:
    one, two = write_cache(tmp_path / "one", ["a"]), write_cache(tmp_path / "two", ["b"])
    assert [(video.id, video.uri) for video in found(one, two)] == [("a", str(one)), ("b", str(two))]


def test_caches_of_different_making_are_refused(tmp_path: Path) -> None:
    one = write_cache(tmp_path / "one", ["a"])
    two = write_cache(tmp_path / "two", ["b"], replace(CROPS, sampling=SamplingConfig(fps=2.0)))
    with pytest.raises(UsageError, match=r"different settings.*output of its own"):
        found(one, two)


def test_caches_and_videos_do_not_mix(tmp_path: Path) -> None:
    features = write_cache(tmp_path / "features", ["a"])
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(UsageError, match=r"features is a feature cache and .*clip\.mp4 is not"):
        found(features, tmp_path / "clip.mp4")
    with pytest.raises(UsageError, match="leave out --crops"):
        found(features, source="affwild2")


# --- which settings ---------------------------------------------------------------------------------------


def test_how_crops_were_made_is_the_origins_the_rest_is_new(tmp_path: Path) -> None:
    made = replace(CROPS, sampling=SamplingConfig(fps=3.0), align=AlignConfig(margin=0.4))
    features = write_cache(tmp_path / "features", ["a"], made)
    config = config_from(origin_of([str(features)]), replace(SECOND, align=AlignConfig("5pt", 0.3)))
    assert config.origin == OriginConfig(made.cache_id, 0.4)
    assert (config.sampling, config.detector) == (made.sampling, made.detector)
    assert (config.backbone, config.store) == (SECOND.backbone, SECOND.store)
    assert (config.align.style, config.align.margin, config.crop_margin) == ("5pt", 0.3, 0.4)
    assert config.cache_id != replace(config, origin=OriginConfig("other", 0.4)).cache_id
    with pytest.raises(UsageError, match=r"--margin 0\.5: .* cut with a margin of 0\.4"):
        config_from(origin_of([str(features)]), replace(SECOND, align=AlignConfig(margin=0.5)))


def test_crops_of_crops_remember_the_first_margin(tmp_path: Path) -> None:
    features = write_cache(tmp_path / "one", ["a"], replace(CROPS, align=AlignConfig(margin=0.4)))
    second = config_from(origin_of([str(features)]), replace(CROPS, align=AlignConfig(margin=0.1)))
    again = write_cache(tmp_path / "two", ["a"], second)
    assert config_from(origin_of([str(again)]), SECOND).crop_margin == 0.4


def test_crops_of_folders_have_no_landmarks(tmp_path: Path) -> None:
    given_ = replace(CROPS, source="affwild2", align=AlignConfig("given"))
    features = write_cache(tmp_path / "features", ["a"], given_)
    origin = origin_of([str(features)])
    assert config_from(origin, SECOND).align == given_.align
    with pytest.raises(UsageError, match="needs landmarks"):
        config_from(origin, replace(SECOND, align=AlignConfig("5pt")))


# --- cutting again ----------------------------------------------------------------------------------------

FRAME = face(1, (480, 640))
LANDMARKS = np.array([[280, 200], [350, 205], [315, 240], [290, 280], [345, 282]], np.float32)
"""About where the drawn face has them; any five points in this order would do."""


def again(
    box: NDArray[np.float32], align: AlignConfig, margin: float, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """What a backbone sees of a face in the frame, and of its stored crop."""
    config = replace(SECOND, backbone=BackboneConfig(input_size=size), align=align, origin=OriginConfig("x", margin))
    stored = source_crop(FRAME, box, margin)
    return crop_face(FRAME, box, LANDMARKS, align, size), network_crop(stored, box, LANDMARKS.reshape(10), config)


boxes = st.tuples(st.floats(-20, 500), st.floats(-20, 300), st.floats(60, 240), st.floats(60, 240)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]], np.float32)
)


@given(box=boxes, size=st.sampled_from([112, 224]), narrower=st.booleans())
def test_a_stored_crop_is_the_face_but_for_less_than_a_pixel(
    box: NDArray[np.float32], size: int, narrower: bool
) -> None:
    """Stored crops begin at whole pixels, so that a resized one may be half a frame pixel off."""
    align = AlignConfig(margin=0.1 if narrower else 0.3)
    direct, stored = again(box, align, 0.3, size)
    assert stored.shape == (size, size, 3)
    difference = np.abs(direct.astype(int) - stored)
    assert difference.mean() < 4


@settings(deadline=None, max_examples=20)
@given(shift=st.tuples(st.floats(-8, 8), st.floats(-8, 8)), size=st.sampled_from([112, 224]))
def test_five_points_are_found_in_a_stored_crop(shift: tuple[float, float], size: int) -> None:
    """Where the aligned crop lies within the stored one it is the same picture, but for rounding."""
    x, y = shift
    box = np.array([230 + x, 130 + y, 400 + x, 310 + y], np.float32)
    direct, stored = again(box, AlignConfig("5pt"), 0.6, size)
    inner = slice(size // 16, -size // 16)
    assert np.abs(direct.astype(int) - stored)[inner, inner].max() <= 2


def test_a_narrower_margin_is_the_inner_part() -> None:
    box = np.array([200, 100, 400, 300], np.float32)  # every square about it begins at a whole pixel
    direct, stored = again(box, AlignConfig(margin=0.1), 0.5, 224)
    np.testing.assert_array_equal(direct, stored)


@pytest.mark.parametrize(("edge", "margin", "stored"), [(20, 0.2, 0.25), (60, 0.29, 0.3), (200, 0.25, 0.3)])
def test_the_edge_of_a_stored_crop_does_not_darken_the_picture(edge: int, margin: float, stored: float) -> None:
    """What the filter reaches beyond it isn't black, for the frame wasn't."""
    box = np.array([50.3, 40.6, 50.3 + edge, 40.6 + edge], np.float32)
    backbone, align = BackboneConfig(input_size=112), AlignConfig(margin=margin)
    config = replace(SECOND, backbone=backbone, align=align, origin=OriginConfig("x", stored))
    grey = np.full((400, 400, 3), 200, np.uint8)
    crop = network_crop(source_crop(grey, box, stored), box, LANDMARKS.reshape(10), config)
    assert (crop == 200).all()


def test_images_of_folders_are_taken_whole() -> None:
    official = face(1, (112, 112))
    config = replace(SECOND, align=AlignConfig("given"))
    np.testing.assert_array_equal(network_crop(official, None, None, config), official)


# --- planning ---------------------------------------------------------------------------------------------


def test_segments_are_those_of_the_origin(tmp_path: Path) -> None:
    features = write_cache(tmp_path / "features")
    shown = footer(video="a", sampled=(1, 6, 11), decoded=(True, False, True), faces=(2, 0, 0), note="damage")
    write_shard(features, "s0", shown, [Seen(1), Seen(1, track=1)])
    (video,) = found(features)
    (segment,) = plan_stored(video, read_stored(video.uri), SECOND)
    assert (segment.frames, segment.times, segment.sampled) == (shown.frames, shown.times, shown.sampled)
    assert segment.fingerprint == Fingerprint(shown.size, shown.digest)
    assert (segment.index, segment.count, segment.start) == (shown.segment, shown.count, shown.start)
    assert (segment.width, segment.height, segment.note) == (640, 360, "damage")
    assert segment.origin == f"{features}/shards/s0.parquet"
    assert segment.shard not in ("s0", "")
    assert seen_before(segment) == {1: 2, 11: 0}


def test_a_damaged_shard_fails_its_video(tmp_path: Path) -> None:
    features = write_cache(tmp_path / "features", ["a"])
    (video,) = found(features)
    stored = read_stored(video.uri)
    (shard,) = (features / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(InputError, match="not a whole Parquet file"):
        plan_stored(video, stored, SECOND)
    shard.unlink()
    with pytest.raises(InputError, match="no longer there"):
        plan_stored(video, stored, SECOND)


def of_a_video() -> list[Segment]:
    probe = Probe(tuple(range(0, 300, 2)), (1, 25), 64, 48)
    return plan_segments(Video("a", "a.mp4"), Fingerprint(1000, "d1"), probe, SamplingConfig(6.0, 2.5), "x")


def of_untimed_crops() -> list[Segment]:
    images = [(frame, f"{frame}.jpg") for frame in (1, 1800, 1801, 5000)]
    video = Video("a", "a", kind="crops")
    return plan_crop_segments(video, Fingerprint(1000, "d1"), images, None, SamplingConfig(0.0, 2.5), "x")


@pytest.mark.parametrize("planned", [of_a_video, of_untimed_crops])
def test_failures_carry_over_under_the_names_the_shards_would_have(
    planned: Callable[[], list[Segment]], tmp_path: Path
) -> None:
    """So that a shard that turns up later clears the record."""
    config = replace(CROPS, sampling=SamplingConfig(6.0, 2.5))
    features = write_cache(tmp_path / "features", [], config)
    segments = planned()
    lost = segments[1:]
    failure = Failure(
        "a",
        "a.mp4",
        "partial",
        "decode",
        "timeout",
        "too slow",
        False,
        segments=tuple(segment.index for segment in lost),
        shards=tuple(sorted(segment.shard for segment in lost)),
        native_frames=tuple(frame for segment in lost for frame in segment.frames),
        native_times=tuple(time for segment in lost for time in segment.times),
        size=1000,
        digest="d1",
    )
    write_failure(str(features), failure_name("a", Fingerprint(1000, "d1"), config.cache_id), failure)
    write_failure(str(features), "old", replace(failure, size=999))
    (video,) = found(features)
    new = config_from(origin_of([str(features)]), SECOND)
    (carried,) = carried_failures(video, read_stored(video.uri), new)
    assert replace(carried, shards=()) == replace(failure, shards=())
    again_ = {s.shard for s in _replanned(planned, new)[1:]}
    assert set(carried.shards) == again_
    assert not again_ & set(failure.shards)


def _replanned(planned: Callable[[], list[Segment]], config: ExtractConfig) -> list[Segment]:
    return [replace(s, shard=shard_name(s.video.id, s.fingerprint, s.start, config.cache_id)) for s in planned()]
