from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.prediction.face_roles import assign_faces, face_stretches, main_face
from emobeam.emo_transforms.prediction.track_stitching import Sightings, stitch
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import FACES
from tests.emo_transforms.sightings import Person, film


def main_seconds(people: list[Person], seconds: float) -> list[list[float]]:
    """Seconds (first, last) at which each person is the main face."""
    sightings, truth = film(people, seconds)
    chosen = main_face(sightings.frame, sightings.time, truth.astype(np.int16), sightings.box)
    spans = [sightings.time[chosen & (truth == who)] for who in range(len(people))]
    return [[round(float(span[0]), 1), round(float(span[-1]), 1)] if len(span) else [] for span in spans]


def test_the_only_face_is_the_main_face() -> None:
    assert main_seconds([Person(300)], 0.1) == [[]]
    assert main_seconds([Person(300)], 0.2) == [[0.0, 0.0]]
    assert main_seconds([Person(300, away=[(2, 9)])], 12) == [[0.0, 11.8]]


def test_the_larger_of_two_is_the_main_face() -> None:
    assert main_seconds([Person(300, 90), Person(600, 110)], 10) == [[], [0.0, 9.8]]


def test_a_passer_by_does_not_take_over() -> None:
    sightings, truth = film([Person(300, 100), Person(600, 400, start=5, end=8)], 15)
    chosen = main_face(sightings.frame, sightings.time, truth.astype(np.int16), sightings.box)
    assert np.array_equal(chosen, truth == 0)


def test_who_stays_long_and_is_larger_takes_over() -> None:
    assert main_seconds([Person(300, 100), Person(600, 180, start=5, end=15)], 20)[1] == [5.0, 14.8]


def test_a_main_face_out_of_sight_for_a_while_stays_it() -> None:
    sightings, truth = film([Person(300, 180, away=[(5, 8)]), Person(600, 100)], 15)
    chosen = main_face(sightings.frame, sightings.time, truth.astype(np.int16), sightings.box)
    assert np.array_equal(chosen, truth == 0)


def test_when_the_main_face_leaves_for_good_the_next_takes_over() -> None:
    assert main_seconds([Person(300, 180, end=8), Person(600, 100)], 15) == [[0.0, 7.8], [8.0, 14.8]]


def test_one_face_in_each_frame_of_a_long_series_of_visitors() -> None:
    people = [Person(300, start=6.0 * visit, end=6.0 * visit + 5) for visit in range(6)]
    assert main_seconds(people, 36) == [[6.0 * visit, 6.0 * visit + 4.8] for visit in range(6)]


def brute_force(frame: list[int], person: list[int], gain: list[float], cost: float) -> float:
    """Value of the best course, by trying a person for every frame."""
    frames = sorted(set(frame))
    seen = {(f, p): g for f, p, g in zip(frame, person, gain, strict=True)}
    return max(
        sum(seen.get((f, p), 0.0) for f, p in zip(frames, course, strict=True))
        - cost * sum(a != b for a, b in itertools.pairwise(course))
        for course in itertools.product(sorted(set(person)), repeat=len(frames))
    )


