from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from emobeam.emo_transforms.faces.crops import (
    FIVE_POINTS_112,
    Picture,
    crop_face,
    crop_five_points,
    crop_square,
    fit_crop,
    no_faces,
    similarity,
    source_crop,
    square_box,
)
from emobeam.schemas.config import AlignConfig


def test_a_frame_without_faces_has_the_shapes_of_one_with_some() -> None:
    faces = no_faces()
    assert len(faces) == 0
    assert [part.shape for part in (faces.boxes, faces.scores, faces.landmarks)] == [(0, 4), (0,), (0, 5, 2)]
    assert {part.dtype for part in (faces.boxes, faces.scores, faces.landmarks)} == {np.dtype(np.float32)}


def triangle_weights(start: float, edge: float, size: int, length: int) -> NDArray[np.float64]:
    """Weights [size, length] of a triangle filter as wide as a crop pixel, at least as a source pixel.

    They sum to 1 over an endless picture, of which ``length`` pixels are not black.
    """
    step = edge / size
    support = max(step, 1.0)
    centres = start + (np.arange(size) + 0.5) * step
    far = int(edge + abs(start) + 2 * support + length)
    places = np.arange(-far, far) + 0.5
    weights = np.maximum(1 - np.abs(places[None] - centres[:, None]) / support, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    inside: NDArray[np.float64] = weights[:, (places > 0) & (places < length)]
    return inside


def naive_square(frame: Picture, box: NDArray[np.float32], margin: float, size: int) -> NDArray[np.float64]:
    left, top, right, bottom = box.astype(np.float64)
    edge = max(right - left, bottom - top) * (1 + margin)
    rows = triangle_weights((top + bottom - edge) / 2, edge, size, frame.shape[0])
    columns = triangle_weights((left + right - edge) / 2, edge, size, frame.shape[1])
    return np.asarray(np.einsum("yr,rcn,xc->yxn", rows, frame.astype(np.float64), columns), np.float64)


def noise(width: int, height: int, seed: int = 0) -> Picture:
    """Noise on a bright ground, so that nothing is black by chance."""
    return np.random.default_rng(seed).integers(80, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=25)
@given(
    left=st.floats(-60, 130),
    top=st.floats(-60, 100),
    width=st.floats(2, 120),
    height=st.floats(2, 120),
    margin=st.sampled_from([0.0, 0.2, 0.6]),
    size=st.sampled_from([8, 32]),
)
def test_square_crops_are_those_of_a_naive_filter(
    left: float, top: float, width: float, height: float, margin: float, size: int
) -> None:
    frame = noise(120, 90)
    box = np.array([left, top, left + width, top + height], np.float32)
    crop = crop_square(frame, box, margin, size)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    np.testing.assert_allclose(crop, naive_square(frame, box, margin, size), rtol=0, atol=1.6)


@pytest.mark.parametrize(
    "box", [(100.3, 80.7, 200.2, 190.1), (150.0, 120.0, 620.5, 560.5), (300.0, 250.0, 301.0, 251.0)]
)
def test_crops_inside_the_frame_are_those_of_pillow(box: tuple[float, ...]) -> None:
    frame = noise(800, 700)
    left, top, edge = square_box(np.array(box, np.float32), 0.2)
    wanted = Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))
    crop = crop_square(frame, np.array(box, np.float32), 0.2, 64)
    assert np.abs(crop.astype(int) - np.asarray(wanted)).max() <= 1


def test_what_lies_beyond_the_frame_is_black() -> None:
    frame = noise(100, 80)
    crop = crop_square(frame, np.array([-50, -50, 50, 50], np.float32), 0.0, 100)
    assert (crop[:49] == 0).all()
    assert (crop[:, :49] == 0).all()
    np.testing.assert_array_equal(crop[51:, 51:], frame[1:50, 1:50])
    beyond = [(-500, -500, -400, -400), (110, 10, 149, 50), (0, 90, 100, 179), (10000, 3, 10050, 50)]
    for box in beyond:
        assert (crop_square(frame, np.array(box, np.float32), 0.0, 16) == 0).all()
        assert (source_crop(frame, np.array(box, np.float32), 0.0) == 0).all()


