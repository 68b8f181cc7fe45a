"""The job ``pretrain`` for crops of people with action units: a backbone that stage 1 can use."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click
import timm
import torch

from emo_transforms import storage
from emo_transforms.training.affect_network import make_network, write_network
from emo_transforms.training.curves import draw_curves
from emo_transforms.training.fitting import FitPlan, Fitted, fit, forget
from emo_transforms.training.people_data import PeopleCrops, read_people, split_people
from emo_transforms.training.pretrain_recipe import PretrainRecipe, pretrain_recipe
from emo_transforms.training.pretraining import Setting
from emo_transforms.training.unit_pretraining import UnitPretraining, outputs_of, units_identity
from emo_transforms.training.units_card import units_card
from emo_transforms.weights import tensors_sha256
from pipelines.console import Ui
from pipelines.pretrain import (
    CARD_FILE,
    CURVES_FILE,
    HOLDOUT_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    WORK_FOLDER,
    check_output,
    choose_device,
    choose_workers,
    finished_run,
)
from schemas.records import EmobeamError, UsageError


@dataclass(frozen=True)
class PretrainUnitsRequest:
    """What is asked for; see ``emobeam pretrain --help``.

    Attributes:
        data: people folders.
        start: ``untrained``, ``timm`` or a file of weights.
        workers: processes that prepare crops; -1 is one per core.
        checkpoint_minutes: between two checkpoints within an epoch.
    """

    data: tuple[str, ...]
    output: str
    backbone: str = "mobilenetv4_conv_small"
    start: str = "untrained"
    recipe: str = "units"
    settings: tuple[str, ...] = ()
    seed: int = 0
    workers: int = 0
    device: str = "cpu"
    checkpoint_minutes: float = 5.0


def run_pretrain_units(request: PretrainUnitsRequest, ui: Ui) -> dict[str, Any]:
    """Trains, or goes on training, and writes the folder; returns what ``pretrain.json`` holds.

    Raises:
        UsageError: a request that makes no sense, or an output that holds another run.
        EmobeamError: data or weights that can't be used.
    """
    check_output(request.output)
    recipe = pretrain_recipe(request.recipe, request.settings)
    if not recipe.holdout:
        raise UsageError("recipe: holdout is 0, but the best epoch is chosen on it; give a share such as 0.05")
    crops = read_people(request.data)
    places, held_places = split_people(crops, recipe.holdout, request.seed)
    if not len(places) or not len(held_places):
        raise EmobeamError(f"{', '.join(request.data)}: one person is too few to train on some and hold others out")
    train, held = crops.take(places), crops.take(held_places)
    _tell_data(train, held, ui)
    network, info, untrained = make_network(
        request.backbone,
        request.start,
        outputs_of(crops),
        input_size=recipe.input_size,
        dropout=recipe.dropout,
        drop_path=recipe.drop_path,
        seed=request.seed,
    )
    if untrained:
        ui.warn(f"--start {request.start}: {len(untrained)} tensors start untrained: {', '.join(untrained[:4])}")
    started = tensors_sha256(network.state_dict())
    identity = units_identity(info, network.state_dict(), train, held, recipe, request.seed)
    done = finished_run(request.output, identity)
    if done is not None:
        ui.say(f"{request.output}: done already; nothing to do")
        return done
    setting = Setting(choose_device(request.device), choose_workers(request.workers))
    learner = UnitPretraining(
        network, info, train, held, recipe, seed=request.seed, fresh=request.start == "untrained", setting=setting
    )
    plan = FitPlan(
        identity, learner.epochs, recipe.patience, seed=request.seed, checkpoint_seconds=60 * request.checkpoint_minutes
    )
    work = storage.join(request.output, WORK_FOLDER)
    fitted = _fit(learner, plan, work, recipe, ui)
    found = {
        "identity": identity,
        "weights": {
            "file": WEIGHTS_FILE,
            "sha256": tensors_sha256(fitted.weights),
            "start": request.start,
            "start_sha256": started,
        },
        "network": asdict(info),
        "recipe": asdict(recipe),
        "seed": request.seed,
        "data": {"sources": list(request.data), "train": _split_json(train), "holdout": _split_json(held)},
        "best_epoch": fitted.best_epoch + 1,
        "history": [dict(figures) for figures in fitted.history],
        "holdout": learner.figures(fitted.weights),
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()},
        "device": setting.device,
    }
    result: dict[str, Any] = json.loads(json.dumps(found))
    write_network(storage.join(request.output, WEIGHTS_FILE), fitted.weights, info)
    people = "\n".join(sorted(set(held.groups)))
    storage.write_bytes(storage.join(request.output, HOLDOUT_FILE), f"{people}\n".encode())
    draw_curves(
        storage.join(request.output, CURVES_FILE), info.architecture, "correlation", {"pretrain": fitted.history}
    )
    storage.write_bytes(storage.join(request.output, CARD_FILE), units_card(result).encode())
    storage.write_json(storage.join(request.output, RESULT_FILE), result)
    forget(work)
    return result


def print_pretrained_units(result: Mapping[str, Any], output: str) -> None:
    """The result for people, on standard output."""
    figures = result["holdout"]
    each = ", ".join(f"{unit} {row['auc']:.2f}" for unit, row in figures["units"].items() if row["auc"] is not None)
    click.echo(
        f"hold-out: mean correlation {figures['correlation']:.4f}, mean AUC {figures['auc']:.4f} over "
        f"{figures['crops']} crops; AUC {each}"
    )
    click.echo(
        f"use it: emobeam extract ... --backbone {result['network']['architecture']} "
        f"--backbone-weights {storage.join(output, WEIGHTS_FILE)}"
    )


def _tell_data(train: PeopleCrops, held: PeopleCrops, ui: Ui) -> None:
    ui.say(
        f"training on {len(train)} crops of {len(set(train.groups))} people; held out: {len(held)} of "
        f"{len(set(held.groups))}"
    )
    few = [name for name, count in train.known().items() if count < len(train) / 20]
    if few:
        ui.say(f"known in less than a twentieth of the crops: {', '.join(few)}")


def _fit(learner: UnitPretraining, plan: FitPlan, work: str, recipe: PretrainRecipe, ui: Ui) -> Fitted:
    def tell(event: str, data: Mapping[str, Any]) -> None:
        if event == "resume":
            ui.say(f"going on with epoch {data['epoch'] + 1}, step {data['step'] + 1}")
            ui.event("earlier", {"frames": (data["epoch"] * learner.steps(0) + data["step"]) * recipe.batch})
        elif event == "step":
            ui.event("frames", {"frames": recipe.batch})
        elif event == "epoch":
            ui.event("done", {"key": str(data["epoch"])})
            ui.say(
                f"epoch {data['epoch']}/{data['epochs']}: loss {data['loss']:.4f}, hold-out correlation "
                f"{data['holdout_correlation']:.4f}, AUC {data['holdout_auc']:.4f}, landmarks "
                f"{data['holdout_landmarks']:.4f} of the edge away"
            )

    ui.start("pretrain", plan.epochs * learner.steps(0) * recipe.batch, plan.epochs, "epochs", "crops")
    try:
        return fit(learner, plan, work, tell)
    finally:
        ui.finish()


def _split_json(crops: PeopleCrops) -> dict[str, Any]:
    return {
        "crops": len(crops),
        "people": len(set(crops.groups)),
        "known": {name: count for name, count in crops.known().items() if name in crops.outputs[: crops.units]},
        "sha256": crops.digest(),
    }
