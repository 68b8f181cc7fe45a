"""One clock that runs on, out of the time stamps of a file whose own clock was set anew.

Recordings that were joined byte by byte, broadcasts and cameras that get a signal late begin to count again in
mid-stream. Frames keep the order of the file: within a stretch of one clock that of presentation, stretches one after
the other. Only containers made for broken transmissions (MPEG-TS, MPEG-PS) may leap forward; in all others a long gap
is a picture that stood still for so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

LEAP = 10.0
"""Seconds of a step forward above which a container that allows it had its clock set, as FFmpeg's tools see it."""

GAP_FRAMES = 10
"""A gap of more usual frames than this is told."""

_WRAP = 1 << 33
"""The clocks of MPEG-TS and MPEG-PS count to here."""

_TOLD = 3
_MOST_RESTARTS = 0.02
"""Share of frames that go back in time above which time stamps are noise and say nothing."""


@dataclass(frozen=True)
class Straightened:
    """Time stamps on one clock.

    Attributes:
        pts: never descending; in the unit of those given.
        settings: where the clock was set anew, or stood still: the place (from 0) of the first frame after it, and what
            was added to its time stamp.
    """

    pts: tuple[int, ...]
    settings: tuple[tuple[int, int], ...] = ()


def straightened(stamps: Sequence[int], time_base: Fraction, usual: int, *, leaps: bool) -> Straightened | None:
    """Joins stretches of clock, the step across each joint being one usual frame.

    Args:
        stamps: in the order in which the decoder gives the frames out.
        time_base: unit of the stamps in s.
        usual: length of a frame where the stamps don't tell, in units of ``time_base``.
        leaps: whether the container allows the clock to be set forward.

    Returns:
        None where so many stamps go back or stand still that they are noise.
    """
    steps = [after - before for before, after in pairwise(stamps)]
    limit = LEAP / time_base
    if sum(step <= 0 for step in steps) > 1 + _MOST_RESTARTS * len(steps):
        return None
    frame = usual_step(stamps, usual)
    moved = 0
    straight, settings = list(stamps[:1]), []
    for place, step in enumerate(steps, start=1):
        if step < 0 or (leaps and step > limit):
            moved = straight[-1] + frame - stamps[place]
            settings.append((place, moved))
        elif step == 0:
            settings.append((place, 0))
        straight.append(stamps[place] + moved)
    return Straightened(tuple(straight), tuple(settings))


def usual_step(stamps: Sequence[int], otherwise: int) -> int:
    """The median step between frames, in the unit of the stamps; at least 1."""
    steps = [after - before for before, after in pairwise(stamps) if after > before]
    return max(1, median_low(steps) if steps else otherwise)


def setting_notes(found: Straightened, stamps: Sequence[int], time_base: Fraction, *, leaps: bool) -> list[str]:
    """What to tell of a clock that was set: by how much, and where. For the arguments see :func:`straightened`."""
    told = []
    for place, _ in found.settings:
        if stamps[place] == stamps[place - 1]:
            continue  # two frames of one moment; nobody is misled
        step = stamps[place] - stamps[place - 1]
        if leaps and step > _WRAP // 2:
            step -= _WRAP  # FFmpeg took it for the end of what the counter can hold
        leap = float(step * time_base)
        at = float((found.pts[place] - found.pts[0]) * time_base)
        told.append(f"by {leap:+.1f} s at {at:.1f} s")
    if not told:
        return []
    return [f"its clock was set {_listed(told)}; time runs on there by one frame"]


def gap_notes(pts: Sequence[int], time_base: Fraction, complaints: Sequence[int] = ()) -> list[str]:
    """What to tell of gaps: frames that were lost there can't be told from frames that never were.

    Args:
        pts: ascending.
        complaints: time stamps near which the file turned out to be damaged.
    """
    usual = usual_step(pts, 1)
    told = []
    for before, after in pairwise(pts):
        step = after - before
        hit = step > 1.5 * usual and any(before <= stamp <= after for stamp in complaints)
        if hit or step > GAP_FRAMES * usual:
            told.append(f"{float((step - usual) * time_base):.1f} s at {float((before - pts[0]) * time_base):.1f} s")
    if not told:
        return []
    return [f"shows no frame for {_listed(told)}: lost, or never recorded; frames after it keep counting on"]


def _listed(told: Sequence[str]) -> str:
    more = f" and {len(told) - _TOLD} times more" if len(told) > _TOLD else ""
    return ", ".join(told[:_TOLD]) + more
