from __future__ import annotations

import io
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from skimage.filters import gaussian

from emobeam.emo_transforms.faces.augmented_views import (
    LOW_RESOLUTION,
    Augmentation,
    Picture,
    apply,
    draw,
    move_points,
    view_of,
)


def portrait(size: int = 224) -> Picture:
    astronaut = Image.fromarray(data.astronaut()[0:256, 96:352])  # type: ignore[no-untyped-call]
    return np.asarray(astronaut.resize((size, size), Image.Resampling.BILINEAR))


def spot(size: int, x: float, y: float) -> Picture:
    """A white spot on black, its centre at (x, y)."""
    place = np.mgrid[0:size, 0:size] + 0.5
    distance = np.hypot(place[1] - x, place[0] - y)
    return np.repeat((255 * np.exp(-((distance / 4) ** 2)))[..., None], 3, axis=2).astype(np.uint8)


def centre(picture: Picture) -> tuple[float, float]:
    weight = picture.astype(float).sum(axis=2)
    y, x = np.mgrid[0 : len(picture), 0 : len(picture)] + 0.5
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


def test_the_plain_one_changes_nothing() -> None:
    picture = portrait()
    assert np.array_equal(apply(picture, Augmentation()), picture)
    assert view_of("clip", 3, 0) == Augmentation()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), height=st.integers(40, 200), width=st.integers(40, 200))
def test_a_crop_keeps_its_shape_and_is_not_changed_itself(seed: int, height: int, width: int) -> None:
    picture = np.ascontiguousarray(portrait()[:height, :width])
    before = picture.copy()
    augmentation = draw(np.random.default_rng(seed))
    result = apply(picture, augmentation)
    assert (result.shape, result.dtype) == (picture.shape, np.uint8)
    assert np.array_equal(picture, before)
    assert np.array_equal(apply(picture, augmentation), result)


@given(
    degrees=st.floats(-15, 15),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    scale=st.floats(0.9, 1.1),
    flip=st.booleans(),
    place=st.tuples(st.floats(80, 144), st.floats(80, 144)),
)
def test_a_point_goes_where_the_numbers_say(
    degrees: float, shift: tuple[float, float], scale: float, flip: bool, place: tuple[float, float]
) -> None:
    """Turning clockwise takes what is right of the centre downwards."""
    size = 224
    x, y = place[0] - size / 2, place[1] - size / 2
    x = -x if flip else x
    angle = math.radians(degrees)
    wanted = (
        size / 2 + scale * (x * math.cos(angle) - y * math.sin(angle)) + shift[0] * size,
        size / 2 + scale * (x * math.sin(angle) + y * math.cos(angle)) + shift[1] * size,
    )
    moved = apply(spot(size, *place), Augmentation(flip=flip, degrees=degrees, shift=shift, scale=scale))
    np.testing.assert_allclose(centre(moved), wanted, atol=0.15)


def test_a_flip_is_exact() -> None:
    picture = portrait()
    assert np.array_equal(apply(picture, Augmentation(flip=True)), picture[:, ::-1])


def test_what_comes_from_beyond_is_black() -> None:
    moved = apply(np.full((100, 100, 3), 200, np.uint8), Augmentation(shift=(0.1, 0.0)))
    assert not moved[:, :9].any()
    assert (moved[:, 11:] == 200).all()


def test_colours() -> None:
    picture = portrait()
    mean = picture.mean()
    assert apply(picture, Augmentation(brightness=1.2)).mean() > 1.1 * mean
    assert apply(picture, Augmentation(contrast=0.8)).std() < 0.85 * picture.std()
    grey = apply(picture, Augmentation(saturation=0.0))
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_low_resolution_is_that_of_official_crops() -> None:
    picture = portrait()
    small = Image.fromarray(picture).resize((LOW_RESOLUTION,) * 2, Image.Resampling.BILINEAR)
    wanted = np.asarray(small.resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(apply(picture, Augmentation(low_resolution=True)), wanted)
    official = portrait(112)
    assert np.array_equal(apply(official, Augmentation(low_resolution=True)), official)


def test_blur_and_compression() -> None:
    picture = portrait()
    blurred = apply(picture, Augmentation(blur=2 / 224)).astype(float)
    wanted = gaussian(picture.astype(float), 2, channel_axis=2)  # type: ignore[no-untyped-call]
    inner = slice(10, -10)
    assert np.abs(blurred - wanted)[inner, inner].mean() < 2
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=40)
    assert np.array_equal(apply(picture, Augmentation(jpeg=40)), np.asarray(Image.open(buffer).convert("RGB")))


def test_what_is_drawn_is_mild_and_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(4000)]
    assert all(abs(a.degrees) <= 15 and max(map(abs, a.shift)) <= 0.1 and 0.9 <= a.scale <= 1.1 for a in drawn)
    assert all(0.8 <= a.brightness <= 1.2 and 0.8 <= a.contrast <= 1.2 and 0.9 <= a.saturation <= 1.1 for a in drawn)
    shares = {
        "flip": np.mean([a.flip for a in drawn]),
        "low": np.mean([a.low_resolution for a in drawn]),
        "spoilt": np.mean([bool(a.blur or a.jpeg) for a in drawn]),
    }
    assert shares == pytest.approx({"flip": 0.5, "low": 0.5, "spoilt": 0.1}, abs=0.03)
    assert not any(a.blur and a.jpeg for a in drawn)
    assert all(30 <= a.jpeg <= 80 for a in drawn if a.jpeg)
    assert len({replace(a, flip=False) for a in drawn}) == len(drawn)


def test_views_are_drawn_from_what_they_are_of() -> None:
    one = view_of("a/clip", 0, 1)
    others = [view_of("a/clip", 0, 2), view_of("a/clip", 1, 1), view_of("b/clip", 0, 1)]
    assert len({one, *others}) == 4
    np.random.seed(5)
    assert view_of("a/clip", 0, 1) == one
    code = "from emobeam.emo_transforms.faces.augmented_views import view_of; print(view_of('a/clip', 0, 1))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(one)


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_points_move_with_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    change = replace(draw(rng), flip=False, low_resolution=False, blur=0.0, jpeg=0)
    where = rng.uniform(0.35, 0.65, 2)
    rows, columns = np.mgrid[:200, :200] + 0.5
    plain = replace(change, brightness=1.0, contrast=1.0, saturation=1.0)  # contrast lifts black
    moved = apply(spot(200, *(where * 200)), plain)[..., 0].astype(float)
    centre = np.array([(moved * columns).sum(), (moved * rows).sum()]) / moved.sum()
    assert np.allclose(move_points(where[None].astype(np.float32), change)[0] * 200, centre, atol=0.6)
