"""Small clips made for the tests. Every frame carries its own number, readable from the pixels.

Each function writes one file and returns its path. The bottom :data:`STRIP` rows of every picture hold
sixteen black or white blocks: twelve bits of the frame number (1-based, in order of presentation) and four
bits of checksum. So a test can tell which frame it was given without trusting any time stamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
Painter = Callable[[int], Picture]

STRIP = 16
"""Height in px of the strip that codes the frame number."""

FPS = 25

_VPX = {"deadline": "realtime", "cpu-used": "8", "crf": "10"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:bframes=3"}
_OPEN_GOP = {"preset": "ultrafast", "bf": "2", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}


# --- pictures -------------------------------------------------------------------------------------------


def write_number(picture: Picture, number: int) -> Picture:
    """The picture with its bottom rows replaced by the strip that codes ``number`` (0 ... 4095)."""
    bits = [(number >> bit) & 1 for bit in range(12)] + [(_checksum(number) >> bit) & 1 for bit in range(4)]
    edges = np.linspace(0, picture.shape[1], 17).astype(int)
    numbered = picture.copy()
    for bit, left, right in zip(bits, edges[:-1], edges[1:], strict=True):
        numbered[-STRIP:, left:right] = 255 * bit
    return numbered


def read_number(picture: Picture) -> int:
    """The number coded in the strip of an upright RGB picture [H, W, 3]; -1 where it can't be read."""
    edges = np.linspace(0, picture.shape[1], 17).astype(int)
    row = picture[-STRIP + 4 : -4].mean(axis=(0, 2))
    bits = [int(row[left + 2 : right - 2].mean() > 127) for left, right in pairwise(edges)]
    number = sum(bit << place for place, bit in enumerate(bits[:12]))
    check = sum(bit << place for place, bit in enumerate(bits[12:]))
    return number if check == _checksum(number) else -1


def _checksum(number: int) -> int:
    return (number + 3 * (number >> 4) + 5 * (number >> 8) + 9) % 16


@cache
def astronaut() -> Image.Image:
    """A photograph of a smiling woman, 512x512; not to be drawn on."""
    from skimage import data

    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def face(number: int, size: tuple[int, int] = (256, 256), phase: float = 0.0) -> Picture:
    """A real face, moved and zoomed smoothly with the frame number, in a picture of ``(width, height)``."""
    width, height = size
    turn = 2 * math.pi * number / 50 + phase
    zoom = 250 + 14 * math.cos(turn)  # edge of what is seen of the photograph, in its px
    left, top = 100 + 8 * math.sin(turn), 6 + 6 * math.cos(2 * turn)
    box = (left, top, left + zoom * min(1.0, width / height), top + zoom * min(1.0, height / width))
    return np.asarray(astronaut().resize(size, Image.Resampling.BILINEAR, box=box))


