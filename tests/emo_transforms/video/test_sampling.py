"""Sampling and cutting, against the definition itself (nearest frame to each multiple of 1 / fps)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.video.sampling import CROPS_PER_SEGMENT, plan_crop_segments, plan_segments, sample_frames
from emobeam.schemas.config import SamplingConfig, shard_name
from emobeam.schemas.records import Fingerprint, InputError, Probe, Segment, UsageError, Video

VIDEO = Video("a/b", "a/b.mp4")
FINGERPRINT = Fingerprint(10, "digest")

rates = st.sampled_from([0.5, 1.0, 5.0, 6.0, 12.5, 29.97])
milliseconds = st.lists(st.integers(5, 900), max_size=80)


def ascending(steps: list[int]) -> list[int]:
    stamps = [0]
    for step in steps:
        stamps.append(stamps[-1] + step)
    return stamps


def plan(pts: list[int], fps: float = 6.0, seconds: float = 2.0) -> list[Segment]:
    probe = Probe(tuple(pts), (1, 1000), 64, 48, rotation=90, seekable=False, codec="h264", note="a note")
    return plan_segments(VIDEO, FINGERPRINT, probe, SamplingConfig(fps, seconds), "cache")


@given(milliseconds, rates)
def test_takes_the_nearest_frame_to_each_target(steps: list[int], fps: float) -> None:
    times = [stamp / 1000 for stamp in ascending(steps)]
    end = times[-1] + (times[-1] - times[-2]) / 2 if len(times) > 1 else 0.0
    targets = [k / fps for k in range(int(end * fps) + 2) if k / fps <= end + 1e-7]
    # Differences below a microsecond are ties, and ties go to the earlier frame.
    nearest = {min(range(len(times)), key=lambda i: (round(abs(times[i] - target), 6), i)) for target in targets}
    sampled = sample_frames(times, fps)
    assert sampled == sorted(set(sampled))
    assert sampled[0] == 1
    assert set(sampled) == {index + 1 for index in nearest}


@given(milliseconds, rates)
def test_error_is_at_most_half_a_local_interval(steps: list[int], fps: float) -> None:
    times = [stamp / 1000 for stamp in ascending(steps)]
    sampled = [times[number - 1] for number in sample_frames(times, fps)]
    for k in range(int(times[-1] * fps) + 1):
        target = k / fps
        before = max(time for time in times if time <= target + 1e-9)
        after = min((time for time in times if time >= target - 1e-9), default=before)
        assert min(abs(time - target) for time in sampled) <= (after - before) / 2 + 1e-6


@pytest.mark.parametrize("native", [23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
@pytest.mark.parametrize("fps", [1.0, 6.0, 10.0])
def test_rounding_to_milliseconds_changes_the_sample_by_no_more_than_the_rounding(native: float, fps: float) -> None:
    exact = [index / native for index in range(400)]
    rounded = [round(time, 3) for time in exact]
    a, b = sample_frames(exact, fps), sample_frames(rounded, fps)
    assert len(a) == len(b)
    for k, (one, other) in enumerate(zip(a, b, strict=True)):
        assert abs(exact[one - 1] - k / fps) == pytest.approx(abs(exact[other - 1] - k / fps), abs=0.0021)


def test_native_rate_survives_rounding_to_milliseconds() -> None:
    times = [round(index / 30, 3) for index in range(200)]
    assert sample_frames(times, 30.0) == list(range(1, 201))
    assert sample_frames(times, 0) == list(range(1, 201))


def test_known_samples() -> None:
    at_25 = [index / 25 for index in range(26)]
    assert sample_frames(at_25, 6.0) == [1, 5, 9, 13, 18, 22, 26]
    assert sample_frames(at_25, 10.0) == [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26]  # ties: the earlier
    assert sample_frames([0.0, 3.0, 3.04], 6.0) == [1, 2]
    assert sample_frames([0.0], 6.0) == [1]
    assert sample_frames([], 6.0) == []


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(UsageError, match="frames per second"):
        sample_frames([0.0], fps)


@given(milliseconds, rates, st.sampled_from([0.5, 2.0, 60.0]), st.integers(-5000, 10**9))
def test_segments_hold_every_frame_once_and_dont_depend_on_the_first_stamp(
    steps: list[int], fps: float, seconds: float, shift: int
) -> None:
    pts = ascending(steps)
    segments = plan(pts, fps, seconds)
    assert [frame for segment in segments for frame in segment.frames] == list(range(1, len(pts) + 1))
    assert [stamp for segment in segments for stamp in segment.pts] == pts
    times = [stamp / 1000 for stamp in pts]
    assert [frame for segment in segments for frame in segment.sampled] == sample_frames(times, fps)
    for index, segment in enumerate(segments):
        assert (segment.index, segment.count) == (index, len(segments))
        assert segment.frames
        assert set(segment.sampled) <= set(segment.frames)
        assert all(segment.start <= time < segment.start + seconds for time in segment.times)
        assert (segment.start / seconds).is_integer()
    moved = plan([stamp + shift for stamp in pts], fps, seconds)
    assert [(s.frames, s.times, s.sampled, s.shard) for s in moved] == [
        (s.frames, s.times, s.sampled, s.shard) for s in segments
    ]


def test_segments_carry_what_decoding_needs_and_skip_empty_cells() -> None:
    segments = plan([100, 140, 9_100], seconds=2.0)
    assert [segment.start for segment in segments] == [0.0, 8.0]
    first = segments[0]
    assert (first.width, first.height, first.rotation, first.seekable, first.note) == (64, 48, 90, False, "a note")
    assert first.shard == shard_name("a/b", FINGERPRINT, 0.0, "cache")
    assert len({segment.shard for segment in segments}) == 2
    with pytest.raises(UsageError, match="longer than 0"):
        plan([0], seconds=0.0)


def crops(
    frames: list[int], times: dict[int, float] | None = None, fps: float = 0.0, seconds: float = 2.0
) -> list[Segment]:
    images = [(frame, f"{frame:05}.jpg") for frame in reversed(frames)]
    return plan_crop_segments(VIDEO, FINGERPRINT, images, times, SamplingConfig(fps, seconds), "cache")


def test_crops_without_times_are_cut_by_frame_number() -> None:
    frames = [3, 4, 1800, 1801, 9000]
    segments = crops(frames)
    assert [segment.frames for segment in segments] == [(3, 4, 1800), (1801,), (9000,)]
    assert [segment.start for segment in segments] == [1.0, 1801.0, 4 * CROPS_PER_SEGMENT + 1.0]
    assert all(segment.times == () and segment.sampled == segment.frames for segment in segments)
    assert segments[0].images == ("00003.jpg", "00004.jpg", "01800.jpg")
    assert [(segment.index, segment.count) for segment in segments] == [(0, 3), (1, 3), (2, 3)]
    assert segments[1].shard == shard_name("a/b", FINGERPRINT, 1801.0, "cache")


def test_crops_with_times_of_all_native_frames() -> None:
    times = {frame: (frame - 1) / 25 for frame in range(1, 101)}
    segments = crops([2, 3, 60, 101], times)
    assert [segment.frames for segment in segments] == [tuple(range(1, 51)), tuple(range(51, 101))]
    assert [segment.sampled for segment in segments] == [(2, 3), (60,)]
    assert segments[0].images[:4] == ("", "00002.jpg", "00003.jpg", "")
    assert segments[1].times == tuple((frame - 1) / 25 for frame in range(51, 101))
    assert "1 crops" in segments[0].note


def test_crops_sampled_by_time() -> None:
    times = {frame: (frame - 1) / 30 for frame in range(1, 61)}
    segments = crops([frame for frame in range(1, 61) if frame != 11], times, fps=6.0, seconds=60.0)
    assert segments[0].sampled == tuple(frame for frame in range(1, 61, 5) if frame != 11)


def test_crops_with_times_of_the_crops_alone() -> None:
    segments = crops([5, 9], {5: 0.16, 9: 0.32})
    assert [(s.frames, s.times, s.images) for s in segments] == [((5, 9), (0.16, 0.32), ("00005.jpg", "00009.jpg"))]


def test_crops_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="without presentation times"):
        crops([1, 2], None, fps=6.0)
    with pytest.raises(InputError, match="of frame 2"):
        plan_crop_segments(VIDEO, FINGERPRINT, [(2, "2.jpg"), (2, "2.png")], None, SamplingConfig(0), "cache")
    assert crops([]) == []


@given(st.sets(st.integers(1, 8000), max_size=60))
def test_every_crop_is_in_one_segment(frames: set[int]) -> None:
    segments = crops(sorted(frames))
    assert [frame for segment in segments for frame in segment.frames] == sorted(frames)
