"""Which frames are looked at, and how a video is cut into segments. Pure arithmetic on time stamps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from emobeam.schemas.config import SamplingConfig, shard_name
from emobeam.schemas.records import Display, Fingerprint, InputError, Probe, Segment, UsageError, Video

CROPS_PER_SEGMENT = 1800
"""Step of the grid, in frame numbers, on which crops without times are cut: a minute at 30 frames per second."""

_ROUNDING = 1e-6
"""Seconds by which the middle between two frames may be off; far below any time base, far above float noise."""


def sample_frames(times: Sequence[float], fps: float) -> list[int]:
    """Picks, for each multiple of ``1 / fps``, the frame nearest to it in presentation time.

    A target halfway between two frames takes the earlier one. A frame that is nearest to several targets is
    taken once. Targets run up to half a frame past the last frame, so that time stamps rounded to
    milliseconds (as in WebM) lose nothing.

    Args:
        times: presentation times of all frames in seconds, ascending, the first at 0 or later.
        fps: samples per second; 0 takes every frame.

    Returns:
        1-based frame numbers, ascending, without repetition.
    """
    _check_rate(fps)
    if fps == 0:
        return list(range(1, len(times) + 1))
    sampled = []
    last_target = -1
    for number, time in enumerate(times, start=1):
        # Frame `number` is nearest to the targets between the middles to its two neighbours.
        if number < len(times):
            edge = (time + times[number]) / 2
        else:
            edge = time + (time - times[-2]) / 2 if len(times) > 1 else time
        target = math.floor((edge + _ROUNDING) * fps)
        if target > last_target:
            sampled.append(number)
            last_target = target
    return sampled


def plan_segments(
    video: Video, fingerprint: Fingerprint, probe: Probe, sampling: SamplingConfig, cache_id: str
) -> list[Segment]:
    """Cuts a probed video on the time grid ``[i * L, (i + 1) * L)``, ``L`` being ``segment_seconds``.

    Frames are sampled over the whole video first, so cutting never changes the sample. Grid cells without a
    frame give no segment.

    Returns:
        The segments in order of time; together they hold every native frame once.
    """
    times = probe.times()
    sampled = set(sample_frames(times, sampling.fps))
    segments: list[Segment] = []
    entries = _Entries(probe)
    for cell, numbers in _cells(enumerate(times, start=1), sampling.segment_seconds).items():
        start = cell * sampling.segment_seconds
        display = _display_of(probe.display, numbers[0], numbers[-1])
        segments.append(
            Segment(
                video=video,
                fingerprint=fingerprint,
                index=len(segments),
                count=0,
                start=start,
                frames=tuple(numbers),
                times=tuple(times[number - 1] for number in numbers),
                sampled=tuple(number for number in numbers if number in sampled),
                pts=tuple(probe.pts[number - 1] for number in numbers),
                width=probe.width,
                height=probe.height,
                rotation=probe.rotation,
                seekable=probe.seekable,
                note=probe.note,
                shard=shard_name(video.id, fingerprint, start, cache_id, probe.display),
                zero=probe.pts[0],
                time_base=probe.time_base,
                display=display,
                packets=tuple(probe.packets[number - 1] for number in numbers) if probe.packets else (),
                entry=entries.before(numbers[0]),
                facts=probe.facts,
            )
        )
    return _counted(segments)


def one_frame(video: Video, probe: Probe, frame: int) -> Segment:
    """A segment, without a place in a cache, from which one frame of a video can be decoded."""
    # Counting decoders need all frames before; those that seek match the one stamp.
    counted = not (probe.seekable or probe.packets)
    upto = range(1, frame + 1) if counted else range(frame, frame + 1)
    return Segment(
        video=video,
        fingerprint=Fingerprint(0, ""),
        index=0,
        count=1,
        start=0.0,
        frames=tuple(upto),
        times=(),
        sampled=(frame,),
        pts=tuple(probe.pts[number - 1] for number in upto),
        width=probe.width,
        height=probe.height,
        rotation=probe.rotation,
        seekable=probe.seekable,
        display=_display_of(probe.display, frame, frame),
        packets=tuple(probe.packets[number - 1] for number in upto) if probe.packets else (),
        entry=_Entries(probe).before(frame),
    )


class _Entries:
    """Where decoding has to begin for a stretch of frames, so that at least one comes before them.

    Time stamps and packets are enough for plain video; see ``Segment.entry``.
    """

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        number_of = {packet: number for number, packet in enumerate(probe.packets, start=1)}
        self._keys = sorted((number_of[key], key) for key in probe.keys if key in number_of)

    def before(self, first: int) -> int | None:
        if self._probe.packets:
            place = bisect_left(self._keys, (first, -1)) - 1
            return self._keys[place][1] if place >= 0 else None
        if self._probe.display.interlaced and self._probe.seekable and first > 1:
            return self._probe.pts[first - 2]
        return None


def _display_of(display: Display, first: int, last: int) -> Display:
    """What concerns frames ``first`` to ``last``: of thousands of changes of size only those in force there."""
    if len(display.sizes) < 2:
        return display
    begin = max((place for place, size in enumerate(display.sizes) if size.frame <= first), default=0)
    kept = [size for size in display.sizes[begin:] if size.frame <= last]
    return replace(display, sizes=tuple(kept))


def plan_crop_segments(
    video: Video,
    fingerprint: Fingerprint,
    images: Sequence[tuple[int, str]],
    times: Mapping[int, float] | None,
    sampling: SamplingConfig,
    cache_id: str,
) -> list[Segment]:
    """Cuts a folder of face crops into segments.

    Args:
        images: frame number and file name of each crop, in any order.
        times: presentation time in seconds by frame number, if known: of all native frames of the video
            (then each segment holds all native frames of its grid cell, those without a crop having ``""``
            in ``images``), or of the frames that have a crop.
        sampling: ``fps`` 0 takes every crop; otherwise frames are sampled by time, and those without a crop
            drop out.

    Returns:
        Segments on the time grid of ``segment_seconds``; without ``times``, on a grid of
        :data:`CROPS_PER_SEGMENT` frame numbers, ``start`` being the first frame number of the grid cell.
        A crop beyond the frames that have a time is left out and told in ``note``.

    Raises:
        InputError: two crops have the same frame number.
        UsageError: sampling by time was asked for and there are no times.
    """
    _check_rate(sampling.fps)
    name_of = dict(images)
    if len(name_of) < len(images):
        counted: set[int] = set()
        twice = next(frame for frame, _ in images if frame in counted or counted.add(frame))  # type: ignore[func-returns-value]
        message = f"{video.uri}: several crops are of frame {twice}; keep one of them"
        raise InputError(message, stage="open", reason="damaged", permanent=True)
    if times is None and sampling.fps > 0:
        raise UsageError(
            f"{video.uri}: crops without presentation times can't be sampled at {sampling.fps:g} frames per second; "
            "take every image (--fps native) or say where the videos are"
        )

    note = ""
    if times is None:
        frames = sorted(name_of)
        chosen = set(frames)
        # Frame numbers start at 1; a stray 0 stays in the first cell.
        cells = _cells(((frame, float(max(frame - 1, 0))) for frame in frames), CROPS_PER_SEGMENT)
    else:
        frames = sorted(times)
        timeless = name_of.keys() - times.keys()
        if timeless:
            note = f"{len(timeless)} crops lie beyond the frames of the video and are left out"
        sample = sample_frames([times[frame] for frame in frames], sampling.fps)
        chosen = {frames[place - 1] for place in sample} & name_of.keys()
        cells = _cells(((frame, times[frame]) for frame in frames), sampling.segment_seconds)

    segments: list[Segment] = []
    for cell, numbers in cells.items():
        start = cell * sampling.segment_seconds if times is not None else float(cell * CROPS_PER_SEGMENT + 1)
        segments.append(
            Segment(
                video=video,
                fingerprint=fingerprint,
                index=len(segments),
                count=0,
                start=start,
                frames=tuple(numbers),
                times=tuple(times[frame] for frame in numbers) if times is not None else (),
                sampled=tuple(frame for frame in numbers if frame in chosen),
                images=tuple(name_of.get(frame, "") for frame in numbers),
                note=note,
                shard=shard_name(video.id, fingerprint, start, cache_id),
            )
        )
    return _counted(segments)


def _cells(places: Iterable[tuple[int, float]], step: float) -> dict[int, list[int]]:
    """Frame numbers by grid cell, for frames given in order with their place on the axis that is cut."""
    if not step > 0:
        raise UsageError(f"segments must be longer than 0 s, not {step:g}")
    cells: dict[int, list[int]] = {}
    for number, place in places:
        cells.setdefault(int(place // step), []).append(number)
    return cells


def _counted(segments: Sequence[Segment]) -> list[Segment]:
    return [replace(segment, count=len(segments)) for segment in segments]


def _check_rate(fps: float) -> None:
    if not 0 <= fps < math.inf:
        raise UsageError(f"frames per second must be a number from 0 (every frame) upwards, not {fps}")
