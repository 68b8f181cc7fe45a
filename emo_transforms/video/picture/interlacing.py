"""Whole pictures out of interlaced ones, whose two fields show different moments."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

T = TypeVar("T")

_TICK = Fraction(1, 25)

INTERLACED_ORDERS = frozenset((2, 3, 4, 5))
"""FFmpeg's orders of fields (AVFieldOrder) of streams that call themselves interlaced."""

LOOKED_AT = 100
"""Frames at the beginning of a stream that are looked at for the traces of fields."""

_COMBED = 0.1
"""Share of frames with traces of fields above which a video isn't one of whole pictures."""

_BWDIF = "mode=send_frame:parity=auto:deint=all"


def may_be_interlaced(stream: VideoStream, frame: VideoFrame) -> bool:
    """Whether a stream, or its first frame, says that it is interlaced."""
    return frame.interlaced_frame or int(stream.codec_context.field_order) in INTERLACED_ORDERS


class FieldEvidence:
    """Looks for combs in decoded frames, by FFmpeg's ``idet``.

    Many streams that call themselves interlaced hold whole pictures (films, progressive cameras): there is nothing to
    undo, and undoing would blur them.
    """

    def __init__(self) -> None:
        self._graph: _Graph | None = None
        self._combed = self._whole = 0

    def add(self, frame: VideoFrame) -> None:
        """Looks at the next frame; gives it another time stamp."""
        if self._graph is None or not self._graph.fits(frame):
            self._graph = _Graph(frame, "idet", "")
        for seen in self._graph.through(frame):
            kind = seen.metadata.get("lavfi.idet.multiple.current_frame", "")
            self._combed += kind in ("tff", "bff")
            self._whole += kind == "progressive"

    @property
    def interlaced(self) -> bool:
        """Unless the pictures are clearly whole; where nothing moves they don't tell, and the flags are believed."""
        return not self._whole or self._combed > _COMBED * (self._combed + self._whole)


class Deinterlacer(Generic[T]):
    """Passes frames through ``bwdif``, one whole picture for each; every frame needs the one before and the one after.

    What is given with a frame comes out with its picture.
    """

    def __init__(self) -> None:
        self._graph: _Graph | None = None
        self._waiting: deque[T] = deque()

    def through(self, frame: VideoFrame, label: T) -> list[tuple[T, VideoFrame]]:
        """The pictures that are ready once ``frame`` is there."""
        done = []
        if self._graph is None or not self._graph.fits(frame):
            done = self.rest()
            self._graph = _Graph(frame, "bwdif", _BWDIF)
        self._waiting.append(label)
        return done + [(self._waiting.popleft(), made) for made in self._graph.through(frame)]

    def rest(self) -> list[tuple[T, VideoFrame]]:
        """The pictures still due, when no frame is to come."""
        if self._graph is None:
            return []
        made = self._graph.through(None)
        self._graph = None
        return [(self._waiting.popleft(), picture) for picture in made]


class _Graph:
    """One filter for frames of one size and format, numbered anew: stamps of damaged files upset filters."""

    def __init__(self, frame: VideoFrame, name: str, args: str) -> None:
        from av.filter import Graph

        self._kind = (frame.width, frame.height, frame.format.name)
        self._count = 0
        self._graph = Graph()
        size = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/25"
        nodes = [self._graph.add("buffer", size)]
        nodes += [self._graph.add(name, args) if args else self._graph.add(name), self._graph.add("buffersink")]
        self._graph.link_nodes(*nodes)
        self._graph.configure()

    def fits(self, frame: VideoFrame) -> bool:
        return self._kind == (frame.width, frame.height, frame.format.name)

    def through(self, frame: VideoFrame | None) -> list[VideoFrame]:
        import av

        if frame is not None:
            frame.pts, frame.time_base = self._count, _TICK
            self._count += 1
        self._graph.push(frame)
        made: list[Any] = []
        while True:
            try:
                made.append(self._graph.pull())
            except (BlockingIOError, av.error.EOFError):
                return made
