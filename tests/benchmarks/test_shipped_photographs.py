"""What photographs tell of the shipped weights: smiles, open mouths, jaws opened by warping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from emobeam.emo_transforms.training.material.labelling.teacher import Look
from tests.benchmarks.figures import Goal
from tests.benchmarks.weights import opened, photographs
from tests.benchmarks.weights.split import london_test

MATERIAL = Path(__file__).resolve().parents[3] / "shared" / "training"


def some_photographs() -> photographs.Photographs:
    people = [f"{n:03d}" for n in range(10)] * 2
    facts = {
        name: {"face_gender": "female" if n % 2 else "male", "face_eth": "white", "face_age": "25"}
        for n, name in enumerate(people[:10])
    }
    crops = tuple(np.zeros((8, 8, 3), np.uint8) for _ in people)
    return photographs.Photographs(tuple(people), np.arange(20) >= 10, crops, facts, tuple(np.linspace(0, 1, 20)))


def test_the_smile_is_judged_by_the_names_of_folders() -> None:
    smile = np.concatenate([np.linspace(0.1, 0.5, 10), np.linspace(0.45, 0.9, 10)])
    ours, theirs = photographs.smile_goal(some_photographs(), smile)
    assert ours.value == pytest.approx(roc_auc_score(np.arange(20) >= 10, smile))
    assert (ours.identities, ours.rows, ours.met) == (10, 20, True)
    assert theirs.value == 1
    groups = {row.what: row for row in photographs.smile_by_group(some_photographs(), smile)}
    assert groups["London, male"].identities == 5
    assert "too few" in groups["London, male"].note
    assert np.isnan(groups["London, male"].low)
    assert np.isfinite(groups["London, under 30"].low)
    assert groups["London, under 30"].value == pytest.approx(ours.value)
    row = photographs.open_mouth_goal(
        some_photographs(),
        smile,
        "k",
        "w",
        ["clip a", "clip a", "clip b"],
        np.array([0.0, 0.6, 0.95]),
        Goal(at_least=0.85),
        "",
    )
    expected = roc_auc_score([1] * 10 + [0] * 3, [*smile[10:], 0.0, 0.6, 0.95])
    assert row.value == pytest.approx(expected)
    assert (row.identities, row.rows) == (12, 13)
    assert np.isnan(row.low)  # two people on one side
    same = [f"london {n:03d}" for n in range(10)]
    row = photographs.open_mouth_goal(some_photographs(), smile, "k", "w", same, np.linspace(0, 0.6, 10), None, "")
    assert (row.identities, row.rows) == (10, 20)
    assert row.low < row.value


def test_the_share_of_photographs_in_which_a_smile_is_called() -> None:
    smile = np.concatenate([np.linspace(0.0, 0.45, 10), np.linspace(0.15, 0.6, 10)])
    neutral, smiling = photographs.smile_calls(some_photographs(), smile, 0.3)
    assert [neutral.value, smiling.value] == pytest.approx([0.4, 0.7])
    assert neutral.identities == neutral.rows == 10
    # Ten independent pictures: Wilson's interval is the reference.
    reference = binomtest(4, 10).proportion_ci(method="wilson")
    assert neutral.high - neutral.low == pytest.approx(reference.high - reference.low, rel=0.3)


def test_an_opened_jaw_is_one_that_the_teacher_sees_and_no_smile() -> None:
    def look(**shapes: float) -> Look:
        return Look(shapes, np.zeros((478, 2), np.float32), 0.0, 0.0, 0.0)

    assert opened.shows(look(jawOpen=0.3, mouthSmile_L=0.09))
    assert not opened.shows(look(jawOpen=0.29))
    assert not opened.shows(look(jawOpen=0.6, mouthSmile_R=0.1))


def test_jaws_of_photographs_are_opened() -> None:
    pytest.importorskip("mediapipe", reason="the teacher is an extra")
    if not (MATERIAL / "london").is_dir():
        pytest.skip("no training material beside the repository")
    folder, task, model = (MATERIAL / name for name in ("london", "face_landmarker.task", "ict_light.npz"))
    faces = opened.opened(folder, task, model, 96, limit=2)
    assert faces
    assert {person for person, _ in faces} <= set(london_test()[:2])
    assert all(crop.shape == (96, 96, 3) for _, crop in faces)
