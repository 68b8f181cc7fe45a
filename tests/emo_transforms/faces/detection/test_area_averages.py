from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.faces.detection.area_averages import average_crops, average_tiles, level_grid, sums_of

TOLERANCE = 1e-4
"""Of 255: what the last bits of float32 leave."""


def wanted(frame: Picture, size: tuple[int, int]) -> NDArray[np.float64]:
    values = torch.from_numpy(frame).double().permute(2, 0, 1)[None]
    found: NDArray[np.float64] = interpolate(values, size, mode="area")[0].permute(1, 2, 0).numpy()
    return found


def noise(size: tuple[int, int], seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def white(size: tuple[int, int]) -> Picture:
    return np.full((*size, 3), 255, np.uint8)


def level_of(frame: Picture, level: tuple[int, int], edge: int = 40) -> NDArray[np.float32]:
    """A whole level, put together from all its tiles: as many px as whole tiles have."""
    rows, columns = (-(-length // edge) for length in level)
    grid = level_grid((frame.shape[0], frame.shape[1]), level, (rows * edge, columns * edge))
    tiles = average_tiles(sums_of(frame), grid, np.ones((rows, columns), bool), edge, edge)
    assert tiles.dtype == np.float32
    whole: NDArray[np.float32] = tiles.reshape(rows, columns, edge, edge, 3).transpose(0, 2, 1, 3, 4)
    return whole.reshape(rows * edge, columns * edge, 3)


edges = st.one_of(st.integers(1, 12), st.integers(13, 150))
pictures = st.builds(
    lambda size, seed: white(size) if seed == 0 else noise(size, seed), st.tuples(edges, edges), st.integers(0, 9)
)


@given(frame=pictures, level=st.tuples(edges, edges), edge=st.integers(1, 42))
def test_levels_are_those_of_adaptive_pooling_and_repeat_beyond_their_edge(
    frame: Picture, level: tuple[int, int], edge: int
) -> None:
    rows, columns = level
    found = level_of(frame, level, edge)
    inner = found[:rows, :columns]
    np.testing.assert_allclose(inner, wanted(frame, level), rtol=0, atol=TOLERANCE)
    padding = ((0, len(found) - rows), (0, found.shape[1] - columns), (0, 0))
    np.testing.assert_array_equal(found, np.pad(inner, padding, mode="edge"))


@pytest.mark.parametrize(
    ("frame", "level"),
    [
        ((720, 1280), (13, 22)),  # windows of thousands of pixels
        ((720, 1280), (433, 769)),  # of a few
        ((255, 16), (1, 16)),
        ((1, 258), (1, 1)),
        ((19, 27), (2, 2)),
        ((16, 4111), (3, 257)),
        ((3, 32765), (3, 40)),
        ((32765, 3), (40, 3)),
        ((270, 32000), (13, 900)),  # 255 times its pixels is more than 2**31
    ],
    ids=lambda size: "x".join(map(str, size)),
)
@pytest.mark.parametrize("kind", [white, noise])
def test_windows_of_any_area_are_exact(kind: type, frame: tuple[int, int], level: tuple[int, int]) -> None:
    picture: Picture = kind(frame)
    found = level_of(picture, level)[: level[0], : level[1]]
    np.testing.assert_allclose(found, wanted(picture, level), rtol=0, atol=TOLERANCE)


@given(
    frame=st.builds(lambda size, seed: noise(size, seed), st.tuples(edges, edges), st.integers(1, 9)),
    level=st.tuples(edges, edges),
    count=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    step=st.integers(1, 20),
    over=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_tiles_are_cut_from_a_level_to_the_bit(
    frame: Picture, level: tuple[int, int], count: tuple[int, int], step: int, over: int, seed: int
) -> None:
    """Overlapping ones too, whichever of them are marked."""
    sums, edge = sums_of(frame), step + over
    grid = level_grid((frame.shape[0], frame.shape[1]), level, (count[0] * step + over, count[1] * step + over))
    whole = np.pad(level_of(frame, level, 1), ((0, 150), (0, 150), (0, 0)), mode="edge")
    marked = np.random.default_rng(seed).random(count) < 0.5
    room = np.full((np.count_nonzero(marked) + 1, edge, edge, 3), -1, np.float32)
    average_tiles(sums, grid, marked, step, edge, room[:-1])
    for tile, (row, column) in zip(room[:-1], np.argwhere(marked), strict=True):
        np.testing.assert_array_equal(tile, whole[row * step :, column * step :][:edge, :edge])
    assert (room[-1] == -1).all()


def bitwise(frame: Picture, size: tuple[int, int]) -> NDArray[np.float32]:
    """Window by window: the whole number that is its sum, times one over its width, times one over its height."""
    found = np.empty((*size, 3), np.float32)
    ends = [
        [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
        for length, count in zip(frame.shape[:2], size, strict=True)
    ]
    for y, (top, bottom) in enumerate(ends[0]):
        for x, (left, right) in enumerate(ends[1]):
            total = frame[top:bottom, left:right].sum(axis=(0, 1), dtype=np.int64).astype(np.float32)
            found[y, x] = total * np.float32(1 / (right - left)) * np.float32(1 / (bottom - top))
    return found


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    level=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_low_windows_and_high_ones_give_the_bits_of_a_plain_sum(
    size: tuple[int, int], level: tuple[int, int], seed: int
) -> None:
    """From the pixels and from the table; levels and crops."""
    frame = noise(size, seed)
    np.testing.assert_array_equal(level_of(frame, level, 7)[: level[0], : level[1]], bitwise(frame, level))
    box = np.array([[0, 0, size[1], size[0]]])
    for source in (frame, sums_of(frame)):
        np.testing.assert_array_equal(average_crops(source, box, level[0])[0], bitwise(frame, (level[0], level[0])))


def test_tiles_that_do_not_fit_are_refused() -> None:
    sums, grid = sums_of(noise((20, 30))), level_grid((20, 30), (10, 15), (12, 16))
    assert average_tiles(sums, grid, np.ones((3, 4), bool), 4, 4).shape == (12, 4, 4, 3)
    with pytest.raises(ValueError, match="reach beyond"):
        average_tiles(sums, grid, np.ones((3, 4), bool), 4, 5)
    with pytest.raises(ValueError, match="grid for"):
        average_tiles(sums_of(noise((21, 30))), grid, np.ones((3, 4), bool), 4, 4)
    with pytest.raises(ValueError, match="grid for"):
        average_tiles(sums, grid, np.ones((3, 4), bool), 4, 4, np.empty((11, 4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="grid for"):
        average_tiles(sums, grid, np.ones((3, 4), bool), 4, 4, np.empty((12, 4, 3, 4), np.float32).swapaxes(2, 3))


def test_frames_without_pixels_have_a_size() -> None:
    for size in ((0, 5), (5, 0)):
        crops = average_crops(np.zeros((*size, 3), np.uint8), np.empty((0, 4), np.int64), 24)
        assert crops.shape == (0, 24, 24, 3)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 4)])
def test_frames_of_other_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, IndexError)):
        average_crops(np.zeros(shape, np.uint8), np.array([[0, 0, 5, 4]]), 24)
    with pytest.raises((ValueError, IndexError)):
        sums_of(np.zeros(shape, np.uint8))


@st.composite
def pictures_with_boxes(draw: st.DrawFn) -> tuple[Picture, NDArray[np.int64]]:
    frame = draw(pictures)
    height, width = frame.shape[:2]
    boxes = [(0, 0, width, height)] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 6))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))))
    return frame, np.array(boxes, np.int64).reshape(-1, 4)


