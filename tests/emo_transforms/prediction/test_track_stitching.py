from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.prediction.track_stitching import Sightings, stitch
from emobeam.schemas.records import InputError
from tests.emo_transforms.sightings import Person, film


def numbers_of(person: NDArray[np.int16], truth: NDArray[np.int64]) -> list[list[int]]:
    """The numbers that each real person got, in order of first use."""
    return [list(dict.fromkeys(person[truth == who].tolist())) for who in range(truth.max() + 1)]


def test_cuts_between_segments_are_healed() -> None:
    sightings, truth = film([Person(300)], 10, segment=2)
    assert len(np.unique(sightings.segment)) == 5
    assert numbers_of(stitch(sightings), truth) == [[0]]


def test_two_side_by_side_stay_two() -> None:
    sightings, truth = film([Person(300, 90), Person(410, 110)], 9, segment=2)
    assert numbers_of(stitch(sightings), truth) == [[1], [0]]
    assert numbers_of(stitch(replace(sightings, descriptor=None)), truth) == [[1], [0]]


def test_a_walker_is_one_person_across_cuts() -> None:
    sightings, truth = film([Person(100, speed=200), Person(600, y=700)], 9, segment=1)
    assert [len(numbers) for numbers in numbers_of(stitch(sightings), truth)] == [1, 1]


@pytest.mark.parametrize("segment", [3.0, 60.0])
@pytest.mark.parametrize("with_looks", [False, True])
def test_who_comes_back_after_two_seconds_is_the_same(segment: float, with_looks: bool) -> None:
    sightings, truth = film([Person(300, away=[(4, 6)]), Person(600)], 10, segment=segment)
    person = stitch(sightings if with_looks else replace(sightings, descriptor=None))
    assert numbers_of(person, truth) == [[1], [0]]


def test_the_only_person_of_a_video_comes_back_as_the_same() -> None:
    sightings, truth = film([Person(300, away=[(4, 6)])], 10)
    assert sightings.descriptor is not None
    centred = sightings.descriptor - sightings.descriptor.mean(axis=0)
    before, after = centred[sightings.time < 4].sum(axis=0), centred[sightings.time > 4].sum(axis=0)
    assert before == pytest.approx(-after, abs=1e-2)  # so that a cosine about the video's mean would be -1
    assert numbers_of(stitch(sightings), truth) == [[0]]


def test_who_comes_back_later_is_a_new_person() -> None:
    sightings, truth = film([Person(300, away=[(4, 7.5)])], 12)
    assert numbers_of(stitch(sightings), truth) == [[1, 0]]


def test_somebody_else_at_the_same_place_is_told_by_looks() -> None:
    sightings, truth = film([Person(300, end=4), Person(305, start=6)], 12)
    assert numbers_of(stitch(sightings), truth) == [[1], [0]]
    assert numbers_of(stitch(replace(sightings, descriptor=None)), truth) == [[0], [0]]


def test_somebody_alike_elsewhere_is_another() -> None:
    sightings, truth = film([Person(300, end=4, look=1), Person(600, start=5, look=1)], 12)
    assert numbers_of(stitch(sightings), truth) == [[1], [0]]


def test_people_who_change_places_keep_their_numbers() -> None:
    # Each is gone for 1.5 s and comes back nearer to where the other was, within reach of both.
    people = [Person(300, end=4, look=1), Person(345, 100, end=4, y=370, look=2)]
    people += [Person(345, start=5.5, y=370, look=1), Person(300, start=5.5, look=2)]
    sightings, truth = film(people, 9, noise=0.5)
    person = stitch(sightings)
    first = [person[truth == who][0] for who in range(4)]
    assert first[:2] == [first[2], first[3]]
    swapped = stitch(replace(sightings, descriptor=None))
    assert swapped[truth == 0][0] == swapped[truth == 3][0]


def test_numbers_follow_presence_then_first_appearance() -> None:
    sightings, truth = film([Person(200, 50), Person(500, 200, start=3), Person(900, 120, end=5)], 10)
    height = np.bincount(truth, sightings.box[:, 3] - sightings.box[:, 1])
    person = stitch(sightings)
    assert np.array_equal(person, np.argsort(np.argsort(-height))[truth])
    box = np.tile(np.array([[0, 0, 9, 9], [50, 0, 59, 9]], np.float32), (2, 1))
    tie = Sightings(
        segment=np.zeros(4, np.int32),
        track=np.array([1, 0, 1, 0]),
        frame=np.array([1, 1, 2, 2], np.int32),
        time=np.array([0, 0, 0.1, 0.1]),
        box=box,
        score=np.ones(4, np.float32),
    )
    assert stitch(tie).tolist() == [0, 1, 0, 1]


def test_no_rows() -> None:
    nothing, _ = film([], 1)
    assert stitch(nothing).dtype == np.int16
    assert len(stitch(nothing)) == 0


def test_more_persons_than_numbers() -> None:
    count = 33000
    box = np.arange(count, dtype=np.float32)[:, None] * 500 + np.array([0, 0, 9, 9], np.float32)
    one = np.ones(count, np.int32)
    crowd = Sightings(one, np.arange(count), one, np.zeros(count), box, one.astype(np.float32))
    with pytest.raises(InputError, match="33000 persons"):
        stitch(crowd)


_people = st.builds(
    Person,
    x=st.integers(0, 500),
    size=st.integers(40, 150),
    start=st.integers(0, 5),
    end=st.integers(3, 9),
    away=st.lists(st.integers(0, 8).map(lambda start: (start, start + 1.5)), max_size=2),
    look=st.integers(0, 2),
    speed=st.integers(-60, 60),
)


@given(st.lists(_people, min_size=1, max_size=4), st.integers(1, 9), st.randoms(use_true_random=False), st.booleans())
def test_one_person_once_per_frame_whatever_tracks_are_called(
    people: list[Person], segment: int, random: Random, with_looks: bool
) -> None:
    calls: dict[int, list[int]] = {}

    def renamed(index: int, track: int) -> int:
        if index not in calls:
            calls[index] = random.sample(range(60), 60)
        return calls[index][track]

    plain, truth = film(people, 9, segment=segment)
    other, other_truth = film(people, 9, segment=segment, track_number=renamed)
    if not with_looks:
        plain, other = replace(plain, descriptor=None), replace(other, descriptor=None)
    person, again = stitch(plain), stitch(other)

    assert len(set(zip(plain.frame.tolist(), person.tolist(), strict=True))) == len(plain)
    assert set(person.tolist()) == set(range(len(set(person.tolist()))))
    for track in set(zip(plain.segment.tolist(), plain.track.tolist(), strict=True)):
        assert len(set(person[(plain.segment == track[0]) & (plain.track == track[1])].tolist())) == 1
    rows = list(zip(plain.frame.tolist(), truth.tolist(), person.tolist(), strict=True))
    assert sorted(rows) == sorted(zip(other.frame.tolist(), other_truth.tolist(), again.tolist(), strict=True))
