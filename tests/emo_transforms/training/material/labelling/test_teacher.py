from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.training.material.labelling.landmarks import EYE_CORNERS, SIXTY_EIGHT, eye_distance
from emobeam.emo_transforms.training.material.labelling.teacher import (
    UNKNOWN,
    Teacher,
    angles,
    ict_shapes,
    teacher_units,
    turn_matrix,
)
from emobeam.emo_transforms.training.material.rendering.face_model import load_face_model
from emobeam.emo_transforms.training.material.rendering.picture import Painter, _turn
from emobeam.emo_transforms.training.material.rendering.scene import Lights, Pose, draw_person
from emobeam.emo_transforms.training.material.rendering.units import OTHER_SHAPES, UNIT_SHAPES, sided
from emobeam.schemas.records import EmobeamError
from tests.clips import astronaut, nobody
from tests.emo_transforms.training.material.labelling.material import face_model_file, look, teacher_file

NAMES = {
    "browDownLeft": ("browDown_L",),
    "browInnerUp": ("browInnerUp_L", "browInnerUp_R"),
    "cheekPuff": ("cheekPuff_L", "cheekPuff_R"),
    "jawLeft": ("jawLeft",),
    "mouthRight": ("mouthRight",),
    "mouthClose": ("mouthClose",),
    "mouthShrugUpper": ("mouthShrugUpper",),
    "mouthUpperUpRight": ("mouthUpperUp_R",),
    "eyeLookOutLeft": ("eyeLookOut_L",),
}


def test_shapes_get_the_names_of_ict_facekit() -> None:
    scores = {name: 0.1 * place for place, name in enumerate(NAMES)} | {"_neutral": 0.9}
    wanted = {new: scores[old] for old, names in NAMES.items() for new in names}
    assert ict_shapes(scores) == pytest.approx(wanted)
    assert ict_shapes({"jawOpen": 1.2, "noseSneerLeft": -0.1}) == {"jawOpen": 1.0, "noseSneer_L": 0.0}


@given(st.floats(-80, 80), st.floats(-80, 80), st.floats(-170, 170), st.floats(0.5, 3))
def test_angles_are_those_that_renders_are_turned_by(yaw: float, pitch: float, roll: float, scale: float) -> None:
    _, rotation = _turn(np.zeros((1, 3), np.float32), Pose(yaw, pitch, roll, 3))
    assert turn_matrix(yaw, pitch, roll) == pytest.approx(rotation, abs=1e-5)
    whole = np.eye(4)
    whole[:3, :3] = rotation * scale
    assert angles(whole) == pytest.approx((yaw, pitch, roll), abs=0.02)


def test_the_larger_side_decides_and_what_the_teacher_does_not_know_is_null() -> None:
    shapes = {name: 0.0 for row in UNIT_SHAPES for shape in row.shapes for name in sided(shape)}
    shapes |= {"mouthSmile_L": 0.2, "mouthSmile_R": 0.7, "cheekSquint_L": 0.9, "mouthFrown_L": 0.9, "jawOpen": 0.4}
    units = teacher_units(look(shapes))
    assert list(units) == [row.unit for row in UNIT_SHAPES]
    assert (units["AU12"], units["AU26"], units["AU1"]) == (0.7, 0.4, 0.0)
    assert {unit for unit, value in units.items() if value is None} == {"AU6", "AU15", "AU23", "AU24"} == set(UNKNOWN)


@pytest.mark.parametrize(
    ("turn", "masked"), [((34, 0), False), ((-36, 0), True), ((36, 0), True), ((0, 24), False), ((0, -26), True)]
)
def test_brows_of_turned_heads_are_unknown(turn: tuple[float, float], masked: bool) -> None:
    units = teacher_units(look({"browDown_L": 0.5, "mouthSmile_L": 0.6}, yaw=turn[0], pitch=turn[1]))
    assert [units[unit] is None for unit in ("AU1", "AU2", "AU4")] == [masked] * 3
    assert units["AU12"] == 0.6


