"""What a data set will take, from the sizes of all its files and a look at a few of them.

A sample is drawn in strata of equal total size, so that long videos, where the work is, are well represented. In each
stratum what was seen per byte (seconds, frames) is carried over to all its bytes: a separate ratio estimator
(Cochran, Sampling Techniques, 1977, ch. 6). Intervals are bootstrapped: 90 % of samples drawn anew from the sample,
stratum by stratum, give totals inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEPS = ("probe", "decode", "detect", "align", "embed", "write")

_PER_STRATUM = 4
_DRAWS = 300
_INTERVAL = (5.0, 95.0)

FIGURES: Mapping[str, tuple[float, float]] = {
    "probe": (0.3, 0.8),
    "decode": (2.4, 15.0),
    "detect": (15.0, 69.0),
    "align": (1.2, 5.5),
    "embed": (4.0, 3.7),
    "write": (1.0, 0.7),
}
"""ms of one core per sampled frame with one face, at 640x360 and at 1920x1080 (docs/speed.md, ``exact``)."""

_FIGURE_PIXELS = (640 * 360, 1920 * 1080)

WORKER_BYTES = 1_600_000_000
"""Memory of a worker and its decoding process at 1080p (docs/speed.md)."""


@dataclass(frozen=True)
class Range:
    """A figure with the interval it lies in; all three are equal where it is known exactly."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Probed:
    """One video of the sample.

    Attributes:
        stratum: see :func:`draw`.
        size: of the file in bytes.
        seconds, native, sampled, segments: of the video; 0 where it can't be read.
        pixels: of a picture.
        encoded: bytes of each of its segments on the way between two steps.
        probe_seconds: what the look at it took, download included.
        problem: why it can't be read, else ``""``.
    """

    stratum: int
    size: int
    seconds: float = 0.0
    native: int = 0
    sampled: int = 0
    segments: int = 0
    pixels: int = 0
    encoded: tuple[int, ...] = ()
    probe_seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Measured:
    """A stretch of video that stage 1 was run on.

    Attributes:
        frames: sampled frames looked at.
        rows: faces found.
        nbytes: of the shard.
        seconds: of one core (CPU time) by step.
    """

    frames: int
    rows: int
    nbytes: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """What stage 1 over a data set takes.

    Attributes:
        videos, nbytes: counted, not estimated.
        unreadable: share of the videos that can't be read.
        core_seconds: of all steps together; ``by_step`` splits it.
        cache_bytes: of the shards.
        shuffle_bytes: what crosses the network between the step that plans and the one that works.
        element_bytes: the largest element among them.
        longest: work on the longest segment, seconds of one core: no run is shorter.
        faces: rows per sampled frame.
    """

    videos: int
    nbytes: int
    probed: int
    measured: int
    unreadable: float
    hours: Range
    segments: Range
    native_frames: Range
    frames: Range
    core_seconds: Range
    cache_bytes: Range
    shuffle_bytes: Range
    element_bytes: int
    longest: float
    faces: float
    by_step: Mapping[str, float] = field(default_factory=dict)


