"""A teacher: MediaPipe's face landmarker, whose blendshapes stand for action units.

Its shapes have the names of ICT-FaceKit's but for the sides, so what it sees is told in the same words as what
``rendering`` draws. It knows some units and not others: see :data:`UNKNOWN`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.training.material.labelling.landmarks import Points, lips_apart
from emobeam.emo_transforms.training.material.rendering.units import PARTED, UNIT_SHAPES, sided
from emobeam.schemas.records import EmobeamError

Picture = npt.NDArray[np.uint8]

UNKNOWN = ("AU6", "AU15", "AU23", "AU24")
"""Units the teacher tells nothing about: ``cheekSquint`` is always 0, frowns and pressed lips are hardly seen."""

BROWS = ("AU1", "AU2", "AU4")
MAX_YAW, MAX_PITCH = 35.0, 25.0
"""Degrees beyond which the teacher takes a turned head for moved brows."""

MISSING = (
    "the teacher needs mediapipe: pip install --no-deps 'mediapipe>=1.2,<2' (with its dependencies it would bring "
    "another OpenCV over the one that is there)"
)


@dataclass(frozen=True)
class Look:
    """What the teacher sees in a picture.

    Attributes:
        shapes: activations in [0, 1] under the names of ICT-FaceKit (``browDown_L``).
        landmarks: ``[478, 2]`` px.
        yaw, pitch, roll: of the head in degrees, with the signs of ``rendering.scene.Pose``.
    """

    shapes: Mapping[str, float]
    landmarks: Points
    yaw: float
    pitch: float
    roll: float


class Teacher:
    """Looks at pictures; a context manager.

    Args:
        path: of ``face_landmarker.task``, a URI.

    Raises:
        EmobeamError: mediapipe is missing, or the file is no model of it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._mediapipe: Any = _import()
        try:
            data = storage.read_bytes(path)
        except OSError as error:
            raise EmobeamError(f"{path}: can't be read ({error})") from error
        tasks = self._mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_buffer=data),
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
            num_faces=1,
        )
        with _silence():  # native code writes notes to standard error that nobody can turn off
            try:
                self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
            except (RuntimeError, ValueError) as error:
                raise EmobeamError(f"{path}: no model of MediaPipe's face landmarker ({error})") from error
            self.look(np.full((64, 64, 3), 127, np.uint8))

    def __enter__(self) -> Teacher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the networks."""
        self._landmarker.close()

    def look(self, picture: Picture) -> Look | None:
        """What the one face in a picture does; None where the teacher finds no face.

        Args:
            picture: RGB uint8 ``[h, w, 3]``.
        """
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        found = self._landmarker.detect(image)
        if not found.face_landmarks:
            return None
        height, width = picture.shape[:2]
        points = np.array([(p.x * width, p.y * height) for p in found.face_landmarks[0]], np.float32)
        shapes = ict_shapes({shape.category_name: shape.score for shape in found.face_blendshapes[0]})
        yaw, pitch, roll = angles(np.asarray(found.facial_transformation_matrixes[0], np.float64))
        return Look(shapes, points, yaw, pitch, roll)


def ict_shapes(scores: Mapping[str, float]) -> dict[str, float]:
    """MediaPipe's blendshapes under the names of ICT-FaceKit.

    ``browDownLeft`` becomes ``browDown_L``; ``jawLeft`` is a direction, not a side, and stays; ``browInnerUp`` and
    ``cheekPuff``, which MediaPipe doesn't tell apart by side, stand for both sides; ``_neutral`` goes.
    """
    named: dict[str, float] = {}
    for name, score in scores.items():
        if name.startswith("_"):
            continue
        value = min(max(float(score), 0.0), 1.0)
        both = sided(name)
        if len(both) == 1:
            named[name] = value
        elif name.endswith("Left"):
            named[f"{name.removesuffix('Left')}_L"] = value
        elif name.endswith("Right"):
            named[f"{name.removesuffix('Right')}_R"] = value
        else:
            named.update(dict.fromkeys(both, value))
    return named


def teacher_units(look: Look) -> dict[str, float | None]:
    """Activations in [0, 1] of the twelve units of the challenges; null where the teacher doesn't know.

    Shapes stand for units as in ``rendering.units``; AU25 is measured between the lips. AU1, AU2 and AU4 are null
    where the head is turned beyond 35 degrees to the side or 25 up or down.
    """
    turned = abs(look.yaw) > MAX_YAW or abs(look.pitch) > MAX_PITCH
    units: dict[str, float | None] = {}
    for row in UNIT_SHAPES:
        if row.unit in UNKNOWN or (turned and row.unit in BROWS):
            units[row.unit] = None
        elif row.match == "geometric":
            units[row.unit] = min(max(lips_apart(look.landmarks, look.yaw) / PARTED, 0.0), 1.0)
        else:
            units[row.unit] = max(look.shapes.get(name, 0.0) for shape in row.shapes for name in sided(shape))
    return units


def angles(matrix: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw, pitch and roll in degrees of a pose ``[4, 4]``, x to the face's left, y up, z towards the camera.

    Inverts the order of turns in ``rendering.picture``: about y by yaw, about x by minus pitch, about z by roll.
    """
    turn = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    yaw = np.arctan2(-turn[2, 0], turn[2, 2])
    pitch = -np.arcsin(np.clip(turn[2, 1], -1, 1))
    roll = np.arctan2(-turn[0, 1], turn[1, 1])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def turn_matrix(yaw: float, pitch: float, roll: float) -> npt.NDArray[np.float64]:
    """The rotation ``[3, 3]`` of angles in degrees; :func:`angles` inverts it."""
    (sy, sp, sr), (cy, cp, cr) = (f(np.radians([yaw, -pitch, roll])) for f in (np.sin, np.cos))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def _import() -> Any:
    try:
        import mediapipe
        import mediapipe.tasks.python.vision  # fills mediapipe.tasks
    except ImportError as error:
        raise EmobeamError(MISSING) from error
    return mediapipe


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing written to the process's standard error meanwhile, native code included."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
