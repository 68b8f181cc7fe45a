"""Recipes: names, files, settings, and the schedule against torch's own."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from emobeam.emo_transforms.networks.heads.config import USUAL_SIZES
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.training.heads.head_loop import learning_rate
from emobeam.emo_transforms.training.heads.recipe import RECIPES, Recipe, recipe_named, recipe_to_json, window_length
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS


def test_the_papers_hyper_parameters() -> None:
    recipe = recipe_named("paper", "au")
    assert (recipe.lr, recipe.weight_decay, recipe.restart_steps, recipe.lr_min) == (5e-4, 2e-5, 2000, 1e-6)
    assert (recipe.batch, recipe.epochs, recipe.patience, recipe.fraction, recipe.window) == (128, 10, 3, 0.5, 8)
    assert (recipe.au_loss, recipe.alpha, recipe.gamma, recipe.smoothing, recipe.kl_share) == (
        "focal",
        0.75,
        2,
        0.1,
        0.2,
    )
    assert recipe.drop_invalid
    assert not recipe.tune_thresholds
    assert not recipe.end_to_end
    assert recipe_named("authors", "au").end_to_end


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", TASKS)
def test_every_recipe_is_sound_and_round_trips(name: str, task: str, tmp_path: Path) -> None:
    recipe = recipe_named(name, task)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_to_json(recipe)))
    assert recipe_named(str(path), task) == recipe


def test_every_field_is_told_of() -> None:
    text = Recipe.__doc__ or ""
    assert [entry.name for entry in fields(Recipe) if entry.name not in text] == []


def test_settings_win_over_files_and_files_over_their_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "emobeam", "lr": 1, "inputs": ["scores"], "name": "mine"}))
    assert recipe_named(str(path), "au").name == "mine"
    recipe = recipe_named(str(path), "au", ["lr=0.5", "tune_smoothing=no", "levels=1", "inputs=s16,s32"])
    assert (recipe.name, recipe.lr, recipe.tune_smoothing, recipe.levels) == ("mine+", 0.5, False, 1)
    assert recipe.inputs == ("s16", "s32")
    assert recipe.final_norm == RECIPES["emobeam"].final_norm


def test_what_is_set_otherwise_has_another_name(tmp_path: Path) -> None:
    assert recipe_named("paper", "au", ["lr=0.5"]).name == "paper+"
    assert recipe_named("paper", "au", ["lr=0.0005"]).name == "paper", "as it has it"
    assert recipe_named("paper", "au", ["lr=0.5", "name=fast"]).name == "fast"
    path = tmp_path / "nameless.json"
    path.write_text(json.dumps({"lr": 1}))
    assert recipe_named(str(path), "au", ["batch=2"]).name == "paper+"
    assert recipe_named("hsemotion", "va").name == "hsemotion", "what a recipe says of a task is its own"


@pytest.mark.parametrize("architecture", USUAL_SIZES)
def test_another_architecture_has_its_own_sizes(architecture: str) -> None:
    base = recipe_named("emobeam", "va")
    recipe = recipe_named("emobeam", "va", [f"architecture={architecture}"])
    sizes = {key: getattr(recipe, key) for key in ("window", "time_patch", "hidden")}
    assert sizes == USUAL_SIZES[architecture]
    assert recipe.batch * recipe.window == pytest.approx(base.batch * base.window, rel=0.05)
    own = recipe_named("emobeam", "va", [f"architecture={architecture}", "window=16", "hidden=5", "batch=3"])
    assert (own.window, own.hidden, own.batch) == (16, 5, 3)
    if architecture == "tcn":
        made = new_head(TASKS["va"], Offer("f", {"s32": (4, 2, 2)}), architecture="tcn")
        assert made.config.window == recipe.window > getattr(made.module, "receptive_field")  # noqa: B009


@pytest.mark.parametrize(
    "setting",
    [
        *("lr", "lr=fast", "nothing=1", "lr=-1", "lr=nan", "fraction=0", "fraction=1.5", "stride=9", "optimiser=sgd"),
        *("levels=4", "epochs=0", "end_to_end=maybe", "holdout=1", "kl_share=2", "batch=1.5"),
    ],
)
def test_settings_that_make_no_sense(setting: str) -> None:
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        recipe_named("paper", "au", [setting])


def test_files_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of paper"):
        recipe_named("papr", "au")
    with pytest.raises(EmobeamError, match="no such file"):
        recipe_named(str(tmp_path / "none.json"), "au")
    path = tmp_path / "bad.json"
    for data, text in (([1], "object"), ({"lr": "x"}, "lr"), ({"lrr": 1}, "lrr"), ({"base": "none"}, "none")):
        path.write_text(json.dumps(data))
        with pytest.raises(EmobeamError, match=text):
            recipe_named(str(path), "au")


def test_windows_in_frames_and_seconds() -> None:
    assert window_length("8", 6.0, 4) == 8
    assert window_length("1.3s", 6.0, 4) == 8
    assert window_length("20s", 6.0, 4) == 120
    assert window_length("0.1s", 6.0, 4) == 4
    for text in ("0", "-8", "x", "0s", "infs"):
        with pytest.raises(UsageError, match="--window"):
            window_length(text, 6.0, 4)
    with pytest.raises(UsageError, match="native"):
        window_length("2s", 0.0, 4)


def test_the_schedule_is_torchs() -> None:
    recipe = recipe_named("paper", "au", ["restart_steps=7"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=recipe.lr)
    restarts = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, T_0=7, eta_min=recipe.lr_min)
    for step in range(25):
        assert learning_rate(recipe, step, 25) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)
        optimiser.step()
        restarts.step()


def test_warm_up_cosine_and_constant() -> None:
    recipe = recipe_named("paper", "au", ["schedule=cosine", "warmup_steps=10", "lr=1", "lr_min=0"])
    rates = [learning_rate(recipe, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)
    short = [learning_rate(recipe, step, 30) for step in range(30)]
    assert short[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1]), "a tenth of the steps at most"
    assert learning_rate(recipe, 0, 5) == 1
    constant = recipe_named("paper", "au", ["schedule=constant"])
    assert {learning_rate(constant, step, 10) for step in range(10)} == {constant.lr}
