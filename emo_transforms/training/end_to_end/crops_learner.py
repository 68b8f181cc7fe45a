"""Backbone and temporal mixer trained together, from stored crops: the recipe ``authors``.

What "Lightweight Models for Emotional Analysis in Video" (Nguyen, Nguyen & Huynh, ABAW8 2025) does by its published
code: the stem (first convolution and batch norm) keeps its weights and statistics, all blocks train with batch norms
of the batch, every frame is augmented by itself. The result is a head and the backbone it belongs to.

It computes in float32; the published run was bf16-mixed, which ``precision=bf16`` asks for.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import final_layer_state
from emobeam.emo_transforms.networks.backbones.torch_backbones import TorchBackbone, build_backbone
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NetworkInfo, read_info
from emobeam.emo_transforms.networks.heads.config import HeadConfig
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.end_to_end.crops_data import (
    ClipBatch,
    ClipLoader,
    ClipWindows,
    clip_windows,
    crops_identity,
    drop_crops,
    pack_crops,
    workers_that_fit,
)
from emobeam.emo_transforms.training.end_to_end.trunk_and_head import EndToEnd
from emobeam.emo_transforms.training.fitting import FitPlan, State, Tell, descend, fit, loss_figures, make_optimiser
from emobeam.emo_transforms.training.heads.evaluation import Tuned, holdout_figures, tune_on, values_of
from emobeam.emo_transforms.training.heads.head_loop import SeedResult, TrainSetup, learning_rate, without_holdout
from emobeam.emo_transforms.training.heads.head_start import head_config, start_module
from emobeam.emo_transforms.training.heads.recipe import recipe_to_json
from emobeam.emo_transforms.training.heads.samples import LabelledFace, label_counts
from emobeam.emo_transforms.training.images.pixels import AUTHORS, FrameAugmentation, augment, normalise, to_float
from emobeam.emo_transforms.training.losses import balanced_loss
from emobeam.schemas.config import BackboneConfig, ExtractConfig, digest_of
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, UsageError


@dataclass(frozen=True)
class EndToEndConfig:
    """What only training from crops needs, beside the recipe.

    Attributes:
        freeze: one of ``training.trunk_and_head.FREEZES``; with ``all_but_final`` the backbone's last layer and the
            head train alone.
        augmentation: of each frame by itself.
        workers: processes that decode crops; 0 decodes in this one. They change nothing in the result. There are
            fewer where the system's shared memory has no room for what they read ahead.
    """

    freeze: str = "stem"
    augmentation: FrameAugmentation = AUTHORS
    workers: int = 0


@dataclass(frozen=True, eq=False)
class EndToEndResult:
    """A trained head and its backbone.

    Attributes:
        result: as any other seed gives it; its head is of the features of the trained backbone.
        backbone: tensors for ``save_head(head, folder, backbone=...)``.
        config: the trained backbone's; ``weights_sha256`` is that of ``backbone``.
        unreadable: crops that could not be decoded, and took no part.
    """

    result: SeedResult
    backbone: Mapping[str, Tensor]
    config: BackboneConfig
    unreadable: int


def start_backbone(dataset: Dataset, weights: str = "", name: str = "", input_size: int = 0) -> TorchBackbone:
    """The backbone that training starts from.

    Args:
        dataset: of the cache; where it says with which backbone it was made, that one is meant.
        weights: ``untrained``, ``timm``, ``timm:TAG`` or a file; empty: those of the cache's backbone.
        name: empty: the cache's; where it holds crops alone, what the file of weights says of itself, else the
            backbone of the paper.
        input_size: edge in px; 0: the cache's, else 224.
    """
    made = dataset.config.backbone
    known = made.name != "none"
    weights = weights or (made.weights if known else "untrained")
    if not name:
        note = read_info(weights)
        name = made.name if known else note.architecture if note else BackboneConfig().name
    return build_backbone(name, weights, input_size or (made.input_size if known else 0), store=("maps",))


def train_end_to_end(
    setup: TrainSetup,
    seed: int,
    folder: str,
    tell: Tell = lambda event, data: None,
    *,
    backbone: TorchBackbone,
    config: EndToEndConfig | None = None,
) -> EndToEndResult:
    """Trains one seed; the same call goes on after it was broken off.

    Args:
        setup: of frame-level tasks; its cache stores crops, maps aren't read. ``setup.final`` plays no part.
        folder: local, for checkpoints and the packed crops, which go when it is done.
        backbone: where training starts from; must have maps.

    Raises:
        UsageError: a task of clip scope, a head that doesn't read maps, or a cache without crops.
        EmobeamError: nothing to train on, or a loss that isn't finite.
    """
    began = time.monotonic()
    config = config or EndToEndConfig()
    _check(setup, backbone)
    learner = CropsLearner(setup, backbone, config, seed, folder)
    identity = digest_of(
        [setup.identity(seed), backbone.config.weights_sha256, repr(config.augmentation), config.freeze]
    )
    recipe = setup.recipe
    plan = FitPlan(identity, recipe.epochs, patience=recipe.patience if setup.held else 0, seed=seed)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        fitted = fit(learner, plan, folder, tell)
        learner.network.load_state_dict(dict(fitted.weights))
        tuned = learner.tuned()
    network = learner.network.cpu().eval()
    state = network.backbone_state()
    trained = replace(backbone.config, weights_sha256=tensors_sha256(state))
    features_id = replace(setup.dataset.config, backbone=trained).features_id
    history = tuple(fitted.history) if setup.held else tuple(without_holdout(row) for row in fitted.history)
    described = _described(
        setup, learner, history, fitted.best_epoch, tuned, setup.identity(seed), trained, features_id
    )
    head = Head(described, network.head, tensors_sha256(network.head.state_dict()))
    score = tuned.score if tuned is not None else math.nan
    drop_crops(folder)
    result = SeedResult(seed, head, history, score, time.monotonic() - began, fitted.resumed)
    return EndToEndResult(result, state, trained, len(learner.unreadable))


class CropsLearner:
    """Backbone and head and how they learn; see ``training.fitting.Learner``.

    Attributes:
        network: what trains.
        unreadable: (window, place) of crops that could not be decoded, by split.
    """

    def __init__(
        self, setup: TrainSetup, backbone: TorchBackbone, config: EndToEndConfig, seed: int, folder: str
    ) -> None:
        self._setup, self._config, self._backbone = setup, config, backbone
        self.unreadable: set[tuple[str, int, int]] = set()
        self._epoch = 0
        recipe, faces = setup.recipe, setup.joined.faces
        seen_by = replace(setup.dataset.config, backbone=backbone.config)
        self.head_config = _head_config(setup, backbone, seen_by, seed)
        trunk = copy.deepcopy(backbone.network)  # other seeds start from it as well
        head = start_module(self.head_config, final_layer_state(trunk))
        self.network = EndToEnd(trunk, head, config.freeze).to(setup.device)
        length = self.head_config.window
        train = clip_windows(
            faces, setup.train, length, gap=recipe.window_gap, labelled=recipe.drop_invalid, stride=recipe.stride
        )
        train = _useful(train, faces)
        if not len(train):
            raise EmobeamError("there is no window with a valid label to train on")
        # Judged as stage 2 will run it: all frames, windows that end at its gaps.
        held = clip_windows(faces, setup.held, length, gap=PredictConfig().window_gap, labelled=False)
        wanted = _wanted(faces, (train, held))
        packed = pack_crops(
            setup.features, faces, wanted, folder, crops_identity(setup.joined.digest, (setup.train, setup.held))
        )
        workers = workers_that_fit(config.workers, recipe.batch * length, seen_by.backbone.input_size)
        how: dict[str, Any] = {"workers": workers, "pinned": setup.device.startswith("cuda"), "seed": seed}
        self._train = ClipLoader(packed, train, seen_by, batch=recipe.batch, fraction=recipe.fraction, **how)
        self._held = ClipLoader(packed, held, seen_by, batch=min(recipe.batch, 32), **how)
        counts = label_counts(setup.task, [faces[index] for index in setup.train])
        self._loss = balanced_loss(setup.task, recipe, counts)
        self._optimiser = make_optimiser(recipe.optimiser, self.network, recipe.lr, recipe.weight_decay)

    def begin(self, epoch: int) -> None:
        """Sets the layers to training."""
        self._epoch = epoch
        self.network.train()

    def steps(self, epoch: int) -> int:
        """The same in every epoch."""
        return self._train.steps()

    def batches(self, epoch: int, start: int) -> Iterator[ClipBatch]:
        """Clips in the order of the seed and the epoch."""
        return self._train.shuffled(epoch, start)

    def step(self, epoch: int, step: int, batch: ClipBatch) -> Mapping[str, float]:
        """Augments the pictures, takes one step by the recipe's learning rate; figures are the losses."""
        recipe, device, steps = self._setup.recipe, self._setup.device, self._train.steps()
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch * steps + step, steps * recipe.epochs)
        pictures = to_float(batch.pictures, device)
        changed = augment(pictures.flatten(0, 1), self._config.augmentation).reshape(pictures.shape)
        labels, valid = self._labels(batch)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = self.network(self._normalised(changed))
        loss, parts = self._loss(logits, labels.to(device), valid.to(device))
        descend(loss, self._optimiser, self.network, recipe.clip_norm)
        return loss_figures(loss, parts)

    def evaluate(self) -> Mapping[str, float]:
        """The challenge's figure and the loss on the hold-out; without one the number of the epoch."""
        if not self._setup.held:
            return {"score": float(self._epoch)}  # the last epoch is the best one
        setup = self._setup
        return holdout_figures(setup.task, setup.joined.faces, self.logits(), self.head_config.activation, self._loss)

    def weights(self) -> dict[str, Tensor]:
        """Of trunk and head, as they are now, on their device."""
        return dict(self.network.state_dict())

    def state(self) -> State:
        """Weights and optimiser."""
        return {"network": dict(self.network.state_dict()), "optimiser": self._optimiser.state_dict()}

    def restore(self, state: State) -> None:
        """Goes on from a ``state``."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])

    def tuned(self) -> Tuned | None:
        """Figures and choices of the present weights on the hold-out, None without one."""
        if not self._setup.held:
            return None
        recipe = self._setup.recipe
        return tune_on(
            self._setup.task,
            self._setup.joined.faces,
            values_of(self.logits(), self.head_config.activation),
            gap=PredictConfig().window_gap,
            thresholds=recipe.tune_thresholds,
            smoothing=recipe.tune_smoothing,
        )

    def logits(self) -> dict[int, Tensor]:
        """Logits ``[n, K]`` of every row of the held-out faces, in eval mode, without augmentation."""
        windows, faces = self._held.windows, self._setup.joined.faces
        outputs = len(self.head_config.outputs)
        found = {index: torch.full((len(faces[index]), outputs), math.nan) for index in self._setup.held}
        self.network.eval()
        real = windows.real
        with torch.inference_mode():
            for batch in self._held.in_order():
                self._note("held", batch)
                logits = self.network(self._normalised(to_float(batch.pictures, self._setup.device))).float().cpu()
                for place, window in enumerate(batch.windows.tolist()):
                    keep = real[window]
                    found[int(windows.face[window])][windows.rows[window][keep]] = logits[place][torch.from_numpy(keep)]
        self.network.train()
        return found

    def _normalised(self, pictures: Tensor) -> Tensor:
        config = self._backbone.config
        return normalise(pictures, config.mean, config.std)

    def _labels(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Labels ``[B, T, C]`` and what of them counts ``[B, T, G]``: not padding, not frames nobody could decode."""
        self._note("train", batch)
        windows, faces = self._train.windows, self._setup.joined.faces
        chosen = batch.windows.tolist()
        rows = [(int(windows.face[window]), windows.rows[window]) for window in chosen]
        labels = np.stack([faces[face].labels[own] for face, own in rows])
        valid = np.stack([faces[face].valid[own] for face, own in rows])
        counted = windows.real[batch.windows.numpy()] & batch.readable.numpy()
        return torch.from_numpy(labels), torch.from_numpy(valid & counted[:, :, None])

    def _note(self, split: str, batch: ClipBatch) -> None:
        for place, frame in (~batch.readable).nonzero().tolist():
            self.unreadable.add((split, int(batch.windows[place]), frame))


