from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from emobeam.emo_transforms.faces.resampling import resample_square

BORDER = 200


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(frame: NDArray[np.uint8], left: float, top: float, edge: float, size: int) -> NDArray[np.uint8]:
    """With a black border, wide enough that nothing of the square lies beyond it."""
    padded = Image.fromarray(np.pad(frame, ((BORDER, BORDER), (BORDER, BORDER), (0, 0))))
    left, top = left + BORDER, top + BORDER
    return np.asarray(padded.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge)))


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    left=st.floats(-60, 100),
    top=st.floats(-60, 100),
    edge=st.one_of(st.floats(1, 8), st.floats(8, 120)),
    size=st.sampled_from([1, 7, 32, 112]),
    seed=st.integers(0, 99),
)
def test_crops_are_those_of_pillow_inside_the_frame_and_beyond(
    shape: tuple[int, int], left: float, top: float, edge: float, size: int, seed: int
) -> None:
    frame = noise(*shape, seed)
    crop = resample_square(frame, left, top, edge, size)
    assert (crop.shape, crop.dtype) == ((size, size, 3), np.dtype(np.uint8))
    assert np.abs(crop.astype(int) - pillow(frame, left, top, edge, size)).max() <= 1


def test_a_square_that_is_the_crop_already_stays_as_it_is() -> None:
    frame = noise(60, 70)
    np.testing.assert_array_equal(resample_square(frame, 11, 5, 40, 40), frame[5:45, 11:51])
    white = np.full((60, 70, 3), 255, np.uint8)
    assert (resample_square(white, 3.3, 4.4, 41.7, 13) == 255).all()


def test_a_view_of_a_frame_is_as_good_as_a_copy() -> None:
    frame = noise(50, 80)[::2, 5:61]
    np.testing.assert_array_equal(
        resample_square(frame, 2.5, 1.5, 20, 16), resample_square(frame.copy(), 2.5, 1.5, 20, 16)
    )
    frame.setflags(write=False)
    resample_square(frame, 2.5, 1.5, 20, 16)


def test_squares_far_away_are_black() -> None:
    for left, top in ((-1e6, 0.0), (1e6, 0.0), (0.0, -1e6), (0.0, 1e6), (-1e6, 1e6)):
        assert not resample_square(noise(20, 20), left, top, 30, 8).any()


@pytest.mark.parametrize("square", [(np.nan, 0, 5), (0, np.inf, 5), (0, 0, np.nan), (0, 0, 0), (20, 20, -10)])
def test_squares_that_are_none_are_refused(square: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="no square"):
        resample_square(noise(9, 9), *square, 8)
    with pytest.raises(ValueError, match="no square"):
        resample_square(noise(9, 9), 1, 1, 4, 0)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 4)])
def test_frames_of_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="reshape"):
        resample_square(np.zeros(shape, np.uint8), 1, 1, 4, 8)
