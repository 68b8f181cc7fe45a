"""The job ``pretrain``: labelled face images to a backbone that stage 1 can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.networks.checkpoints.weight_notes import VA
from emobeam.emo_transforms.training.fitting import FitPlan
from emobeam.emo_transforms.training.images.face_images import FaceImages, split_holdout
from emobeam.emo_transforms.training.images.face_layouts import FaceData, read_face_data
from emobeam.emo_transforms.training.pretraining.affect_pretraining import Pretraining, run_identity
from emobeam.emo_transforms.training.pretraining.backbone_card import backbone_card
from emobeam.pipelines.console import Ui
from emobeam.pipelines.printing import echo
from emobeam.pipelines.training.pretrain_run import (
    RunRequest,
    done_already,
    fit_telling,
    how_to_use,
    recipe_of,
    result_of,
    setting_of,
    start_of,
    write_run,
)
from emobeam.schemas.records import EmobeamError, UsageError

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class PretrainRequest(RunRequest):
    """What is asked for; see ``emobeam pretrain --help``.

    Attributes:
        loss: ``expression``, ``expression+va``, or empty: with valence and arousal where they are labelled.
    """

    data: str
    start: str = "timm"
    recipe: str = "emobeam"
    loss: str = ""
    classes: str = "auto"
    validation: str = ""
    images: str = ""


def run_pretrain(request: PretrainRequest, ui: Ui) -> dict[str, Any]:
    """Trains, or goes on training, and writes the folder; returns what ``pretrain.json`` holds.

    Raises:
        UsageError: a request that makes no sense, or an output that holds another run.
        EmobeamError: data or weights that can't be used.
    """
    recipe = recipe_of(request)
    data = read_face_data(request.data, classes=request.classes, validation=request.validation, images=request.images)
    with_va = _with_va(request.loss, data.train)
    outputs = (*data.train.classes, *(VA if with_va else ()))
    places, held_places = split_holdout(data.train, recipe.holdout, request.seed)
    train, held = data.train.take(places), data.train.take(held_places)
    if not len(train) or not len(held):
        raise EmobeamError(f"{request.data}: {len(data.train)} images are too few to train on some and hold others out")
    _tell_data(data, train, held, ui)
    start = start_of(request, outputs, recipe, ui)
    identity = run_identity(start.info, start.network.state_dict(), train, held, recipe, request.seed)
    done = done_already(request.output, identity, ui)
    if done is not None:
        return done
    learner = Pretraining(
        start.network,
        start.info,
        train,
        held,
        recipe,
        seed=request.seed,
        fresh=request.start == "untrained",
        setting=setting_of(request),
    )
    learner.unreadable.update(data.unreadable)
    plan = FitPlan(
        identity, learner.epochs, recipe.patience, learner.head_epochs, request.seed, 60 * request.checkpoint_minutes
    )
    fitted = fit_telling(learner, plan, request.output, recipe.batch, "images", _told_figures, ui)
    told = {
        "source": request.data,
        "train": _split_json(train),
        "holdout": _split_json(held),
        "official": None if data.official is None else _split_json(data.official),
        "left_out": dict(sorted(data.left_out.items())),
    }
    figures = {
        "holdout": learner.figures(fitted.weights, held),
        "official": None if data.official is None else learner.figures(fitted.weights, data.official),
        "unreadable": _unreadable(learner.unreadable),
    }
    result = result_of(request, start, fitted, recipe, identity, told, figures)
    measure = "mean recall, with CCC" if with_va else "mean recall"
    write_run(request.output, fitted, start.info, result, held=held.ids, measure=measure, card=backbone_card(result))
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
        echo(f"{text} ({figures['images']} images)")
    echo(how_to_use(result, output))


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


def _told_figures(figures: Mapping[str, Any]) -> str:
    return f"hold-out accuracy {figures['holdout_accuracy']:.4f}, mean recall {figures['holdout_mean_recall']:.4f}"


def _split_json(images: FaceImages) -> dict[str, Any]:
    counts = dict(zip(images.classes, images.counts().tolist(), strict=True))
    return {"images": len(images), "classes": counts, "sha256": images.digest()}


def _unreadable(found: Mapping[str, str]) -> dict[str, Any]:
    return {"count": len(found), "first": dict(sorted(found.items())[:_SHOWN])}
