"""What frames a video file shows, and how, found by reading its packets once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from emobeam.emo_transforms.video.clock import LEAP, gap_notes, setting_notes, straightened
from emobeam.emo_transforms.video.opening import (
    Complaints,
    Progress,
    StreamChoice,
    decode_packet,
    ffmpeg_messages,
    idle,
    open_chosen,
    open_video,
    packets,
)
from emobeam.emo_transforms.video.packet_watch import PacketWatch
from emobeam.emo_transforms.video.picture.geometry import (
    SQUARE,
    common_size,
    display_matrix,
    orientation,
    pixel_aspect,
    turned,
)
from emobeam.emo_transforms.video.picture.interlacing import LOOKED_AT, FieldEvidence
from emobeam.emo_transforms.video.picture.tones import TRANSFERS
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import CodedSize, Display, InputError, Probe, VideoFacts

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_MESSAGES = 3
"""Complaints of FFmpeg that enter the note."""

_AVI_REORDERED = frozenset({"h264", "hevc", "vvc"})
"""AVI stores no presentation times; for these codecs FFmpeg makes them up from the order of the packets,
which is wrong wherever there are B-frames."""

_SET_ANEW = 0x200
"""FFmpeg's flag (AVFMT_TS_DISCONT) of containers in which the clock may be set anew."""

_SIZES_TOLD = 3


def probe_video(path: str, config: DecoderConfig, *, progress: Progress = idle) -> Probe:
    """Finds all displayed frames of a video without decoding it (the first frame excepted, for its size).

    Not displayed are packets outside the edit list, VP8's alternative reference frames, packets before the
    first keyframe, and pictures before the first one a decoder gives out without complaint (leading pictures
    of an open group). The file is decoded once, and what comes out is counted, where packets don't tell all:
    no usable presentation times (``seekable`` is then false, and ``pts`` are the decoder's time stamps if those
    ascend, else the frames' ranks at the average rate), a clock that is set anew, a coded size that changes,
    two packets to a frame, or packets without one in the first seconds.

    Args:
        path: a local file.
        progress: called once per packet.

    Raises:
        InputError: ``missing``, ``empty``, ``io``, ``damaged``, ``no_video``, ``too_large``, ``no_frames``,
            ``unsupported``.
    """
    with ffmpeg_messages() as messages, open_chosen(path, config.stream) as (container, stream, choice):
        codec = stream.codec_context
        _check_size(path, codec.width, codec.height, config)
        found = PacketWatch(stream, messages)
        for packet in packets(container, stream, path, "probe"):
            progress()
            found.add(packet, stream)
        found.finish(stream)
        media = _Media.of(container, stream)

    stamps = found.stamps()
    if not stamps:
        message = f"{path}: its video stream shows no frame"
        raise InputError(message, stage="probe", reason="no_frames", permanent=True)
    first = found.first
    if first is None:
        message = f"{path}: none of its {len(stamps)} frames can be decoded, the file is damaged"
        raise InputError(message, stage="probe", reason="damaged", permanent=True)

    interlaced, halved = _look_at_fields(path, choice, progress) if found.fielded else (False, False)
    line = _timeline(found, first.pts, media, halved or found.silent, lambda: _shown(path, choice, media, progress))
    return _probe(path, config, first, found, media, choice, line, messages, interlaced)


