"""The sound of a clip that is made again: copied where browsers play it, encoded anew elsewhere, in step with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emobeam.emo_transforms.video.clock import LEAP

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

COPIED_AUDIO = frozenset(("aac", "mp3", "opus", "flac"))
"""What mp4 takes and today's browsers play from it; other sound is encoded anew as AAC."""

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass
class Span:
    """What part of the sound is kept, in s on the clock of the container; 0 for ``until`` means all. ``moves``: what is
    added to time stamps wherever the clock was set anew, one after the other.
    """

    origin: float
    until: float
    moves: list[float]


class Sound:
    """Copies sound, or encodes it anew; keeps what comes before the picture's stream is known."""

    def __init__(self, source: Any, out: OutputContainer, span: Span, *, copy: bool) -> None:
        self.source, self._out, self._span, self._copy = source, out, span, copy
        self.how = "copied" if copy else "aac"
        self.done = False
        self._waiting: list[Any] = []
        self._last: int | None = None
        self._moves, self._moved, self._raw = list(span.moves), 0.0, 0.0
        self._stream: Any
        if copy:
            self._stream = out.add_stream_from_template(source)
        else:
            rate = min(_AAC_RATES, key=lambda known: abs(known - source.rate))
            layout = "mono" if source.codec_context.channels == 1 else "stereo"
            self._stream = out.add_stream("aac", rate=rate, layout=layout)

    def take(self, packet: Any, *, ready: bool) -> None:
        """Takes the next packet; what comes before the picture is ``ready`` waits."""
        if packet.pts is None or packet.dts is None:
            return
        self._follow_clock(packet)
        time = float(packet.pts * packet.time_base)
        length = float((packet.duration or 0) * packet.time_base)
        if self._span.until and time >= self._span.until:
            self.done = True
            return
        if self._span.origin and time + length / 2 < self._span.origin:
            return
        self._waiting.append(packet)
        if ready:
            self._drain()

    def _follow_clock(self, packet: Any) -> None:
        raw = float(packet.pts * packet.time_base)
        if self._moves and self._raw and not 0 <= raw - self._raw <= LEAP:
            self._moved = self._moves.pop(0)
        self._raw = raw
        if self._moved:
            moved = round(self._moved / float(packet.time_base))
            packet.pts, packet.dts = packet.pts + moved, packet.dts + moved

    def _drain(self) -> None:
        for packet in self._waiting:
            if self._copy:
                self._pass_on(packet)
            else:
                self._encode(packet)
        self._waiting.clear()

    def _pass_on(self, packet: Any) -> None:
        shift = round(self._span.origin / float(packet.time_base))
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if self._last is not None and packet.dts <= self._last:
            return  # a muxer takes none that goes back in time
        self._last = packet.dts
        packet.stream = self._stream
        self._out.mux(packet)

    def _encode(self, packet: Any) -> None:
        import av

        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base:
                frame.pts -= round(self._span.origin / float(frame.time_base))
            self._out.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """When there are no more packets."""
        self._drain()
        if not self._copy:
            for frame in _last_frames(self.source):
                self._out.mux(self._stream.encode(frame))
            self._out.mux(self._stream.encode(None))


def _last_frames(source: Any) -> list[Any]:
    import av

    try:
        return list(source.codec_context.decode(None))
    except av.FFmpegError:
        return []


def sound_of(container: InputContainer, out: OutputContainer, span: Span) -> Sound | None:
    """What carries over the best sound of a clip; None where it has none that can be decoded."""
    best = container.streams.best("audio")
    if best is None or best.codec_context is None:
        return None
    copy = best.codec_context.codec.canonical_name in COPIED_AUDIO
    return Sound(best, out, span, copy=copy)
