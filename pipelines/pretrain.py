"""The job ``pretrain``: labelled face images to a backbone that stage 1 can use."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click
import timm
import torch
from torch import Tensor

from emo_transforms import storage
from emo_transforms.backbones.notes import VA, NetworkInfo
from emo_transforms.training.affect_network import make_network, write_network
from emo_transforms.training.backbone_card import backbone_card
from emo_transforms.training.curves import draw_curves
from emo_transforms.training.face_images import FaceImages, split_holdout
from emo_transforms.training.face_layouts import FaceData, read_face_data
from emo_transforms.training.fitting import FitPlan, Fitted, fit, forget, has_checkpoint
from emo_transforms.training.pretrain_recipe import PretrainRecipe, pretrain_recipe
from emo_transforms.training.pretraining import Pretraining, Setting, run_identity
from emo_transforms.weights import tensors_sha256
from pipelines.console import Ui
from schemas.records import EmobeamError, UsageError

WEIGHTS_FILE = "backbone.safetensors"
RESULT_FILE = "pretrain.json"
CARD_FILE = "README.md"
CURVES_FILE = "curves.png"
HOLDOUT_FILE = "holdout.txt"
WORK_FOLDER = ".training"
_SHOWN = 20
_NAMED = 4


@dataclass(frozen=True)
class PretrainRequest:
    """What is asked for; see ``emobeam pretrain --help``.

    Attributes:
        loss: ``expression``, ``expression+va``, or empty: with valence and arousal where they are labelled.
        workers: processes that read images; -1 is one per core.
        checkpoint_minutes: between two checkpoints within an epoch.
    """

    data: str
    output: str
    backbone: str = "mobilenetv4_conv_small"
    start: str = "timm"
    loss: str = ""
    recipe: str = "emobeam"
    settings: tuple[str, ...] = ()
    classes: str = "auto"
    validation: str = ""
    images: str = ""
    seed: int = 0
    workers: int = 0
    device: str = "cpu"
    checkpoint_minutes: float = 5.0


def run_pretrain(request: PretrainRequest, ui: Ui) -> dict[str, Any]:
    """Trains, or goes on training, and writes the folder; returns what ``pretrain.json`` holds.

    Raises:
        UsageError: a request that makes no sense, or an output that holds another run.
        EmobeamError: data or weights that can't be used.
    """
    check_output(request.output)
    recipe = pretrain_recipe(request.recipe, request.settings)
    data = read_face_data(request.data, classes=request.classes, validation=request.validation, images=request.images)
    with_va = _with_va(request.loss, data.train)
    outputs = (*data.train.classes, *(VA if with_va else ()))
    if not recipe.holdout:
        raise UsageError("recipe: holdout is 0, but the best epoch is chosen on it; give a share such as 0.05")
    places, held_places = split_holdout(data.train, recipe.holdout, request.seed)
    train, held = data.train.take(places), data.train.take(held_places)
    if not len(train) or not len(held):
        raise EmobeamError(f"{request.data}: {len(data.train)} images are too few to train on some and hold others out")
    _tell_data(data, train, held, ui)
    network, info, untrained = make_network(
        request.backbone,
        request.start,
        outputs,
        input_size=recipe.input_size,
        dropout=recipe.dropout,
        drop_path=recipe.drop_path,
        seed=request.seed,
    )
    if untrained:
        ui.warn(
            f"--start {request.start}: {len(untrained)} tensors are not in it as the network needs them and start "
            f"untrained: {', '.join(untrained[:_NAMED])}{', ...' if len(untrained) > _NAMED else ''}"
        )
    started = tensors_sha256(network.state_dict())
    identity = run_identity(info, network.state_dict(), train, held, recipe, request.seed)
    done = finished_run(request.output, identity)
    if done is not None:
        ui.say(f"{request.output}: done already; nothing to do")
        return done
    setting = Setting(choose_device(request.device), choose_workers(request.workers))
    learner = Pretraining(
        network, info, train, held, recipe, seed=request.seed, fresh=request.start == "untrained", setting=setting
    )
    learner.unreadable.update(data.unreadable)
    plan = FitPlan(
        identity, learner.epochs, recipe.patience, learner.head_epochs, request.seed, 60 * request.checkpoint_minutes
    )
    work = storage.join(request.output, WORK_FOLDER)
    fitted = _fit(learner, plan, work, recipe, ui)
    held_figures = learner.figures(fitted.weights, held)
    official = learner.figures(fitted.weights, data.official) if data.official is not None else None
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
        "data": {
            "source": request.data,
            "train": _split_json(train),
            "holdout": _split_json(held),
            "official": None if data.official is None else _split_json(data.official),
            "left_out": dict(sorted(data.left_out.items())),
        },
        "best_epoch": fitted.best_epoch + 1,
        "history": [dict(figures) for figures in fitted.history],
        "holdout": held_figures,
        "official": official,
        "unreadable": _unreadable(learner.unreadable),
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "python": platform.python_version()},
        "device": setting.device,
    }
    result: dict[str, Any] = json.loads(json.dumps(found))
    _write(request.output, fitted, info, held, result)
    forget(work)
    if count := len(learner.unreadable):
        first = next(iter(sorted(learner.unreadable.items())))
        ui.warn(f"{count} images could not be read and were left out, for example {first[0]}: {first[1]}")
    return result


def print_pretrained(result: Mapping[str, Any], output: str) -> None:
    """The result for people, on standard output."""
    for name, title in (("holdout", "hold-out"), ("official", "official validation")):
        figures = result[name]
        if figures is None:
            continue
        text = f"{title}: accuracy {figures['accuracy']:.4f} over {len(figures['classes'])} classes"
        if "accuracy_7" in figures:
            text += f", {figures['accuracy_7']:.4f} over 7"
        text += f", mean recall {figures['mean_recall']:.4f}, macro F1 {figures['macro_f1']:.4f}"
        for value in VA:
            if value in figures:
                text += f", CCC of {value} {figures[value]['ccc']:.4f}"
        click.echo(f"{text} ({figures['images']} images)")
    network = result["network"]
    click.echo(
        f"use it: emobeam extract ... --backbone {network['architecture']} "
        f"--backbone-weights {storage.join(output, WEIGHTS_FILE)}"
    )


def _with_va(loss: str, train: FaceImages) -> bool:
    labelled = bool((train.va == train.va).any())
    if loss == "expression+va" and not labelled:
        raise UsageError("--loss expression+va: the data has no valence and arousal; take --loss expression")
    return labelled if not loss else loss == "expression+va"


def _tell_data(data: FaceData, train: FaceImages, held: FaceImages, ui: Ui) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in zip(train.classes, train.counts(), strict=True))
    known = int((train.va == train.va).all(axis=1).sum())
    ui.say(f"training on {len(train)} images ({counts}); {known} with valence and arousal")
    official = (
        f"{len(data.official)} of the official validation split" if data.official is not None else "none official"
    )
    ui.say(f"held out: {len(held)} of the training images; for the final figures: {official}")
    if data.left_out:
        ui.say("left out: " + ", ".join(f"{name} {count}" for name, count in sorted(data.left_out.items())))
    if empty := [name for name, count in zip(train.classes, train.counts(), strict=True) if not count]:
        ui.warn(f"no training image of {', '.join(empty)}")


def _fit(learner: Pretraining, plan: FitPlan, work: str, recipe: PretrainRecipe, ui: Ui) -> Fitted:
    total = plan.epochs * learner.steps(0)

    def tell(event: str, data: Mapping[str, Any]) -> None:
        if event == "resume":
            ui.say(f"going on with epoch {data['epoch'] + 1}, step {data['step'] + 1}")
            ui.event("earlier", {"frames": (data["epoch"] * learner.steps(0) + data["step"]) * recipe.batch})
        elif event == "step":
            ui.event("frames", {"frames": recipe.batch})
        elif event == "epoch":
            ui.event("done", {"key": str(data["epoch"])})
            ui.say(
                f"epoch {data['epoch']}/{data['epochs']}: loss {data['loss']:.4f}, hold-out accuracy "
                f"{data['holdout_accuracy']:.4f}, mean recall {data['holdout_mean_recall']:.4f}"
            )

    ui.start("pretrain", total * recipe.batch, plan.epochs, "epochs", "images")
    try:
        return fit(learner, plan, work, tell)
    finally:
        ui.finish()


def _write(output: str, fitted: Fitted, info: NetworkInfo, held: FaceImages, result: Mapping[str, Any]) -> None:
    weights: Mapping[str, Tensor] = fitted.weights
    write_network(storage.join(output, WEIGHTS_FILE), weights, info)
    storage.write_bytes(
        storage.join(output, HOLDOUT_FILE), ("\n".join(held.ids) + "\n").encode("utf-8", "backslashreplace")
    )
    measure = "mean recall, with CCC" if info.outputs[-2:] == VA else "mean recall"
    draw_curves(storage.join(output, CURVES_FILE), info.architecture, measure, {"pretrain": fitted.history})
    storage.write_bytes(storage.join(output, CARD_FILE), backbone_card(result).encode())
    storage.write_json(storage.join(output, RESULT_FILE), result)


def check_output(output: str) -> None:
    """Raises :class:`UsageError` where the folder holds something else, which is left alone."""
    if output.startswith("memory://"):
        raise UsageError("--output memory:// is lost when the command ends")
    if storage.is_local(output) and storage.exists(output) and not storage.local_path(output).is_dir():
        raise UsageError(f"--output {output}: is a file; name a folder")
    found = storage.names(output, "")
    if not found or RESULT_FILE in found:
        return
    if has_checkpoint(storage.join(output, WORK_FOLDER)) and "head.json" not in found:
        return
    raise UsageError(f"--output {output}: holds something that is no pretrained backbone; name another folder")


def finished_run(output: str, identity: str) -> dict[str, Any] | None:
    uri = storage.join(output, RESULT_FILE)
    if not storage.exists(uri):
        return None
    result: dict[str, Any] = storage.read_json(uri)
    if result.get("identity") != identity:
        raise UsageError(
            f"{output}: holds a backbone trained on other data or with other settings; name another --output"
        )
    return result


def _split_json(images: FaceImages) -> dict[str, Any]:
    counts = dict(zip(images.classes, images.counts().tolist(), strict=True))
    return {"images": len(images), "classes": counts, "sha256": images.digest()}


def _unreadable(found: Mapping[str, str]) -> dict[str, Any]:
    return {"count": len(found), "first": dict(sorted(found.items())[:_SHOWN])}


def choose_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return name


def choose_workers(wanted: int) -> int:
    return len(os.sched_getaffinity(0)) if wanted < 0 else wanted
