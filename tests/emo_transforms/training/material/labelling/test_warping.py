from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.training.material.labelling.landmarks import MESH_POINTS, SIXTY_EIGHT
from emobeam.emo_transforms.training.material.labelling.warping import MovableMesh, MovingFace, draw_mouth
from emobeam.emo_transforms.training.material.rendering.face_model import LANDMARKS, FaceModel, load_face_model
from emobeam.emo_transforms.training.material.rendering.picture import Painter
from emobeam.emo_transforms.training.material.rendering.scene import Lights, Pose, draw_person
from tests.emo_transforms.training.material.labelling.material import face_model_file, look
from tests.emo_transforms.training.material.rendering.faces import write_ball

EDGE = 160
SCALE = 6.0


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    """A model that is all skin and wavy only a little, with two shapes that shift it as a whole."""
    ball = load_face_model(str(write_ball(tmp_path_factory.mktemp("model") / "ball.npz")))
    rows, columns = 65, 104
    # Upside down, so that the vertex that counts as the chin, where the mesh ends, is low.
    down, across = np.meshgrid(np.linspace(-10, 10, rows), np.linspace(10, -10, columns), indexing="ij")
    flat = np.stack([across, down, 10 - 0.02 * (across**2 + down**2)], -1).reshape(-1, 3).astype(np.float32)
    names = dict(ball.expressions)
    names["jawOpen"] = np.zeros_like(flat)
    names["jawLeft"] = np.zeros_like(flat) + np.array([1, 0, 0], np.float32)
    names["mouthLeft"] = np.zeros_like(flat) + np.array([0, 2, 0], np.float32)
    skin = np.full_like(ball.materials, ball.material_names.index("M_Face"))
    return replace(ball, neutral=flat, expressions=names, materials=skin)


def photograph() -> np.ndarray:
    y, x = np.mgrid[:EDGE, :EDGE]
    waves = [np.sin(x / 9 + c) * np.cos(y / 11 - c) for c in range(3)]
    return (128 + 100 * np.stack(waves, -1)).astype(np.uint8)


def landmarks_of(model: FaceModel) -> np.ndarray:
    points = np.zeros((MESH_POINTS, 2), np.float32)
    points[list(SIXTY_EIGHT)] = model.neutral[list(LANDMARKS), :2] * (SCALE, -SCALE) + EDGE / 2
    return points


def test_at_rest_nothing_changes(sheet: FaceModel) -> None:
    picture = photograph()
    face = MovingFace(MovableMesh(sheet), picture, look(points=landmarks_of(sheet)))
    drawn, points = face.draw({})
    assert np.abs(drawn.astype(int) - picture).max() <= 2
    assert points == pytest.approx(landmarks_of(sheet)[list(SIXTY_EIGHT)], abs=0.5)


@pytest.mark.parametrize(
    ("weights", "right", "down"), [({"jawLeft": 1.0}, SCALE, 0.0), ({"mouthLeft": 0.5}, 0.0, -SCALE)]
)
def test_shapes_carry_the_picture_along(sheet: FaceModel, weights: dict[str, float], right: float, down: float) -> None:
    picture = photograph()
    face = MovingFace(MovableMesh(sheet), picture, look(points=landmarks_of(sheet)))
    drawn, points = face.draw(weights)
    shifted = np.roll(picture, (round(down), round(right)), (0, 1))
    inside = slice(50, 110)
    assert np.abs(drawn[inside, inside].astype(int) - shifted[inside, inside]).max() <= 3
    moved = points - landmarks_of(sheet)[list(SIXTY_EIGHT)]
    assert np.median(moved, 0) == pytest.approx([right, down], abs=0.1)


def test_an_expression_that_is_there_already_is_not_added_again(sheet: FaceModel) -> None:
    shown = look({"jawLeft": 1.0}, points=landmarks_of(sheet))
    drawn, _ = MovingFace(MovableMesh(sheet), photograph(), shown).draw({"jawLeft": 1.0})
    assert np.abs(drawn.astype(int) - photograph()).max() <= 2


