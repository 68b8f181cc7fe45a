"""Clips that a player shows otherwise than they are coded, woven with PyAV; every frame carries its number.

What is to be seen is painted first and then brought into the coded shape, by the definitions of the display matrix
(ISO/IEC 14496-12) and of the shape of pixels, independently of the code under test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from PIL import Image

from emobeam.emo_transforms.video.frames import decode_frames, probe_video
from emobeam.emo_transforms.video.sampling import one_frame, plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Fingerprint, Probe, Video
from tests.clips import Picture, face, write_number

FPS = 25
ONE = 1 << 16

MATRICES: dict[tuple[int, bool], tuple[int, int, int, int]] = {
    (0, False): (1, 0, 0, 1),
    (90, False): (0, 1, -1, 0),
    (180, False): (-1, 0, 0, -1),
    (270, False): (0, -1, 1, 0),
    (0, True): (-1, 0, 0, 1),
    (90, True): (0, -1, -1, 0),
    (180, True): (1, 0, 0, -1),
    (270, True): (0, 1, 1, 0),
}
"""(a, b, c, d) of x' = ax + cy, y' = bx + dy, by degrees clockwise and whether left and right are swapped before."""

OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "10", "bf": "2", "sc_threshold": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "4"},
    "mpeg2video": {"bf": "2"},
    "mpeg4": {},
}


@dataclass(frozen=True)
class Part:
    """A stretch of one recording.

    Attributes:
        width, height: as shown, before the matrix turns it.
        aspect: width to height of a coded pixel; of the two sides the stretched one is coded smaller.
        begin: time stamp of its first frame in ms.
    """

    frames: int = 10
    width: int = 192
    height: int = 128
    aspect: Fraction = Fraction(1)
    begin: int = 0

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height as coded."""
        across, along = max(self.aspect, Fraction(1)), max(1 / self.aspect, Fraction(1))
        return round(self.width / across), round(self.height / along)


def shown(number: int, part: Part, turn: tuple[int, bool] = (0, False)) -> Picture:
    """What a player shows of frame ``number``, in the size that the part has when it is turned."""
    lying = turn[0] in (90, 270)
    size = (part.height, part.width) if lying else (part.width, part.height)
    return write_number(face(number, size), number)


def coded(number: int, part: Part, turn: tuple[int, bool] = (0, False)) -> Picture:
    """The picture that the matrix and the shape of pixels make :func:`shown`: pixel by pixel where it will lie."""
    picture = shown(number, part, turn)
    a, b, c, d = MATRICES[turn]
    y, x = np.mgrid[0 : part.height, 0 : part.width]
    there_x, there_y = a * x + c * y, b * x + d * y
    lying = picture[there_y - there_y.min(), there_x - there_x.min()]
    return np.asarray(Image.fromarray(lying).resize(part.coded, Image.Resampling.BOX))


class Encoder:
    """One encoder; its packets are for any container."""

    def __init__(self, codec: str, part: Part, *, gop: int = 8, fielded: bool = False, **options: str) -> None:
        context: Any = av.CodecContext.create(codec, "w")
        context.width, context.height = part.coded
        context.pix_fmt = "yuv420p"
        context.time_base, context.framerate = Fraction(1, FPS), Fraction(FPS)
        context.gop_size, context.thread_count, context.bit_rate = gop, 1, 4_000_000
        context.options = {**OPTIONS[codec], **options}
        if part.aspect != 1:
            context.sample_aspect_ratio = part.aspect
        self.context = context
        self._graph = _fields(part.coded) if fielded else None

    def packets(self, pictures: Sequence[Picture]) -> list[Any]:
        """All packets of some pictures, stamped from 0 in 25ths of a second."""
        found = []
        for place, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = place, Fraction(1, FPS)
            if self._graph is not None:
                self._graph.push(frame)
                frame = self._graph.vpull()
                frame.pts, frame.time_base = place, Fraction(1, FPS)
            found += self.context.encode(frame)
        return found + self.context.encode(None)


def _fields(size: tuple[int, int]) -> Graph:
    graph = Graph()
    source = graph.add("buffer", f"video_size={size[0]}x{size[1]}:pix_fmt=yuv420p:time_base=1/{FPS}")
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    return graph


