"""One seed of training a head on the cache: from a recipe and joined labels to a head ready to be saved."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from emobeam.emo_transforms.abaw.scoring.tuning import DECISION
from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.config import HeadConfig
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.fitting import FitPlan, Tell, descend, fit, loss_figures, make_optimiser
from emobeam.emo_transforms.training.heads.evaluation import (
    Tuned,
    holdout_figures,
    predict_logits,
    tune_on,
    usual_limit,
    values_of,
)
from emobeam.emo_transforms.training.heads.head_start import head_config, start_module
from emobeam.emo_transforms.training.heads.loader import Batch, LoadConfig, Loader, make_loader
from emobeam.emo_transforms.training.heads.recipe import Recipe, recipe_to_json
from emobeam.emo_transforms.training.heads.row_groups import Source, source_of
from emobeam.emo_transforms.training.heads.samples import Joined, label_counts, unknown_outputs
from emobeam.emo_transforms.training.heads.window_plans import Plan, evaluation_plan, training_plan
from emobeam.emo_transforms.training.losses import balanced_loss
from emobeam.schemas.config import digest_of
from emobeam.schemas.tasks import Task

TRAINING_REVISION = 2
"""Raised by hand whenever a change of the code changes the weights that a recipe gives."""


@dataclass(frozen=True, eq=False)
class TrainSetup:
    """All that the seeds of a run have in common.

    Attributes:
        train, held: indices into ``joined.faces``.
        final: tensors of the backbone's final layer to start from, or None.
        buffer_mb: MB of rows and batches in memory.
        readers: threads that read shards; 0: one per core, at most 16.
        device: ``cpu`` or ``cuda``; it doesn't enter the identity of the run.
        backbone: sha256 of the weights that a backbone which trains too begins with, else ``""``.
        experimental: outputs to be marked so; decides nothing of the weights.
    """

    task: Task
    recipe: Recipe
    features: str
    dataset: Dataset
    joined: Joined
    train: tuple[int, ...]
    held: tuple[int, ...]
    final: Mapping[str, Tensor] | None = None
    buffer_mb: int = 1024
    readers: int = 0
    device: str = "cpu"
    backbone: str = ""
    experimental: tuple[str, ...] = ()

    def identity(self, seed: int) -> str:
        """Digest of everything that decides the weights, but machine, device and number of threads.

        Nor is ``buffer_mb`` in it: it plays a part where rows don't fit into memory, see :attr:`HeadLearner.identity`.
        """
        parts = [
            TRAINING_REVISION,
            recipe_to_json(self.recipe),
            self.task.name,
            self.dataset.config.features_id,
            self.joined.digest,
            [self.train, self.held],
            tensors_sha256(self.final) if self.final is not None else self.backbone,
            seed,
        ]
        return digest_of(parts)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Outputs that no label to train on is about."""
        return unknown_outputs(self.task, [self.joined.faces[index] for index in self.train])

    def thresholds(self, tuned: Tuned | None) -> tuple[float, ...]:
        """Those that were chosen, else those that the labels ask for; empty: 0.5."""
        if tuned is not None and tuned.thresholds:
            return tuned.thresholds
        usual = usual_limit(self.task, self.joined.faces)
        return () if usual == DECISION else (usual,) * len(self.task.outputs)

    def differences(self, head: HeadConfig) -> list[str]:
        """What a trained head was trained with that isn't so here, for people; empty where it can't be told."""
        known = head.provenance
        asked, found = recipe_to_json(self.recipe), dict(known.get("recipe", {}))
        told = [f"{key} {found[key]} (now {value})" for key, value in asked.items() if found.get(key, value) != value]
        names = (("trained on", head.trained_on, self.train), ("held out", head.tuned_on, self.held))
        if known.get("labels", self.joined.digest) != self.joined.digest:
            told.append("other labels, or other rows in the cache")
        for what, there, indices in names:
            if set(there) != {self.joined.faces[index].name for index in indices}:
                told.append(f"other videos {what}")
        if not self.backbone and known.get("features_id", "") != self.dataset.config.features_id:
            told.append("features of another backbone")
        if known.get("rows_in_memory") is False and known.get("buffer_mb", self.buffer_mb) != self.buffer_mb:
            told.append(f"rows streamed through {known['buffer_mb']} MB (now {self.buffer_mb})")
        return told


@dataclass(frozen=True, eq=False)
class SeedResult:
    """What one seed gave.

    Attributes:
        head: with thresholds, smoothing, metrics, provenance and ids filled in.
        history: figures of each epoch.
        score: on the hold-out with what was tuned there; NaN without a hold-out.
    """

    seed: int
    head: Head
    history: tuple[Mapping[str, float], ...]
    score: float
    seconds: float
    resumed: bool = False


