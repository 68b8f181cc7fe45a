"""Pretrains a backbone on crops of people: action units, and the blendshapes beneath them where they are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from emobeam.emo_transforms.networks.checkpoints.weight_notes import NetworkInfo
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.fitting import State, descend
from emobeam.emo_transforms.training.images.people_crops import ALIGNED, LANDMARKS, PeopleCrops, align
from emobeam.emo_transforms.training.images.people_loader import PeopleBatch, PeopleLoader
from emobeam.emo_transforms.training.images.pixels import erase, normalise, to_float
from emobeam.emo_transforms.training.pretraining.affect_pretraining import ERASE_AREA, Setting
from emobeam.emo_transforms.training.pretraining.batch_norms import freeze_norms
from emobeam.emo_transforms.training.pretraining.recipe import PretrainRecipe, learning_rate

SHAPE_WEIGHT = 0.5
"""Of the mean loss of the shapes beside that of the units."""

LANDMARK_WEIGHT = 20.0
"""Of the mean distance of the landmarks' coordinates in parts of the crop's edge. They are known in nearly every
crop and change with every movement, where most units are absent from most crops."""

ALIGNED_WEIGHT = 1.0
"""Of the mean distance of the aligned landmarks' coordinates in standard deviations: a raised brow weighs there what a
turned head weighs among the plain ones."""

CALIBRATION_STEPS = 40
"""Batches from which the statistics of batch norms are measured."""

CLIP_NORM = 5.0
"""Longest gradient."""

SHOWN = 0.3
"""Activation from which a unit counts as shown."""


class UnitPretraining:
    """A :class:`emobeam.emo_transforms.training.fitting.Learner` of action units and shapes.

    Args:
        network: any timm classifier whose outputs are those of :func:`outputs_of`.
        fresh: it starts untrained: its output layer's bias is set to what is usual in the training crops, so that the
            first steps aren't spent on that.
    """

    def __init__(
        self,
        network: nn.Module,
        info: NetworkInfo,
        train: PeopleCrops,
        held: PeopleCrops,
        recipe: PretrainRecipe,
        *,
        seed: int = 0,
        fresh: bool = False,
        setting: Setting | None = None,
    ) -> None:
        if fresh:
            _start_at_the_usual(network, train)
        self._setting = setting or Setting()
        self._network: Any = network.to(self._setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._info, self._recipe, self._units, self._known = info, recipe, train.units, len(train.outputs)
        self._aligned = _spread(align(torch.from_numpy(train.landmarks)))
        self._loader = self._make_loader(train, seed, augmented=recipe.augment != "none")
        self._plain_loader = self._make_loader(train, seed, augmented=False)
        self._held, self._held_loader = held, self._make_loader(held, seed, augmented=False)
        self._begun = False
        self._optimiser: torch.optim.Optimizer  # from the first epoch on
        self._ema: ModelEmaV3 | None = None

    @property
    def epochs(self) -> int:
        """All layers train from the first epoch on."""
        return self._recipe.epochs

    def begin(self, epoch: int) -> None:
        """At the first epoch: makes the optimiser and the average of weights; frozen norms learn their statistics."""
        if self._begun:
            return
        self._begun = True
        recipe = self._recipe
        if recipe.norms == "frozen":
            self._calibrate(self._network)
        groups = param_groups_weight_decay(self._network, recipe.weight_decay)
        kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
        self._optimiser = kind(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))
        if recipe.ema:
            self._ema = ModelEmaV3(self._network, decay=recipe.ema, use_warmup=True, foreach=True)

    def steps(self, epoch: int) -> int:
        """The same in every epoch."""
        return self._loader.steps()

    def batches(self, epoch: int, start: int) -> Iterator[PeopleBatch]:
        """People in the order of the seed and the epoch."""
        return self._loader.shuffled(epoch, start)

    def step(self, epoch: int, step: int, batch: PeopleBatch) -> Mapping[str, float]:
        """One step by the recipe's learning rate; figures are the losses. A batch of one image is passed over."""
        if len(batch.pictures) < 2:  # batch norm has no variance of one
            return {"loss": 0.0}
        recipe = self._recipe
        done = epoch * self.steps(epoch) + step
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(recipe, "all", done, self.steps(epoch))
        self._network.train()
        if recipe.norms == "frozen":
            freeze_norms(self._network)
        pictures = to_float(batch.pictures, self._setting.device)
        if recipe.erase:
            pictures = erase(pictures, recipe.erase, ERASE_AREA, self._info.mean)
        pictures = self._ready(pictures)
        with self._autocast():
            outputs = self._network(pictures)
        targets = batch.targets.to(self._setting.device)
        units = unit_loss(outputs.float()[:, : self._units], targets[:, : self._units])
        shapes = unit_loss(outputs.float()[:, self._units : self._known], targets[:, self._units :])
        points = batch.landmarks.to(self._setting.device)
        plain, own = outputs.float()[:, self._known :].chunk(2, 1)
        landmarks = known_distance(plain, points.flatten(1) - 0.5)
        centre, spread = (part.to(self._setting.device) for part in self._aligned)
        aligned = known_distance(own, (align(points) - centre) / spread)
        loss = units + SHAPE_WEIGHT * shapes + LANDMARK_WEIGHT * landmarks + ALIGNED_WEIGHT * aligned
        descend(loss, self._optimiser, self._network, CLIP_NORM)
        if self._ema is not None:
            self._ema.update(self._network, step=done)
        parts = {"loss": loss, "units": units, "shapes": shapes, "landmarks": landmarks, "aligned": aligned}
        return {name: float(part.detach()) for name, part in parts.items()}

    def evaluate(self) -> Mapping[str, float]:
        """Figures of the present weights, or their average, on the hold-out; ``score`` is the correlation."""
        network = self._best_network()
        if self._recipe.norms == "batch":
            self._calibrate(network)
        figures = self._figures(network)
        return {"score": figures["correlation"], **{key: figures[key] for key in ("correlation", "auc", "landmarks")}}

    def figures(self, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """All figures of some weights on the hold-out, see :func:`unit_figures`."""
        self._network.load_state_dict(weights)
        return self._figures(self._network)

    def weights(self) -> dict[str, Tensor]:
        """The average of weights where the recipe asks for one, else those of the network."""
        return dict(self._best_network().state_dict())

    def state(self) -> State:
        """Network, average and optimiser."""
        return {
            "network": self._network.state_dict(),
            "ema": None if self._ema is None else self._ema.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Goes on from a ``state``."""
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])

    def _best_network(self) -> Any:
        return self._network if self._ema is None else self._ema.module

    def _make_loader(self, crops: PeopleCrops, seed: int, *, augmented: bool) -> PeopleLoader:
        recipe = self._recipe
        return PeopleLoader(
            crops,
            size=recipe.input_size,
            batch=recipe.batch,
            seed=seed,
            augmented=augmented,
            workers=self._setting.workers,
        )

    def _ready(self, pictures: Tensor) -> Tensor:
        normal = normalise(pictures, self._info.mean, self._info.std)
        return normal.contiguous(memory_format=torch.channels_last)

    def _calibrate(self, network: Any) -> None:
        """Means and variances of the batch norms from crops as stage 1 will see them.

        What gathers while training belongs to changed pictures and to weights that have moved on since.
        """
        batches = (
            self._ready(to_float(batch.pictures, self._setting.device))
            for batch, _ in zip(self._plain_loader.shuffled(0), range(CALIBRATION_STEPS), strict=False)
        )
        update_bn(batches, network)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._recipe.precision != "bf16":
            return nullcontext()
        return torch.autocast(self._setting.device.split(":")[0], torch.bfloat16)

    def _figures(self, network: Any) -> dict[str, Any]:
        network.eval()
        parts = []
        with torch.inference_mode():
            for batch in self._held_loader.in_order():
                parts.append(network(self._ready(to_float(batch.pictures, self._setting.device))).float().cpu())
        outputs, count = torch.cat(parts), self._units
        found = unit_figures(
            outputs[:, :count].sigmoid().numpy(), self._held.targets[:, :count], self._held.outputs[:count]
        )
        plain, own = outputs[:, self._known :].chunk(2, 1)
        points = torch.from_numpy(self._held.landmarks)
        centre, spread = self._aligned
        return found | {
            "landmarks": float(known_distance(plain, points.flatten(1) - 0.5)),
            "aligned": float(known_distance(own, (align(points) - centre) / spread)),
        }


def _start_at_the_usual(network: Any, crops: PeopleCrops) -> None:
    rates = torch.from_numpy(np.nan_to_num(np.nanmean(crops.targets, axis=0), nan=0.5)).clamp(0.01, 0.99)
    known = crops.landmarks[~np.isnan(crops.landmarks).any(axis=(1, 2))].reshape(-1, len(LANDMARKS))
    shape = torch.from_numpy(known.mean(axis=0) - 0.5) if len(known) else torch.zeros(len(LANDMARKS))
    layer = network.get_classifier()
    if isinstance(layer, nn.Linear):
        with torch.no_grad():
            layer.bias.copy_(torch.cat([rates.logit(), shape, torch.zeros(len(ALIGNED))]))


def unit_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of soft targets, each output weighing the same, what nobody knows left out.

    Args:
        outputs: logits ``[n, K]``.
        targets: ``[n, K]`` in [0, 1], NaN where unknown.
    """
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(outputs, targets.nan_to_num(0.0), reduction="none") * known
    counts = known.sum(0)
    if not bool((counts > 0).any()):
        return outputs.sum() * 0
    return (losses.sum(0) / counts.clamp(min=1))[counts > 0].mean()


def known_distance(outputs: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of ``[n, K]``; what is NaN in ``truth`` is left out."""
    known = ~truth.isnan()
    return ((outputs - truth.nan_to_num(0.0)).abs() * known).sum() / known.sum().clamp(min=1)


def outputs_of(crops: PeopleCrops) -> tuple[str, ...]:
    """What a network is taught: units and shapes (logits), landmarks from the crop's centre, aligned landmarks in
    standard deviations.
    """
    return (*crops.outputs, *LANDMARKS, *ALIGNED)


def _spread(values: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations ``[K]`` of ``[n, K]``; 0 and 1 where nothing is known, 1 where nothing changes."""
    known = values[~values.isnan().any(1)]
    if len(known) < 2:
        return torch.zeros(values.shape[1]), torch.ones(values.shape[1])
    deviation = known.std(0)
    return known.mean(0), torch.where(deviation > 1e-4, deviation, 1.0)


def unit_figures(
    probabilities: NDArray[np.float32], targets: NDArray[np.float32], units: tuple[str, ...]
) -> dict[str, Any]:
    """Correlation, AUC (activation of at least 0.3 against less) and base rate of each unit, and their means.

    A figure is null where a unit is unknown or never changes.
    """
    found: dict[str, dict[str, Any]] = {}
    for place, unit in enumerate(units):
        known = ~np.isnan(targets[:, place])
        values, truth = probabilities[known, place].astype(float), targets[known, place].astype(float)
        shown = truth >= SHOWN
        varied = len(values) > 1 and values.std() > 0 and truth.std() > 0
        found[unit] = {
            "crops": int(known.sum()),
            "base_rate": float(shown.mean()) if len(shown) else None,
            "correlation": float(np.corrcoef(values, truth)[0, 1]) if varied else None,
            "auc": auc(shown, values) if 0 < shown.sum() < len(shown) else None,
        }
    means = {key: _mean([row[key] for row in found.values()]) for key in ("correlation", "auc")}
    return {**means, "crops": len(targets), "units": found}


def units_identity(
    info: NetworkInfo, start: Mapping[str, Tensor], train: PeopleCrops, held: PeopleCrops, recipe: Any, seed: int
) -> str:
    """Digest of all that decides what a run learns."""
    data = [asdict(info), tensors_sha256(start), train.digest(), held.digest(), asdict(recipe), seed]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def auc(shown: NDArray[np.bool_], values: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the chance that a shown one has the higher value, ties counting half (Mann-Whitney).

    Both kinds must be there.
    """
    ranks = pd.Series(values).rank().to_numpy()
    count = int(shown.sum())
    return float((ranks[shown].sum() - count * (count + 1) / 2) / (count * (len(shown) - count)))


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0