def _check(setup: TrainSetup, backbone: TorchBackbone) -> None:
    if setup.task.scope == "clip":
        raise UsageError(f"recipe {setup.recipe.name}: trains on frames; task {setup.task.name} has labels of clips")
    if "crops" not in setup.dataset.config.store:
        raise UsageError(
            f"{setup.features}: recipe {setup.recipe.name} trains the backbone from crops, and the cache holds none; "
            "extract with --store crops (at the native rate: --fps native)"
        )
    if not backbone.map_shapes:
        raise UsageError(f"recipe {setup.recipe.name}: {backbone.config.name} has no feature maps for the mixers")


def _head_config(setup: TrainSetup, backbone: TorchBackbone, seen_by: ExtractConfig, seed: int) -> HeadConfig:
    dataset = Dataset(seen_by, backbone.map_shapes)
    final = final_layer_state(backbone.network)
    config = head_config(setup.task, dataset, setup.recipe, seed, final_channels=int(final["0.conv.weight"].shape[0]))
    if set(config.inputs) & {"embedding", "scores"}:
        raise UsageError(f"recipe {setup.recipe.name}: reads {', '.join(config.inputs)}; end to end, heads read maps")
    return config


def _useful(windows: ClipWindows, faces: Sequence[LabelledFace]) -> ClipWindows:
    """Windows with at least one valid label."""
    keep = [bool(faces[face].valid[rows].any()) for face, rows in zip(windows.face.tolist(), windows.rows, strict=True)]
    mask = np.array(keep, bool)
    return ClipWindows(windows.face[mask], windows.rows[mask], windows.lengths[mask])


