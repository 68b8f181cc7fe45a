"""``--detector facenet`` against facenet-pytorch, called as its own page shows it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from facenet_pytorch import MTCNN
from skimage import data

from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.emo_transforms.faces.detection.facenet_detector import FacenetDetector, check_facenet
from emobeam.emo_transforms.networks.engines import ENGINES
from emobeam.schemas.config import DetectorConfig, ExtractConfig
from emobeam.schemas.records import UsageError
from tests.clips import face, nobody

CLIPS = Path(__file__).resolve().parents[5] / "shared" / "videos" / "faces"
CONFIG = DetectorConfig(mode="facenet")


@cache
def clip_frames(name: str) -> tuple[Picture, ...]:
    path = CLIPS / name
    if not path.is_file():
        pytest.skip("the clip is not there")
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 25)]
    return frames[0], frames[-1]


def expect_its_own(frame: Picture, config: DetectorConfig, least: int) -> None:
    mtcnn = MTCNN(
        keep_all=True, min_face_size=config.min_face, thresholds=list(config.thresholds), factor=config.factor
    )
    boxes, scores, points = mtcnn.detect(frame, landmarks=True)
    wanted = sorted(zip(scores, boxes, points, strict=True), key=lambda one: -one[0])
    wanted = [one for one in wanted if one[0] >= config.keep]
    (found,) = FacenetDetector(config).detect([frame], [0.0])
    assert len(found) == len(wanted) >= least
    assert {values.dtype for values in (found.boxes, found.scores, found.landmarks)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found.scores, [one[0] for one in wanted])
    np.testing.assert_array_equal(found.boxes, [one[1] for one in wanted])
    np.testing.assert_array_equal(found.landmarks, [one[2] for one in wanted])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of the reference: its last bits follow the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("single_face.mp4", 1),
        ("two_faces_side_by_side.mp4", 2),
        pytest.param("street_1080p_several_people.mp4", 3, marks=pytest.mark.thorough),
    ],
)
def test_boxes_scores_and_landmarks_of_real_frames_are_its_own_to_the_bit(name: str, least: int) -> None:
    for frame in clip_frames(name):
        expect_its_own(frame, CONFIG, least)


LARGE = DetectorConfig(mode="facenet", min_face=60, thresholds=(0.5, 0.6, 0.6), keep=0.0)


@pytest.mark.parametrize("config", [CONFIG, LARGE])
def test_sizes_and_thresholds_are_handed_on(config: DetectorConfig) -> None:
    expect_its_own(data.astronaut(), config, 1)  # type: ignore[no-untyped-call]
    expect_its_own(face(3, (321, 243)), config, 1)


def test_the_number_of_threads_changes_nothing() -> None:
    frame, found = face(5, (320, 240)), []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(FacenetDetector(CONFIG).detect([frame])[0])
        assert torch.get_num_threads() == count
    np.testing.assert_array_equal(found[0].boxes, found[1].boxes)
    np.testing.assert_array_equal(found[0].scores, found[1].scores)


def test_frames_without_faces_and_frames_too_small_for_one() -> None:
    frames = [nobody(1, (160, 120)), np.zeros((120, 160, 3), np.uint8)]
    assert [len(faces) for faces in FacenetDetector(CONFIG).detect(frames, [0.0, 0.1])] == [0, 0]
    for shape in ((19, 200, 3), (1, 1, 3), (20, 20, 3)):
        (faces,) = FacenetDetector(CONFIG).detect([np.full(shape, 90, np.uint8)])
        assert faces.landmarks.shape == (0, 5, 2)
    assert FacenetDetector(CONFIG).detect([]) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_the_same_whatever_engine_runs_the_backbone(engine: str) -> None:
    detector = make_detector(CONFIG, engine)
    assert isinstance(detector, FacenetDetector)
    detector.start()
    (found,) = detector.detect([face(5, (320, 240))], [0.0])
    np.testing.assert_array_equal(found.boxes, FacenetDetector(CONFIG).detect([face(5, (320, 240))])[0].boxes)


@pytest.mark.parametrize(("version", "told"), [(None, "isn't installed here"), ("2.5.3", r"is version 2\.5\.3 here")])
def test_where_it_is_missing_the_command_is_named(
    version: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", asked)
    for act in (check_facenet, lambda: make_detector(CONFIG)):
        with pytest.raises(UsageError, match=rf"{told}.*pip install --no-deps facenet-pytorch==2\.6\.0"):
            act()
    make_detector(DetectorConfig())  # the others don't ask for it


def test_it_has_an_identity_of_its_own_and_others_keep_theirs() -> None:
    ids = {mode: ExtractConfig(detector=DetectorConfig(mode=mode)).cache_id for mode in ("exact", "track", "facenet")}
    assert len(set(ids.values())) == 3
    assert (ids["exact"], ids["track"]) == ("f1fa67320173d30b", "a28e6db9b2e8c2b8")
    features = {ExtractConfig(detector=DetectorConfig(mode=mode)).features_id for mode in ids}
    assert len(features) == 1, "heads read features of any detector"
