"""Made-up people in made-up videos, as stage 1 would record them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.tracking import SegmentTracker
from emobeam.emo_transforms.prediction.track_stitching import Sightings

FPS = 6.0
NATIVE_FPS = 30.0


@dataclass(frozen=True)
class Person:
    """Someone seen from ``start`` to ``end`` (s) except within ``away``; ``look`` seeds the descriptor."""

    x: float
    size: float = 100.0
    start: float = 0.0
    end: float = np.inf
    away: Sequence[tuple[float, float]] = ()
    look: int | None = None
    y: float = 300.0
    speed: float = 0.0

    def seen(self, time: float) -> bool:
        return self.start <= time < self.end and not any(a <= time < b for a, b in self.away)


def film(
    people: Sequence[Person],
    seconds: float,
    *,
    segment: float = 60.0,
    noise: float = 1.0,
    track_number: Callable[[int, int], int] = lambda segment, track: track,
) -> tuple[Sightings, NDArray[np.int64]]:
    """What is seen of people, tracked segment by segment, and who each row really is.

    The descriptor of a row is the look of the person, plus what all faces share, plus ``noise``.
    """
    random = np.random.default_rng(3)
    share = random.normal(0, 10, 16)
    rows = []
    current, tracker = -1, SegmentTracker()
    for step in range(int(seconds * FPS)):
        time = step / FPS
        if int(time // segment) != current:
            current, tracker = int(time // segment), SegmentTracker()
        shown = [(who, person) for who, person in enumerate(people) if person.seen(time)]
        boxes = np.array(
            [
                [
                    p.x + p.speed * time - p.size / 2,
                    p.y - p.size / 2,
                    p.x + p.speed * time + p.size / 2,
                    p.y + p.size / 2,
                ]
                for _, p in shown
            ],
            np.float32,
        ).reshape(-1, 4)
        boxes += random.normal(0, 1, boxes.shape).astype(np.float32)
        numbers = tracker.update(time, boxes, np.ones(len(shown), np.float32))
        for (who, person), box, number in zip(shown, boxes, numbers, strict=True):
            look = np.random.default_rng(who if person.look is None else person.look).normal(0, 3, 16)
            descriptor = share + look + random.normal(0, noise, 16)
            rows.append((step, track_number(current, number), current, box, descriptor, who))
    rows.sort(key=lambda row: row[:2])
    frame = np.array([row[0] for row in rows], np.int32) * round(NATIVE_FPS / FPS) + 1
    sightings = Sightings(
        segment=np.array([row[2] for row in rows], np.int32),
        track=np.array([row[1] for row in rows], np.int16),
        frame=frame,
        time=(frame - 1) / NATIVE_FPS,
        box=np.array([row[3] for row in rows], np.float32).reshape(-1, 4),
        score=np.full(len(rows), 0.99, np.float32),
        descriptor=np.array([row[4] for row in rows], np.float32).reshape(-1, 16),
    )
    return sightings, np.array([row[5] for row in rows], np.int64)
