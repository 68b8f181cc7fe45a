from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emobeam.emo_transforms.faces.crops import square_box
from emobeam.emo_transforms.training.material.rendering.capture import capture
from emobeam.emo_transforms.training.material.rendering.expression import draw_expression, draw_motion
from emobeam.emo_transforms.training.material.rendering.face_model import FaceModel, load_face_model
from emobeam.emo_transforms.training.material.rendering.people import RenderConfig, face_box, render_person
from emobeam.emo_transforms.training.material.rendering.picture import Painter
from emobeam.emo_transforms.training.material.rendering.scene import (
    draw_background,
    draw_lights,
    draw_person,
    draw_pose,
)
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES, sided, unit_activations
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.training.material.rendering.faces import write_ball

REAL = Path(__file__).resolve().parents[5] / ".." / "shared" / "training" / "ict_light.npz"


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return load_face_model(str(write_ball(tmp_path_factory.mktemp("model") / "ball.npz")))


@pytest.fixture(scope="module")
def real() -> FaceModel:
    if not REAL.exists():
        pytest.skip("ICT-FaceKit's model is not there")
    return load_face_model(str(REAL))


def test_every_unit_has_a_row_and_every_row_its_truth(ball: FaceModel) -> None:
    assert [row.unit for row in UNIT_SHAPES] == [f"AU{n}" for n in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)]
    for row in UNIT_SHAPES:
        weights = {name: 0.8 for shape in row.shapes for name in sided(shape)}
        assert set(weights) <= set(ball.expressions)
        found = unit_activations(weights, 0.0)
        assert "AU23" not in found
        if row.shapes:
            assert found[row.unit] == 0.8
            assert sum(found.values()) == 0.8


def test_a_unit_on_one_side_counts() -> None:
    assert unit_activations({"mouthSmile_R": 0.6}, 0)["AU12"] == 0.6


@given(st.integers(0, 2**32 - 1))
def test_expressions_are_what_a_face_can_do(seed: int) -> None:
    weights = draw_expression(np.random.default_rng(seed))
    assert all(0 < weight <= 1 for weight in weights.values())
    if weights.get("jawOpen", 0) >= 0.15:
        assert not {"mouthPress_L", "mouthPress_R", "mouthRollLower"} & set(weights)


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.sampled_from([6.0, 25.0]))
def test_motions_have_their_length_and_move_smoothly(seed: int, frames: int, fps: float) -> None:
    motion = draw_motion(np.random.default_rng(seed), frames, fps)
    assert len(motion.weights) == frames == len(motion.turns)
    brows = [weights.get("browInnerUp", weights.get("browInnerUp_L", 0.0)) for weights in motion.weights]
    assert np.abs(np.diff(brows)).max(initial=0) <= 2.0 / (0.2 * fps)


def test_the_same_person_is_rendered_the_same(ball: FaceModel) -> None:
    config = RenderConfig(size=48, pictures=3)
    first, again = ([crop.jpeg for crop in render_person(ball, 7, config)] for _ in range(2))
    assert first == again
    assert first != [crop.jpeg for crop in render_person(ball, 8, config)]
    assert all(Image.open(io.BytesIO(jpeg)).size == (48, 48) for jpeg in first)


def test_clips_number_their_frames(ball: FaceModel) -> None:
    config = RenderConfig(size=32, pictures=0, clips=2, seconds=1, fps=4)
    crops = list(render_person(ball, 0, config))
    assert [(crop.clip, crop.frame) for crop in crops] == [(c, f) for c in range(2) for f in range(1, 5)]


@given(st.integers(0, 2**32 - 1), st.integers(20, 90), st.integers(20, 90))
def test_faults_keep_shape_and_type(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    faulty = capture(picture, rng)
    assert faulty.shape == picture.shape
    assert faulty.dtype == np.uint8


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", neutral=np.zeros(3))
    with pytest.raises(EmobeamError, match=r"other\.npz: no ICT-FaceKit model"):
        load_face_model(str(tmp_path / "other.npz"))
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(EmobeamError, match=r"text\.npz"):
        load_face_model(str(tmp_path / "text.npz"))


def drawn(model: FaceModel, weights: dict[str, float], number: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    painter = Painter(model, draw_person(number, 0))
    lights, pose = draw_lights(rng), draw_pose(rng)
    rendered = painter.draw(weights, lights, pose, draw_background(rng, 160, 160), 1.2)
    return rendered.picture.astype(float), rendered.landmarks


def test_shapes_change_the_part_of_the_face_they_belong_to(real: FaceModel) -> None:
    still, landmarks = drawn(real, {})
    for weights, points in (
        ({"browInnerUp": 1.0, "browInnerUp_L": 1.0, "browInnerUp_R": 1.0}, slice(17, 27)),
        ({"mouthSmile_L": 1.0, "mouthSmile_R": 1.0}, slice(48, 60)),
    ):
        moved, _ = drawn(real, {name: w for name, w in weights.items() if name in real.expressions})
        rows, columns = np.nonzero(np.abs(moved - still).sum(2) > 60)
        middle = landmarks[points].mean(0)
        assert len(rows) > 40
        assert np.hypot(np.median(columns) - middle[0], np.median(rows) - middle[1]) < 22


def test_lips_part_when_the_jaw_drops(real: FaceModel) -> None:
    identity = draw_person(3, 0).identity
    assert real.parting(identity, {}) == 0
    assert real.parting(identity, {"mouthSmile_L": 0.3, "mouthSmile_R": 0.3}) < 0.1
    assert real.parting(identity, {"jawOpen": 0.5}) > 0.25
    assert real.parting(identity, {"jawOpen": 0.5}) < real.parting(identity, {"jawOpen": 1.0})


def test_mtcnn_finds_the_faces_where_they_are(real: FaceModel) -> None:
    mtcnn = pytest.importorskip("facenet_pytorch").MTCNN(keep_all=True, min_face_size=30)
    rng = np.random.default_rng(4)
    overlaps = []
    for number in range(6):
        painter = Painter(real, draw_person(number, 5))
        rendered = painter.draw({}, draw_lights(rng), draw_pose(rng), draw_background(rng, 200, 200), 1.3)
        boxes, scores = mtcnn.detect(rendered.picture)
        if boxes is not None:
            overlaps.append(iou(boxes[int(scores.argmax())], face_box(rendered.landmarks)))
    assert len(overlaps) >= 5
    assert np.median(overlaps) > 0.75
    assert square_box(face_box(rendered.landmarks), 0.2)[2] < 200


def iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))
