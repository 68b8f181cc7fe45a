from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from emobeam.emo_transforms.faces.crops import Faces, Picture
from emobeam.emo_transforms.faces.detection.boxes import overlaps
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.emo_transforms.faces.detection.following import GLANCE_SECONDS, SCAN_SECONDS, FollowingDetector
from emobeam.emo_transforms.faces.detection.gate import shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.networks.engines import ENGINES
from emobeam.schemas.config import DetectorConfig
from tests.clips import face, nobody

Networks = Callable[[str], MtcnnNetworks]
Clip = Sequence[Picture]

RATE = 6
"""Frames per second."""

SIZE = (320, 240)
EXACT = DetectorConfig()
GATE = shipped_gate()


def times_of(frames: Clip) -> list[float]:
    return [number / RATE for number in range(len(frames))]


def following(networks: MtcnnNetworks, config: DetectorConfig = EXACT) -> FollowingDetector:
    cascade = MtcnnDetector(replace(config, keep=0.0), networks, GATE)
    return FollowingDetector(cascade, cascade, config.keep)


def follow(networks: MtcnnNetworks, frames: Clip, config: DetectorConfig = EXACT) -> list[Faces]:
    return following(networks, config).detect(frames, times_of(frames))


def exact(networks: MtcnnNetworks, frames: Clip, config: DetectorConfig = EXACT) -> list[Faces]:
    return MtcnnDetector(config, networks, GATE).detect(frames)


# --- clips --------------------------------------------------------------------------------------------------


def put(frame: Picture, number: int, edge: int, centre: tuple[float, float]) -> Picture:
    """The frame with a head in an oval of ``edge`` px; its face is about half as wide."""
    y, x = (np.indices((edge, edge)) + 0.5) / edge * 2 - 1
    cover = np.clip((1 - np.hypot(x, y)) * 6, 0, 1)[..., None]
    left, top = round(centre[0] - edge / 2), round(centre[1] - edge / 2)
    changed = frame.copy()
    part = np.s_[max(top, 0) : max(top + edge, 0), max(left, 0) : max(left + edge, 0)]
    rows, columns = frame[part].shape[:2]
    inside = (slice(max(-top, 0), max(-top, 0) + rows), slice(max(-left, 0), max(-left, 0) + columns))
    changed[part] = (1 - cover[inside]) * frame[part] + cover[inside] * face(number, (edge, edge))[inside]
    return changed


def dim(number: int) -> Picture:
    return nobody(number, SIZE) // 2


def bright(number: int) -> Picture:
    return 255 - nobody(number, SIZE) // 3


CUT, LEFT, COUNT = 22, 34, 46
"""Frames of the story: the first after the cut, the first of an empty stage, and how many there are."""


@cache
def story() -> tuple[Picture, ...]:
    """A moving face, for a while a second one; a cut to another face; it leaves; nobody for two seconds."""
    frames = []
    for number in range(COUNT):
        if number < CUT:
            frame = put(dim(number), number, 110, (90 + 3 * number, 120 + 20 * math.sin(number / 6)))
            if 8 <= number < 17:
                frame = put(frame, number + 9, 80, (260, 80 + number))
        elif number < LEFT:
            frame = put(bright(number), number, 130, (220 + 16 * max(number - 29, 0), 110))
        else:
            frame = bright(number)
        frames.append(frame)
    return tuple(frames)


def agree(one: Faces, two: Faces) -> bool:
    """The same faces: as many, each about where one of the others is."""
    if len(one) != len(two):
        return False
    shared = overlaps(one.boxes, two.boxes)
    return len(one) == 0 or bool(shared.max(axis=0).min() >= 0.5 and shared.max(axis=1).min() >= 0.5)


def assert_equal(one: Sequence[Faces], two: Sequence[Faces]) -> None:
    for found, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(found.boxes, other.boxes)
        np.testing.assert_array_equal(found.scores, other.scores)
        np.testing.assert_array_equal(found.landmarks, other.landmarks)


# --- agreement ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_following_finds_what_the_cascade_finds_in_each_frame(mtcnn_networks: Networks, engine: str) -> None:
    networks = mtcnn_networks(engine)
    wanted, found = exact(networks, story()), follow(networks, story())
    counts = [len(faces) for faces in wanted]
    assert {1, 2} <= set(counts[:CUT])
    assert set(counts[CUT : LEFT - 2]) == {1}
    assert not any(counts[LEFT:])
    same = [agree(one, two) for one, two in zip(wanted, found, strict=True)]
    assert np.mean(same) >= 0.95
    distances = [
        np.abs(one.landmarks - two.landmarks[overlaps(one.boxes, two.boxes).argmax(axis=1)]).max()
        / (one.boxes[:, 2:] - one.boxes[:, :2]).max()
        for one, two in zip(wanted, found, strict=True)
        if len(one) and agree(one, two)
    ]
    assert np.median(distances) < 0.06


