from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.tracking import SegmentTracker, affinity, best_pairs, box_centres, box_sizes

Path = Callable[[float], tuple[float, float, float] | None]  # time -> centre x, y, size; None while unseen


def square(x: float, y: float, size: float) -> list[float]:
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


def follow(paths: list[Path], seconds: float, fps: float = 6.0, jitter: float = 0.0) -> list[list[int]]:
    """The track numbers each person got, listing persons in a new order in each frame."""
    random = np.random.default_rng(5)
    tracker = SegmentTracker()
    got: list[list[int]] = [[] for _ in paths]
    for time in np.arange(0, seconds, 1 / fps):
        seen = [(person, place) for person, path in enumerate(paths) if (place := path(time)) is not None]
        random.shuffle(seen)
        boxes = np.array([square(*place) for _, place in seen], np.float32).reshape(-1, 4)
        boxes += random.normal(0, 1, boxes.shape) * jitter
        numbers = tracker.update(time, boxes.astype(np.float32), random.random(len(seen)).astype(np.float32))
        for (person, _), number in zip(seen, numbers, strict=True):
            got[person].append(number)
    return got


def still(x: float, y: float = 200, size: float = 100) -> Path:
    return lambda time: (x, y, size)


@pytest.mark.parametrize("fps", [6.0, 30.0])
def test_jittering_neighbours_keep_their_numbers(fps: float) -> None:
    got = follow([still(200), still(320), still(440), still(260, 330, 90)], 5, fps, jitter=5)
    assert [set(numbers) for numbers in got] == [{got[person][0]} for person in range(4)]
    assert len({numbers[0] for numbers in got}) == 4


@pytest.mark.parametrize("fps", [6.0, 25.0])
@pytest.mark.parametrize("apart", [0.0, 40.0])
def test_crossing_paths(fps: float, apart: float) -> None:
    def right(time: float) -> tuple[float, float, float]:
        return 100 + 120 * time, 200, 100

    def left(time: float) -> tuple[float, float, float]:
        return 615 - 120 * time, 200 + apart, 100

    got = follow([right, left], 4.2, fps, jitter=1)
    assert [len(set(numbers)) for numbers in got] == [1, 1]
    assert got[0][0] != got[1][0]


def test_crossing_with_one_hidden() -> None:
    def walker(time: float) -> tuple[float, float, float] | None:
        x = 100 + 150 * time
        return None if abs(x - 400) < 70 else (x, 200, 100)

    got = follow([walker, still(400)], 4)
    assert [len(set(numbers)) for numbers in got] == [1, 1]
    assert got[0][0] != got[1][0]


@pytest.mark.parametrize(("unseen", "tracks"), [(0.5, 1), (0.8, 1), (1.3, 2), (3.0, 2)])
def test_a_track_lives_through_short_misses(unseen: float, tracks: int) -> None:
    def path(time: float) -> tuple[float, float, float] | None:
        return None if 2 < time < 2 + unseen else (300, 200, 100)

    [numbers] = follow([path], 8)
    assert len(set(numbers)) == tracks


def test_entering_and_leaving() -> None:
    got = follow(
        [
            still(200),
            lambda time: (600, 200, 100) if time < 2 else None,
            lambda time: (900, 200, 80) if time > 1 else None,
        ],
        4,
    )
    assert [len(set(numbers)) for numbers in got] == [1, 1, 1]
    assert len({numbers[0] for numbers in got}) == 3


def test_fast_and_growing_face_is_followed() -> None:
    got = follow([lambda time: (100 + 450 * time, 200, 100 * 1.5**time)], 3)
    assert len(set(got[0])) == 1


def test_another_face_at_the_same_place_but_much_larger_is_new() -> None:
    got = follow([lambda time: (300, 200, 40 if time < 1 else 200)], 2)
    assert len(set(got[0])) == 2


def test_numbers_start_with_the_largest_face() -> None:
    boxes = np.array([square(100, 100, 20), square(300, 100, 60), square(600, 100, 40)], np.float32)
    assert SegmentTracker().update(0.0, boxes, np.ones(3, np.float32)) == [2, 0, 1]


def test_empty_frames_and_time() -> None:
    tracker = SegmentTracker()
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    one = np.array([square(9, 9, 9)], np.float32), np.ones(1, np.float32)
    assert [tracker.update(0.0, *none), tracker.update(0.2, *one), tracker.update(0.4, *none)] == [[], [0], []]
    assert tracker.update(0.6, *one) == [0]
    assert tracker.update(0.6, *one) == [0]  # time stands still in some files
    with pytest.raises(ValueError, match="order of time"):
        tracker.update(0.5, *none)


def test_affinity_by_hand() -> None:
    before = np.array([square(100, 100, 100)], np.float32)
    after = np.array([square(100, 100, 100), square(150, 100, 100), square(100, 100, 50), square(190, 100, 100)])
    values = affinity(before, after.astype(np.float32), np.array([[1 / 6]]))
    assert values[0, :2] == pytest.approx([1.0, 1 / 3 - 0.5])
    assert not np.isfinite(values[0, 2:]).any()
    assert affinity(before, after[3:].astype(np.float32), np.array([[0.5]]))[0] == pytest.approx([10 / 190 - 0.9])
    moved = affinity(before, after[3:].astype(np.float32), np.array([[0.1]]), np.array([[90.0, 0.0]]))
    assert moved[0] == pytest.approx([1.0])
    assert box_sizes(np.array([[0, 0, 4, 9]], np.float32)) == pytest.approx([6])
    assert box_centres(np.array([[0, 0, 4, 9]], np.float32)) == pytest.approx(np.array([[2, 4.5]]))


def test_best_pairs_first() -> None:
    values = np.array([[0.5, 0.9, -np.inf], [0.8, 0.95, 0.1], [-np.inf, -np.inf, -np.inf]])
    assert best_pairs(values) == [(1, 1), (0, 0)]
    assert best_pairs(np.zeros((2, 2))) == [(0, 0), (1, 1)]
    assert best_pairs(np.zeros((0, 3))) == []


_edges = st.integers(0, 400)
_frame = st.lists(st.tuples(_edges, _edges, st.integers(10, 120), st.integers(0, 10)), max_size=5, unique=True)


@given(st.lists(_frame, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_order_of_detections_plays_no_part(frames: list[list[tuple[int, int, int, int]]], seed: int) -> None:
    random = np.random.default_rng(seed)
    plain, shuffled = SegmentTracker(), SegmentTracker()
    for number, faces in enumerate(frames):
        boxes = np.array([square(x, y, size) for x, y, size, _ in faces], np.float32).reshape(-1, 4)
        scores = np.array([score / 10 for *_, score in faces], np.float32)
        order: NDArray[np.intp] = random.permutation(len(faces))
        numbers = plain.update(number / 6, boxes, scores)
        again = shuffled.update(number / 6, boxes[order], scores[order])
        assert len(set(numbers)) == len(numbers)
        assert again == [numbers[place] for place in order]
