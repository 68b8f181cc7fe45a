"""The job ``pretrain`` for crops of people with action units: a backbone that stage 1 can use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.networks.checkpoints.trained_on import trained_on
from emobeam.emo_transforms.training.fitting import FitPlan
from emobeam.emo_transforms.training.images.people_crops import PeopleCrops, read_people, split_people
from emobeam.emo_transforms.training.pretraining.unit_pretraining import UnitPretraining, outputs_of, units_identity
from emobeam.emo_transforms.training.pretraining.units_card import units_card
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
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True, kw_only=True)
class PretrainUnitsRequest(RunRequest):
    """What is asked for; see ``emobeam pretrain --help``.

    Attributes:
        data: people folders.
    """

    data: tuple[str, ...]
    start: str = "untrained"
    recipe: str = "units"


def run_pretrain_units(request: PretrainUnitsRequest, ui: Ui) -> dict[str, Any]:
    """Trains, or goes on training, and writes the folder; returns what ``pretrain.json`` holds.

    Raises:
        UsageError: a request that makes no sense, or an output that holds another run.
        EmobeamError: data or weights that can't be used.
    """
    recipe = recipe_of(request)
    crops = read_people(request.data)
    places, held_places = split_people(crops, recipe.holdout, request.seed)
    if not len(places) or not len(held_places):
        raise EmobeamError(f"{', '.join(request.data)}: one person is too few to train on some and hold others out")
    train, held = crops.take(places), crops.take(held_places)
    _tell_data(train, held, ui)
    earlier = _earlier(request.start, held, ui)
    start = start_of(request, outputs_of(crops), recipe, ui)
    identity = units_identity(start.info, start.network.state_dict(), train, held, recipe, request.seed)
    done = done_already(request.output, identity, ui)
    if done is not None:
        return done
    learner = UnitPretraining(
        start.network,
        start.info,
        train,
        held,
        recipe,
        seed=request.seed,
        fresh=request.start == "untrained",
        setting=setting_of(request),
    )
    plan = FitPlan(
        identity, learner.epochs, recipe.patience, seed=request.seed, checkpoint_seconds=60 * request.checkpoint_minutes
    )
    fitted = fit_telling(learner, plan, request.output, recipe.batch, "crops", _told_figures, ui)
    data = {"sources": list(request.data), "train": _split_json(train), "holdout": _split_json(held)}
    if earlier:
        data["start"] = {"groups": earlier}
    figures = {"holdout": learner.figures(fitted.weights)}
    result = result_of(request, start, fitted, recipe, identity, data, figures)
    people = sorted(set(held.groups))
    write_run(request.output, fitted, start.info, result, held=people, measure="correlation", card=units_card(result))
    return result


def print_pretrained_units(result: Mapping[str, Any], output: str) -> None:
    """The result for people, on standard output."""
    figures = result["holdout"]
    each = ", ".join(f"{unit} {row['auc']:.2f}" for unit, row in figures["units"].items() if row["auc"] is not None)
    echo(
        f"hold-out: mean correlation {figures['correlation']:.4f}, mean AUC {figures['auc']:.4f} over "
        f"{figures['crops']} crops; AUC {each}"
    )
    echo(how_to_use(result, output))


def _tell_data(train: PeopleCrops, held: PeopleCrops, ui: Ui) -> None:
    ui.say(
        f"training on {len(train)} crops of {len(set(train.groups))} people; held out: {len(held)} of "
        f"{len(set(held.groups))}"
    )
    few = [name for name, count in train.known().items() if count < len(train) / 20]
    if few:
        ui.say(f"known in less than a twentieth of the crops: {', '.join(few)}")


def _earlier(start: str, held: PeopleCrops, ui: Ui) -> list[str]:
    """Groups that the weights to start from were trained on, where that is known; says which are held out here."""
    groups = [] if start in ("untrained", "timm") else trained_on(start) or []
    if both := sorted(set(groups) & set(held.groups)):
        ui.warn(
            f"--start {start}: was trained on {len(both)} of the {len(set(held.groups))} people that are held out "
            f"here, for example {both[0]}: figures of the hold-out will flatter; take the --seed and the folders of "
            "that run"
        )
    return groups


def _told_figures(figures: Mapping[str, Any]) -> str:
    return (
        f"hold-out correlation {figures['holdout_correlation']:.4f}, AUC {figures['holdout_auc']:.4f}, landmarks "
        f"{figures['holdout_landmarks']:.4f} of the edge away"
    )


def _split_json(crops: PeopleCrops) -> dict[str, Any]:
    return {
        "crops": len(crops),
        "people": len(set(crops.groups)),
        "groups": sorted(set(crops.groups)),
        "known": {name: count for name, count in crops.known().items() if name in crops.outputs[: crops.units]},
        "sha256": crops.digest(),
    }
