from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from skimage import data

from emobeam.emo_transforms.faces.crops import Faces, Picture
from emobeam.emo_transforms.faces.detection.area_averages import sums_of
from emobeam.emo_transforms.faces.detection.boxes import overlaps, square
from emobeam.emo_transforms.faces.detection.gate import shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector, best_faces
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.networks.engines import ENGINES
from emobeam.schemas.config import DetectorConfig
from tests.clips import face, faces_side_by_side, nobody

Networks = Callable[[str], MtcnnNetworks]

F32 = ("torch", "openvino-f32")
ALL = DetectorConfig(keep=0.0)
GATE = shipped_gate()
ASTRONAUT: Picture = data.astronaut()  # type: ignore[no-untyped-call]


def in_a_corner() -> Picture:
    """Faces of several sizes, some cut off by the edge of the frame."""
    canvas = nobody(4, (420, 300))
    for number, (left, top, edge) in enumerate([(0, 0, 90), (340, 210, 130), (150, 110, 60), (300, 20, 100)]):
        part = canvas[top : top + edge, left : left + edge]
        part[:] = face(9 * number, (edge, edge))[: part.shape[0], : part.shape[1]]
    return canvas


@cache
def picture(name: str) -> Picture:
    made: dict[str, Callable[[], Picture]] = {
        "photograph": lambda: ASTRONAUT,
        "two": lambda: faces_side_by_side(3),
        "small": lambda: face(0, (96, 64)),
        "many": lambda: np.tile(face(7, (128, 128)), (3, 4, 1)),
        "odd edges": lambda: faces_side_by_side(1, (356, 255)),
        "corners": in_a_corner,
        "dark": lambda: faces_side_by_side(22, (346, 187)) // 4,
    }
    return made[name]()


PICTURES = {"photograph": 1, "two": 2, "small": 1, "many": 10, "odd edges": 2, "corners": 2, "dark": 1}
"""And how many faces they hold at least."""

CLIPS = [
    ("single_face.mp4", 40, 1),
    ("webcam_h264.mp4", 100, 1),
    ("chaplin_small_faces.mp4", 120, 1),
    ("chaplin_small_faces.mp4", 201, 1),
    ("street_1080p_several_people.mp4", 50, 3),
    ("two_faces_side_by_side.mp4", 10, 2),
    ("face_noface.mov", 151, 0),
]
"""Frames, 1-based, of real clips."""


@cache
def frame_of(path: Path, number: int) -> Picture:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0), start=1):
            if index == number:
                whole = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                # A quarter of a large frame, its busiest, says as much.
                return whole if whole.shape[0] < 1000 else np.ascontiguousarray(whole[200:740, 500:1460])
    raise AssertionError(f"{path} has no frame {number}")


def reference(frame: Picture, **changes: Any) -> Faces:
    """What facenet-pytorch itself finds, best first."""
    network = MTCNN(keep_all=True, select_largest=False, device="cpu", **changes)
    boxes, scores, marks = network.detect(frame, landmarks=True)
    if boxes is None:
        return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    order = np.argsort(-scores.astype(float), kind="stable")
    boxes, scores, marks = (np.asarray(part, np.float32)[order] for part in (boxes, scores, marks))
    return Faces(boxes, scores, marks)


@cache
def reference_of(name: str) -> Faces:
    return reference(picture(name))


def assert_the_same(found: Faces, wanted: Faces) -> None:
    """To the hundredth of a pixel, best first."""
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    for box, score, marks in zip(found.boxes, found.scores, found.landmarks, strict=True):
        nearest = np.abs(wanted.boxes - box).max(axis=1).argmin()
        np.testing.assert_allclose(box, wanted.boxes[nearest], rtol=0, atol=1e-2)
        np.testing.assert_allclose(marks, wanted.landmarks[nearest], rtol=0, atol=1e-2)
        assert abs(score - wanted.scores[nearest]) <= 1e-5


def assert_sure_faces_agree(found: Faces, wanted: Faces, *, overlap: float, of_edge: float) -> None:
    """Every face of a score of 0.9 is found, with its landmarks within a part of its edge, and no other one."""
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    shared = overlaps(wanted.boxes, found.boxes)
    for index in np.flatnonzero(wanted.scores >= 0.9):
        best = shared[index].argmax()
        assert shared[index, best] >= overlap
        edge = (wanted.boxes[index, 2:] - wanted.boxes[index, :2]).max()
        assert np.abs(found.landmarks[best] - wanted.landmarks[index]).max() <= of_edge * edge
    for index in np.flatnonzero(found.scores >= 0.9):
        assert shared[:, index].max() >= overlap


