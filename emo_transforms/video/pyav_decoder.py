"""Decoding with PyAV: frames are matched by presentation time, damage costs only the frames it hits.

Where time stamps can't tell frames apart, because the clock was set anew, the packets that hold them do.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.opening import Progress, decode_packet, idle, open_video, packets
from emobeam.emo_transforms.video.picture.geometry import Shower
from emobeam.emo_transforms.video.picture.interlacing import INTERLACED_ORDERS, Deinterlacer
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import Segment

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

STEPS_BACK = (0.0, 1.0, 3.0, 10.0)
"""Seconds by which tries seek further back, one after the other, while they land too late: MPEG-TS and MPEG-PS have no
index, so a seek lands behind the keyframe that is needed."""


def decode_pyav(
    path: str, segment: Segment, config: DecoderConfig, *, threads: int = 1, progress: Progress = idle
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Decodes the sampled frames of a segment.

    Args:
        path: a local file, the one that was probed.
        threads: threads of the decoder (by slices); they don't change the pictures.
        progress: called once per packet.

    Yields:
        Frame number and upright RGB picture uint8 [H, W, 3], ascending. Frames that can't be decoded or are
        flagged as corrupt are left out. All pictures have the size of the segment, even if the stream changes it,
        and look as a player shows them (see :mod:`emobeam.emo_transforms.video.picture.geometry`).

    Raises:
        InputError: the file can't be opened or read.
    """
    if not segment.sampled:
        return
    shower = Shower(segment)
    found = _by_pts if segment.seekable else _by_packet if segment.packets else _by_count
    frames = found(path, segment, threads, progress)
    if segment.display.interlaced:
        frames = _whole_pictures(frames, segment)
    for number, frame in frames:
        if not frame.is_corrupt:
            yield number, shower.picture(number, frame)


def _whole_pictures(frames: Iterator[tuple[int, VideoFrame]], segment: Segment) -> Iterator[tuple[int, VideoFrame]]:
    """Of frames with their neighbours (numbers of frames that nobody wants are below 1) the wanted ones, whole."""
    wanted = set(segment.sampled)
    fields = Deinterlacer[tuple[int, bool]]()
    for number, frame in frames:
        for (made, corrupt), picture in fields.through(frame, (number, frame.is_corrupt)):
            if made in wanted and not corrupt:
                yield made, picture
                wanted.discard(made)
        if not wanted:
            return
    for (made, corrupt), picture in fields.rest():
        if made in wanted and not corrupt:
            yield made, picture


def _by_pts(path: str, segment: Segment, threads: int, progress: Progress) -> Iterator[tuple[int, VideoFrame]]:
    number_of_pts = dict(zip(segment.pts, segment.frames, strict=True))
    pts_of_number = dict(zip(segment.frames, segment.pts, strict=True))
    wanted = {pts_of_number[number] for number in segment.sampled}
    first, last = min(wanted), max(wanted)
    every = segment.display.interlaced
    start = _frame_before(first, segment) if every else first
    # Seeking is a matter of trust: containers index by decoding time, streams may need a run-up. So a seek
    # that lands behind the first wanted frame is tried again from further back, at last from the beginning.
    for step_back in (None,) if segment.frames[0] == 1 else (*STEPS_BACK, None):
        with open_video(path, threads=threads, stream=segment.display.stream) as (container, stream):
            target = None
            if step_back is not None:
                target = start - int(step_back / (stream.time_base or Fraction(1, 1000)))
            frames = _decoded(container, stream, path, None if every else wanted, target, start, progress)
            opening = next(frames, None)
            late = opening is None or opening.pts is None or opening.pts > start
            if late and step_back is not None:
                continue
            for frame in chain([opening] if opening is not None else [], frames):
                stamp = frame.pts  # whoever takes the frame may give it another
                if every:
                    yield number_of_pts.get(stamp, 0) if stamp is not None else 0, frame
                    continue  # the taker ends it, when the neighbours are there
                if stamp in wanted:
                    yield number_of_pts[stamp], frame
                if stamp is not None and stamp >= last:
                    return
            return


def _frame_before(first: int, segment: Segment) -> int:
    """Time stamp of the frame before that of ``first``: what makes whole pictures of fields looks at it, too."""
    place = segment.pts.index(first)
    if place:
        return segment.pts[place - 1]
    return first if segment.entry is None else segment.entry


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    path: str,
    wanted: set[int] | None,
    target: int | None,
    start: int,
    progress: Progress,
) -> Iterator[VideoFrame]:
    """Frames from the first keyframe on that a seek to ``target`` finds (``None``: from the beginning).

    Nothing where that one is shown after ``start``. H.264 frames that are neither wanted nor referred to are skipped,
    unless ``wanted`` is None: then all are.
    """
    import av

    if target is not None:
        try:
            container.seek(target, stream=stream)
        except av.FFmpegError:
            return
    skips = wanted is not None and _may_skip(stream)
    keyed = target is None
    for packet in packets(container, stream, path, "decode"):
        progress()
        if not keyed:
            if not packet.is_keyframe:
                continue
            if packet.pts is None or packet.pts > start:
                return
            keyed = True
        if skips and wanted is not None:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from decode_packet(stream, packet) or []
    yield from decode_packet(stream, None) or []


def _may_skip(stream: VideoStream) -> bool:
    """Whether frames that are not wanted need not be decoded where the stream says that none refers to them."""
    # In HEVC a "non-reference" picture may still be referred to from a higher sub-layer; in H.264 it may not. But where
    # each field has a packet, the second one of a wanted picture would be left out, and FFmpeg repeats the first.
    return stream.codec_context.name == "h264" and int(stream.codec_context.field_order) not in INTERLACED_ORDERS


def _by_count(path: str, segment: Segment, threads: int, progress: Progress) -> Iterator[tuple[int, VideoFrame]]:
    """Counts frames from the beginning of the file, exactly as the probe did."""
    wanted = set(segment.sampled)
    number = 0
    every = segment.display.interlaced
    with open_video(path, threads=threads, stream=segment.display.stream) as (container, stream):
        for packet in chain(packets(container, stream, path, "decode"), [None]):
            progress()
            for frame in decode_packet(stream, packet) or []:
                number += 1
                if every or number in wanted:
                    yield number, frame
            if number >= segment.sampled[-1] and not every:
                return


def _by_packet(path: str, segment: Segment, threads: int, progress: Progress) -> Iterator[tuple[int, VideoFrame]]:
    """Frames by the packets that hold them; packets before the segment's entry are read, but not decoded."""
    numbers = dict(zip(segment.packets, segment.frames, strict=True))
    wanted = {packet for packet, frame in numbers.items() if frame in set(segment.sampled)}
    every = segment.display.interlaced
    with open_video(path, threads=threads, stream=segment.display.stream) as (container, stream):
        stream.codec_context.copy_opaque = True
        skips = not every and _may_skip(stream)
        for place, packet in enumerate(chain(packets(container, stream, path, "decode"), [None])):
            progress()
            if packet is not None:
                if segment.entry is not None and place < segment.entry:
                    continue
                packet.opaque = place
                if skips:
                    stream.codec_context.skip_frame = "DEFAULT" if place in wanted else "NONREF"
            for frame in decode_packet(stream, packet) or []:
                held: Any = frame.opaque
                if every or held in wanted:
                    yield numbers.get(held, 0), frame
                wanted.discard(held)
            if not wanted and not every:
                return
