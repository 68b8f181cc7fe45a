"""Losses of the challenge tasks. Rows without a valid label take no part: masked equals dropped.

A loss over no row at all is 0 and has zero gradients, so that a batch without labels of a group does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from emobeam.emo_transforms.networks.heads.head import activate
from emobeam.emo_transforms.training.heads.recipe import Recipe
from emobeam.schemas.tasks import OutputGroup, Task

_TINY = 1e-8


def focal_bce(logits: Tensor, targets: Tensor, *, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """Mean focal loss of yes-or-no outputs (Lin et al. 2017): ``-a_t (1 - p_t)^gamma log p_t``.

    Args:
        logits: ``[N, K]``.
        targets: ``[N, K]``, 0 or 1.
        alpha: weight of "yes"; "no" weighs ``1 - alpha``.
    """
    if not logits.numel():
        return logits.sum() * 0
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    right = probability * targets + (1 - probability) * (1 - targets)
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return (weight * (1 - right) ** gamma * entropy).mean()


def weighted_bce(logits: Tensor, targets: Tensor, pos_weight: Tensor) -> Tensor:
    """Mean binary cross-entropy where "yes" of output k weighs ``pos_weight[k]``; ``[N, K]``, targets in [0, 1].

    A target of 0.3 asks for a probability of 0.3 where ``pos_weight`` is 1, for a higher one where it is more.
    """
    if not logits.numel():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight.to(logits))


def ccc_loss(values: Tensor, truth: Tensor) -> Tensor:
    """1 minus the mean over outputs of the concordance correlation (Lin 1989) of a whole batch.

    Args:
        values, truth: ``[N, K]``; fewer than two rows have no correlation, their loss is 0.
    """
    if len(values) < 2:
        return values.sum() * 0
    apart, deviation = values - values.mean(dim=0), truth - truth.mean(dim=0)
    together = (apart * deviation).mean(dim=0)
    spread = apart.square().mean(dim=0) + deviation.square().mean(dim=0)
    bias = (values.mean(dim=0) - truth.mean(dim=0)).square()
    return 1 - (2 * together / (spread + bias + _TINY)).mean()


def pearson_loss(values: Tensor, truth: Tensor) -> Tensor:
    """1 minus the mean over outputs of Pearson's r of a whole batch; ``[N, K]``, fewer than two rows give 0.

    An output whose truth doesn't vary in the batch counts as r = 0 and has no gradient.
    """
    if len(values) < 2:
        return values.sum() * 0
    apart, deviation = values - values.mean(dim=0), truth - truth.mean(dim=0)
    # The floor stands inside the roots: sqrt has no finite gradient at 0.
    scale = (apart.square().sum(dim=0) + _TINY).sqrt() * (deviation.square().sum(dim=0) + _TINY).sqrt()
    return 1 - ((apart * deviation).sum(dim=0) / scale).mean()


def focal_ce(
    logits: Tensor,
    classes: Tensor,
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    smoothing: float = 0.1,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean focal cross-entropy of classes: ``alpha (1 - p_y)^gamma CE``, the labels of CE smoothed.

    Args:
        logits: ``[N, C]``.
        classes: ``[N]`` int64.
        weights: ``[C]`` of the true class; their mean over the rows is divided out.
    """
    if not len(logits):
        return logits.sum() * 0
    entropy = F.cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing)
    right = logits.softmax(dim=-1).gather(1, classes.unsqueeze(1)).squeeze(1)
    rows = alpha * (1 - right) ** gamma * entropy
    if weights is None:
        return rows.mean()
    own = weights.to(logits)[classes]
    return (own * rows).sum() / own.sum()


