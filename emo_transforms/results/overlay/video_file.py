"""A clip made again, every frame passed through a painter: h264 in mp4, times and sound of the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.overlay.sound import Span, sound_of
from emobeam.emo_transforms.video.opening import Progress, decode_packet, idle, input_error, open_video
from emobeam.emo_transforms.video.picture.geometry import Shower
from emobeam.emo_transforms.video.picture.interlacing import Deinterlacer
from emobeam.emo_transforms.video.pyav_decoder import STEPS_BACK
from emobeam.schemas.records import InputError, Probe

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Picture = NDArray[np.uint8]
Painter = Callable[[int, float, Picture], Picture]
"""Takes the number of a native frame, its time in s and the upright RGB picture [H, W, 3]; gives the new picture,
of one even size for all frames."""

_LIMITED = 1  # AVCOL_RANGE_MPEG
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_BT709 = 1  # AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709
_KEYFRAME_SECONDS = 2.0


@dataclass(frozen=True)
class Encoding:
    """How the new file is encoded.

    Attributes:
        crf: constant rate factor of x264, 0 (lossless) to 51.
        preset: of x264.
        threads: of decoder and encoder; 0 lets FFmpeg choose.
    """

    crf: int = 20
    preset: str = "veryfast"
    threads: int = 0


@dataclass(frozen=True)
class Remade:
    """What came of it: frames written, frames of the probe that could not be decoded, and what became of the sound
    (``copied``, ``aac`` or ``none``).
    """

    frames: int
    lost: int
    audio: str
    width: int
    height: int


def chosen_frames(probe: Probe, start: float, end: float) -> range:
    """Numbers (from 1) of the native frames with ``start <= time < end``, in s; ``end`` 0 means all."""
    times = np.array(probe.times())
    first = int(np.searchsorted(times, start - 1e-9))
    last = int(np.searchsorted(times, end - 1e-9)) if end else len(times)
    return range(first + 1, last + 1)


def remake(
    path: str,
    target: str,
    probe: Probe,
    paint: Painter,
    *,
    start: float = 0.0,
    end: float = 0.0,
    encoding: Encoding | None = None,
    comment: str = "",
    progress: Progress = idle,
) -> Remade:
    """Decodes a clip, paints every displayed frame, and encodes the result with the same presentation times.

    Frames stream through: memory doesn't grow with the length of the clip. Colours keep the matrix of the original.
    Times are carried over as they are; of an excerpt the first frame gets time 0, and the sound moves with it.

    Args:
        path: a local file, the one that was probed.
        target: a local path; an mp4 is written whatever it ends in.
        paint: see :data:`Painter`.
        start, end: s from the first displayed frame; 0 for ``end`` means to the end.
        comment: of the file, where players and ffprobe show it.
        progress: called once per written frame.

    Raises:
        InputError: the clip can't be read, or none of its frames can be decoded.
        OSError: the target can't be written.
    """
    import av

    wanted = chosen_frames(probe, start, end)
    if not wanted:
        message = f"{path}: shows no frame between {start:g} s and {end:g} s"
        raise InputError(message, stage="decode", reason="no_frames", permanent=True)
    encoding = encoding or Encoding()
    options = {"movflags": "faststart"}
    with (
        open_video(path, threads=encoding.threads, stream=probe.display.stream) as (container, stream),
        av.open(target, "w", format="mp4", options=options) as out,
    ):
        if comment:
            out.metadata["comment"] = comment
        writer = _Writer(out, stream, probe, wanted, paint, encoding, progress)
        span = Span(writer.origin if start else 0.0, writer.until if end else 0.0, writer.moves)
        sound = sound_of(container, out, span)
        if probe.seekable and wanted[0] > 1:
            # What makes whole pictures of fields looks at the frame before, too.
            before = wanted[0] - (2 if probe.display.interlaced else 1)
            landing = _landing(path, probe.display.stream, probe.pts[before])
            if landing is not None:
                container.seek(landing, stream=stream)
        streams = [stream] if sound is None else [stream, sound.source]
        for packet in _packets(container, streams, path):
            if sound is not None and packet.stream.index == sound.source.index:
                # The header is written with the first packet; by then the picture's stream must be there.
                sound.take(packet, ready=writer.started)
                continue
            if not writer.done:
                writer.take(decode_packet(stream, packet) or [])
            elif sound is None or sound.done:
                break
        if not writer.done:
            writer.take(decode_packet(stream, None) or [])
            writer.take_rest()
        if not writer.started:
            message = f"{path}: none of its frames can be decoded, the file is damaged"
            raise InputError(message, stage="decode", reason="damaged", permanent=True)
        writer.finish()
        if sound is not None:
            sound.finish()
    lost = len(wanted) - writer.written
    return Remade(writer.written, lost, sound.how if sound else "none", writer.width, writer.height)


def _packets(container: InputContainer, streams: list[Any], path: str) -> Iterator[Packet[Any]]:
    import av

    demuxer = container.demux(*streams)
    while True:
        try:
            packet = next(demuxer)
        except StopIteration:
            return
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise input_error(error, path, "decode") from error
            return
        if packet.size:
            yield packet


def _landing(path: str, index: int, pts: int) -> int | None:
    """Where a seek has to go to find a keyframe shown at or before ``pts``; None where only the beginning will do."""
    import av

    for step_back in STEPS_BACK:
        with open_video(path, stream=index) as (container, stream):
            target = pts - int(step_back / (stream.time_base or Fraction(1, 1000)))
            try:
                container.seek(target, stream=stream)
            except av.FFmpegError:
                continue
            key = next((packet for packet in _packets(container, [stream], path) if packet.is_keyframe), None)
            if key is not None and key.pts is not None and key.pts <= pts:
                return target
    return None


class _Writer:
    """Takes decoded frames, matches them with the probe's, and writes those that are wanted."""

    def __init__(
        self,
        out: OutputContainer,
        source: VideoStream,
        probe: Probe,
        wanted: range,
        paint: Painter,
        encoding: Encoding,
        progress: Progress,
    ) -> None:
        self._out, self._source, self._probe = out, source, probe
        self._wanted, self._paint, self._encoding, self._progress = wanted, paint, encoding, progress
        self._numbers = {probe.pts[number - 1]: number for number in wanted} if probe.seekable else {}
        self._base = Fraction(*probe.time_base)
        self._times = probe.times()
        self._shift = probe.pts[wanted[0] - 1] if wanted[0] > 1 else 0
        self._shower = Shower(probe)
        self._fields = Deinterlacer[int]() if probe.display.interlaced else None
        self._counted = 0
        self._last = 0
        self._stream: Any = None
        self._space = _UNSPECIFIED
        self.written = self.width = self.height = 0
        self.done = False

    @property
    def started(self) -> bool:
        return self._stream is not None

    @property
    def origin(self) -> float:
        """Time stamp of the first frame in s, on the clock of the container."""
        return float(self._probe.pts[self._wanted[0] - 1] * self._base)

    @property
    def moves(self) -> list[float]:
        """What was added, in s, to time stamps after each place where the clock was set anew."""
        return [moved / 1000 for _, moved in self._probe.display.clock if moved]

    @property
    def until(self) -> float:
        """Time stamp at which the last frame ends."""
        after = self._wanted[-1]
        if after < len(self._probe.pts):
            return float(self._probe.pts[after] * self._base)
        step = self._times[-1] - self._times[-2] if len(self._times) > 1 else 0.04
        return float(self._probe.pts[-1] * self._base) + step

    def take(self, frames: list[VideoFrame]) -> None:
        for frame in frames:
            self._counted += 1
            number = self._number(frame)
            ready = [(number, frame)] if self._fields is None else self._fields.through(frame, number)
            for each in ready:
                self._take_one(*each)
                if self.done:
                    return

    def take_rest(self) -> None:
        """When the decoder has given out its last frame."""
        for each in self._fields.rest() if self._fields is not None else []:
            if not self.done:
                self._take_one(*each)

    def _take_one(self, number: int, frame: VideoFrame) -> None:
        if number > self._wanted[-1]:
            self.done = True
        elif number > self._last and number >= self._wanted[0]:
            self._last = number
            self._write(frame, number)
            self.done = self.done or number == self._wanted[-1]

    def _number(self, frame: VideoFrame) -> int:
        if not self._probe.seekable:
            return self._counted
        found = self._numbers.get(frame.pts) if frame.pts is not None else None
        if found is None and frame.pts is not None and frame.pts > self._probe.pts[self._wanted[-1] - 1]:
            return self._wanted[-1] + 1
        return found or 0

    def _write(self, frame: VideoFrame, number: int) -> None:
        from av.video.frame import VideoFrame as Frame

        new = self._paint(number, self._times[number - 1], self._shower.picture(number, frame))
        if self._stream is None:
            self._open(frame, new.shape[1], new.shape[0])
        made = Frame.from_ndarray(np.ascontiguousarray(new), format="rgb24")
        space = self._space if self._space != _UNSPECIFIED else None
        made = made.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=_LIMITED)
        made.pts, made.time_base = self._probe.pts[number - 1] - self._shift, self._base
        self._out.mux(self._stream.encode(made))
        self.written += 1
        self._progress()

    def _open(self, frame: VideoFrame, width: int, height: int) -> None:
        rate = Fraction(len(self._times) - 1) / Fraction(self._times[-1]) if self._times[-1] > 0 else Fraction(25)
        rate = rate.limit_denominator(1001)
        options = {"preset": self._encoding.preset, "crf": str(self._encoding.crf), "bf": "0"}
        stream: Any = self._out.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context.time_base = self._base
        context.gop_size = max(1, round(_KEYFRAME_SECONDS * float(rate)))
        context.thread_count = self._encoding.threads
        # The same matrix there and back leaves colours as they were, whatever a player takes it for.
        mapped = bool(self._probe.display.tones)
        self._space = _BT709 if mapped else int(frame.colorspace)
        context.colorspace, context.color_range = self._space, _LIMITED
        context.color_primaries = _BT709 if mapped else self._source.codec_context.color_primaries
        context.color_trc = _BT709 if mapped else self._source.codec_context.color_trc
        self._stream, self.width, self.height = stream, width, height

    def finish(self) -> None:
        self._out.mux(self._stream.encode(None))
