from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from emobeam.emo_transforms.networks.checkpoints.trained_on import trained_on
from emobeam.emo_transforms.training.images.people_crops import ALIGNED, LANDMARKS
from emobeam.pipelines.cli import cli
from emobeam.schemas.records import UsageError
from tests.emo_transforms.training.people import smiling, write_people

ARGS = ("--backbone", "mobilenetv4_conv_small_035", "--input-size", "32", "--batch", "16", "--workers", "0", "-q")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_people(
        tmp_path_factory.mktemp("data") / "people", {number: smiling(16, seed=number) for number in range(10)}
    )


def _pretrain(*args: str) -> Any:
    return CliRunner().invoke(cli, ["pretrain", *args], catch_exceptions=True)


@pytest.mark.thorough
def test_learns_the_unit_and_goes_on_from_its_own_weights(people: str, tmp_path: Path) -> None:
    first = tmp_path / "first"
    done = _pretrain(people, "--output", str(first), *ARGS, "--epochs", "6", "--set", "lr=0.01", "--set", "ema=0")
    assert done.exit_code == 0, done.output
    result = json.loads((first / "pretrain.json").read_text())
    assert result["holdout"]["units"]["AU12"]["auc"] > 0.9
    assert result["data"]["train"]["people"] == 9
    assert result["data"]["holdout"]["people"] == 1
    (held,) = result["data"]["holdout"]["groups"]
    assert sorted([held, *result["data"]["train"]["groups"]]) == [f"people/{number:06d}" for number in range(10)]
    assert (first / "holdout.txt").read_text() == f"{held}\n"
    assert "start" not in result["data"]
    assert result["network"]["outputs"] == ["AU12", "mouthSmile_L", "mouthSmile_R", *LANDMARKS, *ALIGNED]
    network = timm.create_model(
        "mobilenetv4_conv_small_035", num_classes=3 + 204, checkpoint_path=str(first / "backbone.safetensors")
    )
    state = load_file(first / "backbone.safetensors")
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert "AUC" in (first / "README.md").read_text()

    second = tmp_path / "second"
    start = str(first / "backbone.safetensors")
    done = _pretrain(people, "--output", str(second), "--start", start, *ARGS, "--epochs", "1", "--set", "lr=1e-5")
    assert done.exit_code == 0, done.output
    going_on = json.loads((second / "pretrain.json").read_text())
    assert going_on["holdout"]["units"]["AU12"]["auc"] > 0.9
    assert going_on["data"]["start"]["groups"] == result["data"]["train"]["groups"] == trained_on(start)
    assert "trained on" not in done.output, "the same people are held out"

    third = tmp_path / "third"  # another seed holds out others, whom the first run was trained on
    done = _pretrain(people, "--output", str(third), "--start", start, *ARGS, "--epochs", "1", "--seed", "1")
    assert done.exit_code == 0, done.output
    assert "was trained on 1 of the 1 people that are held out here" in " ".join(done.output.split())
    both = sorted({held, *result["data"]["train"]["groups"]})
    assert trained_on(str(third / "backbone.safetensors")) == both, "in one run or in the one that it started from"


def test_the_same_command_again_has_nothing_to_do_and_another_is_refused(people: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    args = (people, "--output", out, *ARGS[:-1], "--epochs", "1")
    assert _pretrain(*args).exit_code == 0
    weights = (tmp_path / "out" / "backbone.safetensors").read_bytes()
    again = _pretrain(*args)
    assert again.exit_code == 0
    assert "nothing to do" in again.output
    assert (tmp_path / "out" / "backbone.safetensors").read_bytes() == weights
    other = _pretrain(*args, "--seed", "1")
    assert isinstance(other.exception, UsageError)
    assert "other settings" in str(other.exception)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--loss", "expression"], "--loss"),
        (["--recipe", "hsemotion"], "--recipe hsemotion"),
    ],
)
def test_what_is_for_labelled_images_is_refused(people: str, tmp_path: Path, extra: list[str], message: str) -> None:
    done = _pretrain(people, "--output", str(tmp_path / "out"), *extra)
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_people_and_pictures_don_t_go_together(people: str, tmp_path: Path) -> None:
    done = _pretrain(people, str(tmp_path), "--output", str(tmp_path / "out"))
    assert isinstance(done.exception, UsageError)
    assert "can't go together" in str(done.exception)
