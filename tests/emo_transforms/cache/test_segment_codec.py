from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from apache_beam.coders import registry
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.cache.segment_codec import LIMIT, compacted, decode_segment, encode_segment, expanded
from emobeam.emo_transforms.extraction.beam_records import PlannedSegmentCoder
from emobeam.emo_transforms.video.sampling import plan_crop_segments, plan_segments
from emobeam.schemas.config import SamplingConfig
from emobeam.schemas.records import CodedSize, Display, Fingerprint, PlannedSegment, Probe, Segment, Video

VIDEO = Video("train/batch1/14-30-1920x1080", "gs://some-bucket/aff-wild2/videos/train/batch1/14-30-1920x1080.mp4")
PRINT = Fingerprint(123_456_789, hashlib.sha256(b"a video").hexdigest())
DICE = random.Random(6)

STAMPS = {
    "constant 30 fps": (range(0, 3600 * 512, 512), (1, 15360)),
    "constant 29.97 fps": (range(0, 3600 * 1001, 1001), (1, 30000)),
    "WebM, rounded to ms": ([round(frame * 1000 / 30) for frame in range(3600)], (1, 1000)),
    "frames left out": ([frame * 3000 for frame in range(4800) if DICE.random() > 0.25], (1, 90000)),
    "a phone's jitter": ([frame * 20 + DICE.choice((-1, 0, 1)) for frame in range(3600)], (1, 600)),
}


def planned(pts: Sequence[int], time_base: tuple[int, int]) -> list[Segment]:
    return plan_segments(VIDEO, PRINT, Probe(tuple(pts), time_base, 1920, 1080), SamplingConfig(), "cache")


@pytest.mark.parametrize("name", STAMPS)
def test_a_minute_of_video_travels_in_less_than_a_kilobyte(name: str) -> None:
    segments = planned(*STAMPS[name])
    coder = registry.get_coder(PlannedSegment)
    assert isinstance(coder, PlannedSegmentCoder)
    assert len(segments[0].frames) > 1200
    for segment in segments:
        data = encode_segment(segment)
        encoded = coder.encode(PlannedSegment(segment.shard, len(segment.sampled), data))
        assert len(encoded) < 1000
        assert coder.decode(encoded) == PlannedSegment(segment.shard, len(segment.sampled), data)
        assert decode_segment(data) == segment
        assert encode_segment(decode_segment(data)) == data


def test_what_does_not_fit_travels_as_a_file() -> None:
    noise = [frame * 3000 + DICE.randrange(-400, 400) for frame in range(1800)]
    segment = planned(noise, (1, 90000))[0]
    assert len(encode_segment(segment)) > LIMIT
    files: dict[str, bytes] = {}

    def put(name: str, data: bytes) -> str:
        files[f"gs://b/{name}"] = data
        return f"gs://b/{name}"

    small = compacted(segment, put)
    assert len(encode_segment(small)) < 1000
    assert expanded(decode_segment(encode_segment(small)), files.__getitem__) == segment
    assert compacted(planned(*STAMPS["constant 30 fps"])[0], put).timeline == ""
    assert len(files) == 1


def test_folders_of_crops_are_small_too() -> None:
    images = [(frame, f"{frame:05d}.jpg") for frame in range(1, 1801) if frame % 7]
    times = {frame: (frame - 1) / 30 for frame in range(1, 1801)}
    for known in (times, None):
        fps = 6.0 if known else 0.0
        (segment,) = plan_crop_segments(VIDEO, PRINT, images, known, SamplingConfig(fps), "cache")
        assert len(encode_segment(segment)) < 1000
        assert decode_segment(encode_segment(segment)) == segment


def test_bytes_of_another_version_are_told() -> None:
    data = encode_segment(planned(*STAMPS["constant 30 fps"])[0])
    with pytest.raises(ValueError, match="of one emobeam"):
        decode_segment(bytes([data[0] + 1]) + data[1:])


integers = st.integers(-(2**63), 2**63 - 1)
text = st.text(max_size=20)
floats = st.floats(allow_nan=False)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    frames = draw(st.lists(integers, max_size=12))
    count = len(frames)
    return Segment(
        video=Video(draw(text), draw(text), draw(st.sampled_from(["video", "crops", "cache"])), draw(text), draw(text)),
        fingerprint=Fingerprint(draw(integers), draw(text)),
        index=draw(integers),
        count=draw(integers),
        start=draw(floats),
        frames=tuple(frames),
        times=tuple(draw(st.lists(floats, min_size=count, max_size=count) | st.just([]))),
        sampled=tuple(draw(st.lists(integers, max_size=8))),
        pts=tuple(draw(st.lists(integers, min_size=count, max_size=count) | st.just([]))),
        images=tuple(draw(st.lists(text, min_size=count, max_size=count) | st.just([]))),
        width=draw(integers),
        height=draw(integers),
        rotation=draw(integers),
        seekable=draw(st.booleans()),
        note=draw(text),
        origin=draw(text),
        shard=draw(text),
        zero=draw(integers),
        time_base=(draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))),
        timeline=draw(text),
    )


@given(segments())
def test_every_segment_comes_back_bit_by_bit(segment: Segment) -> None:
    back = decode_segment(encode_segment(segment))
    assert back == segment
    assert [time.hex() for time in back.times] == [time.hex() for time in segment.times]
    assert float(back.start).hex() == float(segment.start).hex()


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=300, unique=True).map(sorted),
    st.sampled_from([(1, 600), (1001, 30000), (1, 90000), (1, 1000), (3, 7)]),
    st.integers(-(10**9), 10**9),
)
def test_planned_segments_come_back(stamps: list[int], time_base: tuple[int, int], offset: int) -> None:
    for segment in planned([offset + stamp for stamp in stamps], time_base):
        assert decode_segment(encode_segment(segment)) == segment


def test_how_a_video_is_shown_travels_with_its_segments() -> None:
    display = Display(
        sizes=(CodedSize(1, 720, 576, (64, 45)), CodedSize(40, 360, 640)),
        mirrored=True,
        interlaced=True,
        stream=2,
        clock=((51, -91841798),),
    )
    plain = planned(range(0, 3000, 40), (1, 1000))[0]
    other = replace(plain, display=display, packets=tuple(range(7, 7 + len(plain.frames))), entry=3, seekable=False)
    assert decode_segment(encode_segment(other)) == other
    away: dict[str, bytes] = {}

    def put(name: str, data: bytes) -> str:
        away[name] = data
        return name

    long = planned(range(0, 60_000, 33), (1, 1000))[0]
    long = replace(long, note="x" * 2000, display=display, packets=long.frames)
    assert expanded(compacted(long, put), away.__getitem__) == long
