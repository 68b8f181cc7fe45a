"""Opening a video file, reading its packets, and telling what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emobeam.schemas.records import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Progress = Callable[[], None]
"""Called again and again by whoever works on a file for long, so that a watcher sees it alive."""


_PLAYLIST = "is a playlist, which names other files; give these files themselves"

_REFUSED = {
    "concat": _PLAYLIST,
    "hls": _PLAYLIST,
    "dash": _PLAYLIST,
    "imf": _PLAYLIST,
    "image2": "is a picture or a pattern of pictures, not a video",
}
"""Demuxers that read other files than the one they are given, which may change unnoticed."""

_MOST_BOXES = 1000

_OURS = (TypeError, AttributeError, NameError, ImportError, LookupError, AssertionError)
"""Mistakes of programs, not of files."""


def idle() -> None:
    """A :data:`Progress` that nobody watches."""


@contextmanager
def open_video(path: str, *, threads: int = 1, stream: int = -1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file and picks its video stream (cover pictures are none).

    Args:
        stream: index in the container; -1 is the one that FFmpeg takes for the best. Which one is meant of several is
            for the probe to say.

    Raises:
        InputError: at stage ``open``: ``missing``, ``empty``, ``io``, ``damaged``, ``no_video``, ``unsupported``.
    """
    with opened(path) as container:
        picked = container.streams[stream] if stream >= 0 else usual_stream(container, path)
        yield container, _set_up(picked, threads)


def _set_up(stream: Any, threads: int) -> VideoStream:
    stream.codec_context.thread_count = threads
    # Slices keep the decoder in step with its packets: one packet in, at most its own frame lost.
    stream.codec_context.thread_type = "SLICE"
    chosen: VideoStream = stream
    return chosen


@contextmanager
def opened(path: str) -> Iterator[InputContainer]:
    """A file as FFmpeg opens it.

    Raises:
        InputError: see :func:`open_video`.
    """
    import av

    _check_file(path)
    try:
        # An absolute path is never mistaken for a protocol such as "12:30.mp4".
        container = av.open(os.path.abspath(path), **_lenient())
    except (av.FFmpegError, OSError, MemoryError) as error:
        raise input_error(error, path, "open") from error
    with container:
        refused = _REFUSED.get(container.format.name)
        if refused:
            raise InputError(f"{path}: {refused}", stage="open", reason="unsupported", permanent=True)
        yield container


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Streams of moving pictures that can be decoded, in the order of the file; covers are none."""
    import av

    return [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
    ]


def usual_stream(container: InputContainer, path: str) -> VideoStream:
    """The stream that FFmpeg takes for the best.

    Raises:
        InputError: there is no video stream, or none that FFmpeg can decode.
    """
    streams = video_streams(container)
    if not streams:
        unknown = [stream for stream in container.streams if stream.type == "video" and stream.codec_context is None]
        if unknown:
            message = f"{path}: its video is in a format that FFmpeg can't decode; convert it to H.264 in mp4"
            raise InputError(message, stage="open", reason="unsupported", permanent=True)
        message = f"{path}: holds no video stream; leave it out or give a video"
        raise InputError(message, stage="open", reason="no_video", permanent=True)
    best = container.streams.best("video")
    return next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])


def _lenient() -> dict[str, Any]:
    """Until version 19 PyAV refused files whose titles aren't UTF-8, unless asked not to; then the option went."""
    import av

    return {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}


def _check_file(path: str) -> None:
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise input_error(error, path, "open") from error
    if empty:
        raise InputError(f"{path}: is empty (0 bytes)", stage="open", reason="empty", permanent=True)


def input_error(error: BaseException, path: str, stage: str) -> InputError:
    """Any exception met while working on a file, as the :class:`InputError` that tells the user about it."""
    if isinstance(error, InputError):
        return error
    what = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        message = f"{path}: is not there; check the path"
        return InputError(message, stage=stage, reason="missing", permanent=False)
    if isinstance(error, MemoryError):
        message = f"{path}: needs more memory than decoding may use"
        # FFmpeg asks for that much where a damaged header announces an absurd size; the same bytes always will.
        of_ffmpeg = getattr(error, "errno", None) is not None
        return InputError(message, stage=stage, reason="memory", permanent=of_ffmpeg)
    if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
        return InputError(f"{path}: can't be read: {what}", stage=stage, reason="io", permanent=False)
    if isinstance(error, _OURS):
        message = f"{path}: emobeam failed on it, please report this: {type(error).__name__}: {what}"
        return InputError(message, stage=stage, reason="internal", permanent=False)
    if stage == "open" and _unfinished(path):
        message = f"{path}: its index is missing, so the recording wasn't finished; an untruncated copy or a tool "
        message += "that rebuilds the index (untrunc) is needed"
        return InputError(message, stage=stage, reason="damaged", permanent=True)
    message = f"{path}: can't be used as a video, the file may be damaged: {what}"
    return InputError(message, stage=stage, reason="damaged", permanent=True)


def packets(
    container: InputContainer, stream: VideoStream | Sequence[VideoStream], path: str, stage: str
) -> Iterator[Packet[VideoStream]]:
    """The packets of streams that hold something, up to the end or to where the file can't be read on.

    Raises:
        InputError: reason ``io``, where the operating system refuses to read.
    """
    import av

    demuxer: Iterator[Any] = container.demux(*stream) if isinstance(stream, Sequence) else container.demux(stream)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise input_error(error, path, stage) from error
            return
        if packet.size:
            yield packet


