"""Windows: from a stream of feature rows to the values of frames and clips.

Rows of one video pass once, in order of time, several faces interleaved; nothing but the rows of open windows is
held in memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.heads.running import RunningHead
from emobeam.emo_transforms.prediction.smoothing import GAP_TOLERANCE, box_mean
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import UsageError

USUAL_WINDOW = 8
"""Frames of a window of the published model."""


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """A face in a sampled frame.

    Attributes:
        key: whose row it is: rows of one key form windows.
        frame: number of the frame.
        time: s.
        maps: what heads read by name: maps ``[C, H, W]`` float16, vectors ``[L]`` float32.
    """

    key: Hashable
    frame: int
    time: float
    maps: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """Consecutive rows of one key.

    Attributes:
        frames, times: of its real rows.
        rows: T of them; beyond the real ones the last one is repeated.
        first: no window of its run came before it.
    """

    key: Hashable
    frames: tuple[int, ...]
    times: tuple[float, ...]
    rows: Sequence[Row]
    first: bool

    @property
    def valid(self) -> int:
        """Number of real rows."""
        return len(self.frames)

    @property
    def maps(self) -> Mapping[str, NDArray[Any]]:
        """What heads read by name: maps ``[T, C, H, W]``, vectors ``[T, L]``; put together anew each time."""
        return {name: np.stack([row.maps[name] for row in self.rows]) for name in self.rows[0].maps}


@dataclass(slots=True)
class _Open:
    """Rows of a key that may still be part of a window, how many of them are in none yet, and the last one seen.

    ``begun``: its run has given a window.
    """

    rows: list[Row] = field(default_factory=list)
    fresh: int = 0
    begun: bool = False
    frame: int = -1
    time: float = -math.inf


def windows_of(rows: Iterable[Row], length: int, stride: int, gap: float) -> Iterator[Window]:
    """Cuts the rows of each key into windows.

    A run is a stretch of rows of one key without a gap. In a run of n rows windows start at 0, ``stride``,
    ``2 * stride`` ...; the last one is padded where it reaches beyond the run, and there is none that would hold
    only rows of the one before. So every row is in a window, no window crosses a gap, and at most ``length`` rows
    of a key are held; rows of a key are let go as soon as the stream has passed its gap.

    Args:
        rows: of one video in order of time; frames of a key strictly ascending.
        length: rows of a window, T.
        stride: rows between the starts of two windows, at most ``length``; 0 means ``length``.
        gap: seconds between two rows of a key beyond which a run ends.

    Raises:
        UsageError: a stride that would leave rows out.
        ValueError: rows out of order, or without a time.
    """
    if not 0 <= stride <= length:
        raise UsageError(f"--stride {stride}: a window has {length} frames, the stride is at most that")
    step = stride or length
    latest = -math.inf
    opened: dict[Hashable, _Open] = {}  # in order of the last row, the stalest first
    for row in rows:
        if not row.time >= latest:
            raise ValueError(f"frame {row.frame} at {row.time} s comes after a row at {latest} s")
        latest = row.time
        while opened and latest - next(iter(opened.values())).time > gap + GAP_TOLERANCE:
            yield from _tail(opened.pop(next(iter(opened))), length)
        current = opened.pop(row.key, None) or _Open()
        if row.frame <= current.frame:
            raise ValueError(f"frame {row.frame} of {row.key!r} comes after frame {current.frame}")
        opened[row.key] = current
        current.rows.append(row)
        current.fresh += 1
        current.frame, current.time = row.frame, row.time
        if len(current.rows) == length:
            yield _window(current, length)
            current.rows, current.fresh, current.begun = current.rows[step:], 0, True
    for current in opened.values():
        yield from _tail(current, length)


def run_windows(
    head: RunningHead, windows: Iterable[Window], *, kernel_batch: int, device: str
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Runs a head on windows, ``kernel_batch`` at a time; the last batch is padded, so the head sees one shape.

    Returns:
        Each window, in order, with its activated values ``[valid, K]`` (frame scope) or vector ``[D]`` (clip scope).
    """
    windows = iter(windows)
    while batch := list(itertools.islice(windows, kernel_batch)):
        padded = batch + [batch[-1]] * (kernel_batch - len(batch))
        results = head.run(_columns(head, padded), device=device)
        for window, result in zip(batch, results, strict=False):
            yield window, result if head.config.scope == "clip" else result[: window.valid]


