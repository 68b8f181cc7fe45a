"""A run of training that can be broken off anywhere: epochs, best weights, early stop, checkpoints.

What is learned stands behind :class:`Learner`; here is only the order of things. Every step draws its random numbers
from a seed of its own (made of the run's seed and the step's number), so a run that goes on from a checkpoint in the
middle of an epoch ends in the same bits as one that was never broken off, on one kind of machine.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from emobeam.emo_transforms import storage
from emobeam.schemas.records import EmobeamError, UsageError

STATE_FILE = "state.pt"

State = dict[str, Any]
"""Tensors, numbers, text, and lists and dictionaries of them: what ``torch.load(weights_only=True)`` reads."""

Tell = Callable[[str, Mapping[str, Any]], None]
"""Called with ``epoch``, ``step`` or ``resume`` and what there is to tell about it."""


class Learner(Protocol):
    """What is trained, and how one step of it goes."""

    def begin(self, epoch: int) -> None:
        """An epoch begins (or goes on, after :meth:`restore`): choose what trains, make its optimiser."""

    def steps(self, epoch: int) -> int:
        """Number of steps of an epoch."""

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of an epoch from step ``start`` on; the same ones whenever they are asked for."""

    def step(self, epoch: int, step: int, batch: Any) -> Mapping[str, float]:
        """One step of optimisation; returns figures to be averaged over the epoch, ``loss`` among them."""

    def evaluate(self) -> Mapping[str, float]:
        """Figures on the hold-out; ``score`` is what selects the best epoch, the higher the better."""

    def weights(self) -> dict[str, Tensor]:
        """Tensors to be kept of the best epoch (references; they are copied)."""

    def state(self) -> State:
        """All that is needed to go on."""

    def restore(self, state: State) -> None:
        """The inverse of :meth:`state`; called after :meth:`begin` of the epoch that goes on."""


@dataclass(frozen=True)
class FitPlan:
    """How long, and how often it is kept.

    Attributes:
        identity: digest of everything that decides the result; a checkpoint of another one is refused.
        epochs: at most.
        patience: epochs without a better score after which it ends; 0 never ends early.
        patience_from: epochs before this one don't count for patience.
        seed: of the run.
        checkpoint_seconds: between checkpoints inside an epoch; one is written at the end of each epoch in any case.
    """

    identity: str
    epochs: int
    patience: int = 0
    patience_from: int = 0
    seed: int = 0
    checkpoint_seconds: float = 300.0


@dataclass
class Progress:
    """Where a run stands; part of its checkpoint.

    Attributes:
        epoch, step: the next step to be taken.
        sums: of the figures of this epoch's steps.
        history: one dictionary of figures per finished epoch.
        best_epoch: -1 before the first evaluation.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf


@dataclass(frozen=True)
class Fitted:
    """The result.

    Attributes:
        history: figures of each epoch: those of its steps, averaged, and those of the hold-out as ``holdout_...``.
        best_epoch: whose weights these are, from 0.
        weights: tensors of the best epoch, on the CPU.
        resumed: the run went on from a checkpoint.
    """

    history: tuple[Mapping[str, float], ...]
    best_epoch: int
    weights: Mapping[str, Tensor]
    resumed: bool


def fit(learner: Learner, plan: FitPlan, folder: str, tell: Tell = lambda event, data: None) -> Fitted:
    """Trains to the end, going on from the checkpoint in ``folder`` where there is one.

    Args:
        folder: local path or URI, for the checkpoint alone; :func:`forget` clears it.
        tell: for progress; an exception it raises breaks the run off, and the same call goes on.

    Raises:
        UsageError: the checkpoint there is of another run.
        EmobeamError: the loss is no longer a number.
    """
    progress, best, learned = Progress(), {}, None
    found = _read_state(folder)
    if found is not None:
        if found["identity"] != plan.identity:
            raise UsageError(
                f"{folder}: holds an unfinished run with other data or settings; repeat its command to go on with it, "
                "name another output, or remove the folder"
            )
        progress, best, learned = Progress(**found["progress"]), found["best"], found["learner"]
        tell("resume", {"epoch": progress.epoch, "step": progress.step})
    saved = time.monotonic()
    while progress.epoch < plan.epochs and not _spent(progress, plan):
        learner.begin(progress.epoch)
        if learned is not None:
            learner.restore(learned)
            learned = None
        steps = learner.steps(progress.epoch)
        for batch in learner.batches(progress.epoch, progress.step):
            with seeded(plan.seed, progress.epoch, progress.step):
                figures = learner.step(progress.epoch, progress.step, batch)
            if not math.isfinite(figures["loss"]):
                raise EmobeamError(
                    f"the loss is {figures['loss']} in step {progress.step + 1} of epoch {progress.epoch + 1}: lower "
                    "the learning rate, or train in float32"
                )
            for name, value in figures.items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            progress.step += 1
            if time.monotonic() - saved >= plan.checkpoint_seconds and progress.step < steps:
                _write_state(folder, plan, progress, best, learner)
                saved = time.monotonic()
            tell("step", {"epoch": progress.epoch, "step": progress.step, "steps": steps, **figures})
        best = _end_epoch(learner, progress, best)
        _write_state(folder, plan, progress, best, learner)
        saved = time.monotonic()
        tell("epoch", {"epoch": progress.epoch, "epochs": plan.epochs, **progress.history[-1]})
    return Fitted(tuple(progress.history), progress.best_epoch, best, found is not None)


def forget(folder: str) -> None:
    """Removes the checkpoint of a run that has ended."""
    storage.remove(storage.join(folder, STATE_FILE))


def has_checkpoint(folder: str) -> bool:
    """Whether a broken-off run left its checkpoint there."""
    return storage.exists(storage.join(folder, STATE_FILE))


@contextmanager
def seeded(*parts: int) -> Iterator[None]:
    """Torch's random numbers from a seed made of these numbers; its own state comes back afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed_seed(*parts))
        yield


