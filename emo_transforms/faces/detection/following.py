"""Faces in video with short cuts: most frames are looked at only where the last one had a face.

A frame is scanned whole when a segment begins and at a cut. After a scan that found a face nobody knew of the next
frame is scanned, too; after every other one the time to the next scan grows by half, up to :data:`SCAN_SECONDS`. Every
second a small copy of the frame is scanned for large faces. Between these, the faces of the last frame are what P-Net's
proposals are elsewhere: R-Net and O-Net judge them with the thresholds of the cascade, so a face counts as one only if
the cascade itself would accept it. Where a face is lost, P-Net scans its surroundings, then the whole frame. What a
segment gives depends on its frames alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.crops import Faces, Picture, no_faces
from emobeam.emo_transforms.faces.detection.area_averages import sums_of
from emobeam.emo_transforms.faces.detection.boxes import overlaps
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector, best_faces

SCAN_SECONDS = 2.0
"""The longest time between two scans of whole frames: so late may a small face be found."""

FIRST_SECONDS = 0.25
"""The time to the next scan after the first one that found nothing new."""

GLANCE_SECONDS = 1.0
"""The time between two scans of a small copy, for faces of a fifth of the frame's shorter edge."""

MEMORY_SECONDS = 2.0
"""How long a place is tried again after its face was lost."""

CUT_DIFFERENCE = 0.15
"""Mean change of brightness (of a full range of 1) from one frame to the next that counts as a cut."""

_GLANCE_FACE = 24
_STILL = 0.1
"""A face that moves by less of its edge is looked for in one place."""

_ENOUGH = 96
"""Edge of a face in px that is enough for the networks, which see it at 24 and 48 px."""


@dataclass(frozen=True, eq=False)
class _Known:
    """A face of earlier frames: its box, how fast its centre moves in px/s, when it was seen last.

    ``reported``: it was in the last frame, with a score that is reported.
    """

    box: NDArray[np.float32]
    speed: NDArray[np.float32]
    seen: float
    reported: bool