def run_stream(
    head: RunningHead, windows: Iterable[Window], *, device: str
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    """Runs a streaming head on windows side by side: each goes on where the one before it in its run ended.

    So values are those of the whole run at once, wherever it is cut into windows.

    Returns:
        Each window, in order, with its activated values ``[valid, K]``.
    """
    states: dict[Hashable, Any] = {}
    for window in windows:
        before = None if window.first else states[window.key]
        values, states[window.key] = head.run_stream(_columns(head, [window]), before, device=device)
        yield window, values[0, : window.valid]


def average_overlaps(
    results: Iterable[tuple[Window, NDArray[np.float32]]],
) -> dict[Hashable, tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float32]]]:
    """Values of each frame: the mean over all windows it is in.

    Args:
        results: windows and their values ``[valid, K]``, the windows of a key in order.

    Returns:
        For each key frames ``[n]`` ascending, their times ``[n]`` in s, and values ``[n, K]``.
    """
    found: dict[Hashable, list[tuple[tuple[int, ...], tuple[float, ...], NDArray[np.float32]]]] = {}
    for window, values in results:  # windows themselves hold maps, so they must not be kept
        found.setdefault(window.key, []).append((window.frames, window.times, values.copy()))
    averages = {}
    for key, parts in found.items():
        frames, first, place = np.unique(
            np.concatenate([part[0] for part in parts]), return_index=True, return_inverse=True
        )
        times = np.concatenate([part[1] for part in parts])[first]
        stacked = np.concatenate([part[2] for part in parts])
        total = np.zeros((len(frames), stacked.shape[1]))
        np.add.at(total, place, stacked)
        mean = total / np.bincount(place)[:, None]
        averages[key] = (frames.astype(np.int32), times.astype(np.float64), mean.astype(np.float32))
    return averages


def predict_frames(
    head: RunningHead, rows: Iterable[Row], config: PredictConfig
) -> dict[Hashable, tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Values of each sampled frame by a head of frame scope, smoothed as the head asks.

    Args:
        rows: of one video, see :func:`windows_of`.

    Returns:
        For each key frames ``[n]`` ascending and values ``[n, K]``; every row given has its values.
    """
    predictions = {}
    for key, (frames, times, values) in average_overlaps(_results(head, rows, config)).items():
        predictions[key] = (frames, box_mean(values, times, head.config.smoothing, config.window_gap))
    return predictions


def predict_clip(head: RunningHead, rows: Iterable[Row], config: PredictConfig) -> dict[Hashable, NDArray[np.float32]]:
    """Values ``[K]`` of each key over all its rows, by a head of clip scope.

    Args:
        rows: of one video, see :func:`windows_of`.
    """
    found: dict[Hashable, list[tuple[int, NDArray[np.float32]]]] = {}
    for window, vector in _results(head, rows, config):
        found.setdefault(window.key, []).append((window.valid, vector.copy()))
    return {
        key: head.pool(np.stack([vector for _, vector in parts]), np.array([valid for valid, _ in parts]))
        for key, parts in found.items()
    }


def _results(
    head: RunningHead, rows: Iterable[Row], config: PredictConfig
) -> Iterator[tuple[Window, NDArray[np.float32]]]:
    length = head.frame_window
    stride = 0 if length == 1 else config.stride  # overlaps can't change what is said of a frame by itself
    windows = windows_of(rows, length, stride, config.window_gap)
    if head.streams and stride in (0, length):
        return run_stream(head, windows, device=config.device)
    return run_windows(head, windows, kernel_batch=_batch(head, config), device=config.device)


def _batch(head: RunningHead, config: PredictConfig) -> int:
    """Windows per call: heads of one frame get as many frames as a TAM of 8 does, and long windows no more memory."""
    if head.one_by_one:
        return 1
    if head.config.architecture == "tam":
        return config.kernel_batch
    return max(1, config.kernel_batch * USUAL_WINDOW // head.frame_window)


def _columns(head: RunningHead, windows: Sequence[Window]) -> dict[str, NDArray[Any]]:
    """``[B, T, ...]`` by name; rows are copied once, straight to their place in the batch."""
    rows = [row for window in windows for row in window.rows]
    stacked = {name: np.stack([row.maps[name] for row in rows]) for name in head.inputs}
    return {name: array.reshape(len(windows), -1, *array.shape[1:]) for name, array in stacked.items()}


def _tail(current: _Open, length: int) -> Iterator[Window]:
    if current.fresh:
        yield _window(current, length)


def _window(current: _Open, length: int) -> Window:
    rows = current.rows[:length]
    return Window(
        key=rows[0].key,
        frames=tuple(row.frame for row in rows),
        times=tuple(row.time for row in rows),
        rows=rows + [rows[-1]] * (length - len(rows)),
        first=not current.begun,
    )
