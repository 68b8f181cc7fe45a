"""The clip made again: every frame, every time stamp, the sound."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from emobeam.emo_transforms.results.overlay.video_file import Encoding, Picture, Remade, chosen_frames, remake
from emobeam.emo_transforms.video.frames import probe_video
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import InputError, Probe
from tests.clips import read_number
from tests.emo_transforms.results.overlay.sound import audio_packets, tone, with_sound

FAST = Encoding(crf=18, preset="ultrafast", threads=1)


def probe(path: Path) -> Probe:
    return probe_video(str(path), DecoderConfig())


def as_is(frame: int, time: float, picture: Picture) -> Picture:
    """The picture, cut to an even size."""
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


def again(path: Path, target: Path, **how: float) -> tuple[Probe, Remade]:
    found = probe(path)
    return found, remake(str(path), str(target), found, as_is, encoding=FAST, **how)


def shown(path: Path) -> tuple[list[Fraction], list[Picture]]:
    """Time stamps in s and pictures of all frames, by a plain decoder."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.pts * frame.time_base for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


CLIPS = [
    *("portrait.mp4", "variable.mp4", "variable.mkv", "variable.webm", "rotated_90.mp4", "rotated_180.mp4"),
    *("rotated_270.mp4", "mpeg4.avi", "h264.avi", "edit_list.mp4", "vp8_hidden.webm", "hevc.mp4", "ten_bit.mp4"),
    *("cover.mp4", "portrait.ts", "one_frame.mp4"),
]


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_keeps_number_and_time(name: str, clips: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "again.mp4"
    found, done = again(clips(name), target)
    assert (done.frames, done.lost, done.audio) == (len(found.pts), 0, "none")
    stamps, pictures = shown(target)
    base = Fraction(*found.time_base)
    tolerance = Fraction(1, 50_000)  # mp4 counts in at least 10000 ticks per second
    assert len(stamps) == len(found.pts)
    assert all(abs(stamp - pts * base) <= tolerance for stamp, pts in zip(stamps, found.pts, strict=True))
    expected = _numbers(clips(name))
    assert [read_number(picture) for picture in pictures] == expected
    again_probed = probe(target)
    assert again_probed.rotation == 0
    assert (again_probed.width, again_probed.height) == (found.width // 2 * 2, found.height // 2 * 2)


def _numbers(path: Path) -> list[int]:
    """Numbers written into the pictures of a clip, as its decoder and its display matrix show them."""
    found = probe(path)
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        frames = [np.rot90(f.to_ndarray(format="rgb24"), -(found.rotation // 90)) for f in container.decode(stream)]
    return [read_number(frame) for frame in frames]


def test_browsers_play_it(clips: Callable[[str], Path], tmp_path: Path) -> None:
    target = tmp_path / "again"
    again(clips("ten_bit.mp4"), target)
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert "mp4" in container.format.name
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    content = target.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "not ready for streaming"


def test_colours_stay(clips: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = clips("portrait.mp4"), tmp_path / "again.mp4"
    again(source, target)
    for before, after in zip(shown(source)[1][::20], shown(target)[1][::20], strict=True):
        off = np.abs(before.astype(int) - after.astype(int))
        assert off.mean() < 4
        assert np.abs((before.astype(int) - after.astype(int)).mean(axis=(0, 1))).max() < 1.5, "a shift of colours"


@pytest.mark.parametrize(("name", "codec"), [("talk.mp4", "aac"), ("talk.mkv", "libmp3lame"), ("talk.mkv", "libopus")])
def test_sound_is_copied(name: str, codec: str, tmp_path: Path) -> None:
    source, target = with_sound(tmp_path / name, codec=codec), tmp_path / "again.mp4"
    assert again(source, target)[1].audio == "copied"
    before, after = audio_packets(source), audio_packets(target)
    assert [content for _, content in after] == [content for _, content in before]
    np.testing.assert_allclose([time for time, _ in after], [time for time, _ in before], atol=2e-3)


@pytest.mark.parametrize(("name", "codec"), [("talk.mov", "pcm_s16le"), ("talk.mkv", "mp2"), ("talk.mkv", "ac3")])
def test_other_sound_becomes_aac(name: str, codec: str, tmp_path: Path) -> None:
    source = with_sound(tmp_path / name, codec=codec, rate=32000 if codec == "ac3" else 16000)
    target = tmp_path / "again.mp4"
    assert again(source, target)[1].audio == "aac"
    with av.open(str(target)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    (before, rate), (after, rate_after) = tone(source), tone(target)
    assert rate == rate_after
    assert abs(len(before) - len(after)) < 3000
    for second in (0, 1):  # 220 Hz, then 330 Hz
        wave = after[second * rate + rate // 4 : second * rate + rate * 3 // 4]
        peak = np.argmax(np.abs(np.fft.rfft(wave))) * rate / len(wave)
        assert abs(peak - (220 + 110 * second)) < 5


def test_an_excerpt_starts_at_zero_and_keeps_sound_in_step(tmp_path: Path) -> None:
    source, target = with_sound(tmp_path / "talk.mp4"), tmp_path / "part.mp4"
    found, done = again(source, target, start=0.8, end=1.6)
    assert chosen_frames(found, 0.8, 1.6) == range(21, 41)
    assert done.frames == 20
    stamps, pictures = shown(target)
    np.testing.assert_allclose([float(stamp) for stamp in stamps], np.arange(20) / 25, atol=1e-4)
    assert [read_number(picture) for picture in pictures] == list(range(21, 41))
    before, after = audio_packets(source), audio_packets(target)
    assert 10 <= len(after) <= 14  # 0.8 s in pieces of 64 ms
    places = [content for _, content in before].index(after[0][1])
    assert [content for _, content in before[places : places + len(after)]] == [content for _, content in after]
    assert abs(after[0][0] - (before[places][0] - 0.8)) < 2e-3


@pytest.mark.parametrize("name", ["h264.avi", "variable.webm", "hevc.mp4", "edit_list.mp4"])
def test_excerpts_of_other_containers(name: str, clips: Callable[[str], Path], tmp_path: Path) -> None:
    source = clips(name)
    found, done = again(source, tmp_path / "part.mp4", start=0.5, end=1.0)
    wanted = chosen_frames(found, 0.5, 1.0)
    assert done.frames == len(wanted) > 5
    numbers = [read_number(picture) for picture in shown(tmp_path / "part.mp4")[1]]
    assert numbers == [_numbers(source)[number - 1] for number in wanted]


def test_damaged_frames_are_left_out_and_times_stay(clips: Callable[[str], Path], tmp_path: Path) -> None:
    source, target = clips("damaged.mp4"), tmp_path / "again.mp4"
    found, done = again(source, target)
    assert done.frames + done.lost == len(found.pts)
    stamps, _ = shown(target)
    assert len(stamps) == done.frames
    allowed = {round(float(pts * Fraction(*found.time_base)), 4) for pts in found.pts}
    assert {round(float(stamp), 4) for stamp in stamps} <= allowed


def test_no_frames_in_that_time(clips: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shows no frame between 70 s and 80 s"):
        again(clips("portrait.mp4"), tmp_path / "again.mp4", start=70, end=80)


@pytest.mark.thorough
def test_real_clips(shared_videos: Path, tmp_path: Path) -> None:
    for name, audio in (
        ("faces/face_noface.mov", "copied"),
        ("codecs/video_90.mov", "none"),
        ("codecs/h264_10bits.mp4", None),
    ):
        found, done = again(shared_videos / name, tmp_path / "again.mp4")
        assert (done.frames, done.lost) == (len(found.pts), 0)
        assert audio in (None, done.audio)
        stamps, _ = shown(tmp_path / "again.mp4")
        times = np.array([float(stamp - stamps[0]) for stamp in stamps])
        np.testing.assert_allclose(times, found.times(), atol=1e-4)