def _probe(
    path: str,
    config: DecoderConfig,
    first: VideoFrame,
    found: PacketWatch,
    media: _Media,
    choice: StreamChoice,
    line: _Timeline,
    messages: Complaints,
    interlaced: bool,
) -> Probe:
    rotation, mirrored, turn_note = orientation(display_matrix(first))
    aspect, aspect_note = pixel_aspect(media.ratio)
    sizes = line.sizes or (CodedSize(1, first.width, first.height, aspect),)
    coded_size = common_size(sizes)
    _check_size(path, *coded_size, config)
    width, height = turned(coded_size, rotation)
    plain_size = len(sizes) == 1 and sizes[0].aspect == SQUARE
    tones = TRANSFERS.get(int(first.color_trc), "")
    display = Display(
        sizes=() if plain_size else sizes,
        mirrored=mirrored,
        interlaced=interlaced,
        stream=-1 if choice.usual else choice.index,
        clock=line.settings,
        tones=tones,
        silent=found.silent,
    )
    tone_note = f"is coded for high dynamic range ({tones}); it was mapped to standard range" if tones else ""
    notes = [*choice.notes, tone_note, turn_note, aspect_note, *_size_notes(sizes), *line.notes]
    notes += gap_notes(line.pts, line.time_base, found.complaints if not line.settings else ())
    return Probe(
        pts=line.pts,
        time_base=(line.time_base.numerator, line.time_base.denominator),
        width=width,
        height=height,
        rotation=rotation,
        seekable=line.seekable,
        codec=media.codec,
        note="; ".join(messages.texts()[:_MESSAGES]),
        display=display,
        packets=line.packets,
        keys=line.keys,
        facts=VideoFacts(
            offset=float(line.begin * media.time_base - media.begin) if line.begin is not None else 0.0,
            coded=(first.width, first.height),
            rotation=rotation,
            notes=tuple(note for note in notes if note),
        ),
    )


def _size_notes(sizes: Sequence[CodedSize]) -> list[str]:
    if len(sizes) < 2:
        return []
    kinds = list(dict.fromkeys(f"{size.width}x{size.height}" for size in sizes))
    told = ", ".join(kinds[:_SIZES_TOLD]) + (" ..." if len(kinds) > _SIZES_TOLD else "")
    times = "once" if len(sizes) == 2 else f"{len(sizes) - 1} times"
    return [f"its coded size changes {times} ({told}); all pictures are shown in one frame, undistorted"]


@dataclass(frozen=True)
class _Media:
    """What the container says of the whole.

    Attributes:
        begin: of the media's own clock in s.
        fixed: the container alone says what shape pixels have.
        ratio: width to height of a pixel, as far as it is known before anything is decoded.
        leaps: the clock may be set anew.
    """

    codec: str
    time_base: Fraction
    rate: Fraction
    made_up: bool
    leaps: bool
    begin: Fraction
    fixed: bool
    ratio: Fraction | None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> _Media:
        import av

        family = container.format.name
        codec = stream.codec_context.codec.canonical_name
        # The timeline of a movie begins at 0 whatever is shown there; others begin where their first stream does.
        leaps = bool(container.format.flags & _SET_ANEW)
        movie = family.startswith("mov") or container.start_time is None
        return cls(
            codec=codec,
            time_base=stream.time_base or Fraction(1, 1000),
            rate=stream.average_rate or stream.guessed_rate or Fraction(25),
            made_up=family == "avi" and codec in _AVI_REORDERED,
            leaps=leaps,
            begin=Fraction(0) if movie else Fraction(container.start_time, av.time_base),
            fixed=not leaps and bool(stream.sample_aspect_ratio),
            ratio=stream.sample_aspect_ratio,
        )


@dataclass(frozen=True)
class _Timeline:
    """The displayed frames. See :class:`Probe` for what has the same name there.

    Attributes:
        begin: time stamp of the first frame as the file has it, in the stream's own unit.
        sizes: empty where only the first frame was decoded.
    """

    pts: tuple[int, ...]
    time_base: Fraction
    begin: int | None
    seekable: bool = True
    packets: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    sizes: tuple[CodedSize, ...] = ()
    settings: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Decoded:
    """All frames the decoder gives out, in that order, in parallel lists; and the packets where it may begin."""

    stamps: list[int | None] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int, Fraction | None]] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)