def _wanted(faces: Sequence[LabelledFace], parts: Sequence[ClipWindows]) -> dict[int, NDArray[np.bool_]]:
    wanted: dict[int, NDArray[np.bool_]] = {}
    for windows in parts:
        for face, rows in zip(windows.face.tolist(), windows.rows, strict=True):
            wanted.setdefault(face, np.zeros(len(faces[face]), bool))[rows] = True
    return wanted


def _described(
    setup: TrainSetup,
    learner: CropsLearner,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    tuned: Tuned | None,
    identity: str,
    trained: BackboneConfig,
    features_id: str,
) -> HeadConfig:
    faces = setup.joined.faces
    held = [faces[index] for index in setup.held]
    metrics: dict[str, Any] = {"best_epoch": best_epoch + 1, "history": [dict(row) for row in history]}
    if tuned is not None:
        metrics["holdout"] = tuned.described(held)
    started = setup.dataset.config
    provenance = {
        "identity": identity,
        "recipe": recipe_to_json(setup.recipe),
        "cache_id": started.cache_id,
        "features_id": features_id,
        "backbone": {
            "file": "backbone.safetensors",
            "sha256": trained.weights_sha256,
            "started_from": trained.weights,
            "note": asdict(NetworkInfo(trained.name, (), trained.input_size, trained.mean, trained.std)),
        },
        "labels": setup.joined.digest,
        "label_counts": label_counts(setup.task, [faces[index] for index in setup.train]),
        "unreadable_crops": len(learner.unreadable),
        "device": setup.device,
        "torch": str(torch.__version__),
    }
    return replace(
        learner.head_config,
        features_id=features_id,
        unknown=setup.unknown,
        experimental=setup.experimental,
        weights=f"trained: recipe {setup.recipe.name}, seed {learner.head_config.seed}",
        thresholds=setup.thresholds(tuned),
        smoothing=tuned.smoothing if tuned is not None else 0,
        metrics=metrics,
        provenance=provenance,
        trained_on=tuple(sorted(faces[index].name for index in setup.train)),
        tuned_on=tuple(sorted(face.name for face in held)),
    )
