"""Moving clips of photographs: expressions as renders have them, on faces of real people, labelled by the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emobeam.emo_transforms.faces.crops import Picture, crop_square, in_square, square_box
from emobeam.emo_transforms.training.material.labelling.landmarks import SIXTY_EIGHT, moved_points
from emobeam.emo_transforms.training.material.labelling.teacher import Look, Teacher, teacher_units
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh, MovingFace, draw_mouth
from emobeam.emo_transforms.training.material.rendering.capture import capture
from emobeam.emo_transforms.training.material.rendering.expression import Weights, draw_motion
from emobeam.emo_transforms.training.material.rendering.face_model import Floats
from emobeam.emo_transforms.training.material.rendering.people import FIRST_LANDMARK
from emobeam.emo_transforms.training.material.rendering.units import unit_activations

_ROOM = 1.5
"""Edge of the part of a photograph that is set in motion, in edges of the crop."""

_SMILE = 0.2
"""From this activation on a photograph's own smile makes it unknown what pulls at the corners of its mouth."""

_APPLIED = ("AU15", "AU24")
"""Units the teacher doesn't see, which are known where they have been put into a face that shows nothing there."""

_TURNS = 0.8
"""Part of the head's motion in renders that photographs take: more would show what they don't hold."""


@dataclass(frozen=True)
class MovingPicture:
    """A frame of a clip.

    Attributes:
        frame: from 1.
        time: in s.
        crop: RGB uint8 ``[size, size, 3]``.
        units: activations by unit, null where unknown.
        look: what the teacher sees, before the camera's faults; None where it sees no face.
        landmarks: ``[51, 2]`` in parts of the crop's edge: where the moved face has them.
    """

    frame: int
    time: float
    crop: Picture
    units: dict[str, float | None]
    look: Look | None
    landmarks: Floats


@dataclass(frozen=True)
class ClipConfig:
    """Of a clip: edge of its crops in px, length in s, rate, and whether a camera's faults are put in."""

    size: int
    seconds: float
    fps: float
    faults: bool
    margin: float


def move(
    mesh: MovableMesh,
    teacher: Teacher,
    picture: Picture,
    box: Floats,
    look: Look,
    rng: np.random.Generator,
    config: ClipConfig,
) -> Iterator[MovingPicture]:
    """A clip of one photograph.

    Args:
        picture: RGB uint8 ``[h, w, 3]``.
        box: the face's, ``[4]`` px.
        look: what the teacher sees in the photograph.
        rng: draws motion, mouth, camera.
    """
    edge = round(config.size * _ROOM)
    margin = (1 + config.margin) * _ROOM - 1
    left, top, length = square_box(box, margin)
    scale = edge / length
    landmarks = moved_points(look.landmarks, (left, top), scale)
    still = Look(look.shapes, landmarks, look.yaw, look.pitch, look.roll)
    face = MovingFace(mesh, crop_square(picture, box, margin, edge), still, draw_mouth(rng))
    box = ((box.reshape(2, 2) - (left, top)) * scale).reshape(4).astype(np.float32)
    at_rest = landmarks[list(SIXTY_EIGHT)]
    motion = draw_motion(rng, round(config.seconds * config.fps), config.fps)
    camera = int(rng.integers(2**31))
    smiles = max(look.shapes.get(name, 0.0) for name in ("mouthSmile_L", "mouthSmile_R")) >= _SMILE
    for place, weights in enumerate(motion.weights):
        yaw, pitch, roll = (float(turn) * _TURNS for turn in motion.turns[place])
        moved, points = face.draw(weights, (yaw, pitch, roll))
        seen = teacher.look(moved)
        units = _units(seen, weights, smiles=smiles)
        grown = box + np.concatenate([points.min(0) - at_rest.min(0), points.max(0) - at_rest.max(0)])
        loose = grown + rng.normal(0, 0.015 * float((box[2:] - box[:2]).max()), 4)
        cut = loose.astype(np.float32)
        crop = crop_square(moved, cut, config.margin, config.size)
        landmarks = in_square(points[FIRST_LANDMARK:], cut, config.margin)
        if config.faults:
            # The same faults all through the clip, as one camera has them.
            crop = capture(crop, np.random.default_rng(camera))
        yield MovingPicture(place + 1, place / config.fps, crop, units, seen, landmarks)


def _units(seen: Look | None, applied: Weights, *, smiles: bool) -> dict[str, float | None]:
    known = unit_activations(applied, 0.0)
    if seen is None:
        return dict.fromkeys([*known, "AU23"])
    return teacher_units(seen) | {unit: None if smiles else known[unit] for unit in _APPLIED}
