"""Who is who in a video: tracks, local to their segments, become persons with the whole video in view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.tracking import affinity, box_centres, box_sizes
from emobeam.schemas.records import InputError

BRIEF_GAP = 0.5
"""Seconds within which a track that starts where another ended is the same person."""

LONG_GAP = 3.0
"""Seconds after which a person who comes back is a new one."""

NEAR = 1.0
"""How far from where they left a person may come back after a long gap, in units of the face's size."""

ALIKE = 2.0
"""How far apart the mean descriptors of one person's tracks may lie, in units of the spread within tracks."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """The faces seen in the sampled frames of one video: one row per face and frame, sorted by frame and track.

    Attributes:
        segment: int ``[n]``, the segment of the row.
        track: int ``[n]``, local to the segment.
        frame: int32 ``[n]``, native frame, from 1, ascending.
        time: float64 ``[n]`` in s.
        box: float32 ``[n, 4]``, x1, y1, x2, y2 in px.
        score: float32 ``[n]`` in [0, 1].
        descriptor: float ``[n, d]``, what the faces look like (a feature map averaged over its places), or None.
    """

    segment: NDArray[np.integer]
    track: NDArray[np.integer]
    frame: NDArray[np.int32]
    time: NDArray[np.float64]
    box: NDArray[np.float32]
    score: NDArray[np.float32]
    descriptor: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.frame)


def stitch(sightings: Sightings) -> NDArray[np.int16]:
    """The person of each row.

    A track that ends and one that starts later are joined, each end and each start at most once, so that
    tracks seen at the same time never become one person:

    1. no more than :data:`BRIEF_GAP` s apart, if the boxes go together as they would within a track
       (:func:`emobeam.emo_transforms.faces.tracking.affinity`): this heals the cuts between segments;
    2. then, no more than :data:`LONG_GAP` s apart, if the boxes still go together, the centres lie within
       :data:`NEAR` of the face's size, and, where there are descriptors, the two tracks look alike: the
       distance between their mean descriptors is at most :data:`ALIKE` times the root mean square distance
       of rows from the mean of their own track, over all tracks of the video.

    Of several possibilities the pair that goes together best is joined first. The scale of likeness is
    what a face varies by while it is followed, and needs no reference to other people. (A cosine after
    subtraction of the video's mean can't tell: two halves of one person's only appearance lie opposite
    each other, at -1.)

    Persons are numbered by presence, the sum of the heights of their boxes, then by first appearance.
    The numbers of tracks within their segments play no part.

    Returns:
        int16 ``[n]``, from 0.

    Raises:
        InputError: there are more persons than 32767.
    """
    if not len(sightings):
        return np.zeros(0, np.int16)
    tracks = _Tracks(sightings)
    previous = np.full(tracks.count, -1)
    for longest in (BRIEF_GAP, LONG_GAP):
        _join(tracks, previous, longest)
    person = np.arange(tracks.count)
    for track in np.flatnonzero(previous >= 0):  # ascending: what was before has its person already
        person[track] = person[previous[track]]
    return _numbered_by_presence(sightings, person[tracks.of_row])


class _Tracks:
    """The tracks of a video in an order that doesn't depend on their numbers: by first frame, then first box."""

    def __init__(self, sightings: Sightings) -> None:
        keys = np.stack([sightings.segment, sightings.track], axis=1)
        _, labels = np.unique(keys, axis=0, return_inverse=True)
        by_track = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[by_track], prepend=-1))
        first = by_track[starts]
        order = np.lexsort((*sightings.box[first].T[::-1], sightings.frame[first]))

        rank = np.empty(len(order), np.intp)
        rank[order] = np.arange(len(order))
        self.of_row = rank[labels]
        self.count = len(order)
        by_track = np.argsort(self.of_row, kind="stable")
        starts = np.flatnonzero(np.diff(self.of_row[by_track], prepend=-1))
        first, last = by_track[starts], by_track[np.append(starts[1:], len(by_track)) - 1]
        self.first_time, self.last_time = sightings.time[first], sightings.time[last]
        self.first_box, self.last_box = sightings.box[first], sightings.box[last]
        self.look: NDArray[np.float64] | None = None
        self.spread = 0.0
        if sightings.descriptor is not None:
            self._describe(sightings.descriptor[by_track], starts)

    def _describe(self, descriptor: NDArray[np.floating], starts: NDArray[np.intp]) -> None:
        sizes = np.diff(np.append(starts, len(descriptor)))
        self.look = np.add.reduceat(descriptor, starts, axis=0, dtype=np.float64) / sizes[:, None]
        off = np.square(descriptor - np.repeat(self.look, sizes, axis=0)).sum(axis=1)
        freedom = int((sizes - 1).sum())
        # Tracks of one row tell nothing about spread; without it likeness can't be judged.
        self.spread = float(np.sqrt(np.add.reduceat(off, starts).sum() / freedom)) if freedom else np.inf

    def look_alike(self, before: NDArray[np.intp], after: NDArray[np.intp]) -> NDArray[np.bool_]:
        if self.look is None:
            return np.ones(len(before), bool)
        apart = np.linalg.norm(self.look[before] - self.look[after], axis=1)
        rounding = 1e-6 * np.linalg.norm(self.look[before], axis=1)
        return np.asarray(apart <= ALIKE * self.spread + rounding)


