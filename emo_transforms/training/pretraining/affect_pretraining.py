"""Pretrains a backbone on labelled face images: two stages, moving average, selection on a hold-out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F

from emobeam.emo_transforms.networks.checkpoints.weight_notes import NetworkInfo
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.fitting import State
from emobeam.emo_transforms.training.images.face_images import FaceImages
from emobeam.emo_transforms.training.images.image_loader import (
    FaceTransform,
    ImageBatch,
    ImageLoader,
    ImagenetTransform,
    PlainTransform,
    Transform,
)
from emobeam.emo_transforms.training.images.pixels import erase, normalise, to_float
from emobeam.emo_transforms.training.losses import ccc_loss
from emobeam.emo_transforms.training.pretraining.affect_metrics import affect_figures, flat_figures
from emobeam.emo_transforms.training.pretraining.recipe import PretrainRecipe, learning_rate
from emobeam.emo_transforms.training.pretraining.sharpness_aware import sam_step
from emobeam.schemas.records import EmobeamError

ERASE_AREA = (0.02, 0.2)
"""Share of the picture that random erasing covers."""


@dataclass(frozen=True)
class Setting:
    """Where training runs; none of it decides what is learned, but for the last bits.

    Attributes:
        device: of torch.
        workers: processes that read images; 0 reads in this one.
    """

    device: str = "cpu"
    workers: int = 0


class Pretraining:
    """A :class:`emobeam.emo_transforms.training.fitting.Learner` of expressions, and of valence and arousal.

    Args:
        network: any timm classifier with ``len(info.outputs)`` outputs.
        fresh: it starts untrained, so there is no stage in which the output layer alone trains.

    Attributes:
        unreadable: reason by id of images that could not be read.
    """

    def __init__(
        self,
        network: nn.Module,
        info: NetworkInfo,
        train: FaceImages,
        held: FaceImages,
        recipe: PretrainRecipe,
        *,
        seed: int = 0,
        fresh: bool = False,
        setting: Setting | None = None,
    ) -> None:
        self._setting = setting or Setting()
        self._network: Any = network.to(self._setting.device)
        self._info, self._recipe, self._train, self._held = info, recipe, train, held
        self._head_epochs = 0 if fresh else recipe.head_epochs
        self._loader = self._make_loader(train, _transform(recipe), seed)
        self._held_loader = self._make_loader(held, PlainTransform(recipe.input_size), seed)
        self._weights = class_weights(train.counts(), recipe.class_weights).to(self._setting.device)
        self._va = torch.from_numpy(train.va)
        self._labels = torch.from_numpy(train.labels)
        self._stage = ""
        self._optimiser: torch.optim.Optimizer  # from the first epoch on
        self._ema: ModelEmaV3 | None = None
        self.unreadable: dict[str, str] = {}

    @property
    def epochs(self) -> int:
        """Of both stages together."""
        return self._head_epochs + self._recipe.epochs

    @property
    def head_epochs(self) -> int:
        """Of the first stage."""
        return self._head_epochs

    def begin(self, epoch: int) -> None:
        """At the first epoch of a stage: thaws its layers and makes its optimiser and average of weights."""
        stage = "head" if epoch < self._head_epochs else "all"
        if stage == self._stage:
            return
        self._stage = stage
        network, recipe = self._network, self._recipe
        network.requires_grad_(stage == "all")
        network.get_classifier().requires_grad_(True)
        groups = param_groups_weight_decay(network, recipe.weight_decay)
        betas = (recipe.beta1, recipe.beta2)
        if recipe.optimiser == "adam":
            self._optimiser = torch.optim.Adam(groups, lr=recipe.lr, betas=betas)
        else:
            self._optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=betas)
        if stage == "all" and recipe.ema:
            self._ema = ModelEmaV3(network, decay=recipe.ema, use_warmup=True, foreach=True)

    def steps(self, epoch: int) -> int:
        """The same in every epoch."""
        return self._loader.steps()

    def batches(self, epoch: int, start: int) -> Iterator[ImageBatch]:
        """Images in the order of the seed and the epoch."""
        return self._loader.shuffled(epoch, start)

    def step(self, epoch: int, step: int, batch: ImageBatch) -> Mapping[str, float]:
        """One step by the stage's learning rate; figures are the losses. A batch of one image is passed over."""
        self._note(self._train, batch)
        if len(batch.places) < 2:  # batch norm has no variance of one
            return {"loss": 0.0}
        recipe, device = self._recipe, self._setting.device
        done = (epoch - (self._head_epochs if self._stage == "all" else 0)) * self.steps(epoch) + step
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(recipe, self._stage, done, self.steps(epoch))
        # With its layers frozen the network's batch norms must not learn from these images either.
        self._network.train(self._stage == "all")
        pictures = to_float(batch.pictures, device)
        if recipe.erase:
            pictures = erase(pictures, recipe.erase, ERASE_AREA, self._info.mean)
        pictures = normalise(pictures, self._info.mean, self._info.std)
        labels, va = self._labels[batch.places].to(device), self._va[batch.places].to(device)
        parts: dict[str, float] = {}

        def loss_of() -> Tensor:
            with self._autocast():
                outputs = self._network(pictures)
            loss, figures = affect_loss(outputs.float(), labels, va, self._weights, recipe)
            parts.update(figures)
            return loss

        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            if recipe.sam:
                loss = sam_step(self._network, self._optimiser, loss_of, recipe.sam)
            else:
                self._optimiser.zero_grad(set_to_none=True)
                loss = loss_of()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
        if self._ema is not None:
            self._ema.update(self._network, step=done)
        return {"loss": float(loss.detach()), **parts}

    def evaluate(self) -> Mapping[str, float]:
        """Figures of the average of weights, else of the present ones, on the hold-out."""
        outputs, places = self._outputs(self._best_network(), self._held_loader, self._held)
        return flat_figures(self._figures(outputs, self._held, places))

    def figures(self, weights: Mapping[str, Tensor], images: FaceImages) -> dict[str, Any]:
        """All figures of some weights on some images, see :func:`affect_figures`."""
        self._network.load_state_dict(weights)
        loader = self._make_loader(images, PlainTransform(self._recipe.input_size), 0)
        outputs, places = self._outputs(self._network, loader, images)
        return self._figures(outputs, images, places)

    def weights(self) -> dict[str, Tensor]:
        """The average of weights where the recipe asks for one, else those of the network."""
        return dict(self._best_network().state_dict())

    def state(self) -> State:
        """Network, average, optimiser, stage, and the images that could not be read."""
        ema = None if self._ema is None else self._ema.module.state_dict()
        return {
            "network": self._network.state_dict(),
            "ema": ema,
            "optimiser": self._optimiser.state_dict(),
            "stage": self._stage,
            "unreadable": self.unreadable,
        }

    def restore(self, state: State) -> None:
        """Goes on from a ``state``; one of the stage before gives its weights alone."""
        self._network.load_state_dict(state["network"])
        self.unreadable = dict(state["unreadable"])
        if state["stage"] != self._stage:  # broken off between the stages: the second starts from what the first left
            if self._ema is not None:
                self._ema.module.load_state_dict(state["network"])
            return
        self._optimiser.load_state_dict(state["optimiser"])
        if self._ema is not None:
            self._ema.module.load_state_dict(state["ema"])

    def _best_network(self) -> Any:
        return self._network if self._ema is None else self._ema.module

    def _make_loader(self, images: FaceImages, transform: Transform, seed: int) -> ImageLoader:
        setting, batch = self._setting, self._recipe.batch
        pinned = setting.device.startswith("cuda")
        return ImageLoader(images, transform, batch=batch, seed=seed, workers=setting.workers, pinned=pinned)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._recipe.precision != "bf16":
            return nullcontext()
        return torch.autocast(self._setting.device.split(":")[0], torch.bfloat16)

    def _outputs(
        self, network: Any, loader: ImageLoader, images: FaceImages
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        network.eval()
        parts: list[NDArray[np.float32]] = []
        places: list[int] = []
        with torch.inference_mode():
            for batch in loader.in_order():
                self._note(images, batch)
                if not len(batch.places):
                    continue
                pictures = normalise(to_float(batch.pictures, self._setting.device), self._info.mean, self._info.std)
                parts.append(network(pictures).float().cpu().numpy())
                places += batch.places.tolist()
        if not parts:
            raise EmobeamError(
                f"none of {len(images)} images can be read, for example {next(iter(self.unreadable.values()), '')}"
            )
        return np.concatenate(parts), np.array(places, np.intp)

    def _figures(self, outputs: NDArray[np.float32], images: FaceImages, places: NDArray[np.intp]) -> dict[str, Any]:
        return affect_figures(outputs, images.labels[places], images.va[places], self._info.classes)

    def _note(self, images: FaceImages, batch: ImageBatch) -> None:
        self.unreadable.update({images.ids[place]: reason for place, reason in batch.problems})


def affect_loss(
    outputs: Tensor, labels: Tensor, va: Tensor, weights: Tensor, recipe: PretrainRecipe
) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the classes, and ``va_weight`` times the sum of 1 - CCC of valence and arousal.

    Args:
        outputs: ``[n, C]`` or ``[n, C + 2]``.
        labels: ``[n]``.
        va: ``[n, 2]``, NaN where there is no label; such rows count for the classes alone.
        weights: ``[C]``.

    Returns:
        The loss, and its parts for people.
    """
    count = len(weights)
    classes = F.cross_entropy(outputs[:, :count], labels, weight=weights, label_smoothing=recipe.smoothing)
    if outputs.shape[1] == count:
        return classes, {"expression": float(classes.detach())}
    known = ~va.isnan().any(dim=1)
    values, truth = outputs[known, count:], va[known]
    if len(values) >= max(recipe.va_rows, 2):
        apart = 2 * ccc_loss(values, truth)
    else:
        apart = (values - truth).square().mean(dim=0).sum() if len(values) else values.sum() * 0
    return classes + recipe.va_weight * apart, {
        "expression": float(classes.detach()),
        "va": float(apart.detach()),
    }


def class_weights(counts: NDArray[np.int64], kind: str) -> Tensor:
    """Weights ``[C]`` of the classes.

    Args:
        kind: ``none``, ``sqrt`` (1/sqrt n, mean 1) or ``inverse`` (1/n, the smallest being 1, as HSEmotion has it).
            Classes without images weigh what one image would.
    """
    n = torch.from_numpy(np.maximum(counts, 1)).double()
    if kind == "inverse":
        return (n.max() / n).float()
    raw = torch.ones_like(n) if kind == "none" else n.rsqrt()
    return (raw / raw.mean()).float()


def run_identity(
    info: NetworkInfo,
    start: Mapping[str, Tensor],
    train: FaceImages,
    held: FaceImages,
    recipe: PretrainRecipe,
    seed: int,
) -> str:
    """Digest of all that decides what a run learns."""
    data = [asdict(info), tensors_sha256(start), train.digest(), held.digest(), asdict(recipe), seed]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _transform(recipe: PretrainRecipe) -> Transform:
    if recipe.augment == "imagenet":
        return ImagenetTransform(recipe.input_size)
    return (FaceTransform if recipe.augment == "faces" else PlainTransform)(recipe.input_size)
