"""What tests of the teacher need: its model where it lies beside the repository, and a stand-in that knows one face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.training.material.labelling.landmarks import MESH_POINTS
from emobeam.emo_transforms.training.material.labelling.teacher import Look, Picture

TRAINING = Path(__file__).resolve().parents[5] / ".." / "shared" / "training"
TEACHER = TRAINING / "face_landmarker.task"
MODEL = TRAINING / "ict_light.npz"
LONDON = TRAINING / "london"

ASTRONAUT = np.array([174, 72, 276, 203], np.float32)
"""About the box of the face in ``tests.clips.astronaut()``."""


def teacher_file() -> str:
    """The teacher's model; skips where it or mediapipe is missing."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    return _there(TEACHER)


def face_model_file() -> str:
    """ICT-FaceKit's model; skips where it is missing."""
    return _there(MODEL)


def _there(path: Path) -> str:
    if not path.is_file():
        pytest.skip(f"the training material ({path.name}) is not there")
    return str(path)


def look(
    shapes: dict[str, float] | None = None, *, yaw: float = 0, pitch: float = 0, roll: float = 0, points: object = None
) -> Look:
    """A look with landmarks that spread over a square of 100 px, unless they are given."""
    spread = np.random.default_rng(0).uniform(0, 100, (MESH_POINTS, 2)).astype(np.float32)
    return Look(shapes or {}, np.asarray(spread if points is None else points, np.float32), yaw, pitch, roll)


class StandIn:
    """Takes the teacher's place where mediapipe is missing: sees a face wherever a picture isn't dark.

    Attributes:
        sizes: shapes of the pictures it was shown.
    """

    def __init__(self, box: np.ndarray | None = None) -> None:
        self.box = box
        self.sizes: list[tuple[int, ...]] = []

    def look(self, picture: Picture) -> Look | None:
        self.sizes.append(picture.shape)
        if picture.mean() < 20:
            return None
        height, width = picture.shape[:2]
        low, high = (np.array([0.3, 0.3]) * (width, height), np.array([0.7, 0.7]) * (width, height))
        if self.box is not None:
            low, high = self.box[:2], self.box[2:]
        unit = np.random.default_rng(1).uniform(0, 1, (MESH_POINTS, 2))
        unit[0], unit[1] = 0, 1
        return look({"mouthSmile_L": 0.5, "jawOpen": 0.25}, points=low + unit * (high - low), yaw=3.0)