@given(
    st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 2),
    st.tuples(*[st.floats(1, 500, width=32)] * 2),
    st.floats(0, 2),
)
def test_the_square_about_a_box(corner: tuple[float, float], size: tuple[float, float], margin: float) -> None:
    box = np.array([*corner, corner[0] + size[0], corner[1] + size[1]], np.float32)
    left, top, edge = square_box(box, margin)
    width, height = float(box[2]) - float(box[0]), float(box[3]) - float(box[1])
    assert edge == pytest.approx(max(width, height, 1.0) * (1 + margin))
    assert left + edge / 2 == pytest.approx((float(box[0]) + float(box[2])) / 2, abs=1e-6)
    assert top + edge / 2 == pytest.approx((float(box[1]) + float(box[3])) / 2, abs=1e-6)


points = st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=5, max_size=5).map(np.array)


@given(source=points, target=points)
def test_similarity_is_that_of_scikit_image(source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    covariance = (target - target.mean(0)).T @ (source - source.mean(0))
    singular = np.linalg.svd(covariance, compute_uv=False)
    if singular[1] < 1 or abs(singular[0] - singular[1]) < 1:
        return  # the rotation isn't determined
    wanted = SimilarityTransform.from_estimate(source, target)
    scale, rotation, shift = similarity(source, target)
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = scale * rotation, shift
    np.testing.assert_allclose(matrix, wanted.params, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(shift).max())))
    assert np.linalg.det(rotation) == pytest.approx(1.0)


@given(
    source=points.filter(lambda p: np.linalg.svd(p - p.mean(0), compute_uv=False)[1] > 1),
    angle=st.floats(-3.1, 3.1),
    scale=st.floats(0.1, 10),
    shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_an_exact_similarity_is_found(
    source: NDArray[np.float64], angle: float, scale: float, shift: tuple[float, float]
) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity(source, scale * source @ turn.T + shift)
    assert found[0] == pytest.approx(scale)
    np.testing.assert_allclose(found[1], turn, atol=1e-6)
    np.testing.assert_allclose(found[2], shift, atol=1e-3)


def landmarks_at(scale: float, degrees: float, centre: tuple[float, float]) -> NDArray[np.float32]:
    """The template, scaled and turned about a place in the frame."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(scale * (FIVE_POINTS_112 - 56) @ turn.T + centre, np.float32)


def dots(marks: NDArray[np.float32], radius: float, width: int = 900, height: int = 800) -> Picture:
    """A bright round spot at each landmark; the centre of pixel (0, 0) is at (0.5, 0.5)."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spots = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * radius**2)) for a, b in marks]
    return np.repeat((255 * np.clip(np.sum(spots, axis=0), 0, 1)).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.9, 4.3])
@pytest.mark.parametrize("degrees", [0.0, 35.0, -120.0])
def test_landmarks_come_to_lie_on_the_template(size: int, scale: float, degrees: float) -> None:
    marks = landmarks_at(scale, degrees, (430.3, 390.8))
    crop = crop_five_points(dots(marks, radius=max(2 * scale, 1.2)), marks, size)
    assert crop.shape == (size, size, 3)
    y, x = np.mgrid[:size, :size] + 0.5
    for wanted in FIVE_POINTS_112 * size / 112:
        weights = np.where(np.hypot(x - wanted[0], y - wanted[1]) < 7 * size / 112, crop[..., 0].astype(float), 0)
        assert weights.max() > 100
        centre = np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()
        assert np.hypot(*(centre - wanted)) < 1


