from __future__ import annotations

import numpy as np
import pytest
import torch
from facenet_pytorch.models.utils.detect_face import nms_numpy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.ops import box_iou, nms

from emobeam.emo_transforms.faces.detection.boxes import Boxes, inside, overlaps, square, suppress, suppress_contained

Case = tuple[Boxes, NDArray[np.float32]]


@st.composite
def boxes_with_scores(draw: st.DrawFn) -> Case:
    """Crowded ones, of whole and of broken px, some with equal scores."""
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    count = draw(st.integers(0, 40))
    corners = rng.uniform(-10, 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (count, 2))], axis=1)
    scores = rng.random(count)
    if draw(st.booleans()):
        boxes, scores = boxes.round(), scores.round(1)
    return boxes.astype(np.float32), scores.astype(np.float32)


@given(case=boxes_with_scores(), overlap=st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_is_that_of_torchvision(case: Case, overlap: float) -> None:
    boxes, scores = case
    wanted = nms(torch.from_numpy(boxes), torch.from_numpy(scores), overlap).numpy()
    np.testing.assert_array_equal(suppress(boxes, scores, overlap), wanted)


@given(case=boxes_with_scores())
def test_suppression_of_what_others_contain_is_that_of_facenet_pytorch(case: Case) -> None:
    boxes, scores = case
    # It takes the last one of equals, we the first.
    scores = scores - np.arange(len(scores), dtype=np.float32) * np.float32(1e-4)
    wanted = nms_numpy(boxes, scores, 0.7, "Min")
    np.testing.assert_array_equal(suppress_contained(boxes, scores), np.asarray(wanted, np.int64).reshape(-1))


@given(one=boxes_with_scores(), two=boxes_with_scores())
def test_overlaps_are_those_of_torchvision(one: Case, two: Case) -> None:
    boxes, others = (case[0][(case[0][:, 2:] > case[0][:, :2]).all(axis=1)] for case in (one, two))
    wanted = box_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(overlaps(boxes, others), wanted, rtol=0, atol=1e-5)


def test_boxes_without_scores_are_refused() -> None:
    for suppressed in (lambda boxes, scores: suppress(boxes, scores, 0.5), suppress_contained):
        for boxes, scores in ((np.zeros((3, 2)), np.zeros(3)), (np.zeros((3, 4)), np.zeros(2))):
            with pytest.raises(ValueError, match="boxes"):
                suppressed(boxes.astype(np.float32), scores)


def test_squares_keep_the_centre_and_the_longer_edge() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 9, 7]], np.float32)
    np.testing.assert_array_equal(square(boxes), [[-5, 0, 15, 20], [5, 4, 9, 8]])
    assert square(boxes[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "whole"),
    [
        ((1, 1, 10, 5), (0, 0, 10, 5)),
        ((-3.7, 2.9, 99, 4.9), (0, 1, 30, 4)),
        ((31, 1, 40, 5), None),
        ((5, 5, 5, 5), (4, 4, 5, 5)),
    ],
)
def test_pixels_inside_a_frame_count_from_one(box: tuple[float, ...], whole: tuple[int, ...] | None) -> None:
    found, there = inside(np.array([box], np.float32), (20, 30))
    assert there.tolist() == [whole is not None]
    if whole is not None:
        assert tuple(found[0].tolist()) == whole