def smoothed_kl(logits: Tensor, classes: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Mean over rows of KL(smoothed one-hot || softmax), in nats; ``[N, C]`` and ``[N]``."""
    if not len(logits):
        return logits.sum() * 0
    count = logits.shape[-1]
    target = torch.full_like(logits, smoothing / count)
    target.scatter_(1, classes.unsqueeze(1), 1 - smoothing + smoothing / count)
    return F.kl_div(logits.log_softmax(dim=-1), target, reduction="batchmean")


@dataclass(frozen=True, eq=False)
class Balance:
    """What the training labels of a group weigh.

    Attributes:
        pos_weight: ``[K]`` of "yes" of yes-or-no outputs, else None.
        class_weights: ``[C]`` of classes with mean 1, or None.
    """

    pos_weight: Tensor | None = None
    class_weights: Tensor | None = None


def balance_of(group: OutputGroup, counts: Sequence[Sequence[int]], recipe: Recipe) -> Balance:
    """The weights of a group.

    Args:
        counts: of yes-or-no outputs (no, yes) of each; of classes one list with the count of each.
    """
    if group.kind == "binary":
        table = torch.tensor(counts, dtype=torch.float32)
        fixed = torch.full((len(table),), recipe.pos_weight)
        from_data = (table[:, 0] / table[:, 1].clamp_min(1)).clamp(0.01, 100)
        return Balance(pos_weight=fixed if recipe.pos_weight else from_data)
    if group.kind == "class" and recipe.class_weights != "none":
        power = 1.0 if recipe.class_weights == "inverse" else 0.5
        raw = torch.tensor(counts[0], dtype=torch.float32).clamp_min(1) ** -power
        return Balance(class_weights=raw / raw.mean())
    return Balance()


def balanced_loss(task: Task, recipe: Recipe, counts: Mapping[str, Sequence[Sequence[int]]]) -> TaskLoss:
    """The loss of a task, weighed by the training labels' counts of each group (see :func:`balance_of`)."""
    return TaskLoss(task, recipe, {group.name: balance_of(group, counts[group.name], recipe) for group in task.groups})


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The loss of a task: the sum over its groups of outputs.

    Values: CCC (EMI: Pearson's r and squared error); yes-or-no: focal or weighted binary cross-entropy, the latter
    for AH always; classes: focal cross-entropy and Kullback-Leibler.
    """

    task: Task
    recipe: Recipe
    balances: Mapping[str, Balance]

    def __call__(self, logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its parts by group.

        Args:
            logits: ``[..., K]``.
            labels: ``[..., C]`` in label form, whatever where invalid; yes-or-no outputs in [0, 1], NaN where that
                output alone has no label: masked, it equals dropped.
            valid: bool ``[..., G]``.
        """
        logits = logits.float().reshape(-1, logits.shape[-1])
        labels, valid = labels.reshape(-1, labels.shape[-1]), valid.reshape(-1, valid.shape[-1])
        parts: dict[str, Tensor] = {}
        score = label = 0
        for index, group in enumerate(self.task.groups):
            scores, columns = len(group.outputs), len(group.label_columns)
            rows = valid[:, index]
            own, truth = logits[rows, score : score + scores], labels[rows, label : label + columns]
            parts[group.name] = self._part(group, own, truth)
            score, label = score + scores, label + columns
        return torch.stack(list(parts.values())).sum(), parts

    @property
    def _entropy(self) -> bool:
        """Yes-or-no outputs learn by plain cross-entropy."""
        return self.recipe.au_loss == "bce" or self.task.name in {"ah", "ah-video"}

    def _part(self, group: OutputGroup, logits: Tensor, truth: Tensor) -> Tensor:
        recipe, balance = self.recipe, self.balances.get(group.name, Balance())
        if group.kind == "value":
            values = activate(logits, group.activation)
            if self.task.name != "emi":
                return ccc_loss(values, truth)
            return pearson_loss(values, truth) + recipe.mse_weight * _mse(values, truth)
        if group.kind == "binary":
            known = ~truth.isnan()
            if not bool(known.all()):
                return self._masked(logits, truth, known, balance)
            if self._entropy:
                weight = balance.pos_weight if balance.pos_weight is not None else torch.ones(logits.shape[-1])
                return weighted_bce(logits, truth, weight)
            return focal_bce(logits, truth, alpha=recipe.alpha, gamma=recipe.gamma)
        classes = truth[:, 0].long()
        focal = focal_ce(
            logits,
            classes,
            alpha=recipe.alpha,
            gamma=recipe.gamma,
            smoothing=recipe.smoothing,
            weights=balance.class_weights,
        )
        share = recipe.kl_share
        return (1 - share) * focal + share * smoothed_kl(logits, classes, smoothing=recipe.smoothing)

    def _masked(self, logits: Tensor, truth: Tensor, known: Tensor, balance: Balance) -> Tensor:
        """The mean over the values that are known, of whichever outputs."""
        logits, truth = logits[known], truth[known]
        if self._entropy:
            places = known.nonzero()[:, 1]
            weight = balance.pos_weight
            return weighted_bce(logits, truth, torch.ones_like(logits) if weight is None else weight.to(logits)[places])
        return focal_bce(logits, truth, alpha=self.recipe.alpha, gamma=self.recipe.gamma)


def _mse(values: Tensor, truth: Tensor) -> Tensor:
    return F.mse_loss(values, truth) if len(values) else values.sum() * 0
