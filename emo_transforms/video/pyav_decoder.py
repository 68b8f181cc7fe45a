"""Decoding with PyAV: frames are matched by presentation time, damage costs only the frames it hits."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms.video.opening import Progress, decode_packet, idle, open_video, packets
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import Segment

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_STEP_BACK = 10.0
"""Seconds by which a second try seeks further back, where the first one landed too late."""


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
        flagged as corrupt are left out. All pictures have the size of the segment, even if the stream changes it.

    Raises:
        InputError: the file can't be opened or read.
    """
    from av.video.reformatter import VideoReformatter

    if not segment.sampled:
        return
    reformatter = VideoReformatter()
    found = _by_pts if segment.seekable else _by_count
    for number, frame in found(path, segment, threads, progress):
        if not frame.is_corrupt:
            yield number, _picture(frame, segment, reformatter)


def _by_pts(path: str, segment: Segment, threads: int, progress: Progress) -> Iterator[tuple[int, VideoFrame]]:
    number_of_pts = dict(zip(segment.pts, segment.frames, strict=True))
    pts_of_number = dict(zip(segment.frames, segment.pts, strict=True))
    wanted = {pts_of_number[number] for number in segment.sampled}
    first, last = min(wanted), max(wanted)
    # Seeking is a matter of trust: containers index by decoding time, streams may need a run-up. So a seek
    # that lands behind the first wanted frame is tried again from further back, at last from the beginning.
    for step_back in (None,) if segment.frames[0] == 1 else (0.0, _STEP_BACK, None):
        with open_video(path, threads=threads) as (container, stream):
            target = None
            if step_back is not None:
                target = first - int(step_back / (stream.time_base or Fraction(1, 1000)))
            frames = _decoded(container, stream, path, wanted, target, progress)
            opening = next(frames, None)
            late = opening is None or opening.pts is None or opening.pts > first
            if late and step_back is not None:
                continue
            for frame in chain([opening] if opening is not None else [], frames):
                if frame.pts in wanted:
                    yield number_of_pts[frame.pts], frame
                if frame.pts is not None and frame.pts >= last:
                    return
            return


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    path: str,
    wanted: set[int],
    target: int | None,
    progress: Progress,
) -> Iterator[VideoFrame]:
    """Frames from the last keyframe shown at or before ``target`` on (``None``: from the beginning).

    Nothing where no such keyframe is found. H.264 frames that are neither wanted nor referred to are skipped.
    """
    import av

    if target is not None:
        try:
            container.seek(target, stream=stream)
        except av.FFmpegError:
            return
    # In HEVC a "non-reference" picture may still be referred to from a higher sub-layer; in H.264 it may not.
    skips = stream.codec_context.name == "h264"
    keyed = target is None
    for packet in packets(container, stream, path, "decode"):
        progress()
        if not keyed:
            if not packet.is_keyframe:
                continue
            if target is not None and (packet.pts is None or packet.pts > target):
                return
            keyed = True
        if skips:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from decode_packet(stream, packet) or []
    yield from decode_packet(stream, None) or []


def _by_count(path: str, segment: Segment, threads: int, progress: Progress) -> Iterator[tuple[int, VideoFrame]]:
    """Counts frames from the beginning of the file, exactly as the probe did."""
    wanted = set(segment.sampled)
    number = 0
    with open_video(path, threads=threads) as (container, stream):
        for packet in chain(packets(container, stream, path, "decode"), [None]):
            progress()
            for frame in decode_packet(stream, packet) or []:
                number += 1
                if number in wanted:
                    yield number, frame
            if number >= segment.sampled[-1]:
                return


def _picture(frame: VideoFrame, segment: Segment, reformatter: VideoReformatter) -> npt.NDArray[np.uint8]:
    lying = segment.rotation in (90, 270)
    width, height = (segment.height, segment.width) if lying else (segment.width, segment.height)
    rgb = reformatter.reformat(
        frame, width=width or frame.width, height=height or frame.height, format="rgb24", threads=1
    ).to_ndarray()
    upright: npt.NDArray[np.uint8] = np.ascontiguousarray(np.rot90(rgb, -(segment.rotation // 90)))
    return upright