def _timeline(
    found: PacketWatch, first: int | None, media: _Media, fewer: bool, decode: Callable[[], _Decoded]
) -> _Timeline:
    stamps = found.stamps()
    pts = sorted({stamp for stamp in stamps if stamp is not None})
    dated = len(pts) == len(stamps)
    base = media.time_base
    leaps = media.leaps and any(after - before > LEAP / base for before, after in pairwise(pts))
    undated = not dated or media.made_up or first is None or pts[0] < first
    if not (undated or leaps or fewer or found.clock_back or found.resized):
        return _Timeline(tuple(pts), base, pts[0])
    decoded = decode()
    shown = [stamp for stamp in decoded.stamps if stamp is not None]
    whole = len(shown) == len(decoded.stamps) > 0
    begin = shown[0] if shown else None
    if whole and not leaps and all(a < b for a, b in pairwise(shown)):
        if not dated or fewer:
            return _Timeline(tuple(shown), base, begin, dated, sizes=_sizes(decoded, media))
        if found.clean:
            pts = [stamp for stamp in pts if stamp >= shown[0]]
        numbers = {stamp: number for number, stamp in enumerate(pts, start=1)}
        return _Timeline(tuple(pts), base, pts[0], sizes=_sizes(decoded, media, numbers))
    if whole and not media.made_up:
        usual = round(1 / media.rate / base)
        straight = straightened(shown, base, usual, leaps=media.leaps)
        if straight is not None:
            return _Timeline(
                straight.pts,
                base,
                begin,
                seekable=False,
                packets=tuple(decoded.packets),
                keys=tuple(decoded.keys),
                sizes=_sizes(decoded, media),
                settings=tuple((place + 1, round(moved * base * 1000)) for place, moved in straight.settings),
                notes=tuple(setting_notes(straight, shown, base, leaps=media.leaps)),
            )
    ranks = tuple(range(len(decoded.stamps)))
    return _Timeline(ranks, 1 / media.rate, begin, seekable=False, sizes=_sizes(decoded, media))


def _sizes(decoded: _Decoded, media: _Media, numbers: Mapping[int, int] | None = None) -> tuple[CodedSize, ...]:
    """Where the coded size, or the shape of pixels, changes."""
    found: list[CodedSize] = []
    before = None
    for place, size in enumerate(decoded.sizes):
        if size == before:
            continue
        stamp = decoded.stamps[place]
        number = place + 1 if numbers is None or stamp is None else numbers.get(stamp, 0)
        if not number:
            continue
        before = size
        aspect, _ = pixel_aspect(media.ratio if media.fixed else size[2])
        new = CodedSize(number if found else 1, size[0], size[1], aspect)
        if not found or replace(new, frame=found[-1].frame) != found[-1]:
            found.append(new)
    return tuple(found)


def _shown(path: str, choice: StreamChoice, media: _Media, progress: Progress) -> _Decoded:
    decoded = _Decoded()
    ratios: dict[int, Fraction | None] = {}
    with open_video(path, stream=choice.index) as (container, stream):
        codec = stream.codec_context
        codec.copy_opaque = True
        for number, packet in enumerate(chain(packets(container, stream, path, "probe"), [None])):
            progress()
            if packet is not None:
                packet.opaque = number
                if packet.is_keyframe:
                    decoded.keys.append(number)
            frames = decode_packet(stream, packet) or []
            ratios[number] = codec.sample_aspect_ratio  # what holds for the picture in this packet
            for frame in frames:
                held: Any = number if frame.opaque is None else frame.opaque
                decoded.stamps.append(frame.pts)
                decoded.packets.append(held)
                decoded.sizes.append((frame.width, frame.height, ratios.get(held)))
    return decoded


def _look_at_fields(path: str, choice: StreamChoice, progress: Progress) -> tuple[bool, bool]:
    """Whether the beginning of a stream shows traces of fields, and whether its packets hold a field each."""
    evidence = FieldEvidence()
    shown = held = 0
    with open_video(path, stream=choice.index) as (container, stream):
        for packet in packets(container, stream, path, "probe"):
            progress()
            held += 1
            for frame in decode_packet(stream, packet) or []:
                shown += 1
                evidence.add(frame)
            if shown >= LOOKED_AT:
                break
        else:
            shown += len(decode_packet(stream, None) or [])
    return evidence.interlaced, held > _HALVED * shown + _DELAY


_HALVED = 1.5
_DELAY = 20
"""Packets that a decoder may hold back."""


def _check_size(path: str, width: int, height: int, config: DecoderConfig) -> None:
    if width * height > config.max_pixels:
        message = f"{path}: {width}x{height} px is more than the limit of {config.max_pixels} px; scale it down first"
        raise InputError(message, stage="probe", reason="too_large", permanent=True)
