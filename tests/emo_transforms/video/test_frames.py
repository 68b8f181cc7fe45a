"""Frame numbers, sizes and damage, checked against the numbers painted into the clips and a plain decoding loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from emobeam.emo_transforms.video.frames import decode_frames, probe_video
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Fingerprint, InputError, Segment, UsageError, Video
from tests.clips import irregular_pts, read_number

Clips = Callable[[str], Path]
Pictures = dict[int, npt.NDArray[np.uint8]]

# Numbers painted into the pictures that a player shows, in order.
SHOWN: dict[str, list[int]] = {
    "portrait.mp4": list(range(1, 51)),
    "portrait.ts": list(range(1, 51)),
    "mpeg2.ts": list(range(1, 51)),
    "mpeg4.avi": list(range(1, 51)),
    "h264.avi": list(range(1, 51)),
    "hevc.mp4": list(range(1, 51)),
    "open_gop.mp4": list(range(1, 51)),
    "ten_bit.mp4": list(range(1, 51)),
    "av1.mp4": list(range(1, 21)),
    "vp9.webm": list(range(1, 31)),
    "one_frame.mp4": [1],
    "absent.mp4": list(range(1, 76)),
    "variable.mp4": list(range(1, 61)),
    "variable.mkv": list(range(1, 61)),
    "variable.webm": list(range(1, 61)),
    "rotated_90.mp4": list(range(1, 13)),
    "rotated_180.mp4": list(range(1, 13)),
    "rotated_270.mp4": list(range(1, 13)),
    "edit_list.mp4": list(range(6, 51)),
    "vp8_hidden.webm": [number for number in range(1, 41) if number not in (10, 21)],
    "cover.mp4": list(range(1, 13)),
}
MISCOUNTED_BY_DECORD = {"portrait.ts", "mpeg2.ts", "mpeg4.avi", "h264.avi", "hevc.mp4", "open_gop.mp4"}
CASES = [
    pytest.param(decoder, clip, id=f"{decoder}-{clip}")
    for decoder in ("pyav", "decord")
    for clip in SHOWN
    if decoder == "pyav" or clip not in MISCOUNTED_BY_DECORD
]


def segments_of(path: Path, *, fps: float = 0.0, seconds: float = 60.0) -> list[Segment]:
    probe = probe_video(str(path), DecoderConfig())
    return plan_segments(Video(path.stem, str(path)), Fingerprint(1, ""), probe, SamplingConfig(fps, seconds), "")


def decode(path: Path, decoder: str = "pyav", *, fps: float = 0.0, seconds: float = 60.0, threads: int = 1) -> Pictures:
    pictures: Pictures = {}
    for segment in segments_of(path, fps=fps, seconds=seconds):
        found = list(decode_frames(str(path), segment, DecoderConfig(name=decoder), threads=threads))
        numbers = [number for number, _ in found]
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= set(segment.sampled)
        pictures.update(found)
    return pictures


def numbers_in(pictures: Pictures) -> dict[int, int]:
    return {frame: read_number(picture) for frame, picture in pictures.items()}


# --- which frames there are -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHOWN)
def test_probe_counts_the_frames_a_player_shows(clips: Clips, name: str) -> None:
    probe = probe_video(str(clips(name)), DecoderConfig())
    assert len(probe.pts) == len(SHOWN[name])
    assert list(probe.pts) == sorted(set(probe.pts))
    assert probe.seekable == (name != "h264.avi")
    assert probe.note == ""


@pytest.mark.parametrize("name", [name for name in SHOWN if name != "h264.avi"])
def test_probe_gives_the_time_stamps_of_plain_decoding(clips: Clips, name: str) -> None:
    path = clips(name)
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(container.streams.best("video"))]
    assert list(probe_video(str(path), DecoderConfig()).pts) == stamps


def test_times_of_a_variable_rate(clips: Clips) -> None:
    expected = np.array(irregular_pts(60)) / 1000
    for name in ("variable.mp4", "variable.mkv", "variable.webm"):
        times = probe_video(str(clips(name)), DecoderConfig()).times()
        np.testing.assert_allclose(times, expected - expected[0], atol=1e-9)


def test_frames_without_time_stamps_are_spaced_by_the_rate(clips: Clips) -> None:
    probe = probe_video(str(clips("h264.avi")), DecoderConfig())
    np.testing.assert_allclose(probe.times(), np.arange(50) / 25)


@pytest.mark.parametrize(
    ("name", "rotation"), [("portrait.mp4", 0), *((f"rotated_{d}.mp4", d) for d in (90, 180, 270))]
)
def test_rotation_and_upright_size(clips: Clips, name: str, rotation: int) -> None:
    probe = probe_video(str(clips(name)), DecoderConfig())
    assert probe.rotation == rotation
    assert (probe.width, probe.height) == ((256, 256) if rotation == 0 else (320, 240))


def test_a_stream_that_begins_in_mid_group_begins_where_it_can_be_shown(clips: Clips) -> None:
    shown = list(numbers_in(decode(clips("cut_in.ts"))).values())
    assert shown == list(range(shown[0], 51))
    assert 1 < shown[0] < 25


@pytest.mark.parametrize(
    ("name", "stage", "reason", "permanent"),
    [
        ("nowhere.mp4", "open", "missing", False),
        ("empty.mp4", "open", "empty", True),
        ("text.mp4", "open", "damaged", True),
        ("truncated.mp4", "open", "damaged", True),
        ("audio_only.m4a", "open", "no_video", True),
        ("huge.avi", "probe", "too_large", True),
    ],
)
def test_files_that_cant_be_used(clips: Clips, name: str, stage: str, reason: str, permanent: bool) -> None:
    path = clips("portrait.mp4").with_name(name) if name == "nowhere.mp4" else clips(name)
    with pytest.raises(InputError) as caught:
        probe_video(str(path), DecoderConfig())
    assert (caught.value.stage, caught.value.reason, caught.value.permanent) == (stage, reason, permanent)
    assert str(path) in str(caught.value)


def test_a_folder_is_not_read_as_a_video(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        probe_video(str(tmp_path), DecoderConfig())
    assert (caught.value.reason, caught.value.permanent) == ("io", False)


def test_a_video_without_a_whole_frame_is_damaged(clips: Clips, tmp_path: Path) -> None:
    content = bytearray(clips("one_frame.mp4").read_bytes())
    begin = content.index(b"mdat") + 4
    size = int.from_bytes(content[begin - 8 : begin - 4], "big") - 8
    content[begin : begin + size] = b"\xff" * size
    path = tmp_path / "nothing.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        probe_video(str(path), DecoderConfig())
    assert (caught.value.reason, caught.value.permanent) == ("damaged", True)


@pytest.mark.parametrize("name", ["truncated.webm", "truncated_announced.mp4"])
def test_a_truncated_file_counts_as_far_as_it_goes(clips: Clips, name: str) -> None:
    path = clips(name)
    probe = probe_video(str(path), DecoderConfig())
    assert 10 < len(probe.pts) < 45
    assert "prematurely" in probe.note or "partial file" in probe.note
    numbers = numbers_in(decode(path))
    assert len(numbers) >= len(probe.pts) - 2
    assert all(frame == number for frame, number in numbers.items())


# --- what they show ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("decoder", "name"), CASES)
def test_each_frame_shows_its_own_number(clips: Clips, decoder: str, name: str) -> None:
    expected = dict(enumerate(SHOWN[name], start=1))
    pictures = decode(clips(name), decoder)
    assert numbers_in(pictures) == expected
    assert all(picture.dtype == np.uint8 and picture.flags.c_contiguous for picture in pictures.values())


@pytest.mark.parametrize(("decoder", "name"), CASES)
def test_cutting_into_segments_changes_no_byte(clips: Clips, decoder: str, name: str) -> None:
    whole = decode(clips(name), decoder, fps=6.0)
    cut = decode(clips(name), decoder, fps=6.0, seconds=0.7)
    assert list(whole) == list(cut)
    assert all(np.array_equal(whole[frame], cut[frame]) for frame in whole)


@pytest.mark.parametrize("name", ["portrait.mp4", "edit_list.mp4", "variable.webm", "rotated_90.mp4", "ten_bit.mp4"])
def test_both_decoders_show_the_same(clips: Clips, name: str) -> None:
    one, other = decode(clips(name), "pyav"), decode(clips(name), "decord")
    assert list(one) == list(other)
    for frame in one:
        assert np.abs(one[frame].astype(int) - other[frame]).mean() < 4


@pytest.mark.parametrize("name", sorted(MISCOUNTED_BY_DECORD))
def test_decord_is_kept_from_files_in_which_it_miscounts(clips: Clips, name: str) -> None:
    with pytest.raises(InputError, match="take --decoder pyav") as caught:
        decode(clips(name), "decord")
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("name", ["portrait.mp4", "hevc.mp4", "variable.webm", "av1.mp4"])
def test_threads_change_no_byte(clips: Clips, name: str) -> None:
    one, two = decode(clips(name)), decode(clips(name), threads=2)
    assert all(np.array_equal(one[frame], two[frame]) for frame in one)
    assert list(one) == list(two)


def test_skipping_unwanted_frames_changes_no_byte(clips: Clips) -> None:
    every, few = decode(clips("portrait.mp4")), decode(clips("portrait.mp4"), fps=6.0)
    assert 5 < len(few) < len(every)
    assert all(np.array_equal(every[frame], few[frame]) for frame in few)


def test_damage_costs_its_own_frames_and_shifts_no_number(clips: Clips) -> None:
    path = clips("damaged.mp4")
    probe = probe_video(str(path), DecoderConfig())
    assert len(probe.pts) == 75
    assert "NAL" in probe.note
    numbers = numbers_in(decode(path))
    assert len(numbers) == 73
    # What refers to a lost frame is smeared (-1: unreadable) up to the next keyframe, but never another frame.
    assert all(number in (frame, -1) for frame, number in numbers.items())
    assert all(numbers[frame] == frame for frame in numbers if frame <= 24 or frame > 37)


def test_damage_costs_decord_more_but_shifts_no_number(clips: Clips) -> None:
    numbers = numbers_in(decode(clips("damaged.mp4"), "decord"))
    # How many of its chunks survive is a matter of decord's threads: on a busy machine it may be none.
    assert len(numbers) < 73
    assert all(number in (frame, -1) for frame, number in numbers.items())


def test_an_unknown_decoder_is_a_usage_error(clips: Clips) -> None:
    with pytest.raises(UsageError, match="pyav, decord"):
        decode(clips("portrait.mp4"), "nonsense")


# --- real clips -------------------------------------------------------------------------------------------

INTACT = [
    "faces/single_face.mp4",
    "faces/face_noface.mov",
    "faces/single_face_vfr.mp4",
    "faces/single_face_rot90meta.mp4",
    "faces/single_face_mpeg4.avi",
    "codecs/no_face_cartoon.mp4",
    "codecs/av1_video.mkv",
    "codecs/h265_video.mp4",
    "codecs/h264_10bits.mp4",
    "codecs/video_90.mov",
    "codecs/video_270.mov",
    "broken/unordered.mov",
]


@pytest.mark.parametrize("name", INTACT)
def test_real_clips_lose_nothing(shared_videos: Path, name: str) -> None:
    path = shared_videos / name
    with av.open(str(path)) as container:
        plain = {frame.pts: frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)}
    probe = probe_video(str(path), DecoderConfig())
    assert list(probe.pts) == list(plain)
    fps = 6.0 if len(plain) > 100 else 0.0
    pictures = decode(path, seconds=0.9, fps=fps)
    for frame, picture in pictures.items():
        assert picture.shape == (probe.height, probe.width, 3)
        assert np.array_equal(np.rot90(plain[probe.pts[frame - 1]], -(probe.rotation // 90)), picture)
    sampled = [frame for segment in segments_of(path, fps=fps) for frame in segment.sampled]
    assert list(pictures) == sampled


def test_a_really_damaged_clip(shared_videos: Path) -> None:
    path = shared_videos / "broken/corrupted.mp4"
    probe = probe_video(str(path), DecoderConfig())
    assert len(probe.pts) == 50
    assert probe.note
    assert 28 <= len(decode(path)) < 50