def weave(
    path: Path,
    parts: Sequence[Part],
    *,
    codec: str = "libx264",
    turn: tuple[int, bool] = (0, False),
    options: dict[str, str] | None = None,
    first: int = 1,
    delay: int = 0,
    skip: Sequence[int] = (),
) -> Path:
    """One file with one stream. Several parts follow each other; each has an encoder of its own.

    Args:
        turn: display matrix, in mp4 and mov.
        first: number of the first frame.
        delay: ms added to all time stamps.
        skip: packets (from 0) that are left out.
    """
    number = first
    container_options = {"live": "1"} if path.suffix == ".webm" else {}
    with av.open(str(path), "w", container_options=container_options | (options or {})) as out:
        stream: Any = None
        place = 0
        for part in parts:
            encoder = Encoder(codec, part)
            pictures = [coded(number + index, part, turn) for index in range(part.frames)]
            packets = encoder.packets(pictures)
            number += part.frames
            if stream is None:
                stream = out.add_stream(codec, rate=FPS)
                context = stream.codec_context
                context.width, context.height = part.coded
                context.pix_fmt = "yuv420p"
                context.time_base = Fraction(1, FPS)
                context.options = OPTIONS[codec]
                if part.aspect != 1:
                    stream.sample_aspect_ratio = part.aspect
            for packet in packets:
                place += 1
                if place - 1 in skip:
                    continue
                at = Fraction(part.begin + delay, 1000)
                for name in ("pts", "dts"):
                    stamp = getattr(packet, name) * Fraction(packet.time_base) + at
                    setattr(packet, name, round(stamp * 90000))
                packet.time_base = Fraction(1, 90000)
                packet.stream = stream
                out.mux(packet)
    if turn != (0, False):
        _patch_matrix(path, MATRICES[turn])
    if path.suffix == ".webm" and parts[0].aspect != 1:
        _patch_display_size(path, parts[0])
    return path


def join(path: Path, parts: Sequence[Part], *, codec: str) -> Path:
    """Each part a file of its own, joined byte by byte, as cameras and people do it."""
    content = b""
    number = 1
    for place, part in enumerate(parts):
        piece = path.with_name(f"{path.stem}-{place}{path.suffix}")
        weave(piece, [part], codec=codec, first=number)
        content += piece.read_bytes()
        number += part.frames
    path.write_bytes(content)
    return path


def _patch_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * ONE for value in matrix)
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in numbers)
    path.write_bytes(content)


def _patch_display_size(path: Path, part: Part) -> None:
    """Puts DisplayWidth and DisplayHeight behind the coded size, which PyAV can't make the muxer write."""
    content = bytearray(path.read_bytes())
    more = b"\x54\xb0\x82" + part.width.to_bytes(2, "big") + b"\x54\xba\x82" + part.height.to_bytes(2, "big")
    tracks = content.rindex(b"\x16\x54\xae\x6b")
    video = content.index(b"\xe0", content.index(b"\x23\xe3\x83", tracks) + 7)
    end = video + 2 + (content[video + 1] & 0x7F)
    for place in (tracks + 4, tracks + 13, video + 1):  # sizes of Tracks, of its entry (8 bytes), and of Video
        content[place] += len(more)
    content[end:end] = more
    path.write_bytes(content)


def two_streams(path: Path, parts: Sequence[Part], *, default: int, codecs: Sequence[str]) -> Path:
    """A file with several video streams side by side, without any flag of a cover."""
    with av.open(str(path), "w") as out:
        made = []
        for place, (part, codec) in enumerate(zip(parts, codecs, strict=True)):
            stream: Any = out.add_stream(codec, rate=FPS)
            context = stream.codec_context
            context.width, context.height = part.coded
            context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            context.options = OPTIONS.get(codec, {})
            stream.disposition = av.stream.Disposition.default if place == default else av.stream.Disposition(0)
            made.append((stream, part))
        for index in range(max(part.frames for part in parts)):
            for stream, part in made:
                if index < part.frames:
                    frame = av.VideoFrame.from_ndarray(coded(index + 1, part), format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, FPS)
                    out.mux(stream.encode(frame))
        for stream, _ in made:
            out.mux(stream.encode(None))
    return path


