from __future__ import annotations

import numpy as np
import pytest

from emobeam.emo_transforms.training.material.labelling import landmarks as lm


def test_the_tables_name_each_point_once() -> None:
    assert len(lm.SIXTY_EIGHT) == len(set(lm.SIXTY_EIGHT)) == 68
    assert [len(part) for part in (lm.JAW, lm.BROWS, lm.NOSE, lm.EYES, lm.OUTER_LIPS, lm.INNER_LIPS)] == [
        *(17, 10, 9, 12, 12, 8)
    ]
    assert set(lm.SIXTY_EIGHT) < set(range(468))  # none of an iris
    assert (lm.UPPER_INNER_LIP[0], lm.UPPER_INNER_LIP[-1]) == (lm.LOWER_INNER_LIP[0], lm.LOWER_INNER_LIP[-1])
    assert set(lm.INNER_LIPS) <= {*lm.UPPER_INNER_LIP, *lm.LOWER_INNER_LIP}


@pytest.mark.parametrize("yaw", [0.0, 30.0])
def test_a_turned_head_does_not_open_its_mouth(yaw: float) -> None:
    points = np.zeros((478, 2), np.float32)
    points[263] = (100 * np.cos(np.radians(yaw)), 0)
    points[[178, 14, 402], 1] = 10
    assert lm.lips_apart(points, yaw) == pytest.approx(10 / 57 - lm.CLOSED, rel=1e-4)


def test_points_move_into_a_part_of_a_picture() -> None:
    assert lm.moved_points(np.array([[10, 20], [30, 40]], np.float32), (10, 10), 2.0).tolist() == [[0, 20], [40, 60]]