class FollowingDetector:
    """MTCNN for frames of one segment in order.

    Args:
        scanner: for whole frames.
        near: the same cascade for a few crops at a time; may be the same object.
        keep: faces below this score are followed, if the cascade accepts them, but not reported.
    """

    def __init__(self, scanner: MtcnnDetector, near: MtcnnDetector, keep: float) -> None:
        self._scanner = scanner
        self._near = near
        self._keep = keep
        self.start()

    def start(self) -> None:
        """A new segment begins."""
        self._known: list[_Known] = []
        self._scanned = self._glanced = -np.inf
        self._wait = 0.0
        self._last: NDArray[np.uint8] | None = None

    def detect(self, frames: Sequence[Picture], times: Sequence[float]) -> list[Faces]:
        """See ``emobeam.emo_transforms.faces.crops.Detector``."""
        return [self._detect(frame, time) for frame, time in zip(frames, times, strict=True)]

    def _detect(self, frame: Picture, time: float) -> Faces:
        small = _small(frame)
        cut = self._last is None or _is_cut(self._last, small)
        self._last = small
        if cut:
            self._known = []
        faces = None
        if not cut and time - self._scanned < self._wait:
            faces = self._follow(frame, time)
        if faces is None:
            faces = self._scan(frame, time, expected=cut)
        self._remember(faces, time)
        return _at_least(faces, self._keep)

    def _scan(self, frame: Picture, time: float, *, expected: bool) -> Faces:
        faces = self._scanner.detect([frame], [time])[0]
        self._wait = min(max(1.5 * self._wait, FIRST_SECONDS), SCAN_SECONDS)
        if not expected and _any_unknown(_at_least(faces, self._keep), self._known):
            self._wait = 0.0
        self._scanned = self._glanced = time
        return faces

    def _follow(self, frame: Picture, time: float) -> Faces | None:
        """Faces where faces were, in the surroundings of those lost just now, and large new ones; None: scan it all."""
        faces = self._judge_known(frame, time)
        certain = _at_least(faces, self._keep)
        lost = [known for known in self._known if known.reported and not _found_again(known, faces)]
        doubtful = [known for known in self._known if _found_again(known, faces) and not _found_again(known, certain)]
        squares = [self._search(frame, known) for known in (*lost, *doubtful)]
        if time - self._glanced >= GLANCE_SECONDS:
            self._glanced = time
            squares.append(self._glance(frame))
        if squares:
            faces = best_faces(_joined([faces, self._near.judge([frame], [np.concatenate(squares)])[0]]))
        return faces if all(_found_again(known, faces) for known in lost) else None

    def _judge_known(self, frame: Picture, time: float) -> Faces:
        if not self._known:
            return no_faces()
        squares = [_candidates(known, time) for known in self._known]
        places = np.repeat(np.arange(len(squares)), [len(own) for own in squares])
        return self._near.judge_places(frame, np.concatenate(squares), places)

    def _search(self, frame: Picture, known: _Known) -> NDArray[np.float32]:
        """P-Net's squares [n, 4] about the place of a lost face."""
        edge = float((known.box[2:] - known.box[:2]).max())
        part = _part(frame, known.box, room=0.75 * edge)
        smallest = max(self._near.config.min_face, 0.7 * edge) / part.reduction
        return part.outward(self._near.scan([sums_of(part.pixels)], min_face=smallest)[0])

    def _glance(self, frame: Picture) -> NDArray[np.float32]:
        """Squares [n, 4] of large faces that aren't known, in px of the frame."""
        reduction = max(min(frame.shape[:2]) // (5 * _GLANCE_FACE), 1)
        min_face = max(_GLANCE_FACE, self._near.config.min_face / reduction)
        squares = self._near.scan([sums_of(_reduced(frame, reduction))], min_face=min_face)[0]
        squares *= np.float32(reduction)
        if self._known and len(squares):
            known = np.stack([known.box for known in self._known])
            squares = squares[overlaps(squares, known).max(axis=1) < 0.3]
        return squares

    def _remember(self, faces: Faces, time: float) -> None:
        known = []
        taken: set[int] = set()
        for box, score in zip(faces.boxes, faces.scores, strict=True):
            speed = np.zeros(2, np.float32)
            before = _same(box, self._known)
            if before is not None:
                taken.add(before)
                old = self._known[before]
                if time > old.seen:
                    speed = (_centre(box) - _centre(old.box)) / np.float32(time - old.seen)
            known.append(_Known(box, speed, time, bool(score >= self._keep)))
        for index, old in enumerate(self._known):
            if index not in taken and time - old.seen <= MEMORY_SECONDS:
                known.append(replace(old, reported=False, speed=np.zeros(2, np.float32)))
        self._known = known


def _small(frame: Picture) -> NDArray[np.uint8]:
    """Every so many pixels of the green channel, about 64 by 36 of them."""
    rows, columns = max(frame.shape[0] // 36, 1), max(frame.shape[1] // 64, 1)
    return np.ascontiguousarray(frame[rows // 2 :: rows, columns // 2 :: columns, 1])


def _is_cut(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> bool:
    if before.shape != after.shape:
        return True
    return bool(np.abs(before.astype(np.int16) - after).mean() > CUT_DIFFERENCE * 255)


def _candidates(known: _Known, time: float) -> NDArray[np.float32]:
    """Squares where a face may be now: about where it was, and where it was going."""
    edge = (known.box[2:] - known.box[:2]).max()
    centre = _centre(known.box)
    way = known.speed * np.float32(time - known.seen)
    if np.abs(way).max() > _STILL * edge:
        corner = np.stack([centre, centre + way / 2, centre + way]) - edge / 2
    else:
        corner = (centre + way / 2)[None] - edge / 2
    return np.concatenate([corner, corner + edge], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a frame, reduced by a whole number where the face in it is large; ``corner`` in px of the frame."""

    pixels: Picture
    corner: NDArray[np.float32]
    reduction: int

    def outward(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [n, 4] of the part as those of the frame."""
        return boxes * np.float32(self.reduction) + np.tile(self.corner, 2)


def _part(frame: Picture, box: NDArray[np.float32], room: float) -> _Part:
    """The part of a frame about a box and ``room`` px beyond it."""
    left, top = np.maximum(np.floor(box[:2] - room), 0).astype(int)
    right, bottom = np.maximum(np.ceil(box[2:] + room), 0).astype(int)
    reduction = max(int((box[2] - box[0]) // _ENOUGH), 1)
    pixels = np.ascontiguousarray(frame[top:bottom, left:right])
    return _Part(_reduced(pixels, reduction), np.array([left, top], np.float32), reduction)


def _reduced(picture: Picture, reduction: int) -> Picture:
    """Every square of so many px averaged to one; what is left over at the right and the bottom is cut off."""
    rows, columns = picture.shape[0] // reduction, picture.shape[1] // reduction
    if reduction == 1 or not rows or not columns:
        return picture if reduction == 1 else picture[:0]
    whole = picture[: rows * reduction, : columns * reduction]
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)


def _joined(parts: Sequence[Faces]) -> Faces:
    boxes, scores, points = ([getattr(part, name) for part in parts] for name in ("boxes", "scores", "landmarks"))
    return Faces(np.concatenate(boxes), np.concatenate(scores), np.concatenate(points))


def _at_least(faces: Faces, score: float) -> Faces:
    kept = faces.scores >= score
    return Faces(faces.boxes[kept], faces.scores[kept], faces.landmarks[kept])


def _centre(box: NDArray[np.float32]) -> NDArray[np.float32]:
    return (box[:2] + box[2:]) * np.float32(0.5)


def _any_unknown(faces: Faces, known: Sequence[_Known]) -> bool:
    return any(_same(box, known) is None for box in faces.boxes)


def _found_again(known: _Known, faces: Faces) -> bool:
    return len(faces) > 0 and bool(overlaps(faces.boxes, known.box[None]).max() >= 0.3)


def _same(box: NDArray[np.float32], known: Sequence[_Known]) -> int | None:
    """The known face whose box overlaps most, if any does."""
    if not known:
        return None
    shared = overlaps(box[None], np.stack([face.box for face in known]))[0]
    best = int(shared.argmax())
    return best if shared[best] >= 0.3 else None