@given(
    st.sets(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.floats(0.05, 0.6),
)
def test_the_best_course_against_brute_force(cells: set[tuple[int, int]], random: Random, cost: float) -> None:
    frame, person = (np.array(column) for column in zip(*sorted(cells), strict=True))
    size = np.array([random.randint(20, 200) for _ in cells], np.float64)
    box = np.stack([np.zeros(len(size)), np.zeros(len(size)), size, size], axis=1).astype(np.float32)
    time = frame / 6
    chosen = main_face(frame.astype(np.int32), time, person.astype(np.int16), box, switch_seconds=cost)

    frames = np.unique(frame)
    usual = np.median([size[frame == f].max() for f in frames])
    gain = np.minimum(size / usual, 2) * (np.median(np.diff(frames / 6)) if len(frames) > 1 else 1)
    switches = np.count_nonzero(np.diff(person[chosen]))
    assert len(set(frame[chosen].tolist())) == chosen.sum()
    best = brute_force(frame.tolist(), person.tolist(), gain.tolist(), cost)
    assert gain[chosen].sum() - cost * switches == pytest.approx(best)


def test_others_are_numbered_by_presence_where_they_are_not_the_main_face() -> None:
    people = [Person(300, 180, end=8), Person(600, 100), Person(900, 40), Person(1200, 80, end=3)]
    sightings, truth = film(people, 15)
    person = stitch(sightings)
    assert np.array_equal(person, np.array([1, 0, 2, 3])[truth])
    face = assign_faces(sightings, person, [""], 1920)[""]
    late = sightings.time >= 8 - 1e-6
    assert set(face[truth == 0].tolist()) == {0}
    assert set(face[(truth == 1) & late].tolist()) == {0}
    assert set(face[(truth == 1) & ~late].tolist()) == {1}
    assert set(face[truth == 2].tolist()) == {2}
    assert set(face[truth == 3].tolist()) == {3}


def test_left_and_right() -> None:
    # The third face is small and stands further left than both.
    people = [Person(400, 100, away=[(4, 6)]), Person(900, 110, away=[(8, 9)]), Person(100, 30)]
    sightings, truth = film(people, 12)
    faces = assign_faces(sightings, stitch(sightings), ["left", "right", ""], 1280)
    alone_with_small = (sightings.time >= 4) & (sightings.time < 9)
    for subject, who in (("left", 0), ("right", 1)):
        assert np.array_equal(faces[subject][~alone_with_small] == 0, (truth == who)[~alone_with_small])
        assert not np.any(faces[subject][alone_with_small & (truth != who)] == 0)
        assert set(faces[subject].tolist()) == {-1, 0}
    assert np.array_equal(faces[""] == 0, truth == 1)


def test_a_single_face_belongs_to_the_side_it_is_on() -> None:
    sightings, _ = film([Person(300)], 4)
    faces = assign_faces(sightings, stitch(sightings), ["left", "right"], 1280)
    assert set(faces["left"].tolist()) == {0}
    assert set(faces["right"].tolist()) == {-1}
    faces = assign_faces(sightings, stitch(sightings), ["left", "right"], 400)
    assert set(faces["left"].tolist()) == {-1}
    assert set(faces["right"].tolist()) == {0}


def test_an_unknown_subject() -> None:
    sightings, _ = film([Person(300)], 1)
    with pytest.raises(UsageError, match=r"'host'.*left and right.*--subjects FILE"):
        assign_faces(sightings, stitch(sightings), ["left", "host"], 100)


def test_no_rows() -> None:
    sightings, _ = film([Person(300, start=5)], 1)
    faces = assign_faces(sightings, stitch(sightings), ["", "left", "right"], 100)
    assert [len(face) for face in faces.values()] == [0, 0, 0]
    assert face_stretches("v", sightings, stitch(sightings), faces) == []


def test_stretches() -> None:
    people = [Person(300, 180, end=8), Person(600, 100, away=[(2, 4)])]
    sightings, truth = film(people, 12)
    person = stitch(sightings)
    faces = assign_faces(sightings, person, ["", "right"], 1000)
    rows = face_stretches("dir/v", sightings, person, faces)
    table = pa.Table.from_pylist(rows, schema=FACES)
    got = [
        (r["subject"], r["face"], r["person"], r["first_time"], r["last_time"], r["sampled"]) for r in table.to_pylist()
    ]
    assert [(*row[:3], round(row[3], 2), round(row[4], 2), row[5]) for row in got] == [
        ("", 0, 0, 0.0, 7.83, 48),
        ("", 0, 1, 8.0, 11.83, 24),
        ("", 1, 1, 0.0, 1.83, 12),
        ("", 1, 1, 4.0, 7.83, 24),
        ("right", 0, 1, 0.0, 1.83, 12),
        ("right", 0, 1, 4.0, 11.83, 48),
    ]
    first = rows[0]
    assert (first["video"], first["first_frame"], first["last_frame"]) == ("dir/v", 1, 236)
    assert first["box"] == pytest.approx(sightings.box[truth == 0].mean(axis=0).tolist(), rel=1e-5)
    assert first["score"] == pytest.approx(0.99)
    assert sum(row["sampled"] for row in rows if row["subject"] == "") == len(sightings)


@given(
    st.sets(st.tuples(st.integers(1, 40), st.integers(0, 4)), min_size=1, max_size=80),
    st.integers(0, 2**32 - 1),
)
def test_a_face_number_occurs_once_per_frame(cells: set[tuple[int, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    frame, person = (np.array(column) for column in zip(*sorted(cells), strict=True))
    corner, size = random.uniform(0, 500, (len(frame), 2)), random.uniform(10, 90, (len(frame), 1))
    sightings = Sightings(
        segment=np.zeros(len(frame), np.int32),
        track=person,
        frame=frame.astype(np.int32),
        time=frame / 6,
        box=np.hstack([corner, corner + size]).astype(np.float32),
        score=np.ones(len(frame), np.float32),
    )
    faces = assign_faces(sightings, person.astype(np.int16), ["", "left", "right"], 500)
    for subject, face in faces.items():
        shown = [(int(f), int(n)) for f, n in zip(frame, face, strict=True) if n >= 0]
        assert len(set(shown)) == len(shown)
        assert subject or len(shown) == len(frame)
    both = (faces["left"] == 0) & (faces["right"] == 0)
    assert not both.any()
    stretches = face_stretches("v", sightings, person.astype(np.int16), faces)
    for subject, face in faces.items():
        assert sum(row["sampled"] for row in stretches if row["subject"] == subject) == (face >= 0).sum()