def assert_equal(one: Faces, two: Faces) -> None:
    np.testing.assert_array_equal(one.boxes, two.boxes)
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.landmarks, two.landmarks)


# --- against facenet-pytorch --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", F32)
@pytest.mark.parametrize("name", PICTURES)
def test_faces_are_those_of_facenet_pytorch(mtcnn_networks: Networks, engine: str, name: str) -> None:
    wanted = reference_of(name)
    assert len(wanted) >= PICTURES[name]
    assert_the_same(MtcnnDetector(ALL, mtcnn_networks(engine), GATE).detect([picture(name)])[0], wanted)


@pytest.mark.parametrize("name", PICTURES)
def test_faces_are_nearly_those_of_facenet_pytorch_in_bfloat16(mtcnn_networks: Networks, name: str) -> None:
    (found,) = MtcnnDetector(ALL, mtcnn_networks("openvino-bf16"), GATE).detect([picture(name)])
    assert_sure_faces_agree(found, reference_of(name), overlap=0.8, of_edge=0.05)


@pytest.mark.parametrize(("clip", "number", "at_least"), CLIPS)
def test_faces_in_real_clips_are_those_of_facenet_pytorch(
    shared_videos: Path, mtcnn_networks: Networks, clip: str, number: int, at_least: int
) -> None:
    frame = frame_of(shared_videos / "faces" / clip, number)
    wanted = reference(frame)
    assert (wanted.scores >= 0.9).sum() >= at_least
    assert_the_same(MtcnnDetector(ALL, mtcnn_networks("torch"), GATE).detect([frame])[0], wanted)
    for engine in ENGINES[1:]:
        (found,) = MtcnnDetector(ALL, mtcnn_networks(engine), GATE).detect([frame])
        assert_sure_faces_agree(found, wanted, overlap=0.9 if engine in F32 else 0.8, of_edge=0.05)


@pytest.mark.thorough
def test_faces_in_frames_of_any_size_are_nearly_those_of_facenet_pytorch(mtcnn_networks: Networks) -> None:
    """Where a level has odd edges its last places see a repeated pixel, in facenet-pytorch they see none.

    That moves faces near the lower and the right edge a little; others are the same.
    """
    detector = MtcnnDetector(ALL, mtcnn_networks("torch"), GATE)
    rng = np.random.default_rng(1)
    same = []
    for number in range(24):
        width, height = int(rng.integers(100, 180)), int(rng.integers(90, 180))
        frame = faces_side_by_side(number, (2 * width, height)) if number % 2 else face(number, (width, height))
        (found,), wanted = detector.detect([frame]), reference(frame)
        assert_sure_faces_agree(found, wanted, overlap=0.7, of_edge=0.15)
        same += [bool(shared.max() > 0.999) for shared in overlaps(wanted.boxes, found.boxes)]
    assert len(same) >= 24
    assert np.mean(same) >= 0.85


@pytest.mark.parametrize(
    ("change", "theirs"),
    [
        ({"min_face": 45}, {"min_face_size": 45}),
        ({"factor": 0.6}, {"factor": 0.6}),
        ({"thresholds": (0.95, 0.7, 0.7)}, {"thresholds": [0.95, 0.7, 0.7]}),
        ({"thresholds": (0.6, 0.99, 0.7)}, {"thresholds": [0.6, 0.99, 0.7]}),
        ({"thresholds": (0.6, 0.7, 0.9999)}, {"thresholds": [0.6, 0.7, 0.9999]}),
        ({"thresholds": (0.3, 0.3, 0.1)}, {"thresholds": [0.3, 0.3, 0.1]}),
    ],
    ids=str,
)
def test_sizes_and_thresholds_are_respected(
    mtcnn_networks: Networks, change: dict[str, Any], theirs: dict[str, Any]
) -> None:
    changed = 0
    for name in ("two", "dark"):
        config, networks = replace(ALL, **change), mtcnn_networks("torch")
        (found,) = MtcnnDetector(config, networks, None).detect([picture(name)])
        wanted = reference(picture(name), **theirs)
        assert_the_same(found, wanted)
        # The gate may keep one of a face's many proposals from having its say, and its box moves a little.
        (gated,) = MtcnnDetector(config, networks, GATE).detect([picture(name)])
        assert_sure_faces_agree(gated, wanted, overlap=0.9, of_edge=0.05)
        usual = reference_of(name)
        changed += len(usual) != len(wanted) or not np.array_equal(usual.boxes, wanted.boxes)
    assert changed