@pytest.mark.parametrize(
    ("clip", "every", "first", "last"),
    [
        ("single_face.mp4", 5, 0, 72),
        ("face_noface.mov", 4, 44, 92),  # a face, then a title without one
        ("chaplin_small_faces.mp4", 8, 100, 241),
    ],
)
def test_following_agrees_in_real_clips(
    shared_videos: Path, mtcnn_networks: Networks, clip: str, every: int, first: int, last: int
) -> None:
    frames: list[Picture] = []
    with av.open(str(shared_videos / "faces" / clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if first <= number < last and (number - first) % every == 0:
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    networks = mtcnn_networks("torch")
    wanted, found = exact(networks, frames), follow(networks, frames)
    assert any(len(faces) for faces in wanted)
    assert np.mean([agree(one, two) for one, two in zip(wanted, found, strict=True)]) >= 0.9


def test_scans_are_those_of_the_cascade_and_most_frames_need_none(
    mtcnn_networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = mtcnn_networks("torch")
    scanner = MtcnnDetector(replace(EXACT, keep=0.0), networks, GATE)
    near = MtcnnDetector(replace(EXACT, keep=0.0), networks, GATE)
    detector = FollowingDetector(scanner, near, EXACT.keep)
    scanned: list[int] = []
    whole = scanner.detect

    def noted(frames: Clip, times: Sequence[float] = ()) -> list[Faces]:
        scanned.append(round(times[0] * RATE))
        return whole(frames, times)

    monkeypatch.setattr(scanner, "detect", noted)
    found = detector.detect(story(), times_of(story()))
    assert {0, CUT} <= set(scanned)
    assert len(scanned) < COUNT / 2
    wanted = exact(networks, [story()[number] for number in scanned])
    assert_equal([found[number] for number in scanned], wanted)


# --- changes ------------------------------------------------------------------------------------------------


def test_a_cut_is_seen_in_its_own_frame(mtcnn_networks: Networks) -> None:
    networks = mtcnn_networks("torch")
    found = follow(networks, story()[: CUT + 1])
    assert_equal(found[-1:], exact(networks, story()[CUT : CUT + 1]))
    # To another stage with nobody on it, and back.
    frames = [put(dim(0), 0, 110, (100, 120))] * 4 + [bright(0)] * 3 + [put(dim(0), 0, 110, (220, 120))] * 2
    assert [len(faces) for faces in follow(networks, frames)] == [1] * 4 + [0] * 3 + [1] * 2


@pytest.mark.parametrize(("begin", "company"), [(7, True), (24, False), (37, False)])
@pytest.mark.parametrize(
    ("edge", "seconds"),
    [(46, SCAN_SECONDS), (130, GLANCE_SECONDS)],  # faces of 22 px; of more than a fifth of 240 px
    ids=["small", "large"],
)
def test_a_new_face_is_found_in_time(
    mtcnn_networks: Networks, begin: int, edge: int, seconds: float, company: bool
) -> None:
    networks = mtcnn_networks("torch")
    allowed = math.floor(seconds * RATE) + 1
    frames = []
    for number in range(begin + allowed):
        frame = put(dim(0), number, 90, (60, 60)) if company else dim(0)
        frames.append(put(frame, number, edge, (230, 150)) if number >= begin else frame)
    found = follow(networks, frames)
    there = [bool((faces.boxes[:, 0] > 150).any()) for faces in found]
    assert not any(there[:begin])
    assert there[-1]
    since = there.index(True)
    assert all(there[since:])
    if company:
        assert all((faces.boxes[:, 2] < 150).any() for faces in found)


def test_a_lost_face_is_not_reported(mtcnn_networks: Networks) -> None:
    """One leaves at once, one is covered slowly, one stays."""
    networks = mtcnn_networks("torch")
    frames = []
    for number in range(18):
        frame = put(dim(0), number, 80, (60, 70))
        if number < 7:
            frame = put(frame, number, 90, (170, 160))
        frame = put(frame, number, 90, (265, 80))
        frame[: max(0, (number - 5) * 20), 210:] = 90
        frames.append(frame)
    wanted, found = exact(networks, frames), follow(networks, frames)
    assert [len(faces) for faces in wanted][::17] == [3, 1]
    assert all(agree(one, two) for one, two in zip(wanted, found, strict=True))


def test_a_face_that_jumps_is_found_in_the_same_frame(mtcnn_networks: Networks) -> None:
    """So far that neither its speed nor a look around its place leads to it."""
    places = [(70, 70)] * 8 + [(250, 170)] * 4 + [(70, 170)] * 4
    frames = [put(dim(0), number, 80, place) for number, place in enumerate(places)]
    found = follow(mtcnn_networks("torch"), frames)
    assert [len(faces) for faces in found] == [1] * len(places)
    for faces, place in zip(found, places, strict=True):
        centre = (faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2
        assert np.abs(centre - place).max() < 20


def test_a_face_that_comes_back_to_its_place_is_found_at_once(mtcnn_networks: Networks) -> None:
    frames = [dim(0) if 8 <= number < 12 else put(dim(0), 3, 90, (160, 120)) for number in range(16)]
    found = follow(mtcnn_networks("torch"), frames)
    assert [len(faces) for faces in found] == [1] * 8 + [0] * 4 + [1] * 4


@pytest.mark.thorough
def test_nothing_is_reported_that_the_cascade_would_refuse(mtcnn_networks: Networks) -> None:
    networks = mtcnn_networks("torch")
    frames = story()[:20]
    for config in (EXACT, DetectorConfig(thresholds=(0.6, 0.7, 0.9995)), DetectorConfig(keep=0.9995)):
        found = follow(networks, frames, config)
        limit = max(config.keep, config.thresholds[2])
        scores = np.concatenate([faces.scores for faces in found])
        assert len(scores) > 10
        assert scores.min() >= np.float32(limit)
    # Of what is uncertain less is reported, but it is followed all the same.
    assert len(scores) < sum(len(faces) for faces in follow(networks, frames))
    assert not any(len(faces) for faces in follow(networks, frames, DetectorConfig(thresholds=(0.6, 0.7, 0.9999999))))


def test_faces_below_the_smallest_are_not_found_by_any_short_cut(mtcnn_networks: Networks) -> None:
    networks = mtcnn_networks("torch")
    config = DetectorConfig(min_face=110)
    frames = [put(dim(0), number, 90, (160, 120)) for number in range(34)]
    assert all(len(faces) for faces in follow(networks, frames[:5]))
    assert not any(len(faces) for faces in exact(networks, frames, config))
    assert not any(len(faces) for faces in follow(networks, frames, config))


# --- the same bits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "openvino-bf16"])
def test_a_segment_gives_the_same_bits_however_its_frames_come(mtcnn_networks: Networks, engine: str) -> None:
    detector = following(mtcnn_networks(engine))
    frames, times = story()[4:26], times_of(story())[4:26]
    detector.start()
    wanted = detector.detect(frames, times)
    assert any(len(faces) for faces in wanted)
    for count in (1, 5):
        detector.start()
        found = []
        for start in range(0, len(frames), count):
            found += detector.detect(frames[start : start + count], times[start : start + count])
        assert_equal(found, wanted)
    # Without a start what came before tells: then the second time isn't the first.
    again = detector.detect(frames, [time + times[-1] for time in times])
    assert any(not np.array_equal(one.boxes, two.boxes) for one, two in zip(again, wanted, strict=True))


def test_only_differences_in_time_count(mtcnn_networks: Networks) -> None:
    networks = mtcnn_networks("torch")
    frames = story()[:20]
    later = following(networks).detect(frames, [time + 64.0 for time in times_of(frames)])
    assert [len(faces) for faces in later] == [len(faces) for faces in follow(networks, frames)]


# --- frames of all kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (5, 40), (19, 19), (24, 24), (130, 47)])
@pytest.mark.parametrize("kind", ["black", "noise"])
def test_frames_of_any_size_do_not_fail(mtcnn_networks: Networks, size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    frames = [
        np.zeros((*size, 3), np.uint8) if kind == "black" else rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for _ in range(9)
    ]
    found = follow(mtcnn_networks("torch"), frames)
    assert [len(faces) for faces in found] == [0] * 9
    assert all((faces.boxes.shape, faces.landmarks.shape) == ((0, 4), (0, 5, 2)) for faces in found)


def test_no_frames(mtcnn_networks: Networks) -> None:
    assert follow(mtcnn_networks("torch"), []) == []


def test_a_face_that_walks_out_of_the_frame(mtcnn_networks: Networks) -> None:
    """Its place, and where it was going, come to lie beyond the edge."""
    networks = mtcnn_networks("torch")
    for step in (25, -25):
        frames = [put(dim(0), number, 110, (160 + step * number, 120)) for number in range(12)]
        wanted, found = exact(networks, frames), follow(networks, frames)
        assert len(wanted[0]) == 1
        assert len(wanted[-1]) == len(found[-1]) == 0
        assert np.mean([agree(one, two) for one, two in zip(wanted, found, strict=True)]) >= 0.8


def test_the_mode_of_a_config_decides() -> None:
    assert isinstance(make_detector(DetectorConfig(mode="exact")), MtcnnDetector)
    detector = make_detector(DetectorConfig(mode="track"))
    assert isinstance(detector, FollowingDetector)
    frames = story()[:3]
    found = detector.detect(frames, times_of(frames))
    assert [len(faces) for faces in found] == [1, 1, 1]
