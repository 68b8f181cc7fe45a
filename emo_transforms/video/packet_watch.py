"""What the packets of a stream tell without being decoded: which frames there are, and what makes decoding necessary.

A stream may change its size (and the shape of its pixels) wherever its parameters are sent again. These parameters are
compared, not understood: where they never change nothing can have changed, and where they do the frames are decoded
once to see what became of them. Codecs that are not listed can't change in mid-stream, or don't in practice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from emobeam.emo_transforms.video.opening import Complaints, decode_packet
from emobeam.emo_transforms.video.picture.interlacing import may_be_interlaced

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_H264_SPS = 7
_H264_SLICES = range(1, 6)
_HEVC_SPS = 33
_HEVC_SLICES = range(32)
_AV1_SEQUENCE = 1
_AV1_FRAMES = (3, 4, 6)
_NEVER = -(1 << 63)

_MAY_BE_SILENT = frozenset(("mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1"))
"""Codecs with packets that say no more than that nothing changed."""

_FIRST_SECONDS = 2

_HEAD = 4096
"""Bytes at the beginning of a packet in which parameters stand."""


class PacketWatch:
    """Takes the packets of a stream in the order of the file.

    Attributes:
        first: the first frame that comes out of the decoder.
        clean: nothing was damaged before it.
        clock_back: a packet goes back behind what was to be shown before its group began; no decoder reorders that.
        resized: a packet announces another size, or what may be one.
        fielded: the stream calls itself interlaced.
        silent: packets of the first seconds, intact as they are, give no picture (those of Xvid that repeat the last).
        complaints: time stamps near which FFmpeg complained.
    """

    def __init__(self, stream: VideoStream, messages: Complaints) -> None:
        codec = stream.codec_context
        name = codec.codec.canonical_name
        self.first: VideoFrame | None = None
        self.clean = True
        self.clock_back = False
        self.resized = False
        self.fielded = False
        self.silent = False
        self._held: dict[int, bool] | None = {} if name in _MAY_BE_SILENT else None
        self.complaints: list[int] = []
        self._vp8 = name == "vp8"
        self._announced = announced_size(name, codec.extradata)
        self._each = name == "vp9"
        self._size: bytes | None = None
        self._messages, self._heard = messages, len(messages)
        self._keyed = False
        self._floor = self._top = _NEVER
        self._dts = _NEVER
        self._before_key: list[int | None] = []
        self._rest: list[int | None] = []

    def add(self, packet: Packet[VideoStream], stream: VideoStream) -> None:
        """Looks at the next packet; decodes only until the first frame is out."""
        key, pts = packet.is_keyframe, packet.pts
        self._keyed = self._keyed or key
        if self.first is None or self._held is not None:
            frames = decode_packet(stream, packet)
            if self.first is None:
                self._take_first(frames, stream)
            self._watch_pictures(packet, frames)
        if not packet.is_discard and not (self._vp8 and _hidden_vp8(packet)):
            (self._rest if self._keyed else self._before_key).append(pts)
        if key or self._each:
            self._watch_size(packet, key)
        self._watch_clock(packet, key, pts)
        if len(self._messages) > self._heard:
            self._heard = len(self._messages)
            if pts is not None:
                self.complaints.append(pts)

    def _watch_pictures(self, packet: Packet[VideoStream], frames: list[VideoFrame] | None) -> None:
        """Which packets of the first seconds gave a picture; nothing is said of damaged ones."""
        if self._held is None:
            return
        damaged = frames is None or any(frame.pts is None or frame.is_corrupt for frame in frames)
        if damaged or packet.pts is None or len(self._messages) > self._heard:
            self._held = None
            return
        if not packet.is_discard:
            self._held.setdefault(packet.pts, False)
        for frame in frames or []:
            if frame.pts is not None:
                self._held[frame.pts] = True
        if packet.time_base and (packet.pts - min(self._held, default=packet.pts)) * packet.time_base > _FIRST_SECONDS:
            self._judge_pictures()

    def _judge_pictures(self) -> None:
        if self._held and any(self._held.values()):
            shown = [stamp for stamp, gave in self._held.items() if gave]
            self.silent = any(not gave and shown[0] < stamp < max(shown) for stamp, gave in self._held.items())
        self._held = None

    def _watch_size(self, packet: Packet[VideoStream], key: bool) -> None:
        size = self._announced(memoryview(packet), key)
        if self._size is None:
            self._size = size
        elif size and size != self._size:
            self.resized, self._size = True, size
        elif key and packet.has_sidedata("new_extradata"):
            self.resized = True

    def _watch_clock(self, packet: Packet[VideoStream], key: bool, pts: int | None) -> None:
        dts = packet.dts
        if dts is not None:
            if dts < self._dts and not self._keyed:
                self.clock_back = True
            self._dts = dts
        if pts is None:
            return
        if key:
            self._floor = self._top
        if pts < self._floor:
            self.clock_back = True
        self._top = max(self._top, pts)

    def finish(self, stream: VideoStream) -> None:
        """When there are no more packets."""
        if self.first is None:
            self._take_first(decode_packet(stream, None), stream)
        self._judge_pictures()

    def _take_first(self, frames: list[VideoFrame] | None, stream: VideoStream) -> None:
        self.clean = self.clean and frames is not None
        if frames:
            self.first = frames[0]
            self.clean = self.clean and not frames[0].is_corrupt
            self.fielded = may_be_interlaced(stream, frames[0])

    def stamps(self) -> list[int | None]:
        """Presentation time stamps of the displayed frames in the order of the file, None where a packet has none."""
        # A stream without any keyframe (periodic intra refresh) shows what it can from its first packet on.
        return self._rest if self._keyed else self._before_key


def _hidden_vp8(packet: Packet[VideoStream]) -> bool:
    """Whether a VP8 frame is for reference only: bit 4 of the first byte is ``show_frame`` (RFC 6386, 9.1)."""
    return not memoryview(packet)[0] & 0x10


def announced_size(codec: str, extradata: bytes | None) -> Callable[[memoryview, bool], bytes]:
    """A function that takes a packet's bytes and whether it is a keyframe, and gives what decides the size of pictures.

    It gives ``b""`` for packets that announce nothing.

    Args:
        codec: FFmpeg's name.
        extradata: of the stream; tells how NAL units are delimited.
    """
    if codec in ("h264", "hevc"):
        kinds = (_h264_kind, _H264_SPS, _H264_SLICES) if codec == "h264" else (_hevc_kind, _HEVC_SPS, _HEVC_SLICES)
        length = _nal_length(codec, extradata)
        return lambda data, key: _parameters(data, length, *kinds) if key else b""
    return _READERS.get(codec, lambda data, key: b"")


def _nal_length(codec: str, extradata: bytes | None) -> int:
    """Bytes of the length before each NAL unit; 0 where start codes delimit them."""
    place = 4 if codec == "h264" else 21
    if not extradata or len(extradata) <= place or extradata[0] != 1:
        return 0
    return (extradata[place] & 3) + 1


def _h264_kind(first: int) -> int:
    return first & 0x1F


def _hevc_kind(first: int) -> int:
    return first >> 1 & 0x3F


def _parameters(data: memoryview, length: int, kind: Callable[[int], int], wanted: int, slices: range) -> bytes:
    """The sequence parameter sets before the first slice."""
    found = b""
    head = bytes(data[:_HEAD])
    place = 0
    while True:
        if length:
            begin = place + length
            end = begin + int.from_bytes(head[place:begin], "big")
            place = end
        else:
            begin = head.find(b"\0\0\1", place) + 3
            if begin < 3:
                return found
            end = head.find(b"\0\0\1", begin)
            place = end if end >= 0 else len(head)
            end = place
        if begin >= len(head):
            return found
        this = kind(head[begin])
        if this in slices:
            return found
        if this == wanted:
            found += head[begin:end].rstrip(b"\0")


def _mpeg2(data: memoryview, key: bool) -> bytes:
    head = bytes(data[:_HEAD]) if key else b""
    at = head.find(b"\0\0\1\xb3")
    return head[at + 4 : at + 8] if at >= 0 else b""  # width, height, shape of the pixels, rate


def _vp8(data: memoryview, key: bool) -> bytes:
    return bytes(data[6:10]) if key and len(data) >= 10 and not data[0] & 1 else b""


def _vp9(data: memoryview, key: bool) -> bytes:
    """Also frames between keyframes may have a size of their own; one that is taken from a reference is none."""
    bits = _Bits(bytes(data[:24]))
    bits.take(2)
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):
        return b""  # shows a frame once more
    between, shown, resilient = bits.take(1), bits.take(1), bits.take(1)
    if between:
        if not shown and bits.take(1):
            return b""  # for reference alone
        bits.take((0 if resilient else 2) + 8 + 3 * 4)
        if bits.take(1) or bits.take(1) or bits.take(1):
            return b""
    else:
        bits.take(24)
        _skip_vp9_colour(bits, profile)
    return bits.take(32).to_bytes(4, "big")


def _skip_vp9_colour(bits: _Bits, profile: int) -> None:
    if profile >= 2:
        bits.take(1)
    if bits.take(3) == 7:  # RGB
        bits.take(1 if profile in (1, 3) else 0)
    else:
        bits.take(4 if profile in (1, 3) else 1)


def _av1(data: memoryview, key: bool) -> bytes:
    """The sequence header; of frames that override it nothing is seen."""
    place = 0
    while key and place < min(len(data), _HEAD):
        kind, extended, sized = data[place] >> 3 & 15, data[place] >> 2 & 1, data[place] >> 1 & 1
        place += 1 + extended
        size = shift = 0
        while sized and place < len(data):
            byte = data[place]
            size |= (byte & 127) << shift
            shift += 7
            place += 1
            if byte < 128:
                break
        if kind == _AV1_SEQUENCE:
            return bytes(data[place : place + size])
        if kind in _AV1_FRAMES or not sized:
            break
        place += size
    return b""


def _jpeg(data: memoryview, key: bool) -> bytes:
    place = 2
    while place + 9 < len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return bytes(data[place + 5 : place + 9])
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    return b""


class _Bits:
    """The bits of some bytes, from the highest on; zeros after their end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & (1 << count) - 1


_READERS: dict[str, Callable[[memoryview, bool], bytes]] = {
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "vp8": _vp8,
    "vp9": _vp9,
    "av1": _av1,
    "mjpeg": _jpeg,
}