@pytest.mark.parametrize("engine", F32)
def test_faces_below_the_score_to_keep_are_dropped(mtcnn_networks: Networks, engine: str) -> None:
    networks = mtcnn_networks(engine)
    (every,) = MtcnnDetector(ALL, networks, GATE).detect([picture("corners")])
    for score in every.scores:
        for limit, reported in (
            (score, every.scores >= score),
            (np.nextafter(score, np.float32(2)), every.scores > score),
        ):
            (found,) = MtcnnDetector(replace(ALL, keep=float(limit)), networks, GATE).detect([picture("corners")])
            np.testing.assert_array_equal(found.boxes, every.boxes[reported])


def test_landmarks_lie_where_the_template_has_them(mtcnn_networks: Networks) -> None:
    (found,) = MtcnnDetector(DetectorConfig(), mtcnn_networks("torch"), GATE).detect([ASTRONAUT])
    assert len(found) == 1
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert (found.landmarks[0].min(axis=0) > found.boxes[0, :2]).all()
    assert (found.landmarks[0].max(axis=0) < found.boxes[0, 2:]).all()


# --- the gate -----------------------------------------------------------------------------------------------


class Counting(MtcnnNetworks):
    """Other networks, counting what P-Net sees."""

    def __init__(self, networks: MtcnnNetworks) -> None:
        self._networks, self._batches = networks._networks, networks._batches
        self.tiles = 0

    def propose(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        self.tiles += len(tiles)
        return super().propose(tiles)


@pytest.mark.parametrize("engine", ["torch", "openvino-bf16"])
def test_the_gate_spares_work_and_loses_nothing(mtcnn_networks: Networks, engine: str) -> None:
    networks = Counting(mtcnn_networks(engine))
    seen = []
    for gate in (GATE, None):
        detector = MtcnnDetector(ALL, networks, gate)
        networks.tiles = 0
        seen.append(([detector.detect([picture(name)])[0] for name in PICTURES], networks.tiles))
    (gated, some), (ungated, every) = seen
    assert 0 < some < 0.9 * every
    for one, two in zip(gated, ungated, strict=True):
        np.testing.assert_allclose(one.boxes, two.boxes, rtol=0, atol=1e-3)


def test_the_gate_loses_no_face_of_any_size_inside_the_frame(mtcnn_networks: Networks) -> None:
    detector = MtcnnDetector(DetectorConfig(), mtcnn_networks("torch"), GATE)
    rng = np.random.default_rng(3)
    frames = []
    for number in range(20):
        edge = int(36 * 1.05**number)
        frame = nobody(number, (240, 160)) if number % 2 else rng.integers(0, 128, (160, 240, 3), dtype=np.uint8)
        left, top = rng.integers(0, 240 - edge), rng.integers(0, 160 - edge)
        frame[top : top + edge, left : left + edge] = face(number, (edge, edge))
        frames.append(frame)
    gated = detector.detect(frames)
    ungated = MtcnnDetector(DetectorConfig(), mtcnn_networks("torch"), None).detect(frames)
    assert sum(len(found) == 1 for found in ungated) >= 18
    for one, two in zip(gated, ungated, strict=True):
        np.testing.assert_allclose(one.boxes, two.boxes, rtol=0, atol=1e-3)


def test_the_gate_loses_nothing_of_real_clips(shared_videos: Path, mtcnn_networks: Networks) -> None:
    detector = MtcnnDetector(DetectorConfig(), mtcnn_networks("torch"), GATE)
    frames = [frame_of(shared_videos / "faces" / clip, number) for clip, number, _ in CLIPS]
    gated = [detector.detect([frame])[0] for frame in frames]
    detector = MtcnnDetector(DetectorConfig(), mtcnn_networks("torch"), None)
    for frame, found in zip(frames, gated, strict=True):
        np.testing.assert_allclose(found.boxes, detector.detect([frame])[0].boxes, rtol=0, atol=1e-3)


# --- frames of all kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "frame",
    [
        nobody(3),
        np.zeros((90, 120, 3), np.uint8),
        np.full((100, 140, 3), 127, np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(1).integers(0, 256, (1, 400, 3), dtype=np.uint8),
        np.zeros((400, 1, 3), np.uint8),
        np.zeros((5, 300, 3), np.uint8),
        np.zeros((19, 19, 3), np.uint8),
        np.zeros((20, 20, 3), np.uint8),
        np.zeros((21, 300, 3), np.uint8),
        face(0, (19, 19)),
    ],
    ids=lambda frame: "x".join(map(str, frame.shape[:2])),
)
def test_where_no_face_is_none_is_found(mtcnn_networks: Networks, engine: str, frame: Picture) -> None:
    for found in MtcnnDetector(ALL, mtcnn_networks(engine), GATE).detect([frame, frame]):
        assert len(found) == 0
        assert (found.boxes.shape, found.landmarks.shape) == ((0, 4), (0, 5, 2))


def test_no_frames_no_faces(mtcnn_networks: Networks) -> None:
    assert MtcnnDetector(ALL, mtcnn_networks("torch"), GATE).detect([]) == []


@pytest.mark.parametrize("edge", [46, 47, 48])
def test_frames_as_large_as_the_smallest_face_do_not_fail(mtcnn_networks: Networks, edge: int) -> None:
    """12 / 47 * 47 is less than 12 in floating point: the pyramid has no level."""
    detector = MtcnnDetector(DetectorConfig(min_face=47), mtcnn_networks("torch"), GATE)
    (found,) = detector.detect([np.zeros((edge, edge + 3, 3), np.uint8)])
    assert len(found) == 0


@pytest.mark.parametrize(("edge", "faces"), [(32765, 1), (32766, 0), (40000, 0)])
def test_frames_with_an_edge_too_long_are_passed_over(mtcnn_networks: Networks, edge: int, faces: int) -> None:
    frame = np.zeros((64, edge, 3), np.uint8)
    frame[:, -96:] = face(0, (96, 64))
    detector = MtcnnDetector(DetectorConfig(min_face=40), mtcnn_networks("torch"), GATE)
    assert [len(found) for found in detector.detect([frame])] == [faces]


# --- the same bits ------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# At some of these sizes the bits of a convolution do follow the number of threads.
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("number", "size"), [(3, (256, 128)), (1, (356, 155)), (22, (346, 187))])
def test_a_frame_gives_the_same_bits_whatever_the_threads_and_neighbours(
    mtcnn_networks: Networks, threads: Callable[[int], None], engine: str, number: int, size: tuple[int, int]
) -> None:
    detector = MtcnnDetector(ALL, mtcnn_networks(engine), GATE)
    frames = [faces_side_by_side(number, size), nobody(1, size), faces_side_by_side(number + 20, size)]
    threads(1)
    alone = [detector.detect([frame])[0] for frame in frames]
    assert [len(found) > 0 for found in alone] == [True, False, True]
    for count, order in ((1, [0, 1, 2]), (1, [2, 0]), (2, [1, 2, 0])):
        threads(count)
        for index, found in zip(order, detector.detect([frames[i] for i in order]), strict=True):
            assert_equal(found, alone[index])
        assert torch.get_num_threads() == count