@pytest.mark.parametrize("scale", [0.7, 1.6, 3.2])
def test_five_point_crops_are_those_of_scikit_image(scale: float) -> None:
    x, y = np.meshgrid(np.arange(700), np.arange(600))
    smooth = 127 + 60 * np.sin(x / 40) + 60 * np.cos(y / 31 + x / 90)
    frame = np.stack([smooth, smooth[::-1], 255 - smooth], axis=-1).astype(np.uint8)
    rng = np.random.default_rng(0)
    marks = landmarks_at(scale, 17.0, (340, 300)) + rng.normal(scale=3 * scale, size=(5, 2)).astype(np.float32)
    # There the centres of pixels are at integers.
    fitted = SimilarityTransform.from_estimate(FIVE_POINTS_112 * 2 - 0.5, marks.astype(np.float64) - 0.5)
    wanted = warp(frame, fitted, output_shape=(224, 224), order=1, preserve_range=True)  # type: ignore[no-untyped-call]
    assert np.abs(crop_five_points(frame, marks, 224) - wanted).max() < 4


@pytest.mark.parametrize(("scale", "left_over"), [(2.0, 0.02), (3.4, 0.15), (6.0, 0.02), (7.5, 0.1)])
def test_large_faces_are_antialiased(scale: float, left_over: float) -> None:
    """Single pixels, black and white in turn, become grey."""
    fine = (np.indices((900, 1000)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    marks = landmarks_at(scale, 0.0, (500, 450))
    crop = crop_five_points(fine, marks, 112)
    assert crop.mean() == pytest.approx(127.5, abs=3)
    assert crop.std() < left_over * fine.std()
    box = np.array([500 - 56 * scale, 450 - 50 * scale, 500 + 56 * scale, 450 + 50 * scale], np.float32)
    square = crop_square(fine, box, 0.0, 112)
    assert square.std() < left_over * fine.std() + 1


def test_five_point_crops_are_black_beyond_the_frame() -> None:
    frame = noise(200, 200)
    crop = crop_five_points(frame, landmarks_at(1.0, 0.0, (0, 0)), 112)
    assert (crop[:55] == 0).all()
    assert (crop[:, :55] == 0).all()
    assert (crop[58:, 58:] > 70).all()
    far = crop_five_points(frame, landmarks_at(2.5, 45.0, (-2000, 5000)), 112)
    assert (far == 0).all()


def test_the_style_decides_the_crop() -> None:
    frame = noise(300, 300)
    box = np.array([100, 90, 180, 200], np.float32)
    marks = landmarks_at(0.8, 10.0, (150, 150))
    square = crop_face(frame, box, marks, AlignConfig(style="square", margin=0.3), 64)
    five = crop_face(frame, box, marks, AlignConfig(style="5pt"), 64)
    np.testing.assert_array_equal(square, crop_square(frame, box, 0.3, 64))
    np.testing.assert_array_equal(five, crop_five_points(frame, marks, 64))
    with pytest.raises(ValueError, match="given"):
        crop_face(frame, box, marks, AlignConfig(style="given"), 64)


def test_crops_to_be_stored_keep_the_pixels_of_the_frame() -> None:
    frame = noise(100, 80)
    crop = source_crop(frame, np.array([20, 30, 40, 50], np.float32), 0.0)
    np.testing.assert_array_equal(crop, frame[30:50, 20:40])
    wider = source_crop(frame, np.array([20, 30, 40, 50], np.float32), 0.2)
    np.testing.assert_array_equal(wider, frame[28:52, 18:42])
    corner = source_crop(frame, np.array([-5, -5, 15, 5], np.float32), 0.0)
    assert corner.shape == (20, 20, 3)
    assert (corner[:10] == 0).all()
    np.testing.assert_array_equal(corner[10:, 5:], frame[:10, :15])


def test_given_crops_are_resized_as_pillow_does() -> None:
    crop = noise(112, 112)
    assert fit_crop(crop, 112) is crop
    wanted = Image.fromarray(crop).resize((224, 224), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fit_crop(crop, 224), np.asarray(wanted))
    assert fit_crop(noise(90, 120), 224).shape == (224, 224, 3)
