"""Which face number each sighting gets in the tables: the main face is 0, per subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.tracking import box_centres, box_sizes
from emobeam.emo_transforms.prediction.track_stitching import Sightings
from emobeam.schemas.records import UsageError

SWITCH_SECONDS = 2.0
"""What it costs to change the main face: this many seconds of a face of usual size."""

LARGEST = 2.0
"""Faces count as no larger than this many times the usual size."""

STRETCH_GAP = 1.0
"""Seconds out of sight that end a stretch."""

SIDES = ("left", "right")
"""Subjects known by where they are in the frame, as the viewer sees it."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def main_face(
    frame: NDArray[np.int32],
    time: Floats,
    person: NDArray[np.int16],
    box: NDArray[np.float32],
    *,
    switch_seconds: float = SWITCH_SECONDS,
) -> Bools:
    """Which rows show the main face: at most one in each frame.

    The rule: at any time one person is the main one, seen or not. A frame in which that person is seen earns
    the size of the face (square root of the area) over the usual size, but at most :data:`LARGEST`, times
    the usual step between frames in seconds; a change of the main person costs ``switch_seconds``. The
    course that earns most in the whole video is chosen (by dynamic programming); of equal ones, that which
    keeps the same person, then that of the lower person number. The usual size is the median over frames of
    the largest face in the frame, the usual step the median of the steps between frames with a face.

    So a passer-by twice as large takes over only by staying for more than 4 s beside the main person (there
    and back are two changes), and who is out of sight for a while stays the main person; but when the main
    person leaves for good, whoever of usual size is seen for more than 2 s from then on takes over.

    Args:
        frame: native frames, ascending; one person at most once per frame.
        time: of the rows in seconds.
        person: of the rows, from 0.
        box: ``[n, 4]``, x1, y1, x2, y2 in px.

    Returns:
        bool ``[n]``.
    """
    chosen = np.zeros(len(frame), bool)
    if not len(frame):
        return chosen
    gain = _gains(frame, time, box)
    order = np.lexsort((person, frame))
    previous = _best_courses(frame[order].tolist(), person[order].tolist(), gain[order].tolist(), switch_seconds)
    row = previous.pop()
    while row >= 0:
        chosen[order[row]] = True
        row = previous[row]
    return chosen


def _gains(frame: NDArray[np.int32], time: Floats, box: NDArray[np.float32]) -> Floats:
    size = box_sizes(box)
    starts = np.flatnonzero(np.diff(frame, prepend=-1))
    usual = float(np.median(np.maximum.reduceat(size, starts)))
    steps = np.diff(time[starts])
    step = float(np.median(steps)) if len(steps) else 1.0
    return np.minimum(size / usual, LARGEST) * step


def _best_courses(frames: list[int], persons: list[int], gains: list[float], cost: float) -> list[int]:
    """For each row the row before it on the best course that ends there (-1: none), then the last row of the best.

    Rows are sorted by frame and person. Only persons in sight need looking at: nobody gains while unseen, and
    changing later is never worse than changing earlier, because the best course never loses.
    """
    previous: list[int] = []
    totals: dict[int, tuple[float, int]] = {}  # of each person: value of the best course, its last row
    best, best_row = 0.0, -1
    row = 0
    while row < len(frames):
        end = row
        while end < len(frames) and frames[end] == frames[row]:
            end += 1
        best_here, best_row_here = best, best_row
        for place in range(row, end):
            total, last = totals.get(persons[place], (0.0, -1))
            if best - cost > total:
                total, last = best - cost, best_row
            total += gains[place]
            totals[persons[place]] = (total, place)
            previous.append(last)
            if total > best_here:
                best_here, best_row_here = total, place
        best, best_row = best_here, best_row_here
        row = end
    return [*previous, best_row]


