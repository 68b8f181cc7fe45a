from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from emobeam.emo_transforms.networks.heads.config import config_from_json
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.model_card import model_card
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.tasks import TASKS

OFFER = Offer("f00d", {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}, {"embedding": 1280, "scores": 8})


def trained(**changes: Any) -> Head:
    made = new_head(TASKS["au"], OFFER, levels=1)
    values: dict[str, Any] = {
        "thresholds": tuple(0.25 + n / 100 for n in range(12)),
        "smoothing": 3,
        "weights": "emobeam train",
        "provenance": {"recipe": {"name": "paper", "epochs": 7}, "cache": "c0de"},
        "metrics": {"holdout": {"F1": {"mean": 0.5123, "sd": 0.0101, "seeds": 3}}, "F1 by seed": [0.50, 0.51, 0.52]},
        "trained_on": ("a", "b", "c"),
        "tuned_on": ("d",),
    }
    return Head(replace(made.config, **{**values, **changes}), made.module, made.weights_sha256)


def rows(card: str) -> dict[str, str]:
    cells = [line.strip("| ").split(" | ", 1) for line in card.splitlines() if line.startswith("|") and " | " in line]
    return {cell[0]: cell[1] for cell in cells if len(cell) == 2}


def test_a_card_says_what_a_reader_must_know() -> None:
    card = model_card(trained().config)
    found = rows(card)
    assert found["task"] == "au, action unit detection"
    assert found["window"] == "8 sampled frames (1.33 s)"
    assert found["reads"] == "s32 128x7x7"
    assert found["parameters"] == "1.197 M, final layer of the backbone 0.125 M"
    assert found["recipe / name"] == "paper"
    assert found["holdout / F1"] == "0.5123 ± 0.0101 (seeds 3)"
    seeds = np.array([0.50, 0.51, 0.52])
    assert found["F1 by seed"] == f"{seeds.mean():.4g} ± {seeds.std(ddof=1):.4g} (n 3, 0.5 to 0.52)"
    assert found["AU26"] == "0.360"
    assert "Trained on 3 named videos, thresholds and smoothing tuned on 1 named videos" in card
    assert "Don't use it for\ndecisions about people" in card
    assert "emobeam predict FEATURES --head HEAD --output OUT" in card
    assert "--store maps" in card


def test_a_head_with_a_backbone_of_its_own_is_run_with_it() -> None:
    plain, own = trained().config, trained(provenance={"backbone": {"file": "backbone.safetensors"}}).config
    assert "--backbone-weights WEIGHTS --head HEAD" in model_card(plain)
    assert "--backbone-weights HEAD/backbone.safetensors --head HEAD" in model_card(own)
    assert "WEIGHTS" not in model_card(own)
    assert "--backbone-weights WEIGHTS" in model_card(trained(provenance={"backbone": "mine"}).config)


def test_the_metadata_block_is_yaml() -> None:
    _, block, rest = model_card(trained().config).split("---\n", 2)
    data = yaml.safe_load(block)
    assert data["library_name"] == "emobeam"
    assert {"au", "tam"} <= set(data["tags"])
    assert rest.lstrip().startswith("# au-tam1-untrained")


def test_a_card_is_written_with_a_head_that_says_where_it_comes_from(tmp_path: Path) -> None:
    save_head(trained(), str(tmp_path / "a"))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["README.md", "head.json", "head.safetensors"]
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert card == model_card(config_from_json((tmp_path / "a" / "head.json").read_bytes()))
    assert load_head(str(tmp_path / "a")).config == trained().config
    save_head(trained(provenance={}), str(tmp_path / "a"))
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["head.json", "head.safetensors"]


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"CCC": float("nan")}, {"CCC": "undefined"}),
        ({"history": [{"epoch": 1}, {"epoch": 2}]}, {"history": "2 entries in `head.json`"}),
        ({"per class": {"AU1": 0.5, "AU2": None}}, {"per class / AU1": "0.5", "per class / AU2": "not known"}),
        ({"note": "a|b\nc"}, {"note": "a\\|b c"}),
        ({"ok": True, "n": 12345678}, {"ok": "yes", "n": "12345678"}),
        ({}, {}),
    ],
)
def test_any_plain_data_can_be_shown(metrics: dict[str, Any], shown: dict[str, str]) -> None:
    card = model_card(trained(metrics=metrics).config)
    assert shown.items() <= rows(card).items()
    assert ("## Metrics" in card) == bool(metrics)


@pytest.mark.parametrize("architecture", ["tcn", "frame", "clip-statistics"])
def test_every_architecture_has_a_card(architecture: str) -> None:
    task = TASKS["emi" if architecture == "clip-statistics" else "va"]
    card = model_card(new_head(task, OFFER, architecture=architecture).config)
    assert f"| architecture | {architecture}, " in card
    assert len(card) > 2000