@pytest.mark.parametrize("roll", [10.0, -25.0])
def test_turning_the_head_turns_the_picture(sheet: FaceModel, roll: float) -> None:
    _, points = MovingFace(MovableMesh(sheet), photograph(), look(points=landmarks_of(sheet))).draw({}, (0, 0, roll))
    before = landmarks_of(sheet)[list(SIXTY_EIGHT)]
    first, last = before.mean(0) - before[0], points.mean(0) - points[0]
    turned = np.degrees(np.arctan2(-last[1], last[0]) - np.arctan2(-first[1], first[0]))
    assert (turned + 180) % 360 - 180 == pytest.approx(roll, abs=1.0)


@pytest.mark.parametrize(("yaw", "roll"), [(0.0, 0.0), (12.0, -10.0)])
def test_a_rendered_face_moves_as_the_render_of_the_expression_does(yaw: float, roll: float) -> None:
    """An independent reference: the same face rendered with the expression."""
    model = load_face_model(face_model_file())
    painter = Painter(model, draw_person(2, 0))
    light = Lights(
        np.full(3, 0.6, np.float32), np.array([[0, 0.5, 0.86]], np.float32), np.full((1, 3), 0.5, np.float32)
    )
    wall, pose = np.full((200, 200, 3), 0.6, np.float32), Pose(yaw, 0, roll, 8)
    still = painter.draw({}, light, pose, wall)
    points = np.full((MESH_POINTS, 2), 100, np.float32)
    points[list(SIXTY_EIGHT)] = still.landmarks
    face = MovingFace(MovableMesh(model), still.picture, look(points=points, yaw=yaw, roll=roll))
    rest, at_rest = face.draw({})
    assert np.abs(rest.astype(int) - still.picture).mean() < 2.5
    for weights in (
        {"jawOpen": 0.8},
        {"browInnerUp_L": 1.0, "browInnerUp_R": 1.0, "browOuterUp_L": 1.0, "browOuterUp_R": 1.0},
        {"mouthSmile_L": 1.0, "mouthSmile_R": 1.0},
    ):
        wanted = painter.draw(weights, light, pose, wall)
        drawn, moved = face.draw(weights)
        assert moved - at_rest == pytest.approx(wanted.landmarks - still.landmarks, abs=2.0)
        # Nearer to the render of the expression than the photograph was.
        off = [np.abs(image.astype(int) - wanted.picture).mean() for image in (drawn, still.picture)]
        assert off[0] < 0.9 * off[1]


def test_an_opening_mouth_is_dark_inside_and_one_that_was_open_keeps_its_own() -> None:
    model = load_face_model(face_model_file())
    mesh = MovableMesh(model)
    size, scale = 200, 8.0
    points = np.full((MESH_POINTS, 2), 100, np.float32)
    points[list(SIXTY_EIGHT)] = model.neutral[list(LANDMARKS), :2] * (scale, -scale) + size / 2
    green = np.zeros((size, size, 3), np.uint8) + np.array([60, 200, 60], np.uint8)
    opened, moved = MovingFace(mesh, green, look(points=points)).draw({"jawOpen": 0.9})
    upper, lower = moved[62], moved[66]
    assert lower[1] - upper[1] > 10
    column, row = ((upper + lower) / 2).round().astype(int)
    assert opened[row, column, 1] < 100  # no skin, nor teeth
    assert opened[row, column, 0] > opened[row, column, 1]
    assert (opened[:60] == green[:60]).all()


def test_mouths_differ(tmp_path: Path) -> None:
    mouths = [draw_mouth(np.random.default_rng(n)) for n in range(60)]
    bright = [min(mouth.teeth) for mouth in mouths]
    assert 0.05 < np.mean([value < 90 for value in bright]) < 0.4
    assert all(mouth.flesh[0] > 1.5 * mouth.flesh[1] for mouth in mouths)
    assert draw_mouth(np.random.default_rng(3)) == mouths[3]
