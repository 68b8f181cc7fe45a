"""Every frame as a player shows it: geometry, time, the right stream, whole pictures; the same wherever it is cut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emobeam.emo_transforms.video.frames import decode_frames
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Display, Fingerprint, InputError, Video
from tests.clips import Picture, read_number
from tests.emo_transforms.video.displayed import (
    MATRICES,
    Part,
    apart,
    join,
    pictures_of,
    probed,
    same_wherever_cut,
    shown,
    silent,
    tape,
    two_streams,
    weave,
)

CLOSE = 8.0
"""Mean difference of pixels that coding and scaling may make; a flipped or squeezed picture differs by 20 and more."""


def check_all(found: dict[int, Picture], parts: list[Part], turn: tuple[int, bool] = (0, False)) -> None:
    """Every frame is there and shows, in the middle of the common frame, what was painted."""
    number = 0
    for part in parts:
        for _ in range(part.frames):
            number += 1
            expected = shown(number, part, turn)
            picture = found[number]
            larger = min(picture.shape[axis] / expected.shape[axis] for axis in (0, 1))
            height, width = (round(edge * larger) for edge in expected.shape[:2])
            top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
            inner = picture[top : top + height, left : left + width]
            outside = picture.copy()
            outside[max(top - 2, 0) : top + height + 2, max(left - 2, 0) : left + width + 2] = 0
            inner = np.asarray(Image.fromarray(inner).resize(expected.shape[1::-1], Image.Resampling.BOX))
            assert read_number(inner) == number
            assert apart(inner, expected) < CLOSE
            assert not outside.any()
    assert list(found) == list(range(1, number + 1))


# --- geometry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", MATRICES, ids=str)
def test_display_matrices_turn_and_flip(tmp_path: Path, turn: tuple[int, bool]) -> None:
    part = Part(frames=6)
    path = weave(tmp_path / "clip.mp4", [part], turn=turn)
    check_all(pictures_of(path), [part], turn)
    probe = probed(path)
    assert (probe.rotation, probe.display.mirrored) == turn
    assert probe.display.plain == (not turn[1])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("clip.mp4", "libx264"), ("clip.webm", "libvpx"), ("clip.mpg", "mpeg2video"), ("c.ts", "libx264")],
)
def test_pixels_that_are_not_square_are_stretched(tmp_path: Path, name: str, codec: str) -> None:
    # MPEG-2 knows no shape of pixels but that of the whole picture, 4:3 or 16:9.
    part = Part(width=256, height=144, aspect=Fraction(16 * 144, 9 * 192) if codec == "mpeg2video" else Fraction(2))
    path = weave(tmp_path / name, [part], codec=codec)
    check_all(same_wherever_cut(path), [part])
    probe = probed(path)
    assert (probe.width, probe.height) == (256, 144)
    assert probe.facts.coded == part.coded


def test_the_shorter_side_is_stretched_and_the_shape_of_pixels_applies_before_the_matrix(tmp_path: Path) -> None:
    tall = Part(width=160, height=200, aspect=Fraction(1, 2))
    path = weave(tmp_path / "tall.mp4", [tall], turn=(90, True))
    check_all(pictures_of(path), [tall], (90, True))
    assert (probed(path).width, probed(path).height) == (200, 160)


@pytest.mark.parametrize(
    ("aspect", "noted"), [(Fraction(100, 101), False), (Fraction(1001, 1000), False), (Fraction(40), True)]
)
def test_pixels_near_square_or_beyond_belief_count_as_square(tmp_path: Path, aspect: Fraction, noted: bool) -> None:
    across, along = max(aspect, 1), max(1 / aspect, 1)
    plain, odd = Part(), Part(width=round(192 * across), height=round(128 * along), aspect=aspect)
    assert odd.coded == plain.coded
    probe = probed(weave(tmp_path / "odd.mp4", [odd]))
    assert (probe.width, probe.height) == (192, 128)
    assert probe.display.plain
    assert any("can't be meant" in note for note in probe.facts.notes) == noted


@pytest.mark.parametrize(
    ("name", "codec"),
    [("turn.webm", "libvpx"), ("turn.mp4", "libx264"), ("turn.mov", "libx264"), ("turn.ts", "libx264")],
)
def test_a_size_that_changes_shows_every_picture_whole(tmp_path: Path, name: str, codec: str) -> None:
    parts = [Part(frames=12), Part(frames=12, width=128, height=192, begin=480)]
    path = weave(tmp_path / name, parts, codec=codec)
    check_all(same_wherever_cut(path), parts)
    probe = probed(path)
    assert (probe.width, probe.height) == (288, 192)
    assert [(size.frame, size.width, size.height) for size in probe.display.sizes] == [(1, 192, 128), (13, 128, 192)]
    assert any("192x128, 128x192" in note for note in probe.facts.notes)


def test_smaller_pictures_of_the_same_shape_fill_the_frame(tmp_path: Path) -> None:
    parts = [Part(frames=8, width=96, height=64), Part(frames=8, width=192, height=128, begin=320)]
    found = pictures_of(weave(tmp_path / "better.webm", parts, codec="libvpx"))
    assert all(picture.shape == (128, 192, 3) for picture in found.values())
    small, large = found[8], shown(8, parts[1])
    assert apart(small[:96], large[:96]) < 2 * CLOSE


def test_the_shape_of_pixels_changes_in_mid_stream(tmp_path: Path) -> None:
    parts = [
        Part(frames=10, width=192, height=144),  # 4:3
        Part(frames=10, width=256, height=144, aspect=Fraction(4, 3), begin=400),
    ]
    assert parts[0].coded == parts[1].coded
    path = join(tmp_path / "news.ts", parts, codec="mpeg2video")
    found = same_wherever_cut(path)
    assert {picture.shape for picture in found.values()} == {(192, 256, 3)}  # a 4:3 window, as a player's
    check_all(found, parts)


# --- time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec"), [("r.ts", "libx264"), ("r.ts", "mpeg2video"), ("r.webm", "libvpx")])
@pytest.mark.parametrize("begin", [13, 300], ids=["beginning", "overlap"])
def test_a_clock_that_starts_again_runs_on(tmp_path: Path, name: str, codec: str, begin: int) -> None:
    parts = [Part(frames=14), Part(frames=15, begin=begin)]
    path = join(tmp_path / name, parts, codec=codec)
    check_all(same_wherever_cut(path), parts)
    probe = probed(path)
    np.testing.assert_allclose(probe.times(), np.arange(29) / FPS, atol=0.002)
    assert [frame for frame, _ in probe.display.clock] == [15]
    assert any("clock was set" in note for note in probe.facts.notes)
    assert probe.note == ""


FPS = 25


@pytest.mark.parametrize("begin", [3_600_000, 30_000])
def test_a_clock_that_leaps_runs_on_where_the_container_allows_it(tmp_path: Path, begin: int) -> None:
    parts = [Part(frames=14), Part(frames=10, begin=begin)]
    path = join(tmp_path / "leap.ts", parts, codec="libx264")
    check_all(same_wherever_cut(path), parts)
    np.testing.assert_allclose(probed(path).times(), np.arange(24) / FPS, atol=1e-6)
    assert any(f"+{begin / 1000 - 0.6:.1f} s" in note for note in probed(path).facts.notes)


def test_a_clock_set_back_by_an_hour(tmp_path: Path) -> None:
    parts = [Part(frames=14, begin=3_600_000), Part(frames=10)]
    path = join(tmp_path / "back.ts", parts, codec="libx264")
    check_all(same_wherever_cut(path), parts)
    assert probed(path).times()[-1] == pytest.approx(23 / FPS)
    assert any("-3600" in note for note in probed(path).facts.notes)


@pytest.mark.parametrize("name", ["still.mp4", "still.mkv"])
def test_an_hour_long_still_is_real(tmp_path: Path, name: str) -> None:
    parts = [Part(frames=10), Part(frames=10, begin=3_600_000)]
    path = weave(tmp_path / name, parts)
    probe = probed(path)
    assert probe.times()[-1] == pytest.approx(3600.36, abs=0.01)
    assert probe.display.plain
    assert any("shows no frame for 3599" in note for note in probe.facts.notes)
    check_all(pictures_of(path), parts)


def test_time_that_stands_still_is_no_error(tmp_path: Path) -> None:
    parts = [Part(frames=60), Part(frames=60, begin=59 * 40)]  # the first frame of the second has the time of the last
    path = join(tmp_path / "twice.ts", parts, codec="mpeg2video")
    times = probed(path).times()
    assert len(times) == 120
    assert times == sorted(times)
    check_all(same_wherever_cut(path), parts)


def test_lost_packets_leave_ranks_and_are_told(tmp_path: Path) -> None:
    part = Part(frames=48)
    path = weave(tmp_path / "hole.webm", [part], codec="libvpx", skip=range(16, 32))
    probe = probed(path)
    assert len(probe.pts) == 32
    assert [read_number(picture) for picture in pictures_of(path).values()] == [*range(1, 17), *range(33, 49)]
    assert any("shows no frame for 0.6 s at 0.6 s" in note for note in probe.facts.notes)


@pytest.mark.parametrize(("name", "offset"), [("late.mp4", 0.52), ("late.mkv", 0.0), ("late.ts", 0.0)])
def test_the_place_of_the_first_frame_on_the_medias_clock(tmp_path: Path, name: str, offset: float) -> None:
    options = {"movflags": "use_metadata_tags"} if name.endswith("mp4") else None
    path = weave(tmp_path / name, [Part()], delay=520, options=options)
    probe = probed(path)
    assert probe.facts.offset == pytest.approx(offset, abs=1e-3)
    assert probe.display.plain
    assert probe.times()[0] == 0


# --- streams ----------------------------------------------------------------------------------------------


def test_a_single_picture_beside_the_video_is_not_the_video(tmp_path: Path) -> None:
    cover, film = Part(frames=1, width=640, height=480), Part(frames=12)
    path = two_streams(tmp_path / "drone.mp4", [cover, film], default=0, codecs=["mjpeg", "libx264"])
    check_all(same_wherever_cut(path), [film])
    probe = probed(path)
    assert probe.display.stream == 1
    assert any("one picture" in note for note in probe.facts.notes)


def test_of_two_videos_the_default_is_taken_and_the_other_can_be_chosen(tmp_path: Path) -> None:
    large, small = Part(frames=12, width=320, height=240), Part(frames=14)
    path = two_streams(tmp_path / "two.mkv", [large, small], default=1, codecs=["libx264", "libx264"])
    assert len(probed(path).pts) == 14
    assert any("2 video streams" in note and "--stream" in note for note in probed(path).facts.notes)
    check_all(pictures_of(path, stream=0), [large])
    check_all(pictures_of(path, stream=1), [small])
    with pytest.raises(InputError, match="has 2 video streams, so there is no stream 2"):
        probed(path, 2)


# --- fields -----------------------------------------------------------------------------------------------


def test_interlaced_recordings_become_whole_pictures(tmp_path: Path) -> None:
    path, moments = tape(tmp_path / "tape.mpg")
    found = same_wherever_cut(path)
    assert probed(path).display == Display(interlaced=True)
    assert list(found) == list(range(1, len(moments) + 1))
    combed = moments[10].copy()
    combed[1::2] = moments[11][1::2]
    inner = [found[number + 1][8:-8, 8:-8] for number in range(2, 38)]
    whole = np.mean([apart(picture, moments[number + 2][8:-8, 8:-8]) for number, picture in enumerate(inner)])
    assert whole < apart(combed[8:-8, 8:-8], moments[10][8:-8, 8:-8])


def test_whole_pictures_in_a_stream_that_calls_itself_interlaced_stay_as_they_are(tmp_path: Path) -> None:
    path, _ = tape(tmp_path / "film.mpg", fielded=False)
    assert probed(path).display.plain


# --- files that are refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["ffconcat version 1.0\nfile other.mp4\n", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n"]
)
def test_playlists_are_refused(tmp_path: Path, text: str) -> None:
    weave(tmp_path / "other.mp4", [Part()])
    path = tmp_path / "list.mp4"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        probed(path)
    assert caught.value.permanent


def test_an_mp4_without_its_index_is_an_unfinished_recording(tmp_path: Path) -> None:
    path = weave(tmp_path / "cut.mp4", [Part()])
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 4])
    with pytest.raises(InputError, match="wasn't finished"):
        probed(path)


@pytest.mark.parametrize("name", ["clip.ts", "clip.mpg"])
def test_segments_of_containers_without_an_index_are_not_read_from_the_beginning(tmp_path: Path, name: str) -> None:
    codec = "libx264" if name.endswith("ts") else "mpeg2video"
    path = weave(tmp_path / name, [Part(frames=300, width=96, height=64)], codec=codec)
    segments = plan_segments(Video("v", str(path)), Fingerprint(1, ""), probed(path), SamplingConfig(0.0, 3.0), "cache")
    read = []
    found = [
        number
        for segment in segments
        for number, _ in decode_frames(str(path), segment, DecoderConfig(), progress=lambda: read.append(1))
    ]
    assert found == list(range(1, 301))
    # From the beginning each time would be 2.5 times.
    assert len(read) < 1.8 * len(found)


def test_packets_that_repeat_a_picture_are_no_frames(tmp_path: Path) -> None:
    path = silent(tmp_path / "xvid.avi", frames=30, repeats=(11, 21, 22))
    found = same_wherever_cut(path)
    expected = [number for number in range(1, 31) if number not in (11, 21, 22)]
    assert probed(path).display == Display(silent=True)  # shards of older versions hold other frames
    assert [read_number(picture) for picture in found.values()] == expected
    np.testing.assert_allclose(probed(path).times(), (np.array(expected) - 1) / 25)