def test_lips_part_by_their_distance_whatever_the_size_and_however_wide_the_smile() -> None:
    for size in (50.0, 400.0):
        points = np.zeros((478, 2), np.float32)
        points[list(EYE_CORNERS)] = [(0, 0), (size, 0)]
        points[[61, 291, 78, 308]] = [(0, size), (size, size), (0, size), (size, size)]  # a mouth as wide as the eyes
        for upper, lower in ((81, 178), (13, 14), (311, 402)):
            points[upper], points[lower] = (size / 2, size), (size / 2, size * (1 + 0.57 * 0.125))
        assert teacher_units(look(points=points))["AU25"] == pytest.approx(0.5, abs=0.03)
        points[[178, 14, 402]] = points[[81, 13, 311]]
        assert teacher_units(look(points=points))["AU25"] == 0
        points[[178, 14, 402], 1] += size
        assert teacher_units(look(points=points))["AU25"] == 1


def test_without_mediapipe_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(EmobeamError, match="pip install --no-deps 'mediapipe"):
        Teacher(str(tmp_path / "face_landmarker.task"))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    teacher_file()
    (tmp_path / "wrong.task").write_bytes(b"no model")
    with pytest.raises(EmobeamError, match=r"wrong\.task: no model of MediaPipe"):
        Teacher(str(tmp_path / "wrong.task"))
    with pytest.raises(EmobeamError, match=r"none\.task: can't be read"):
        Teacher(str(tmp_path / "none.task"))


def test_a_smiling_woman_smiles_and_a_pattern_is_nobody() -> None:
    with Teacher(teacher_file()) as teacher:
        seen = teacher.look(np.asarray(astronaut()))
        assert seen is not None
        units = teacher_units(seen)
        assert units["AU12"] is not None
        assert units["AU12"] > 0.6
        assert units["AU25"] is not None
        assert units["AU25"] > 0.3
        assert max(abs(seen.yaw), abs(seen.pitch), abs(seen.roll)) < 25
        assert {name for row in UNIT_SHAPES if row.match == "direct" for s in row.shapes for name in sided(s)} <= {
            *seen.shapes
        }
        assert {name for shape in OTHER_SHAPES for name in sided(shape)} - set(seen.shapes) == set()
        assert teacher.look(nobody(0)) is None


def test_rendered_heads_are_seen_as_they_are_turned_and_where_they_are() -> None:
    """An independent reference: pose, landmarks and side of a render are known exactly."""
    model = load_face_model(face_model_file())
    light = Lights(
        np.full(3, 0.5, np.float32), np.array([[0, 0.5, 0.86]], np.float32), np.full((1, 3), 0.6, np.float32)
    )
    wall = np.full((280, 280, 3), 0.6, np.float32)
    painter = Painter(model, draw_person(1, 0))
    with Teacher(teacher_file()) as teacher:
        for pose in (Pose(0, 0, 0, 5), Pose(20, 0, 0, 5), Pose(0, 15, 0, 5), Pose(-15, 0, 12, 5)):
            rendered = painter.draw({}, light, pose, wall)
            seen = teacher.look(rendered.picture)
            assert seen is not None
            assert (seen.yaw, seen.pitch, seen.roll) == pytest.approx((pose.yaw, pose.pitch, pose.roll), abs=7)
            off = np.hypot(*(seen.landmarks[list(SIXTY_EIGHT)] - rendered.landmarks)[17:].T)
            assert np.median(off) < 0.06 * eye_distance(seen.landmarks)
            assert off.max() < 0.2 * eye_distance(seen.landmarks)
        smile = teacher.look(painter.draw({"mouthSmile_L": 1.0}, light, Pose(0, 0, 0, 5), wall).picture)
        assert smile is not None
        assert smile.shapes["mouthSmile_L"] > smile.shapes["mouthSmile_R"] + 0.2


def test_neutral_photographs_neither_smile_nor_open_their_mouths() -> None:
    from PIL import Image

    from tests.emo_transforms.training.material.labelling.material import LONDON

    path = teacher_file()
    files = sorted((LONDON / "neutral").glob("*.jpg"))[:6]
    if not files:
        pytest.skip("the photographs are not there")
    with Teacher(path) as teacher:
        looks = [teacher.look(np.asarray(Image.open(file).convert("RGB"))) for file in files]
    units = [teacher_units(seen) for seen in looks if seen is not None]
    assert len(units) == len(files) == 6
    assert np.median([float(unit["AU12"] or 0) for unit in units]) < 0.1
    assert max(float(unit["AU25"] or 0) for unit in units) < 0.15
