"""From sampled frames back to native ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.prediction.smoothing import GAP_TOLERANCE
from emobeam.schemas.tables import SOURCES

_SAMPLED, _INTERPOLATED, _NEAREST, _ABSENT = (
    SOURCES.index(name) for name in ("sampled", "interpolated", "nearest", "absent")
)


def carry(
    native_times: NDArray[np.float64],
    seen_times: NDArray[np.float64],
    values: NDArray[np.float32],
    max_gap: float,
    *,
    native_frames: NDArray[np.int32],
    seen_frames: NDArray[np.int32],
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Values of every native frame from those of the frames where a face was seen.

    A frame that was seen keeps its value (``sampled``). A frame between two seen ones at most ``2 * max_gap``
    apart is interpolated linearly in time (``interpolated``). Any other frame takes the value of the nearest seen
    one, the earlier of two at equal distance, if that is at most ``max_gap`` away (``nearest``). Else it has no
    value (``absent``). Limits hold with a tolerance of 1e-6 s.

    Args:
        native_times, native_frames: ``[n]`` presentation times (s, ascending) and numbers (strictly ascending).
        seen_times, seen_frames: ``[m]``, the same of the frames with a value.
        values: ``[m, K]``, finite.
        max_gap: s.

    Returns:
        Values ``[n, K]``, NaN where absent; sources ``[n]``, an index into ``emobeam.schemas.tables.SOURCES``.

    Raises:
        ValueError: times or frames out of order, values that aren't finite, lengths that differ.
    """
    native_times, seen_times = np.asarray(native_times, np.float64), np.asarray(seen_times, np.float64)
    _check(native_times, native_frames, "native")
    _check(seen_times, seen_frames, "seen")
    if len(values) != len(seen_times) or not np.isfinite(values).all():
        raise ValueError(f"expected one finite row of values per seen frame ({len(seen_times)}), got {values.shape}")
    carried = np.full((len(native_times), values.shape[1]), np.nan, np.float32)
    source = np.full(len(native_times), _ABSENT, np.int8)
    if not len(native_times) or not len(seen_times):
        return carried, source

    last = len(seen_times) - 1
    before = np.searchsorted(seen_times, native_times, side="right") - 1  # -1: nothing seen yet
    left, right = np.maximum(before, 0), np.minimum(before + 1, last)
    to_left, to_right = np.abs(native_times - seen_times[left]), np.abs(seen_times[right] - native_times)
    nearest = np.where(to_left <= to_right, left, right)
    near = np.minimum(to_left, to_right) <= max_gap + GAP_TOLERANCE
    between = (before >= 0) & (before < last) & (to_left > 0)
    between &= seen_times[right] - seen_times[left] <= 2 * max_gap + GAP_TOLERANCE
    near &= ~between

    carried[near] = values[nearest[near]]
    source[near] = _NEAREST
    for k in range(values.shape[1]):
        carried[between, k] = np.interp(native_times[between], seen_times, values[:, k])
    source[between] = _INTERPOLATED

    row = np.minimum(np.searchsorted(seen_frames, native_frames), last)
    sampled = np.asarray(seen_frames)[row] == native_frames
    carried[sampled] = values[row[sampled]]
    source[sampled] = _SAMPLED
    return carried, source


def _check(times: NDArray[np.float64], frames: NDArray[np.int32], which: str) -> None:
    if len(times) != len(frames):
        raise ValueError(f"{len(times)} {which} times for {len(frames)} frames")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any() or (np.diff(frames) <= 0).any():
        raise ValueError(f"{which} times and frames must be in ascending order")
