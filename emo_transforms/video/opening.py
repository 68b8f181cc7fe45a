"""Opening a video file, reading its packets, and telling what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from emobeam.schemas.records import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Progress = Callable[[], None]
"""Called again and again by whoever works on a file for long, so that a watcher sees it alive."""


_OURS = (TypeError, AttributeError, NameError, ImportError, LookupError, AssertionError)
"""Mistakes of programs, not of files."""


def idle() -> None:
    """A :data:`Progress` that nobody watches."""


@contextmanager
def open_video(path: str, *, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file and picks its video stream (cover pictures are none).

    Raises:
        InputError: at stage ``open``: ``missing``, ``empty``, ``io``, ``damaged``, ``no_video``.
    """
    import av

    _check_file(path)
    try:
        # An absolute path is never mistaken for a protocol such as "12:30.mp4".
        container = av.open(os.path.abspath(path), **_lenient())
    except (av.FFmpegError, OSError, MemoryError) as error:
        raise input_error(error, path, "open") from error
    with container:
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic and stream.codec_context is not None
        ]
        best = container.streams.best("video")
        if not streams:
            message = f"{path}: holds no video stream; leave it out or give a video"
            raise InputError(message, stage="open", reason="no_video", permanent=True)
        stream = next((stream for stream in streams if best is not None and stream.index == best.index), streams[0])
        stream.codec_context.thread_count = threads
        # Slices keep the decoder in step with its packets: one packet in, at most its own frame lost.
        stream.codec_context.thread_type = "SLICE"
        yield container, stream


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
        return InputError(message, stage=stage, reason="memory", permanent=False)
    if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
        return InputError(f"{path}: can't be read: {what}", stage=stage, reason="io", permanent=False)
    if isinstance(error, _OURS):
        message = f"{path}: emobeam failed on it, please report this: {type(error).__name__}: {what}"
        return InputError(message, stage=stage, reason="internal", permanent=False)
    message = f"{path}: can't be used as a video, the file may be damaged: {what}"
    return InputError(message, stage=stage, reason="damaged", permanent=True)


def packets(container: InputContainer, stream: VideoStream, path: str, stage: str) -> Iterator[Packet[VideoStream]]:
    """The packets of the stream that hold something, up to the end or to where the file can't be read on.

    Raises:
        InputError: reason ``io``, where the operating system refuses to read.
    """
    import av

    demuxer = container.demux(stream)
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


@contextmanager
def ffmpeg_messages() -> Iterator[list[str]]:
    """Collects what FFmpeg complains about meanwhile, each complaint once; intact files give none."""
    import av.logging

    level = av.logging.get_level()
    repeated = av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    messages: list[str] = []
    try:
        with av.logging.Capture(local=False) as logs:
            yield messages
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)
        messages.extend(dict.fromkeys(f"{name}: {text.strip()}" for _, name, text in logs))