def train_seed(setup: TrainSetup, seed: int, folder: str, tell: Tell = lambda event, data: None) -> SeedResult:
    """Trains one seed; the same call goes on after it was broken off.

    Equal setups and seeds give equal weights on one kind of machine with the same number of threads (torch divides
    sums among threads); ``torch.set_num_threads(1)`` makes them equal on all of its kind.

    Args:
        folder: local path or URI, for checkpoints.
        tell: told about ``step``, ``epoch`` and ``resume``, see ``training.fitting``.

    Raises:
        EmobeamError, UsageError: nothing to train on, not enough memory allowed, a loss that isn't finite, a
            checkpoint of another run.
    """
    began = time.monotonic()
    recipe = setup.recipe
    channels = int(next(iter(setup.final.values())).shape[0]) if setup.final is not None else 960
    config = head_config(setup.task, setup.dataset, recipe, seed, final_channels=channels)
    with _deterministic(setup.device):
        module = start_module(config, setup.final).to(setup.device)
        learner = HeadLearner(setup, config, module, seed)
        plan = FitPlan(learner.identity, recipe.epochs, patience=recipe.patience if setup.held else 0, seed=seed)
        fitted = fit(learner, plan, folder, tell)
        module.load_state_dict(dict(fitted.weights))
        tuned = learner.tuned()
    module = module.cpu().eval()
    history = tuple(fitted.history) if setup.held else tuple(without_holdout(row) for row in fitted.history)
    config = _described(setup, config, seed, tuned, history, fitted.best_epoch, resident=learner.loader.resident)
    head = Head(config, module, tensors_sha256(module.state_dict()))
    score = tuned.score if tuned is not None else math.nan
    return SeedResult(seed, head, history, score, time.monotonic() - began, fitted.resumed)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The rate of a step, from 0.

    ``restarts``: cosine annealing from ``lr`` to ``lr_min`` over ``restart_steps``, again and again (Loshchilov &
    Hutter 2017); ``cosine``: the same once, over all steps after the warm-up; ``constant``. During the warm-up the
    rate grows linearly; the schedule begins after it. It takes a tenth of the steps at most.
    """
    warmup = min(recipe.warmup_steps, total // 10)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    step -= warmup
    if recipe.schedule == "constant":
        return recipe.lr
    length = recipe.restart_steps if recipe.schedule == "restarts" else max(total - warmup, 1)
    place = step % length if recipe.schedule == "restarts" else min(step, length)
    return recipe.lr_min + (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * place / length)) / 2


@dataclass
class HeadLearner:
    """A head and how it learns; see ``training.fitting.Learner``."""

    setup: TrainSetup
    config: HeadConfig
    module: HeadModule
    seed: int
    loader: Loader = field(init=False)

    def __post_init__(self) -> None:
        setup, recipe = self.setup, self.setup.recipe
        length = self.config.window
        scope = setup.task.scope
        self._source: Source = source_of(setup.features, setup.dataset, self.module.inputs)
        plan = training_plan(
            setup.joined,
            scope,
            setup.train,
            length=length,
            stride=min(recipe.stride, length),
            gap=recipe.window_gap,
            drop_invalid=recipe.drop_invalid,
        )
        self._held: Plan = evaluation_plan(setup.joined, scope, setup.held, length=length, gap=recipe.window_gap)
        self.loader = make_loader(
            self._source,
            plan,
            LoadConfig(
                batch=recipe.clip_batch if scope == "clip" else recipe.batch,
                fraction=recipe.fraction,
                seed=self.seed,
                buffer_mb=setup.buffer_mb,
                readers=setup.readers,
                views=recipe.views == "all" and setup.joined.views > 1,
                clip_windows=recipe.clip_windows,
            ),
        )
        counts = label_counts(setup.task, [setup.joined.faces[index] for index in setup.train])
        self._loss = balanced_loss(setup.task, recipe, counts)
        self._epoch = 0
        if self.module.final is not None and recipe.final_layer == "frozen":
            self.module.final.requires_grad_(False)
        self._optimiser = make_optimiser(recipe.optimiser, self.module, recipe.lr, recipe.weight_decay)

    @property
    def identity(self) -> str:
        """That of the run; of a stream the buffer too decides which windows meet in a batch."""
        identity = self.setup.identity(self.seed)
        return identity if self.loader.resident else digest_of([identity, self.setup.buffer_mb])

    def begin(self, epoch: int) -> None:
        """Sets the layers to training, save a norm of the final layer that the recipe keeps."""
        self._epoch = epoch
        self.module.train()
        recipe = self.setup.recipe
        if self.module.final is not None and (recipe.final_norm == "fixed" or recipe.final_layer == "frozen"):
            self.module.final.norm.eval()

    def steps(self, epoch: int) -> int:
        """The same in every epoch."""
        return self.loader.steps()

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """Windows in the order of the seed and the epoch."""
        return self.loader.epoch(epoch, start)

    def step(self, epoch: int, step: int, batch: Batch) -> Mapping[str, float]:
        """One step by the recipe's learning rate; figures are the losses."""
        recipe, device = self.setup.recipe, self.setup.device
        total = self.loader.steps() * recipe.epochs
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch * self.loader.steps() + step, total)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = batch_logits(self.module, batch, device)
        loss, parts = self._loss(logits, batch.labels.to(device), batch.valid.to(device))
        descend(loss, self._optimiser, self.module, recipe.clip_norm)
        return loss_figures(loss, parts)

    def evaluate(self) -> Mapping[str, float]:
        """The challenge's figure and the loss on the hold-out; without one the number of the epoch."""
        if not self.setup.held:
            return {"score": float(self._epoch)}  # the last epoch is the best one
        setup = self.setup
        return holdout_figures(setup.task, setup.joined.faces, self._logits(), self.config.activation, self._loss)

    def weights(self) -> dict[str, Tensor]:
        """Of the head, as they are now, on their device."""
        return dict(self.module.state_dict())

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"module": dict(self.module.state_dict()), "optimiser": self._optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a ``state``."""
        self.module.load_state_dict(state["module"])
        self._optimiser.load_state_dict(state["optimiser"])

    def tuned(self) -> Tuned | None:
        """Figures and choices of the present weights on the hold-out, None without one."""
        if not self.setup.held:
            return None
        recipe = self.setup.recipe
        return tune_on(
            self.setup.task,
            self.setup.joined.faces,
            values_of(self._logits(), self.config.activation),
            gap=recipe.window_gap,
            thresholds=recipe.tune_thresholds,
            smoothing=recipe.tune_smoothing,
        )

    def _logits(self) -> dict[int, Tensor]:
        return predict_logits(
            self.module, self._source, self._held, device=self.setup.device, readers=self.setup.readers
        )


def batch_logits(module: HeadModule, batch: Batch, device: str = "cpu") -> Tensor:
    """Logits ``[W, T, K]`` of the windows of a batch, or ``[B, K]`` of its clips."""
    inputs = {name: values.to(device, non_blocking=True).float() for name, values in batch.inputs.items()}
    if module.scope != "clip":
        return module(inputs)  # type: ignore[no-any-return]
    vectors = module.vectors(inputs)
    owner, lengths = batch.owner.to(device), batch.lengths.to(device)
    counts = torch.bincount(batch.owner)
    place = torch.cat([torch.arange(int(count)) for count in counts]).to(device)
    shape = len(counts), int(counts.max())
    padded = vectors.new_zeros((*shape, vectors.shape[-1])).index_put((owner, place), vectors)
    weights = lengths.new_zeros(shape).index_put((owner, place), lengths)
    return module.pool(padded, weights)


def _described(
    setup: TrainSetup,
    config: HeadConfig,
    seed: int,
    tuned: Tuned | None,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    *,
    resident: bool,
) -> HeadConfig:
    faces = setup.joined.faces
    held = [faces[index] for index in setup.held]
    metrics: dict[str, Any] = {"best_epoch": best_epoch + 1, "history": [dict(row) for row in history]}
    if tuned is not None:
        metrics["holdout"] = tuned.described(held)
    provenance = {
        "identity": setup.identity(seed),
        "recipe": recipe_to_json(setup.recipe),
        "cache_id": setup.dataset.config.cache_id,
        "features_id": setup.dataset.config.features_id,
        "backbone_weights": setup.dataset.config.backbone.weights,
        "backbone_sha256": setup.dataset.config.backbone.weights_sha256,
        "labels": setup.joined.digest,
        "counts": {name: value for name, value in vars(setup.joined.counts).items() if name != "missing"},
        "label_counts": label_counts(setup.task, [faces[index] for index in setup.train]),
        "views": setup.joined.views,
        "device": setup.device,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "rows_in_memory": resident,
        "buffer_mb": setup.buffer_mb,
    }
    return replace(
        config,
        unknown=setup.unknown,
        experimental=setup.experimental,
        weights=f"trained: recipe {setup.recipe.name}, seed {seed}",
        thresholds=setup.thresholds(tuned),
        smoothing=tuned.smoothing if tuned is not None else 0,
        metrics=metrics,
        provenance=provenance,
        trained_on=tuple(sorted(faces[index].name for index in setup.train)),
        tuned_on=tuple(sorted(face.name for face in held)),
    )


def without_holdout(row: Mapping[str, float]) -> dict[str, float]:
    """Figures of an epoch without those that stand in for a hold-out where there is none."""
    return {name: value for name, value in row.items() if not name.startswith("holdout_")}


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """On CUDA the same sums in the same order each time, as far as torch can; the CPU does so by itself."""
    if device == "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
