from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from emobeam.emo_transforms.training.images.people_crops import read_people
from emobeam.emo_transforms.training.images.people_loader import PeopleLoader
from emobeam.emo_transforms.training.pretraining.unit_pretraining import auc, unit_figures, unit_loss
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.training.people import picture, smiling, write_people


def test_loss_is_the_mean_over_outputs_of_what_is_known() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0], [1.5, 0.2, -0.4]])
    targets = torch.tensor([[0.8, float("nan"), float("nan")], [0.0, 0.25, float("nan")]])
    entropy = torch.nn.BCEWithLogitsLoss()
    first = entropy(logits[:, 0], targets[:, 0])
    second = entropy(logits[1:, 1], targets[1:, 1])
    assert torch.allclose(unit_loss(logits, targets), (first + second) / 2)


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = unit_loss(logits, torch.full((3, 2), float("nan")))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_gradients_of_unknown_targets_are_zero() -> None:
    logits = torch.randn(2, 2, requires_grad=True)
    unit_loss(logits, torch.tensor([[0.5, float("nan")], [float("nan"), 0.1]])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert logits.grad[1, 0] == 0
    assert logits.grad[0, 0] != 0


def test_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    shown = rng.random(200) < 0.3
    values = np.round(rng.normal(shown, 1.0), 1)  # with ties
    assert auc(shown, values) == pytest.approx(roc_auc_score(shown, values))


def test_figures_of_what_never_changes_are_null() -> None:
    values = np.array([[0.1, 0.2, 0.5], [0.9, 0.3, 0.5]], np.float32)
    truth = np.array([[0.0, 0.0, np.nan], [1.0, 0.0, np.nan]], np.float32)
    figures = unit_figures(values, truth, ("AU1", "AU2", "AU4"))
    assert figures["units"]["AU1"] == {"crops": 2, "base_rate": 0.5, "correlation": pytest.approx(1.0), "auc": 1.0}
    assert figures["units"]["AU2"]["auc"] is None
    assert figures["units"]["AU2"]["correlation"] is None
    assert figures["units"]["AU4"] == {"crops": 0, "base_rate": None, "correlation": None, "auc": None}
    assert figures["auc"] == 1.0


def test_mirrored_pictures_carry_mirrored_shapes(tmp_path: Path) -> None:
    rows = [{"crop": picture(0, left=255), "AU12": 1.0, "shapes": [("mouthSmile_L", 1.0)]} for _ in range(40)]
    crops = read_people([write_people(tmp_path / "p", {1: rows})])
    left, right = crops.outputs.index("mouthSmile_L"), crops.outputs.index("mouthSmile_R")
    sides = set()
    for batch in PeopleLoader(crops, size=32, batch=40, seed=0, augmented=True).shuffled(0):
        for pixels, target in zip(batch.pictures.float(), batch.targets, strict=True):
            bright_left = bool(pixels[12:20, :12].mean() > pixels[12:20, 20:].mean())
            assert bool(target[left] == 1) == bright_left
            assert target[left] + target[right] == 1
            sides.add(bright_left)
    assert sides == {True, False}


def test_batches_don_t_depend_on_workers_or_where_one_starts(tmp_path: Path) -> None:
    crops = read_people([write_people(tmp_path / "p", {1: smiling(12)})])
    plain = list(PeopleLoader(crops, size=32, batch=4, seed=3, augmented=True).shuffled(1))
    late = list(PeopleLoader(crops, size=32, batch=4, seed=3, augmented=True, workers=1).shuffled(1, 2))
    assert len(plain) == 3
    assert len(late) == 1
    assert torch.equal(plain[2].pictures, late[0].pictures)
    torch.testing.assert_close(plain[2].targets, late[0].targets, rtol=0, atol=0, equal_nan=True)


def test_a_crop_that_is_no_picture_is_named(tmp_path: Path) -> None:
    crops = read_people([write_people(tmp_path / "p", {7: [{"crop": b"nothing", "AU12": 0.0}]})])
    loader = PeopleLoader(crops, size=32, batch=1, seed=0, augmented=False)
    with pytest.raises(EmobeamError, match="p/000007-0-0001"):
        list(loader.in_order())
