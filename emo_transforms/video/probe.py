"""What frames a video file shows, found by reading its packets once."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

from emobeam.emo_transforms.video.opening import Progress, decode_packet, ffmpeg_messages, idle, open_video, packets
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import InputError, Probe

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MESSAGES = 3
"""Complaints of FFmpeg that enter the note."""

_AVI_REORDERED = frozenset({"h264", "hevc", "vvc"})
"""AVI stores no presentation times; for these codecs FFmpeg makes them up from the order of the packets,
which is wrong wherever there are B-frames."""


def probe_video(path: str, config: DecoderConfig, *, progress: Progress = idle) -> Probe:
    """Finds all displayed frames of a video without decoding it (the first frame excepted, for its size).

    Not displayed are packets outside the edit list, VP8's alternative reference frames, packets before the
    first keyframe, and pictures before the first one a decoder gives out without complaint (leading pictures
    of an open group). Where packets have no usable presentation times, the file is decoded once and its
    frames counted instead: ``seekable`` is then false, and ``pts`` are the decoder's time stamps if those
    ascend, else the frames' ranks at the average rate.

    Args:
        path: a local file.
        progress: called once per packet.

    Raises:
        InputError: ``missing``, ``empty``, ``io``, ``damaged``, ``no_video``, ``too_large``, ``no_frames``.
    """
    with ffmpeg_messages() as messages, open_video(path) as (container, stream):
        codec = stream.codec_context
        _check_size(path, codec.width, codec.height, config)
        found = _Found(vp8=codec.codec.canonical_name == "vp8")
        for packet in packets(container, stream, path, "probe"):
            progress()
            found.add(packet, stream)
        found.finish(stream)
        name = codec.codec.canonical_name
        time_base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        made_up = container.format.name == "avi" and name in _AVI_REORDERED

    stamps = found.stamps()
    if not stamps:
        message = f"{path}: its video stream shows no frame"
        raise InputError(message, stage="probe", reason="no_frames", permanent=True)
    first = found.first
    if first is None:
        message = f"{path}: none of its {len(stamps)} frames can be decoded, the file is damaged"
        raise InputError(message, stage="probe", reason="damaged", permanent=True)
    _check_size(path, first.width, first.height, config)

    pts = sorted({stamp for stamp in stamps if stamp is not None})
    dated = len(pts) == len(stamps)
    seekable = True
    if not dated or made_up or first.pts is None or pts[0] < first.pts:
        shown = _shown(path, progress)
        ascending = [stamp for stamp in shown if stamp is not None]
        in_order = len(ascending) == len(shown) and all(a < b for a, b in pairwise(ascending))
        if not (dated and in_order):
            seekable = False
            pts = ascending if in_order else list(range(len(shown)))
            time_base = time_base if in_order else 1 / rate
        elif found.clean:
            pts = [stamp for stamp in pts if stamp >= ascending[0]]

    # FFmpeg tells how far the display matrix turns the picture counterclockwise.
    rotation = round(-first.rotation / 90) * 90 % 360
    lying = rotation in (90, 270)
    return Probe(
        pts=tuple(pts),
        time_base=(time_base.numerator, time_base.denominator),
        width=first.height if lying else first.width,
        height=first.width if lying else first.height,
        rotation=rotation,
        seekable=seekable,
        codec=name,
        note="; ".join(messages[:_MESSAGES]),
    )


@dataclass
class _Found:
    """What the packets seen so far tell."""

    vp8: bool
    first: VideoFrame | None = None
    clean: bool = True
    """Nothing was damaged before the first frame came out."""
    keyed: bool = False
    before_key: list[int | None] = field(default_factory=list)
    rest: list[int | None] = field(default_factory=list)

    def add(self, packet: Packet[VideoStream], stream: VideoStream) -> None:
        self.keyed = self.keyed or packet.is_keyframe
        if self.first is None:
            self._take_first(decode_packet(stream, packet))
        if not packet.is_discard and not (self.vp8 and _hidden_vp8(packet)):
            (self.rest if self.keyed else self.before_key).append(packet.pts)

    def finish(self, stream: VideoStream) -> None:
        if self.first is None:
            self._take_first(decode_packet(stream, None))

    def _take_first(self, frames: list[VideoFrame] | None) -> None:
        self.clean = self.clean and frames is not None
        if frames:
            self.first = frames[0]
            self.clean = self.clean and not frames[0].is_corrupt

    def stamps(self) -> list[int | None]:
        # A stream without any keyframe (periodic intra refresh) shows what it can from its first packet on.
        return self.rest if self.keyed else self.before_key


def _hidden_vp8(packet: Packet[VideoStream]) -> bool:
    """Whether a VP8 frame is for reference only: bit 4 of the first byte is ``show_frame`` (RFC 6386, 9.1)."""
    return not memoryview(packet)[0] & 0x10


def _shown(path: str, progress: Progress) -> list[int | None]:
    """Time stamps of all frames the decoder gives out, in that order."""
    shown = []
    with open_video(path) as (container, stream):
        for packet in packets(container, stream, path, "probe"):
            progress()
            shown += [frame.pts for frame in decode_packet(stream, packet) or []]
        shown += [frame.pts for frame in decode_packet(stream, None) or []]
    return shown


def _check_size(path: str, width: int, height: int, config: DecoderConfig) -> None:
    if width * height > config.max_pixels:
        message = f"{path}: {width}x{height} px is more than the limit of {config.max_pixels} px; scale it down first"
        raise InputError(message, stage="probe", reason="too_large", permanent=True)