def tape(path: Path, *, frames: int = 40, fielded: bool = True) -> tuple[Path, list[Picture]]:
    """An interlaced recording in which the picture swings, and what stands at the moments of the odd lines."""
    part = Part(frames=frames, width=192, height=128)
    wide = np.asarray(Image.fromarray(face(1, (256, 192))))

    def moment(half: int) -> Picture:
        left = round(32 + 24 * np.sin(half / 5))
        return np.ascontiguousarray(wide[20 : 20 + part.height, left : left + part.width])

    pictures = []
    for number in range(frames):
        frame = moment(2 * number).copy()
        if fielded:
            frame[1::2] = moment(2 * number + 1)[1::2]
        pictures.append(frame)
    flags = {"flags": "+ildct+ilme"}
    encoder = Encoder("mpeg2video", part, fielded=True, **flags)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg2video", rate=FPS, options=flags)
        stream.codec_context.width, stream.codec_context.height = part.coded
        stream.codec_context.pix_fmt = "yuv420p"
        for packet in encoder.packets(pictures):
            packet.stream = stream
            out.mux(packet)
    return path, [moment(2 * number) for number in range(frames)]


def silent(path: Path, *, frames: int, repeats: Sequence[int]) -> Path:
    """An MPEG-4 Part 2 recording as Xvid makes it: frames that repeat the last one are packets without a picture."""
    part = Part()
    encoder = Encoder("mpeg4", part, gop=50, bf="0")
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=FPS)
        stream.codec_context.width, stream.codec_context.height = part.coded
        stream.codec_context.pix_fmt = "yuv420p"
        pictures = [shown(number, part) for number in range(1, frames + 1)]
        for place, picture in enumerate(pictures):
            if place + 1 in repeats:
                picture[:] = pictures[place - 1]
        for number, packet in enumerate(encoder.packets(pictures), start=1):
            passed = packet
            if number in repeats:
                # P-VOP, no whole second more, increment in 25ths, not coded (ISO/IEC 14496-2, 6.2.5), stuffing.
                bits = f"01{0}1{(number - 1) % FPS:05b}1{0}"
                bits += "0" + "1" * (-(len(bits) + 1) % 8)
                passed = av.Packet(b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
                passed.pts, passed.dts, passed.time_base = packet.pts, packet.dts, packet.time_base
                passed.duration = packet.duration
            passed.stream = stream
            out.mux(passed)
    return path


# --- as it is read ---------------------------------------------------------------------------------------


def probed(path: Path, stream: int = -1) -> Probe:
    return probe_video(str(path), DecoderConfig(stream=stream))


def pictures_of(path: Path, seconds: float = 60.0, *, fps: float = 0.0, stream: int = -1) -> dict[int, Picture]:
    probe = probed(path, stream)
    video = Video(path.stem, str(path))
    found: dict[int, Picture] = {}
    for segment in plan_segments(video, Fingerprint(1, ""), probe, SamplingConfig(fps, seconds), "cache"):
        assert segment.display.mirrored == probe.display.mirrored
        found.update(decode_frames(str(path), segment, DecoderConfig(stream=stream)))
    return found


def same_wherever_cut(path: Path) -> dict[int, Picture]:
    """All pictures, after it was seen that no cut and no sampling changes a byte."""
    whole = pictures_of(path)
    for other in (pictures_of(path, 0.3), pictures_of(path, 0.25, fps=6.0)):
        assert other.keys() <= whole.keys()
        assert all(np.array_equal(whole[frame], picture) for frame, picture in other.items())
    probe = probed(path)
    for frame in list(whole)[:: max(1, len(whole) // 4)]:
        ((_, alone),) = decode_frames(str(path), one_frame(Video("v", str(path)), probe, frame), DecoderConfig())
        assert np.array_equal(alone, whole[frame])
    return whole


def apart(picture: Picture, expected: Picture) -> float:
    assert picture.shape == expected.shape
    return float(np.abs(picture.astype(float) - expected).mean())