def mixed_seed(*parts: int) -> int:
    """A seed of 63 bits that differs for different numbers (splitmix64 over them)."""
    value = 0
    for part in parts:
        value = (value + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1


def _end_epoch(learner: Learner, progress: Progress, best: dict[str, Tensor]) -> dict[str, Tensor]:
    """Evaluates, notes the figures, moves on to the next epoch; returns the best weights so far."""
    held = {name: float(value) for name, value in learner.evaluate().items()}
    figures = {name: total / max(progress.step, 1) for name, total in progress.sums.items()}
    progress.history.append({**figures, **{f"holdout_{name}": value for name, value in held.items()}})
    if held["score"] > progress.best_score or progress.best_epoch < 0:
        progress.best_epoch, progress.best_score = progress.epoch, held["score"]
        best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in learner.weights().items()}
    progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
    return best


def _spent(progress: Progress, plan: FitPlan) -> bool:
    last = max(progress.best_epoch + 1, plan.patience_from)
    return plan.patience > 0 and progress.epoch - last >= plan.patience


def _write_state(folder: str, plan: FitPlan, progress: Progress, best: Mapping[str, Tensor], learner: Learner) -> None:
    state = {
        "identity": plan.identity,
        "progress": asdict(progress),
        "best": dict(best),
        "learner": learner.state(),
    }
    packed = io.BytesIO()  # torch tells of a full disk by an error that says nothing of it
    torch.save(state, packed)
    storage.write_bytes(storage.join(folder, STATE_FILE), packed.getbuffer())


def _read_state(folder: str) -> State | None:
    uri = storage.join(folder, STATE_FILE)
    if not storage.exists(uri):
        return None
    try:
        with storage.local_copy(uri) as path:
            state: State = torch.load(path, map_location="cpu", weights_only=True)
        if missing := {"identity", "progress", "best", "learner"} - state.keys():
            raise ValueError(f"no {', '.join(sorted(missing))} in it")
    except Exception as error:  # torch, pickle and zip files each have their own
        raise EmobeamError(f"{uri}: not a checkpoint of emobeam ({error}); remove it to start anew") from error
    return state


def make_optimiser(kind: str, network: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam (``adam``, ``adamw``) for what isn't frozen, at a learning rate that steps then change."""
    kinds: dict[str, type[torch.optim.Adam]] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    trained = [value for value in network.parameters() if value.requires_grad]
    return kinds[kind](trained, lr=rate, weight_decay=weight_decay)


def descend(loss: Tensor, optimiser: torch.optim.Optimizer, network: nn.Module, clip_norm: float) -> None:
    """One step down a loss; gradients longer than ``clip_norm`` are shortened to it, 0 leaves them as they are."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_norm:
        nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    optimiser.step()


def loss_figures(loss: Tensor, parts: Mapping[str, Tensor]) -> dict[str, float]:
    """The loss of a step and, where there are several, its parts, as an epoch's figures."""
    figures = {f"loss_{name}": float(part.detach()) for name, part in parts.items()} if len(parts) > 1 else {}
    return {"loss": float(loss.detach()), **figures}
