from __future__ import annotations

import numpy as np
import pytest
import timm

from emobeam.emo_transforms.networks.backbones.published.catalogue import (
    CATALOGUE,
    DDAMFN_8,
    Entry,
    entry,
    ready_outputs,
)
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import task_named

TIMM = [model for model in CATALOGUE if "huggingface.co/timm" in model.url]
HSEMOTION = [model for model in CATALOGUE if "EmotiEffLib" in model.url]


def test_names_and_files_are_unique() -> None:
    assert len({model.name for model in CATALOGUE}) == len(CATALOGUE)
    assert len({model.file_name for model in CATALOGUE}) == len(CATALOGUE)
    assert all(entry(model.name) is model for model in CATALOGUE)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"enet_b9: no such model; there are .*mbf_va_mtl\.onnx"):
        entry("enet_b9")


@pytest.mark.parametrize("model", TIMM, ids=lambda model: model.name)
def test_timm_says_the_same(model: Entry) -> None:
    cfg = timm.get_pretrained_cfg(model.name)
    assert cfg is not None
    assert model.url == f"https://huggingface.co/{cfg.hf_hub_id}/resolve/main/model.safetensors"
    assert (model.input_size, model.mean, model.std) == (cfg.input_size[-1], cfg.mean, cfg.std)
    assert cfg.license == "apache-2.0"


@pytest.mark.parametrize(
    "name", sorted({model.architecture for model in CATALOGUE if timm.is_model(model.architecture)})
)
def test_sizes_are_those_of_the_networks(name: str) -> None:
    for model in CATALOGUE:
        if model.architecture == name:
            network = timm.create_model(name, num_classes=len(model.score_names) or 1000)
            weights = sum(weight.numel() for weight in network.parameters())
            assert model.parameters == pytest.approx(weights / 1e6, abs=0.006)
            assert model.embedding == network.head_hidden_size


def test_research_terms_are_stated() -> None:
    for model in CATALOGUE:
        assert model.research_only == ("research only" in model.terms)
        assert model.research_only or model in TIMM
    assert len(HSEMOTION) == 14


@pytest.mark.parametrize("model", [m for m in CATALOGUE if m.score_names], ids=lambda model: model.name)
def test_ready_expressions_come_in_the_order_of_the_challenge(model: Entry) -> None:
    scores = np.arange(len(model.score_names), dtype=float)
    ready = ready_outputs(model, "expr")
    assert ready.outputs == tuple(task_named("expr").outputs)
    for name, index in zip(ready.outputs, ready.indices, strict=True):
        assert index == (model.score_names.index(name) if name != "Other" else -1)
        assert index == -1 or scores[index] == index
    assert ready.activation == "softmax"


def test_orders_written_out() -> None:
    """As models.md and the publishers have them."""
    eight = entry("enet_b0_8_best_vgaf")
    assert ready_outputs(eight, "expr").indices == (5, 0, 2, 3, 4, 6, 7, -1)
    assert ready_outputs(entry("enet_b2_7"), "expr").indices == (4, 0, 1, 2, 3, 5, 6, -1)
    assert ready_outputs(entry("ddamfn_affectnet8"), "expr").indices == (0, 6, 5, 4, 1, 2, 3, -1)
    assert DDAMFN_8[7] == "Contempt"
    va = ready_outputs(entry("mbf_va_mtl"), "va")
    assert (va.outputs, va.indices) == (("valence", "arousal"), (8, 9))
    assert (va.activation, va.low, va.high) == ("linear", -1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "task"), [("enet_b2_8", "va"), ("mbf_va_mtl", "au"), ("mobilenetv4_affectnet", "expr")]
)
def test_what_is_not_ready_says_so(name: str, task: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: its scores .* hold no values for task {task}"):
        ready_outputs(entry(name), task)
