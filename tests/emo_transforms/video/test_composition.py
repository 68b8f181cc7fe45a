"""Shape of pixels, display matrix, size changes and clocks in any combination, on woven clips, against ffmpeg's own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.video.clock import straightened
from emobeam.emo_transforms.video.frames import decode_frames, probe_video
from emobeam.emo_transforms.video.picture.geometry import common_size, orientation, pixel_aspect, stretched
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import CodedSize, Fingerprint, Video
from tests.clips import Picture
from tests.emo_transforms.video.displayed import FPS, MATRICES, Part, join, weave
from tests.emo_transforms.video.test_displayed import check_all

few = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))

ASPECTS = (Fraction(1), Fraction(2), Fraction(4, 3), Fraction(1, 2), Fraction(12, 11))


@st.composite
def parts_of(draw: st.DrawFn, most: int, *, one_aspect: bool, begins: bool) -> list[Part]:
    aspect = draw(st.sampled_from(ASPECTS))
    found: list[Part] = []
    place = 0
    for _ in range(draw(st.integers(1, most))):
        if not one_aspect:
            aspect = draw(st.sampled_from(ASPECTS))
        across, along = max(aspect, Fraction(1)), max(1 / aspect, Fraction(1))
        # Coded sizes of whole macroblocks and odd ones; the strip with the number needs some width.
        width, height = draw(st.sampled_from([(192, 128), (130, 98), (128, 192), (160, 160), (146, 110)]))
        frames = draw(st.integers(3, 14))
        begin = draw(st.sampled_from([0, 13, 200])) if begins and found else place
        found.append(Part(frames, round(width * across), round(height * along), aspect, begin))
        place = found[-1].begin + 40 * frames
    return found


def all_pictures(path: Path, seconds: float) -> dict[int, Picture]:
    probe = probe_video(str(path), DecoderConfig())
    video = Video("v", str(path))
    segments = plan_segments(video, Fingerprint(1, ""), probe, SamplingConfig(0.0, seconds), "cache")
    assert [frame for segment in segments for frame in segment.frames] == list(range(1, len(probe.pts) + 1))
    times = probe.times()
    assert times == sorted(times)
    return {number: picture for s in segments for number, picture in decode_frames(str(path), s, DecoderConfig())}


def same_in_pieces(path: Path, seconds: float) -> dict[int, Picture]:
    whole, pieces = all_pictures(path, 60.0), all_pictures(path, seconds)
    assert list(whole) == list(pieces)
    assert all(np.array_equal(whole[number], pieces[number]) for number in whole)
    return whole


@few
@given(
    part=parts_of(1, one_aspect=True, begins=False),
    turn=st.sampled_from(sorted(MATRICES)),
    delay=st.sampled_from([0, 40, 333]),
    seconds=st.sampled_from([0.12, 0.2, 0.4]),
)
def test_shape_of_pixels_matrix_and_delay(part: list[Part], turn: tuple[int, bool], delay: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = weave(Path(folder) / "clip.mp4", part, turn=turn, delay=delay)
        check_all(same_in_pieces(path, seconds), part, turn)


@few
@given(parts=parts_of(3, one_aspect=True, begins=False), seconds=st.sampled_from([0.12, 0.2, 0.4]))
def test_sizes_that_change_in_one_recording(parts: list[Part], seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = weave(Path(folder) / "clip.webm", parts, codec="libvpx")
        check_all(same_in_pieces(path, seconds), parts)


@few
@given(parts=parts_of(3, one_aspect=False, begins=True), seconds=st.sampled_from([0.12, 0.2, 0.4]))
def test_recordings_of_any_kind_joined_byte_by_byte(parts: list[Part], seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = join(Path(folder) / "clip.ts", parts, codec="libx264")
        check_all(same_in_pieces(path, seconds), parts)
        frames = sum(part.frames for part in parts)
        times = probe_video(str(path), DecoderConfig()).times()
        if all(part.begin <= 200 for part in parts[1:]):
            np.testing.assert_allclose(times, np.arange(frames) / FPS, atol=0.25 * len(parts))


@few
@given(
    part=parts_of(1, one_aspect=True, begins=False),
    turn=st.sampled_from(sorted(MATRICES)),
    kind=st.sampled_from([("clip.mp4", "libx264"), ("clip.webm", "libvpx"), ("clip.ts", "libx264")]),
)
def test_pictures_are_those_that_ffmpeg_shows(part: list[Part], turn: tuple[int, bool], kind: tuple[str, str]) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg isn't installed; what is shown is checked against what was painted alone")
    name, codec = kind
    with tempfile.TemporaryDirectory() as folder:
        path = weave(Path(folder) / name, part, codec=codec, turn=turn if name.endswith("mp4") else (0, False))
        found = all_pictures(path, 0.2)
        probe = probe_video(str(path), DecoderConfig())
        shown = _ffmpeg(path, probe.width, probe.height)
        assert len(shown) == len(found)
        for picture, expected in zip(found.values(), shown, strict=True):
            assert np.abs(picture.astype(float) - expected).mean() < 2.5


def _ffmpeg(path: Path, width: int, height: int) -> Picture:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, height, width, 3)


# --- the arithmetic ---------------------------------------------------------------------------------------

coded_sizes = st.builds(
    CodedSize,
    frame=st.just(1),
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    aspect=st.tuples(st.integers(1, 10), st.integers(1, 10)).filter(lambda ratio: ratio[0] != ratio[1]),
)


@given(size=coded_sizes)
def test_one_side_is_stretched_and_none_is_shrunk(size: CodedSize) -> None:
    width, height = stretched(size.width, size.height, size.aspect)
    assert width >= size.width
    assert height >= size.height
    assert width == size.width or height == size.height
    across, along = size.aspect
    assert abs(width * size.height * along - height * size.width * across) <= max(
        size.width * across, size.height * along
    )


@given(sizes=st.lists(coded_sizes, min_size=1, max_size=5))
def test_every_picture_fits_into_the_common_frame(sizes: list[CodedSize]) -> None:
    width, height = common_size(sizes)
    for size in sizes:
        own = stretched(size.width, size.height, size.aspect)
        assert own[0] <= width
        assert own[1] <= height
    first = stretched(sizes[0].width, sizes[0].height, sizes[0].aspect)
    assert abs(width * first[1] - height * first[0]) <= max(first)


@given(turn=st.sampled_from(sorted(MATRICES)), scale=st.sampled_from([1 << 16, 1 << 15, 3 << 16]))
def test_a_matrix_is_a_turn_after_a_flip(turn: tuple[int, bool], scale: int) -> None:
    a, b, c, d = (value * scale for value in MATRICES[turn])
    assert orientation((a, b, 0, c, d, 0, 0, 0, 1 << 30)) == (*turn, "")


def test_angles_between_quarter_turns_take_the_nearest_and_tell() -> None:
    sine = round(0.342 * 65536)
    cosine = round(0.94 * 65536)
    rotation, mirrored, note = orientation((cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30))
    assert (rotation, mirrored) == (0, False)
    assert "20°" in note
    assert orientation((0,) * 9) == (0, False, "")
    assert orientation(()) == (0, False, "")


@pytest.mark.parametrize("ratio", [None, Fraction(0), Fraction(1), Fraction(995, 1000), Fraction(1, 30), Fraction(11)])
def test_shapes_of_pixels_that_count_as_square(ratio: Fraction | None) -> None:
    aspect, note = pixel_aspect(ratio)
    assert aspect == (1, 1)
    assert bool(note) == (ratio in (Fraction(1, 30), Fraction(11)))


@given(
    stretches=st.lists(
        st.tuples(st.integers(0, 10**6), st.lists(st.integers(1, 400), min_size=30, max_size=60)),
        min_size=1,
        max_size=4,
    ),
    leaps=st.booleans(),
)
def test_a_clock_set_anew_never_goes_back_and_keeps_every_step(
    stretches: list[tuple[int, list[int]]], leaps: bool
) -> None:
    stamps: list[int] = []
    for begin, steps in stretches:
        stamps += [begin + sum(steps[:place]) for place in range(len(steps))]
    found = straightened(stamps, Fraction(1, 1000), 40, leaps=leaps)
    if found is None:
        return
    assert list(found.pts) == sorted(found.pts)
    set_anew = {place for place, _ in found.settings}
    for place in range(1, len(stamps)):
        if place not in set_anew:
            assert found.pts[place] - found.pts[place - 1] == stamps[place] - stamps[place - 1]


def test_stamps_that_are_noise_say_so() -> None:
    zigzag = [place + (3 if place % 2 else 0) for place in range(200)]
    assert straightened([stamp * 2 for stamp in reversed(zigzag)], Fraction(1, 1000), 40, leaps=True) is None