def draw(sizes: Sequence[int] | NDArray[np.int64], count: int, seed: int = 0) -> tuple[NDArray[np.intp], list[int]]:
    """Strata of files, and a random sample from each.

    Args:
        sizes: of the files in bytes; below 0 where unknown, which counts as empty.
        count: how many to draw; all, where there are not more.

    Returns:
        The stratum of every file, and the numbers of the files in the sample, ascending.
    """
    weights = np.maximum(np.asarray(sizes, np.int64), 0).astype(np.float64)
    number = len(weights)
    if number <= count:
        return np.zeros(number, np.intp), list(range(number))
    strata = max(1, count // _PER_STRATUM)
    order = np.argsort(weights, kind="stable")
    reached = np.cumsum(weights[order] if weights.any() else np.ones(number))
    stratum = np.empty(number, np.intp)
    stratum[order] = np.minimum((reached - reached[0]) / max(reached[-1] - reached[0], 1.0) * strata, strata - 1)
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    present = np.unique(stratum)
    for place, which in enumerate(present):
        members = np.flatnonzero(stratum == which)
        share = (count - len(chosen)) // (len(present) - place)  # what a small stratum leaves goes to the next ones
        chosen += generator.choice(members, min(share, len(members)), replace=False).tolist()
    return stratum, sorted(chosen)


def estimate(
    sizes: Sequence[int] | NDArray[np.int64],
    stratum: NDArray[np.intp],
    probed: Sequence[Probed],
    measured: Sequence[Measured],
    *,
    segment_seconds: float,
    row_bytes: float,
    seed: int = 0,
) -> Estimate:
    """Carries a sample over to all files.

    Args:
        sizes, stratum: of all files, see :func:`draw`.
        probed: the sample.
        measured: what stage 1 took; where there is none, :data:`FIGURES` stand in.
        segment_seconds: length of a segment.
        row_bytes: of a row of the cache, where no face was measured.
    """
    weights = np.maximum(np.asarray(sizes, np.int64), 0).astype(np.float64)
    generator = np.random.default_rng(seed)
    exact = len(probed) >= len(weights)
    totals = []
    for number in range(1 if exact else _DRAWS + 1):
        again = list(probed) if number == 0 else _resampled(probed, generator)
        cost = list(measured) if number == 0 else _redrawn(measured, generator)
        totals.append(_total(weights, stratum, again, cost, segment_seconds, row_bytes, exact))
    table = np.array([[each[name] for name in _NAMES] for each in totals])
    low, high = np.percentile(table, _INTERVAL, axis=0)
    ranges = {
        name: Range(float(min(low[i], table[0, i])), float(table[0, i]), float(max(high[i], table[0, i])))
        for i, name in enumerate(_NAMES)
    }
    by_step = _frame_seconds(probed, measured)
    per_frame = sum(by_step.values())
    fine = [video for video in probed if video.segments]
    densest = max((video.sampled / max(video.seconds, segment_seconds) for video in fine), default=0.0)
    return Estimate(
        videos=len(weights),
        nbytes=int(weights.sum()),
        probed=len(probed),
        measured=len(measured),
        unreadable=sum(1 for video in probed if video.problem) / max(len(probed), 1),
        element_bytes=max((size for video in probed for size in video.encoded), default=0),
        longest=densest * segment_seconds * per_frame,
        faces=_faces(measured),
        by_step={step: seconds * ranges["frames"].value for step, seconds in by_step.items()},
        **ranges,
    )


def wall_seconds(found: Estimate, workers: int, start: float) -> float:
    """Time by the clock with so many workers of one core each: work divided evenly, after ``start`` seconds."""
    return start + max(found.core_seconds.value / max(workers, 1), found.longest)


_NAMES = ("hours", "segments", "native_frames", "frames", "core_seconds", "cache_bytes", "shuffle_bytes")


def _resampled(probed: Sequence[Probed], generator: np.random.Generator) -> list[Probed]:
    again: list[Probed] = []
    for which in sorted({video.stratum for video in probed}):
        members = [video for video in probed if video.stratum == which]
        again += [members[i] for i in generator.integers(len(members), size=len(members))]
    return again


def _redrawn(measured: Sequence[Measured], generator: np.random.Generator) -> list[Measured]:
    return [measured[i] for i in generator.integers(len(measured), size=len(measured))] if measured else []


def _total(
    weights: NDArray[np.float64],
    stratum: NDArray[np.intp],
    probed: Sequence[Probed],
    measured: Sequence[Measured],
    segment_seconds: float,
    row_bytes: float,
    exact: bool,
) -> dict[str, float]:
    if exact:
        seconds, native, frames = (float(sum(getattr(v, n) for v in probed)) for n in ("seconds", "native", "sampled"))
        segments = float(sum(video.segments for video in probed))
    else:
        rates = {
            name: _rates(probed, name, int(stratum.max(initial=0)) + 1) for name in ("seconds", "native", "sampled")
        }
        durations = weights * rates["seconds"][stratum]
        seconds = float(durations.sum())
        native, frames = (float((weights * rates[name][stratum]).sum()) for name in ("native", "sampled"))
        segments = float(np.ceil(durations / segment_seconds).sum())
    encoded = [size for video in probed for size in video.encoded]
    faces, nbytes = _faces(measured), row_bytes
    rows = sum(each.rows for each in measured)
    if rows:
        nbytes = sum(each.nbytes for each in measured) / rows
    return {
        "hours": seconds / 3600,
        "segments": segments,
        "native_frames": native,
        "frames": frames,
        "core_seconds": frames * sum(_frame_seconds(probed, measured).values()),
        "cache_bytes": frames * faces * nbytes,
        "shuffle_bytes": segments * (sum(encoded) / len(encoded) if encoded else 0.0),
    }


def _rates(probed: Sequence[Probed], name: str, strata: int) -> NDArray[np.float64]:
    """What one byte holds in each stratum; that of all where a stratum was not looked at."""
    amounts, sizes = np.zeros(strata), np.zeros(strata)
    for video in probed:
        amounts[video.stratum] += getattr(video, name)
        sizes[video.stratum] += video.size
    overall = amounts.sum() / max(sizes.sum(), 1.0)
    rates: NDArray[np.float64] = np.where(sizes > 0, amounts / np.maximum(sizes, 1.0), overall)
    return rates


def _faces(measured: Sequence[Measured]) -> float:
    frames = sum(each.frames for each in measured)
    return sum(each.rows for each in measured) / frames if frames else 1.0


def _frame_seconds(probed: Sequence[Probed], measured: Sequence[Measured]) -> dict[str, float]:
    """Seconds of one core per sampled frame, by step."""
    sampled = sum(video.sampled for video in probed)
    frames = sum(each.frames for each in measured)
    if not frames:
        area = sum(video.pixels * video.sampled for video in probed) / max(sampled, 1)
        small, large = _FIGURE_PIXELS
        place = max(0.0, (area - small) / (large - small))
        return {step: max(low + place * (high - low), low / 4) / 1000 for step, (low, high) in FIGURES.items()}
    found = {step: sum(each.seconds.get(step, 0.0) for each in measured) / frames for step in STEPS}
    found["probe"] = sum(video.probe_seconds for video in probed) / max(sampled, 1)
    return found
