"""Neutral photographs of the test identities whose jaws are opened: open mouths of the source of the smiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from emobeam.emo_transforms.faces.crops import Picture, crop_square, square_box
from emobeam.emo_transforms.training.material.labelling.labelled_people import MARGIN, Labeller
from emobeam.emo_transforms.training.material.labelling.landmarks import moved_points
from emobeam.emo_transforms.training.material.labelling.teacher import Look, Teacher
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh, MovingFace
from emobeam.emo_transforms.training.material.rendering.face_model import load_face_model
from tests.benchmarks.weights.photographs import cut, face_detector
from tests.benchmarks.weights.split import london_test
from tests.benchmarks.weights.teacher import smile_of

SHAPES = {"jawOpen": 0.6}
"""What is put into the faces, by ICT-FaceKit's names: no shape that smiles."""

JAW, SMILE = 0.3, 0.1
"""Faces are kept in which the teacher then reads at least this much of ``jawOpen``, and less than this of a smile."""

_EDGE = 480
_ROOM = 1.8


def opened(folder: Path, task: Path, model: Path, size: int, limit: int = 0) -> list[tuple[str, Picture]]:
    """Identities and crops, as stage 1 cuts them, of faces whose jaw the teacher sees open without a smile.

    Args:
        folder: of the London set.
        task: the teacher's file.
        model: ICT-FaceKit's arrays, ``ict_light.npz``.
        size: edge of a crop.
        limit: identities; 0 takes all.

    Raises:
        EmobeamError: mediapipe is missing, or teacher or model can't be read.
    """
    test, found = london_test()[: limit or None], []
    detector, mesh = face_detector(), MovableMesh(load_face_model(str(model)))
    with Teacher(str(task)) as teacher:
        labeller = Labeller(teacher, mesh)
        for path in sorted((folder / "neutral").glob("*.jpg")):
            person = path.stem.split("_")[0]
            if person not in test:
                continue
            moved = _open(labeller, mesh, np.asarray(Image.open(path).convert("RGB")))
            look = None if moved is None else teacher.look(moved)
            if moved is None or look is None or not shows(look):
                continue
            crop = cut(detector, moved, size)
            if crop is not None:
                found.append((person, crop))
    return found


def shows(look: Look) -> bool:
    """Whether the teacher sees an open jaw that doesn't smile."""
    return look.shapes.get("jawOpen", 0.0) >= JAW and smile_of(look.shapes) < SMILE


def _open(labeller: Labeller, mesh: MovableMesh, picture: Picture) -> Picture | None:
    """The face of a photograph with its jaw opened, ``[480, 480, 3]``; None where it isn't found."""
    box = labeller.find(picture)
    look = None if box is None else labeller.look_at(picture, box)
    if box is None or look is None:
        return None
    margin = (1 + MARGIN) * _ROOM - 1
    left, top, length = square_box(box, margin)
    landmarks = moved_points(look.landmarks, (left, top), _EDGE / length)
    face = MovingFace(
        mesh, crop_square(picture, box, margin, _EDGE), Look(look.shapes, landmarks, look.yaw, look.pitch, look.roll)
    )
    return face.draw(SHAPES)[0]
