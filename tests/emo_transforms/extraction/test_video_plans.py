from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest
from PIL import Image

from emobeam.emo_transforms.extraction.video_plans import fingerprint_of, plan_video
from emobeam.emo_transforms.video.frames import probe_video as video_probe
from emobeam.schemas.config import DecoderConfig, ExtractConfig, SamplingConfig, shard_name
from emobeam.schemas.records import Fingerprint, InputError, Probe, Segment, Video
from tests.clips import irregular_pts

probe_video = partial(video_probe, config=DecoderConfig())
PRINT = Fingerprint(5, "d")
CROPS = ExtractConfig(source="affwild2", sampling=SamplingConfig(fps=0))


def no_probe(path: str) -> Probe:
    raise AssertionError(f"{path} was probed")


def flat(segments: list[Segment], name: str) -> list[Any]:
    return list(chain.from_iterable(getattr(segment, name) for segment in segments))


def crops_folder(folder: Path, frames: list[int]) -> Video:
    folder.mkdir(parents=True)
    for frame in frames:
        Image.fromarray(np.full((8, 8, 3), frame, np.uint8)).save(folder / f"{frame:05d}.jpg")
    return Video("v", str(folder), kind="crops")


def test_the_segments_of_a_video(clips: Callable[[str], Path]) -> None:
    path = clips("variable.mkv")
    config = ExtractConfig(sampling=SamplingConfig(fps=6.0, segment_seconds=1.0))
    video = Video("a/variable", str(path))
    print_ = fingerprint_of(video, config)
    content, ends = path.read_bytes(), 256 * 1024
    assert len(content) > 2 * ends
    assert print_ == Fingerprint(len(content), hashlib.sha256(content[:ends] + content[-ends:]).hexdigest())
    segments = plan_video(video, print_, config, probe_video)

    times = [(pts - irregular_pts(60)[0]) / 1000 for pts in irregular_pts(60)]
    assert flat(segments, "frames") == list(range(1, 61))
    assert flat(segments, "times") == pytest.approx(times, abs=1e-6)
    assert [segment.start for segment in segments] == list(range(len(segments)))
    assert len(segments) == int(times[-1]) + 1
    for index, segment in enumerate(segments):
        assert (segment.video, segment.fingerprint) == (video, print_)
        assert (segment.index, segment.count) == (index, len(segments))
        assert all(segment.start <= time < segment.start + 1 for time in segment.times)
        assert set(segment.sampled) <= set(segment.frames)
        assert (segment.width, segment.height) == (256, 256)
        assert segment.shard == shard_name("a/variable", print_, segment.start, config.cache_id)
    # Sampling by time: the frame shown at each sixth of a second, give or take half a frame.
    sampled = flat(segments, "sampled")
    assert abs(len(sampled) - times[-1] * 6) <= 1
    for place in np.arange(0.1, times[-1] - 0.2, 1 / 6):
        assert min(abs(times[frame - 1] - place) for frame in sampled) <= 1 / 6


def test_cutting_never_changes_what_is_sampled(clips: Callable[[str], Path]) -> None:
    video = Video("v", str(clips("variable.mp4")))
    print_ = fingerprint_of(video, ExtractConfig())
    short, long = (
        plan_video(video, print_, ExtractConfig(sampling=SamplingConfig(segment_seconds=seconds)), probe_video)
        for seconds in (0.5, 60.0)
    )
    assert len(short) > 3
    assert len(long) == 1
    for name in ("frames", "times", "sampled", "pts"):
        assert flat(short, name) == flat(long, name)


def test_a_video_in_a_store_is_probed_there(clips: Callable[[str], Path]) -> None:
    path = clips("portrait.mp4")
    fsspec.filesystem("memory").pipe_file("/emobeam-planning/portrait.mp4", path.read_bytes())
    local, stored = Video("v", str(path)), Video("v", "memory://emobeam-planning/portrait.mp4")
    config = ExtractConfig()
    print_ = fingerprint_of(local, config)
    assert fingerprint_of(stored, config) == print_
    found = plan_video(stored, print_, config, probe_video)
    assert [replace(segment, video=local) for segment in found] == plan_video(local, print_, config, probe_video)


