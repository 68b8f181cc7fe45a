"""Events of a trace: from when to when a unit was active, and how strongly. Pure, no files.

A frame is shown from its presentation time until that of the next one, so every span here is half-open: frames
``onset_frame <= frame < offset_frame``, seconds ``onset <= t < offset``. The offset of an event is the time of the
first frame that is no longer part of it, whatever the frame rate does; the last frame of a trace is taken to be shown
for as long as the median frame (:func:`frame_ends`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emobeam.schemas.records import UsageError

Cut = Literal["", "start", "end", "both"]

TOLERANCE = 1e-6
"""Seconds by which durations and gaps may miss a limit: presentation times are rounded decimals."""


@dataclass(frozen=True, order=True)
class Event:
    """One event.

    Attributes:
        onset, offset: seconds, half-open; ``offset`` is when the first frame after the event is shown.
        duration: ``offset - onset``, in s.
        onset_frame, offset_frame: native frame numbers (from 1), half-open.
        peak, peak_time, peak_frame: the highest value and the first frame that has it.
        mean: of the values, each weighted by how long its frame is shown.
        cut: which end was not seen because the trace begins, ends or has no value there: ``start``, ``end``,
            ``both`` or ``""``. A cut event may be longer than ``duration``.
        unit: the output it is about (``AU12``, ``Happiness``).
        video, subject, face: whose it is, as in the predictions tables.
    """

    onset: float
    offset: float
    duration: float
    onset_frame: int
    offset_frame: int
    peak: float
    peak_time: float
    peak_frame: int
    mean: float
    cut: Cut = ""
    unit: str = ""
    video: str = ""
    subject: str = ""
    face: int = 0


def find_events(
    times: ArrayLike,
    values: ArrayLike,
    *,
    on: float,
    off: float | None = None,
    min_duration: float = 0.0,
    merge_gap: float = 0.0,
    frames: ArrayLike | None = None,
    end: float | None = None,
    unit: str = "",
    video: str = "",
    subject: str = "",
    face: int = 0,
) -> list[Event]:
    """Events of one trace, by two thresholds (hysteresis).

    An event begins with the first frame of at least ``on`` and goes on until the first frame below ``off``; a frame
    without a value ends it as well and marks it as cut. Then events are merged where the time between them is at
    most ``merge_gap`` and every frame between them has a value (what wasn't seen bridges nothing), and at last those
    shorter than ``min_duration`` are left out, cut ones too.

    Args:
        times: ``[n]`` presentation times in s, ascending, finite; of frames with one time all but the last have no
            duration.
        values: ``[n]`` in any unit; NaN where there is no value. Thresholds are compared in their type, so that a
            float32 of 0.7 reaches a threshold of 0.7.
        on, off: ``off <= on``; None: ``off`` is ``on``, one threshold.
        min_duration, merge_gap: seconds; 0 switches them off.
        frames: ``[n]`` native frame numbers, ascending. Default: 1 ... n.
        end: when the last frame ceases to be shown, in s. Default: after the median frame's time.
        unit, video, subject, face: what the events are marked with.

    Returns:
        Events in order of time, disjoint.

    Raises:
        UsageError: thresholds or durations that make no sense.
        ValueError: times that don't ascend, or arrays of different lengths.
    """
    low = on if off is None else off
    if not low <= on:
        raise UsageError(f"an event can't end above where it begins: on is {on:g}, off {low:g}")
    trace = _trace(times, values, frames, end)
    active = hysteresis(trace.values, on, low)
    spans = _merged(trace, _runs(active), _limit(merge_gap, "merge gap"))
    spans = _long_enough(trace, spans, _limit(min_duration, "minimum duration"))
    return [_event(trace, a, b, unit, video, subject, face) for a, b in spans]


def find_class_events(
    times: ArrayLike,
    values: ArrayLike,
    classes: Sequence[str],
    *,
    min_duration: float = 0.0,
    merge_gap: float = 0.0,
    frames: ArrayLike | None = None,
    end: float | None = None,
    video: str = "",
    subject: str = "",
    face: int = 0,
) -> list[Event]:
    """Spans in which one class scores highest (of equal ones the first), for expressions.

    Spans shorter than ``min_duration`` are left out first; then neighbours of one class are merged over gaps of at
    most ``merge_gap`` that hold no other remaining span and no frame without a value. So no two spans overlap.

    Args:
        values: ``[n, K]``; a row with a NaN has no winner.
        classes: the K names.

    Other arguments, the order of results and errors are as for :func:`find_events`; ``peak`` and ``mean`` are of the
    winner's own score.
    """
    scores = np.asarray(values)
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError(f"values have shape {scores.shape}, expected (n, {len(classes)})")
    known = ~np.isnan(scores).any(axis=1)
    winner = np.where(known, np.where(known[:, None], scores, 0.0).argmax(axis=1), -1)
    traces = [
        _trace(times, np.where(known, scores[:, k], np.nan).astype(scores.dtype), frames, end)
        for k in range(len(classes))
    ]
    shortest, widest = _limit(min_duration, "minimum duration"), _limit(merge_gap, "merge gap")
    spans: list[tuple[int, int, int]] = []
    for k, trace in enumerate(traces):
        spans += [(a, b, k) for a, b in _long_enough(trace, _runs(winner == k), shortest)]
    merged: list[tuple[int, int, int]] = []
    for a, b, k in sorted(spans):
        if merged and merged[-1][2] == k and _bridged(traces[k], merged[-1][1], a, widest):
            merged[-1] = (merged[-1][0], b, k)
        else:
            merged.append((a, b, k))
    return [_event(traces[k], a, b, classes[k], video, subject, face) for a, b, k in merged]


def hysteresis(values: NDArray[Any], on: float, off: float) -> NDArray[np.bool_]:
    """Frames inside an event: at least ``on``, or at least ``off`` ever since one that was. NaN is never inside.

    Args:
        values: ``[n]`` floats.
        on, off: ``off <= on``, compared in the type of ``values``.
    """
    kind = values.dtype.type
    high = values >= kind(on)
    decided = high | ~(values >= kind(off))
    # Frames between the thresholds take over the decision of the last frame that had one.
    last = np.maximum.accumulate(np.where(decided, np.arange(1, len(values) + 1), 0))
    found: NDArray[np.bool_] = np.concatenate([[False], high])[last]
    return found


def frame_ends(times: ArrayLike, end: float | None = None) -> NDArray[np.float64]:
    """When each frame ceases to be shown: as the next one appears, the last one after the median time of the others.

    Args:
        times: ``[n]`` s, ascending; a frame alone has no duration unless ``end`` is given.
        end: of the last frame, in s.
    """
    clock = np.asarray(times, np.float64)
    if not len(clock):
        return clock.copy()
    step = float(np.median(np.diff(clock))) if len(clock) > 1 else 0.0
    last = clock[-1] + step if end is None else max(float(end), float(clock[-1]))
    return np.append(clock[1:], last)


@dataclass(frozen=True, eq=False)
class _Trace:
    times: NDArray[np.float64]
    ends: NDArray[np.float64]
    values: NDArray[Any]
    frames: NDArray[np.int64]


def _trace(times: ArrayLike, values: ArrayLike, frames: ArrayLike | None, end: float | None) -> _Trace:
    clock = np.asarray(times, np.float64)
    trace = np.asarray(values)
    if not np.issubdtype(trace.dtype, np.floating):
        trace = trace.astype(np.float64)
    numbers = np.arange(1, len(clock) + 1) if frames is None else np.asarray(frames, np.int64)
    if not clock.shape == trace.shape == numbers.shape or clock.ndim != 1:
        raise ValueError(f"{clock.shape} times, {trace.shape} values and {numbers.shape} frames don't fit")
    if not (np.isfinite(clock).all() and (np.diff(clock) >= 0).all()):
        raise ValueError("times must be finite and ascending")
    return _Trace(clock, frame_ends(clock, end), trace, numbers)


def _limit(seconds: float, name: str) -> float:
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"the {name} is {seconds}, expected seconds, 0 or more")
    return seconds


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open index ranges of true stretches."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _bridged(trace: _Trace, stop: int, start: int, widest: float) -> bool:
    gap = trace.times[start] - trace.times[stop]
    return bool(gap <= widest + TOLERANCE and not np.isnan(trace.values[stop:start]).any()) if widest else False


def _merged(trace: _Trace, spans: Sequence[tuple[int, int]], widest: float) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for a, b in spans:
        if merged and _bridged(trace, merged[-1][1], a, widest):
            merged[-1] = (merged[-1][0], b)
        else:
            merged.append((a, b))
    return merged


def _long_enough(trace: _Trace, spans: Sequence[tuple[int, int]], shortest: float) -> list[tuple[int, int]]:
    return [(a, b) for a, b in spans if trace.ends[b - 1] - trace.times[a] >= shortest - TOLERANCE]


def _event(trace: _Trace, a: int, b: int, unit: str, video: str, subject: str, face: int) -> Event:
    values = trace.values[a:b].astype(np.float64)
    shown = trace.ends[a:b] - trace.times[a:b]
    top = a + int(values.argmax())
    count = len(trace.values)
    start_unseen = a == 0 or bool(np.isnan(trace.values[a - 1]))
    end_unseen = b == count or bool(np.isnan(trace.values[b]))
    cut: Cut = "both" if start_unseen and end_unseen else "start" if start_unseen else "end" if end_unseen else ""
    onset, offset = float(trace.times[a]), float(trace.ends[b - 1])
    return Event(
        onset=onset,
        offset=offset,
        duration=offset - onset,
        onset_frame=int(trace.frames[a]),
        offset_frame=int(trace.frames[b]) if b < count else int(trace.frames[b - 1]) + 1,
        peak=float(trace.values[top]),
        peak_time=float(trace.times[top]),
        peak_frame=int(trace.frames[top]),
        mean=float(np.average(values, weights=shown)) if shown.sum() > 0 else float(values.mean()),
        cut=cut,
        unit=unit,
        video=video,
        subject=subject,
        face=face,
    )
