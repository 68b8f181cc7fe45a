"""Losses against independent references, and masks against dropped rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchmetrics.functional import concordance_corrcoef, pearson_corrcoef
from torchvision.ops import sigmoid_focal_loss

from emobeam.emo_transforms.training.heads.recipe import RECIPES, recipe_named
from emobeam.emo_transforms.training.losses import (
    Balance,
    TaskLoss,
    balance_of,
    ccc_loss,
    focal_bce,
    focal_ce,
    pearson_loss,
    smoothed_kl,
    weighted_bce,
)
from emobeam.schemas.tasks import TASKS

TASK_NAMES = ("va", "expr", "au", "mtl", "emi", "ah", "ah-video", "vd")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def labels_of(name: str, rows: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    columns = []
    for group in TASKS[name].groups:
        for _ in group.label_columns:
            if group.kind == "value":
                columns.append(rng.uniform(group.low, group.high, rows))
            else:
                columns.append(rng.integers(0, len(group.outputs) if group.kind == "class" else 2, rows))
    return torch.from_numpy(np.stack(columns, axis=1)).float()


@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.25, 0.0), (0.5, 3.0)])
def test_focal_bce_is_torchvisions(alpha: float, gamma: float) -> None:
    logits, targets = normal(40, 12) * 3, (normal(40, 12, seed=1) > 0).float()
    reference = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(focal_bce(logits, targets, alpha=alpha, gamma=gamma), reference)


def test_ccc_loss_is_torchmetrics() -> None:
    # torchmetrics takes variances over n - 1 of n; over many rows both agree.
    values, truth = normal(4000, 2), normal(4000, 2, seed=1) + 0.5
    mixed = 0.6 * values + truth
    reference = 1 - concordance_corrcoef(mixed, truth).mean()
    assert float(ccc_loss(mixed, truth)) == pytest.approx(float(reference), abs=1e-3)
    x, y = mixed.double().numpy(), truth.double().numpy()
    exact = 2 * ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2)
    assert float(ccc_loss(mixed, truth)) == pytest.approx(1 - exact.mean(), abs=1e-6)
    assert float(ccc_loss(truth, truth)) == pytest.approx(0, abs=1e-6)
    assert float(ccc_loss(-truth + 1, truth)) == pytest.approx(2, abs=0.01)


def test_pearson_loss_is_torchmetrics() -> None:
    values, truth = normal(300, 6), normal(300, 6, seed=1)
    mixed = values + truth
    reference = 1 - pearson_corrcoef(mixed, truth).mean()
    assert float(pearson_loss(mixed, truth)) == pytest.approx(float(reference), abs=1e-5)
    truth[:, 2] = 0.4  # an output that doesn't vary counts as 0, and leaves gradients finite
    mixed.requires_grad_()
    loss = pearson_loss(mixed, truth)
    loss.backward()  # type: ignore[no-untyped-call]
    rest = [0, 1, 3, 4, 5]
    others = pearson_corrcoef(mixed.detach()[:, rest], truth[:, rest]).sum() / 6
    assert float(loss.detach()) == pytest.approx(1 - float(others), abs=1e-4)
    assert bool(torch.isfinite(mixed.grad).all())


def test_focal_ce_and_kl_against_loops() -> None:
    logits, classes, weights = normal(50, 8), torch.arange(50) % 8, torch.arange(1, 9).float()
    rows, parts, divergence = [], [], []
    for row, chosen in zip(logits.double().numpy(), classes.tolist(), strict=True):
        log_p = row - np.log(np.exp(row).sum())
        target = np.full(8, 0.1 / 8)
        target[chosen] += 0.9
        rows.append(0.75 * (1 - np.exp(log_p[chosen])) ** 2 * -(target * log_p).sum())
        parts.append(float(weights[chosen]))
        divergence.append((target * (np.log(target) - log_p)).sum())
    assert float(focal_ce(logits, classes)) == pytest.approx(np.mean(rows), rel=1e-5)
    assert float(focal_ce(logits, classes, weights=weights)) == pytest.approx(np.average(rows, weights=parts), rel=1e-5)
    assert float(smoothed_kl(logits, classes)) == pytest.approx(np.mean(divergence), rel=1e-5)
    plain = focal_ce(logits, classes, alpha=1, gamma=0, smoothing=0)
    torch.testing.assert_close(plain, F.cross_entropy(logits, classes))


def test_weighted_bce_weighs_yes() -> None:
    logits, targets = normal(30, 2), (normal(30, 2, seed=1) > 0).float()
    weight = torch.tensor([4.0, 0.5])
    p = torch.sigmoid(logits.double()).numpy()
    t = targets.double().numpy()
    reference = -(t * np.log(p) * weight.numpy() + (1 - t) * np.log(1 - p)).mean()
    assert float(weighted_bce(logits, targets, weight)) == pytest.approx(reference, rel=1e-5)


def loss_of(name: str, recipe: str = "paper", settings: Sequence[str] = ()) -> TaskLoss:
    return TaskLoss(TASKS[name], recipe_named(recipe, name, settings), {})


@pytest.mark.parametrize("name", TASK_NAMES)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 1.0))
def test_masked_is_dropped(name: str, seed: int, share: float) -> None:
    task = TASKS[name]
    logits, labels = normal(24, len(task.outputs), seed=seed), labels_of(name, 24, seed)
    valid = torch.from_numpy(np.random.default_rng(seed).random((24, len(task.groups))) < share)
    labels_with_markers = labels.clone()
    column = 0
    for index, group in enumerate(task.groups):
        stop = column + len(group.label_columns)
        labels_with_markers[~valid[:, index], column:stop] = -5
        column = stop
    loss, parts = loss_of(name)(
        logits.reshape(4, 6, -1), labels_with_markers.reshape(4, 6, -1), valid.reshape(4, 6, -1)
    )
    total, column, score = 0.0, 0, 0
    for index, group in enumerate(task.groups):
        alone = TaskLoss(task, loss_of(name).recipe, {})._part(
            group,
            logits[valid[:, index], score : score + len(group.outputs)],
            labels[valid[:, index], column : column + len(group.label_columns)],
        )
        torch.testing.assert_close(parts[group.name], alone)
        total += float(alone)
        column, score = column + len(group.label_columns), score + len(group.outputs)
    assert float(loss) == pytest.approx(total, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", TASK_NAMES)
@pytest.mark.parametrize("recipe", ["paper", "hsemotion"])
def test_nothing_valid_is_no_loss_and_no_gradient(name: str, recipe: str) -> None:
    task = TASKS[name]
    logits = normal(10, len(task.outputs)).requires_grad_()
    loss, _ = loss_of(name, recipe)(
        logits, labels_of(name, 10) * 0 - 5, torch.zeros(10, len(task.groups), dtype=torch.bool)
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", TASK_NAMES)
def test_following_the_gradient_lowers_the_loss(name: str) -> None:
    task = TASKS[name]
    logits = normal(64, len(task.outputs)).requires_grad_()
    labels, valid = labels_of(name, 64), torch.ones(64, len(task.groups), dtype=torch.bool)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    losses = []
    for _ in range(60):
        loss, _ = loss_of(name)(logits, labels, valid)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_expression_loss_is_four_fifths_focal() -> None:
    logits, labels = normal(20, 8), labels_of("expr", 20)
    loss, _ = loss_of("expr")(logits, labels, torch.ones(20, 1, dtype=torch.bool))
    classes = labels[:, 0].long()
    expected = 0.8 * focal_ce(logits, classes) + 0.2 * smoothed_kl(logits, classes)
    torch.testing.assert_close(loss, expected)


def test_balance_from_counts() -> None:
    au, expr = TASKS["au"].groups[0], TASKS["expr"].groups[0]
    paper, weighted = RECIPES["paper"], recipe_named("hsemotion", "expr")
    found = balance_of(au, [[80, 20]] * 11 + [[100, 0]], paper)
    assert found.pos_weight is not None
    assert found.pos_weight.tolist() == [4.0] * 11 + [100.0]
    fixed = balance_of(TASKS["ah"].groups[0], [[8, 2]], recipe_named("paper", "ah", ["pos_weight=4"])).pos_weight
    assert fixed is not None
    assert fixed.tolist() == [4.0]
    assert balance_of(expr, [[1] * 8], paper).class_weights is None
    weights = balance_of(expr, [[10, 20, 40, 80, 10, 10, 10, 0]], weighted).class_weights
    assert weights is not None
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[0] / weights[3]) == pytest.approx(8)
    assert balance_of(TASKS["va"].groups[0], [], paper) is not None


def test_ah_is_weighted_cross_entropy() -> None:
    task, recipe = TASKS["ah"], recipe_named("paper", "ah")
    logits, labels = normal(30, 1), labels_of("ah", 30)
    loss, _ = TaskLoss(task, recipe, {"ah": Balance(torch.tensor([4.0]))})(
        logits, labels, torch.ones(30, 1, dtype=torch.bool)
    )
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labels, pos_weight=torch.tensor([4.0])))