@given(case=pictures_with_boxes(), size=st.sampled_from([1, 5, 24, 48]))
def test_crops_are_those_of_adaptive_pooling_whatever_their_neighbours(
    case: tuple[Picture, NDArray[np.int64]], size: int
) -> None:
    frame, boxes = case
    sums = sums_of(frame)
    found = average_crops(sums, boxes, size)
    assert found.dtype == np.float32
    assert found.shape == (len(boxes), size, size, 3)
    for crop, box in zip(found, boxes, strict=True):
        left, top, right, bottom = box
        reference = wanted(np.ascontiguousarray(frame[top:bottom, left:right]), (size, size))
        np.testing.assert_allclose(crop, reference, rtol=0, atol=TOLERANCE)
        for source in (sums, frame):  # the table, and the pixels themselves
            np.testing.assert_array_equal(crop, average_crops(source, box[None], size)[0])


def test_large_crops_and_many_crops_are_exact() -> None:
    """Windows of all sizes in one call."""
    frame = noise((500, 900))
    frame[:, :450] = 255
    sums = sums_of(frame)
    rng = np.random.default_rng(1)
    corners = rng.integers(0, (400, 300), (1500, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 90, (1500, 2))], axis=1)
    boxes[7] = 0, 0, 900, 500
    boxes[1400] = 1, 2, 899, 499
    found = average_crops(sums, boxes, 24)
    for index in (0, 7, 8, 1000, 1400, 1499):
        left, top, right, bottom = boxes[index]
        reference = wanted(np.ascontiguousarray(frame[top:bottom, left:right]), (24, 24))
        np.testing.assert_allclose(found[index], reference, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("size", [(2, 32765), (32765, 2)])
def test_crops_at_the_far_end_of_the_largest_pictures(size: tuple[int, int]) -> None:
    frame = noise(size)
    height, width = size
    boxes = np.array([[0, 0, width, height], [width - 1, height - 1, width, height]])
    found = average_crops(sums_of(frame), boxes, 24)
    np.testing.assert_allclose(found[0], wanted(frame, (24, 24)), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found[1], np.broadcast_to(frame[-1, -1], (24, 24, 3)), rtol=0, atol=TOLERANCE)


def test_no_crops() -> None:
    found = average_crops(sums_of(noise((4, 4))), np.empty((0, 4), np.int64), 24)
    assert (found.shape, found.dtype) == ((0, 24, 24, 3), np.dtype(np.float32))


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 8, 5), (0, 0, 5, 7), (3, 2, 3, 5), (3, 5, 5, 5)])
def test_boxes_beyond_the_frame_are_refused(box: tuple[int, ...]) -> None:
    frame, boxes = noise((6, 7)), np.array([[0, 0, 7, 6], box])
    for source in (frame, sums_of(frame)):
        with pytest.raises(ValueError, match="beyond a frame of 7x6 px"):
            average_crops(source, boxes, 24)