@pytest.mark.parametrize("uri", ["{folder}/gone.mp4", "memory://emobeam-planning/gone.mp4"])
def test_a_missing_video_is_named(tmp_path: Path, uri: str) -> None:
    video = Video("v", uri.format(folder=tmp_path))
    with pytest.raises(InputError, match=r"gone\.mp4.*no such file") as caught:
        fingerprint_of(video, ExtractConfig())
    assert (caught.value.reason, caught.value.permanent) == ("missing", False)
    with pytest.raises(InputError, match=r"gone\.mp4") as caught:
        plan_video(video, PRINT, ExtractConfig(), probe_video)
    assert (caught.value.stage, caught.value.permanent) == ("open", False)


def test_what_the_prober_says_of_a_bad_file_is_passed_on(clips: Callable[[str], Path]) -> None:
    for name, reason in (("empty.mp4", "empty"), ("audio_only.m4a", "no_video")):
        video = Video("v", str(clips(name)))
        print_ = fingerprint_of(video, ExtractConfig())
        with pytest.raises(InputError) as caught:
            plan_video(video, print_, ExtractConfig(), probe_video)
        assert caught.value.reason == reason


def test_an_unreadable_file_is_tried_again_by_the_next_run(clips: Callable[[str], Path]) -> None:
    video = Video("v", str(clips("portrait.mp4")))

    def broken(path: str) -> Probe:
        raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match="Input/output error") as caught:
        plan_video(video, fingerprint_of(video, ExtractConfig()), ExtractConfig(), broken)
    assert (caught.value.reason, caught.value.permanent) == ("io", False)


def test_crops_without_times(tmp_path: Path) -> None:
    video = crops_folder(tmp_path / "v", [2, 3, 7])
    print_ = fingerprint_of(video, CROPS)
    assert print_.size == sum(path.stat().st_size for path in (tmp_path / "v").iterdir())
    (segment,) = plan_video(video, print_, CROPS, no_probe)
    assert segment.frames == segment.sampled == (2, 3, 7)
    assert segment.times == ()
    assert segment.images == ("00002.jpg", "00003.jpg", "00007.jpg")
    assert (segment.start, segment.count) == (1.0, 1)


def test_another_crop_makes_another_fingerprint(tmp_path: Path) -> None:
    video = crops_folder(tmp_path / "v", [1, 2])
    before = fingerprint_of(video, CROPS)
    assert fingerprint_of(video, CROPS) == before
    (tmp_path / "v" / "00002.jpg").rename(tmp_path / "v" / "00003.jpg")
    assert fingerprint_of(video, CROPS) != before


def test_crops_at_a_known_rate(tmp_path: Path) -> None:
    video = crops_folder(tmp_path / "v", [2, 3, 7])
    config = replace(CROPS, sampling=SamplingConfig(fps=0, crops_fps=20.0))
    (segment,) = plan_video(video, PRINT, config, no_probe)
    assert segment.frames == tuple(range(1, 8))
    assert segment.times == pytest.approx([n / 20 for n in range(7)])
    assert segment.sampled == (2, 3, 7)
    assert segment.images == ("", "00002.jpg", "00003.jpg", "", "", "", "00007.jpg")


def test_crops_take_their_times_from_the_video(tmp_path: Path, clips: Callable[[str], Path]) -> None:
    """Organisers' folders may hold a frame or two more than the video: those have no time, and drop out."""
    video = replace(crops_folder(tmp_path / "v", [1, 30, 60, 61]), time_uri=str(clips("variable.mp4")))
    (segment,) = plan_video(video, PRINT, CROPS, probe_video)
    with av.open(str(clips("variable.mp4"))) as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    assert segment.times == pytest.approx([time - shown[0] for time in shown], abs=1e-6)
    assert segment.sampled == (1, 30, 60)
    assert "1 crops lie beyond" in segment.note


def test_crops_whose_video_is_gone_are_named(tmp_path: Path) -> None:
    video = replace(crops_folder(tmp_path / "v", [1]), time_uri=str(tmp_path / "gone.mp4"))
    with pytest.raises(InputError, match=r"gone\.mp4"):
        plan_video(video, PRINT, CROPS, probe_video)


def test_a_folder_without_crops_is_named(tmp_path: Path) -> None:
    video = crops_folder(tmp_path / "v", [])
    for attempt in (lambda: fingerprint_of(video, CROPS), lambda: plan_video(video, PRINT, CROPS, no_probe)):
        with pytest.raises(InputError, match=str(tmp_path / "v")) as caught:
            attempt()
        assert caught.value.reason == "empty"