def decode_packet(stream: VideoStream, packet: Packet[VideoStream] | None) -> list[VideoFrame] | None:
    """The frames that come out for one packet (``None`` flushes the decoder); ``None`` if it is damaged."""
    import av

    try:
        return stream.codec_context.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.MemoryError:
        raise
    except av.FFmpegError:
        return None


_JOINT = "Found unknown-length element with ID 0x18538067"
"""Where a second Matroska segment begins: recordings were joined, which is no damage."""


class Complaints:
    """What FFmpeg complained about so far."""

    def __init__(self, logs: list[tuple[int, str, str]]) -> None:
        self._logs = logs

    def __len__(self) -> int:
        return len(self._logs)

    def texts(self) -> list[str]:
        """Each complaint once, in the order of their first appearance."""
        told = (f"{name}: {text.strip()}" for _, name, text in list(self._logs) if not text.startswith(_JOINT))
        return list(dict.fromkeys(told))


@contextmanager
def ffmpeg_messages() -> Iterator[Complaints]:
    """Collects what FFmpeg complains about meanwhile; intact files give nothing."""
    import av.logging

    level = av.logging.get_level()
    repeated = av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=False) as logs:
            yield Complaints(logs)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)


def _unfinished(path: str) -> bool:
    """Whether a file is an mp4 that holds media and no index, as recorders leave it that were switched off."""
    kinds = set()
    try:
        with open(path, "rb") as file:
            for _ in range(_MOST_BOXES):
                head = file.read(16)
                size, kind = int.from_bytes(head[:4], "big"), head[4:8]
                if len(head) < 8 or not kind.isalnum():
                    break
                kinds.add(kind)
                size = int.from_bytes(head[8:16], "big") if size == 1 else size
                if size < 8:
                    break
                file.seek(size - len(head), os.SEEK_CUR)
    except OSError:
        return False
    return bool(kinds & {b"mdat", b"ftyp"}) and b"moov" not in kinds


@dataclass(frozen=True)
class StreamChoice:
    """Which stream of a file is the video, and what to tell of the others.

    Attributes:
        index: in the container.
        usual: it is the one that FFmpeg takes for the best.
    """

    index: int
    usual: bool = True
    notes: tuple[str, ...] = ()


@contextmanager
def open_chosen(path: str, number: int = -1) -> Iterator[tuple[InputContainer, VideoStream, StreamChoice]]:
    """Opens a file and picks the stream that is the video, which takes a look at all packets where there are several.

    A video has at least two frames and is at least half as long as the longest stream; among those the default one is
    taken, then the largest, then the first.

    Args:
        number: the user's choice among the video streams, from 0; -1 for none.

    Raises:
        InputError: see :func:`open_video`; there is no stream of that number.
    """
    with opened(path) as container:
        usual = usual_stream(container, path)
        streams = video_streams(container)
        if number >= len(streams):
            count = f"{len(streams)} video stream{'s' if len(streams) > 1 else ''}"
            message = f"{path}: has {count}, so there is no stream {number} (they count from 0)"
            raise InputError(message, stage="open", reason="no_video", permanent=True)
        if len(streams) == 1:
            yield container, _set_up(usual, 1), StreamChoice(usual.index)
            return
        choice = _choose(container, streams, usual, path, number)
    with open_video(path, stream=choice.index) as (container, stream):
        yield container, stream, choice


def _choose(
    container: InputContainer, streams: list[VideoStream], usual: VideoStream, path: str, number: int
) -> StreamChoice:
    extents = _extents(container, streams, path)
    picked = streams[number] if number >= 0 else _best(streams, extents)
    others = [
        f"{place} ({_extent_text(stream, *extents[stream.index])})"
        for place, stream in enumerate(streams)
        if stream is not picked
    ]
    mine = _extent_text(picked, *extents[picked.index])
    note = f"has {len(streams)} video streams; {streams.index(picked)} ({mine}) was taken, not {', '.join(others)}"
    note += "" if number >= 0 else "; --stream N takes another"
    return StreamChoice(picked.index, picked.index == usual.index, (note,))


def _extents(container: InputContainer, streams: list[VideoStream], path: str) -> dict[int, tuple[int, float]]:
    """Frames and seconds of each stream, by its index."""
    frames = dict.fromkeys((stream.index for stream in streams), 0)
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for packet in packets(container, streams, path, "probe"):
        index = packet.stream_index
        frames[index] += 1
        if packet.pts is not None and packet.time_base:
            begin = float(packet.pts * packet.time_base)
            first[index] = min(begin, first.get(index, begin))
            last[index] = max(begin + float((packet.duration or 0) * packet.time_base), last.get(index, begin))
    return {index: (count, last.get(index, 0.0) - first.get(index, 0.0)) for index, count in frames.items()}


def _best(streams: list[VideoStream], extents: dict[int, tuple[int, float]]) -> VideoStream:
    import av

    moving = [stream for stream in streams if extents[stream.index][0] > 1] or streams
    longest = max(extents[stream.index][1] for stream in moving)
    long = [stream for stream in moving if 2 * extents[stream.index][1] >= longest]

    def rank(stream: VideoStream) -> tuple[bool, int, int]:
        default = bool(stream.disposition & av.stream.Disposition.default)
        return default, stream.codec_context.width * stream.codec_context.height, -stream.index

    return max(long, key=rank)


def _extent_text(stream: VideoStream, frames: int, seconds: float) -> str:
    size = f"{stream.codec_context.width}x{stream.codec_context.height}"
    return f"{size}, {seconds:.1f} s" if frames > 1 else f"{size}, one picture"