def assign_faces(
    sightings: Sightings, person: NDArray[np.int16], subjects: Sequence[str], width: int
) -> dict[str, NDArray[np.int16]]:
    """The face number of each row, for each subject of a video; -1 where a row plays no part for a subject.

    * ``""``: the main face (see :func:`main_face`) is 0. The persons who are ever seen beside it are 1, 2 ...
      by presence, in the rows in which they aren't the main face.
    * ``left``, ``right``: only face 0. In a frame with several faces the left or right one of the two
      largest stands to choose; in a frame with one face, that face if its centre lies in that half of the
      frame. Among these rows the rule of the main face decides.

    Args:
        sightings: all rows of the video.
        person: of the rows, as :func:`emobeam.emo_transforms.prediction.track_stitching.stitch` numbers them.
        subjects: who is asked for.
        width: of the upright frame in px.

    Raises:
        UsageError: another subject.
    """
    faces = {}
    for subject in subjects:
        if subject and subject not in SIDES:
            raise UsageError(
                f"unknown subject '{subject}': left and right are known; --subjects FILE says who other names mean"
            )
        rows = np.flatnonzero(_on_side(sightings, subject, width)) if subject else np.arange(len(sightings))
        face = np.full(len(sightings), -1, np.int16)
        if not subject:
            others = ~main_face(sightings.frame, sightings.time, person, sightings.box)
            face[~others] = 0
            face[others] = 1 + np.searchsorted(np.unique(person[others]), person[others])
        else:
            main = main_face(sightings.frame[rows], sightings.time[rows], person[rows], sightings.box[rows])
            face[rows[main]] = 0
        faces[subject] = face
    return faces


def _on_side(sightings: Sightings, side: str, width: int) -> Bools:
    """The rows that stand to choose for a side: at most one in each frame."""
    centre = box_centres(sightings.box)[:, 0]
    x1, y1, x2, y2 = sightings.box.T
    by_size = np.lexsort((y2, x2, y1, x1, -box_sizes(sightings.box), sightings.frame))
    starts = np.flatnonzero(np.diff(sightings.frame, prepend=-1))
    counts = np.diff(np.append(starts, len(centre)))
    first, second = by_size[starts], by_size[np.minimum(starts + 1, len(centre) - 1)]
    in_left_half = centre[first] < width / 2
    alone = counts == 1
    left_first = centre[first] <= centre[second]
    pick = np.where(alone | (left_first == (side == "left")), first, second)
    keep = ~alone | (in_left_half == (side == "left"))
    chosen = np.zeros(len(centre), bool)
    chosen[pick[keep]] = True
    return chosen


def face_stretches(
    video: str,
    sightings: Sightings,
    person: NDArray[np.int16],
    faces: Mapping[str, NDArray[np.int16]],
    *,
    gap: float = STRETCH_GAP,
) -> list[dict[str, Any]]:
    """Rows of the table :data:`emobeam.schemas.tables.FACES`: one per stretch of one person in one role.

    A stretch ends when another person takes the role, or with the last row before ``gap`` seconds without
    one. Boxes (px) and scores are means over its rows.

    Args:
        video: id of the video.
        sightings, person: its rows and who they show.
        faces: face number of each row by subject, as :func:`assign_faces` gives it.

    Returns:
        Rows sorted by subject, face and first frame, for ``pyarrow.Table.from_pylist(rows, schema=FACES)``.
    """
    table = []
    for subject in sorted(faces):
        face = faces[subject]
        rows = np.lexsort((sightings.frame, face))
        rows = rows[face[rows] >= 0]
        breaks = (
            (np.diff(face[rows]) != 0) | (np.diff(person[rows]) != 0) | (np.diff(sightings.time[rows]) > gap + 1e-6)
        )
        for stretch in np.split(rows, np.flatnonzero(breaks) + 1):
            if len(stretch):
                role = {"video": video, "subject": subject, "face": int(face[stretch[0]])}
                table.append(role | _summary(sightings, person, stretch))
    return table


def _summary(sightings: Sightings, person: NDArray[np.int16], rows: NDArray[np.intp]) -> dict[str, Any]:
    first, last = rows[0], rows[-1]
    return {
        "person": int(person[first]),
        "first_frame": int(sightings.frame[first]),
        "last_frame": int(sightings.frame[last]),
        "first_time": float(sightings.time[first]),
        "last_time": float(sightings.time[last]),
        "sampled": len(rows),
        "box": sightings.box[rows].mean(axis=0, dtype=np.float64).tolist(),
        "score": float(sightings.score[rows].mean(dtype=np.float64)),
    }
