from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.detection.gate import UNSEEN
from emobeam.emo_transforms.faces.detection.pyramid import Level, levels_of, mapped, proposals, tiles_about

sizes = st.tuples(st.integers(30, 250), st.integers(30, 250))
REACH = 2


def some_answers(level: Level, marked: NDArray[np.bool_], seed: int) -> NDArray[np.float32]:
    count = np.count_nonzero(marked)
    return np.random.default_rng(seed).normal(-2, 2, (count, 16, 16, 5)).astype(np.float32)


def some_tiles(level: Level, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(level.tiles) < 0.6


def test_levels_shrink_to_the_last_in_which_a_face_fits() -> None:
    levels = levels_of((360, 640), 20.0, 0.709)
    assert [level.scale for level in levels] == pytest.approx([0.6 * 0.709**n for n in range(9)])
    assert min(360, 640) * levels[-1].scale >= 12 > min(360, 640) * levels[-1].scale * 0.709
    for level in levels:
        assert all(16 * (n - 1) < own <= 16 * n for own, n in zip(level.places, level.tiles, strict=True))
    assert levels_of((19, 400), 20.0, 0.709) == ()
    assert levels_of((400, 40000), 20.0, 0.709) == ()


@settings(deadline=None, max_examples=20)
@given(size=sizes, which=st.integers(0, 3), seed=st.integers(0, 99))
def test_a_map_holds_the_answers_of_its_tiles_and_nothing_else(size: tuple[int, int], which: int, seed: int) -> None:
    levels = levels_of(size, 20.0, 0.709)
    level = levels[min(which, len(levels) - 1)]
    marked = some_tiles(level, seed)
    answers = some_answers(level, marked, seed)
    found = mapped(answers, marked, level)
    wanted = np.broadcast_to(UNSEEN, (level.tiles[0] * 16, level.tiles[1] * 16, 5)).copy()
    for own, (row, column) in zip(answers, np.argwhere(marked), strict=True):
        wanted[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = own
    np.testing.assert_array_equal(found, wanted[: level.places[0], : level.places[1]])


@settings(deadline=None, max_examples=20)
@given(size=sizes, which=st.integers(0, 3), seed=st.integers(0, 99))
def test_proposals_are_the_likely_places_in_px_of_the_frame(size: tuple[int, int], which: int, seed: int) -> None:
    levels = levels_of(size, 20.0, 0.709)
    level = levels[min(which, len(levels) - 1)]
    marked = some_tiles(level, seed)
    answers = some_answers(level, marked, seed)
    found = proposals(answers, marked, level, 0.5)
    known = mapped(answers, marked, level)
    rows, columns = np.nonzero(known[..., 0] >= 0.5)
    scale = np.float32(level.scale)
    wanted = [
        [*np.floor((np.float32([2 * x + 1, 2 * y + 1, 2 * x + 12, 2 * y + 12])) / scale), *known[y, x]]
        for y, x in zip(rows, columns, strict=True)
    ]
    assert found.dtype == np.float32
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, np.float32(wanted).reshape(-1, 9).tolist()))


@settings(deadline=None, max_examples=20)
@given(size=sizes, opened=st.integers(0, 4), seed=st.integers(0, 99))
def test_tiles_open_where_a_place_about_an_opened_one_lies_in_them(
    size: tuple[int, int], opened: int, seed: int
) -> None:
    levels = levels_of(size, 20.0, 0.709)
    if len(levels) < 2:
        return
    finer, coarser = levels[:2]
    places = np.zeros(coarser.places, bool)
    rng = np.random.default_rng(seed)
    for _ in range(opened):
        places[rng.integers(places.shape[0]), rng.integers(places.shape[1])] = True
    wanted = np.zeros(finer.tiles, bool)
    for y in range(finer.places[0]):
        for x in range(finer.places[1]):
            at = y * places.shape[0] // finer.places[0], x * places.shape[1] // finer.places[1]
            near = tuple(slice(max(k - REACH, 0), k + REACH + 1) for k in at)
            wanted[y // 16, x // 16] |= places[near].any()
    np.testing.assert_array_equal(tiles_about(places, finer), wanted)


def test_answers_of_other_tiles_are_refused() -> None:
    level = levels_of((100, 100), 20.0, 0.709)[0]
    answers = np.zeros((2, 16, 16, 5), np.float32)
    with pytest.raises(ValueError, match="for 1 tiles"):
        mapped(answers, np.eye(1, dtype=bool), level)
    with pytest.raises(ValueError, match="for 3 tiles"):
        proposals(answers, np.eye(3, dtype=bool), level, 0.5)