def _join(tracks: _Tracks, previous: NDArray[np.intp], longest: float) -> None:
    """Writes into ``previous`` which track each one continues, the best pairs first."""
    pairs: list[tuple[int, int]] = []
    values: list[float] = []
    is_open = previous < 0
    has_next = np.zeros(tracks.count, bool)
    has_next[previous[~is_open]] = True
    for before in np.flatnonzero(~has_next):
        end = tracks.last_time[before]
        low, high = np.searchsorted(tracks.first_time, [end, end + longest + 1e-6], side="right")
        after = np.flatnonzero(is_open[low:high]) + low
        if not len(after):
            continue
        gap = tracks.first_time[after] - end
        worth = affinity(tracks.last_box[before][None], tracks.first_box[after], gap[None])[0]
        if longest > BRIEF_GAP:
            ends = np.full(len(after), before)
            worth = np.where(_near(tracks, ends, after) & tracks.look_alike(ends, after), worth, -np.inf)
        possible = np.isfinite(worth)
        pairs += [(int(before), start) for start in after[possible].tolist()]
        values += (worth - gap)[possible].tolist()
    for place in np.argsort(-np.array(values), kind="stable"):
        before, start = pairs[place]
        if previous[start] < 0 and not has_next[before]:
            previous[start] = before
            has_next[before] = True


def _near(tracks: _Tracks, before: NDArray[np.intp], after: NDArray[np.intp]) -> NDArray[np.bool_]:
    old, new = tracks.last_box[before], tracks.first_box[after]
    distance = np.linalg.norm(box_centres(old) - box_centres(new), axis=1)
    return np.asarray(distance <= NEAR * (box_sizes(old) + box_sizes(new)) / 2)


def _numbered_by_presence(sightings: Sightings, person: NDArray[np.intp]) -> NDArray[np.int16]:
    labels, first, index = np.unique(person, return_index=True, return_inverse=True)
    if len(labels) > np.iinfo(np.int16).max:
        text = f"{len(labels)} persons in one video; raise the detector's threshold or its smallest face"
        raise InputError(text, stage="detect", reason="too_large", permanent=True)
    height = (sightings.box[:, 3] - sightings.box[:, 1]).astype(np.float64)
    presence = np.bincount(index, weights=height)
    order = np.lexsort((*sightings.box[first].T[::-1], sightings.frame[first], -presence))
    number = np.empty(len(order), np.int16)
    number[order] = np.arange(len(order))
    return number[index]