# --- boxes --------------------------------------------------------------------------------------------------


def test_of_the_squares_about_a_place_the_best_one_counts(mtcnn_networks: Networks) -> None:
    """Whatever lies beyond the frame among them; each place has its own."""
    frame = faces_side_by_side(3)
    detector = MtcnnDetector(ALL, mtcnn_networks("torch"))
    first, second = sorted(detector.detect([frame])[0].boxes, key=lambda box: float(box[0]))
    beyond = np.array([5000, 10, 5060, 70], np.float32)
    squares = square(np.stack([first, beyond, beyond, beyond, second + 3, second, beyond]))
    places = np.array([0, 0, 0, 0, 1, 1, 2])
    found = detector.judge_places(frame, squares, places)
    assert len(found) == 2
    assert overlaps(np.stack([first, second]), found.boxes).max(axis=1).min() > 0.8
    # The same from the frame's table, and one place by itself.
    assert_equal(found, detector.judge_places(sums_of(frame), squares, places))
    alone = detector.judge_places(frame, squares[3:], places[3:])
    assert len(alone) == 1
    assert (overlaps(alone.boxes, found.boxes).max(axis=1) == 1).all()
    assert len(detector.judge_places(frame, beyond[None], np.array([0]))) == 0


def test_faces_in_better_ones_are_left_out() -> None:
    boxes = np.array([[10, 10, 30, 30], [0, 0, 100, 100], [90, 90, 150, 150], [0, 0, 99, 100]], np.float32)
    scores = np.array([0.95, 0.99, 0.8, 0.999], np.float32)
    marks = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    best = best_faces(Faces(boxes, scores, marks))
    np.testing.assert_array_equal(best.scores, scores[[3, 2]])
    np.testing.assert_array_equal(best.boxes, boxes[[3, 2]])
    np.testing.assert_array_equal(best.landmarks, marks[[3, 2]])