def faces_side_by_side(number: int, size: tuple[int, int] = (512, 256)) -> Picture:
    """The same face twice, left and right, moving independently."""
    half = (size[0] // 2, size[1])
    return np.concatenate([face(number, half), face(number, half, phase=2.0)], axis=1)


def nobody(number: int, size: tuple[int, int] = (256, 256)) -> Picture:
    """A smooth moving pattern without a face."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves = [np.sin((x * (c + 1) + y * (3 - c)) / 60 + number / 8 + c) for c in range(3)]
    return (127 + 80 * np.stack(waves, axis=-1)).astype(np.uint8)


# --- writing --------------------------------------------------------------------------------------------


def write(
    path: Path,
    pictures: Iterable[Picture],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, FPS),
    gop: int = 12,
    bit_rate: int = 2_000_000,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encodes pictures, numbered from 1; ``pts`` in units of ``time_base`` (default: 0, 1, 2 ...)."""
    if options is None:
        options = {"preset": "ultrafast", "bf": "2", "sc_threshold": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w", container_options=container_options) as container:
        stream: av.VideoStream | None = None
        for index, picture in enumerate(pictures):
            if stream is None:
                added = container.add_stream(codec, rate=FPS, options=options)
                assert isinstance(added, av.VideoStream)
                stream = added
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.time_base = time_base
                stream.codec_context.gop_size = gop
                stream.codec_context.thread_count = 1
                stream.codec_context.bit_rate = bit_rate
            frame = av.VideoFrame.from_ndarray(write_number(picture, index + 1), format="rgb24")
            frame.pts = index if pts is None else pts[index]
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def _patch(path: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


# --- clips without fault ----------------------------------------------------------------------------------


def portrait(path: Path, *, frames: int = 50, painter: Painter = face, codec: str = "libx264", **how: object) -> Path:
    """One talking face in every frame, 25 frames per second. Codec and container as asked for."""
    return write(path, (painter(number) for number in range(frames)), codec=codec, **how)  # type: ignore[arg-type]


def two_faces(path: Path, *, frames: int = 50) -> Path:
    """Two faces side by side, 512x256."""
    return portrait(path, frames=frames, painter=faces_side_by_side)


def no_face(path: Path, *, frames: int = 25) -> Path:
    """Nobody to be seen."""
    return portrait(path, frames=frames, painter=nobody)


def absent_in_the_middle(path: Path, *, frames: int = 75) -> Path:
    """A face in the first and the last third, nobody between."""
    third = frames // 3
    return portrait(path, frames=frames, painter=lambda n: nobody(n) if third <= n < 2 * third else face(n))


def irregular_pts(frames: int) -> list[int]:
    """Presentation times in ms with steps of 20 to 110 ms, the first at 70 ms."""
    pts = [70]
    for step in range(frames - 1):
        pts.append(pts[-1] + (20, 33, 34, 110, 40, 41, 67)[step % 7])
    return pts


def variable_rate(path: Path, *, frames: int = 60, **how: object) -> Path:
    """A face at a truly variable frame rate (see :func:`irregular_pts`)."""
    pts, milliseconds = irregular_pts(frames), Fraction(1, 1000)
    return portrait(path, frames=frames, pts=pts, time_base=milliseconds, **how)  # type: ignore[arg-type]


def rotated(path: Path, *, degrees: int, frames: int = 12) -> Path:
    """Coded lying down, with a display matrix that asks for ``degrees`` clockwise to be upright (mp4).

    The matrix is written into the ``tkhd`` box by hand (ISO/IEC 14496-12, section 8.3.2).
    """
    upright = (write_number(face(number, (320, 240)), number + 1) for number in range(frames))
    turns = {0: 0, 90: 1, 180: 2, 270: 3}[degrees]
    # The strip is painted before the picture is laid down, so write() must not paint another one.
    lying = [np.ascontiguousarray(np.rot90(picture, turns)) for picture in upright]
    _write_as_is(path, lying)
    one = 1 << 16
    sine, cosine = {0: (0, one), 90: (one, 0), 180: (0, -one), 270: (-one, 0)}[degrees]
    matrix = (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)

    def change(content: bytearray) -> None:
        at = content.index(b"tkhd") + 4 + 40
        content[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)

    return _patch(path, change)


def _write_as_is(path: Path, pictures: Sequence[Picture]) -> None:
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def edit_list(path: Path, *, frames: int = 50, cut: int = 5) -> Path:
    """An mp4 whose edit list hides the first ``cut`` frames, which the file still holds."""
    portrait(path, frames=frames)

    def change(content: bytearray) -> None:
        at = content.index(b"elst") + 4
        scale_at = content.index(b"mdhd") + 4 + 12
        scale = int.from_bytes(content[scale_at : scale_at + 4], "big")
        start = int.from_bytes(content[at + 12 : at + 16], "big") + cut * scale // FPS
        content[at + 12 : at + 16] = start.to_bytes(4, "big")

    return _patch(path, change)


def vp8_hidden(path: Path, *, frames: int = 40, hidden: Sequence[int] = (9, 20)) -> Path:
    """VP8 in WebM in which some packets (0-based) are for reference only, as alternative reference frames are.

    ``show_frame`` is bit 4 of a frame's first byte (RFC 6386, section 9.1).
    """
    portrait(path, frames=frames, codec="libvpx", options=dict(_VPX))
    with av.open(str(path)) as container:
        contents = [bytes(packet) for packet in container.demux(video=0) if packet.size]

    def change(content: bytearray) -> None:
        for packet in hidden:
            content[content.index(contents[packet])] &= ~0x10

    return _patch(path, change)


def with_cover(path: Path, *, frames: int = 12) -> Path:
    """A clip whose container also holds a larger cover picture as a second video stream (mp4)."""
    clip = portrait(path.with_name(f"{path.stem}-plain.mp4"), frames=frames)
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = target.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(face(0, (640, 480)), format="rgb24")
        picture.pts = 0
        target.mux(cover.encode(picture))
        target.mux(cover.encode(None))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return path


def cut_in(path: Path, *, frames: int = 50) -> Path:
    """An MPEG-TS that begins in the middle of a group of pictures, as recordings of a broadcast do."""
    portrait(path, frames=frames)
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 10 :])
    return path


# --- clips that make trouble ------------------------------------------------------------------------------


def audio_only(path: Path) -> Path:
    """Half a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def empty(path: Path) -> Path:
    """Zero bytes."""
    path.write_bytes(b"")
    return path


def not_a_video(path: Path) -> Path:
    """Text with the extension of a video."""
    path.write_text("This is no video.\n" * 50)
    return path


def truncated(path: Path, *, frames: int = 50, keep: float = 0.6, **how: object) -> Path:
    """The first part of a file: plays up to where it ends in webm and mkv, can't be opened in mp4.

    An mp4 with ``container_options={"movflags": "faststart"}`` opens, and announces more than it holds.
    """
    portrait(path, frames=frames, **how)  # type: ignore[arg-type]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


def damaged_in_the_middle(path: Path, *, frames: int = 75, packets: Sequence[int] = (30, 31)) -> Path:
    """An H.264 mp4 in which the bytes of two packets (0-based, in coded order) are overwritten."""
    portrait(path, frames=frames)
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]

    def change(content: bytearray) -> None:
        for packet in packets:
            position, size = places[packet]
            assert position is not None
            content[position : position + size] = b"\xff" * size

    return _patch(path, change)


def huge(path: Path, *, edge: int = 5800) -> Path:
    """One frame of ``edge`` x ``edge`` px, more than 8K UHD holds."""
    blank = np.zeros((edge, edge, 3), np.uint8)
    return write(path, [blank], codec="mjpeg", pix_fmt="yuvj420p")


CLIPS: dict[str, Callable[[Path], Path]] = {
    "portrait.mp4": portrait,
    "portrait.ts": portrait,
    "mpeg2.ts": partial(portrait, codec="mpeg2video", options={"bf": "2"}),
    "mpeg4.avi": partial(portrait, codec="mpeg4", options={"bf": "2"}),
    "h264.avi": portrait,
    "hevc.mp4": partial(portrait, codec="libx265", options=_X265),
    "open_gop.mp4": partial(portrait, options=_OPEN_GOP),
    "ten_bit.mp4": partial(portrait, pix_fmt="yuv420p10le"),
    "av1.mp4": partial(portrait, codec="libsvtav1", frames=20, bit_rate=0, options={"preset": "10", "crf": "20"}),
    "vp9.webm": partial(portrait, codec="libvpx-vp9", frames=30, options=_VPX),
    "one_frame.mp4": partial(portrait, frames=1),
    "two_faces.mp4": two_faces,
    "no_face.mp4": no_face,
    "absent.mp4": absent_in_the_middle,
    "variable.mp4": variable_rate,
    "variable.mkv": variable_rate,
    "variable.webm": partial(variable_rate, codec="libvpx", options=_VPX),
    "rotated_90.mp4": partial(rotated, degrees=90),
    "rotated_180.mp4": partial(rotated, degrees=180),
    "rotated_270.mp4": partial(rotated, degrees=270),
    "edit_list.mp4": edit_list,
    "vp8_hidden.webm": vp8_hidden,
    "cover.mp4": with_cover,
    "cut_in.ts": cut_in,
    "audio_only.m4a": audio_only,
    "empty.mp4": empty,
    "text.mp4": not_a_video,
    "truncated.mp4": truncated,
    "truncated_announced.mp4": partial(truncated, container_options={"movflags": "faststart"}),
    "truncated.webm": partial(truncated, codec="libvpx", options=_VPX),
    "damaged.mp4": damaged_in_the_middle,
    "huge.avi": huge,
}
"""Every clip by file name."""
