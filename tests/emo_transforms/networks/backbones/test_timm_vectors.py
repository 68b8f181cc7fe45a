from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors, scores_length
from emobeam.emo_transforms.networks.checkpoints.reading import load_into
from emobeam.schemas.records import UsageError
from tests.emo_transforms.networks.nets import lively, pictures

FAMILIES = [("tf_efficientnet_b0", 1280, 8), ("tf_efficientnet_b2", 1408, 7), ("mobilevitv2_150", 768, 10)]
FAMILIES += [("mobilenetv4_conv_small", 1280, 8)]


def last_layer(model: Any) -> str:
    return "head.fc" if hasattr(model, "head") else "classifier"


@pytest.mark.parametrize(("name", "length", "scores"), FAMILIES)
def test_the_embedding_is_what_the_last_layer_sees(name: str, length: int, scores: int) -> None:
    model: Any = lively(timm.create_model(name, num_classes=scores))
    seen: list[torch.Tensor] = []
    model.get_submodule(last_layer(model)).register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    network = TimmVectors(name, scores).eval()
    assert network.head_name == last_layer(model)
    assert network.embedding_length == length
    load_into(network, model.state_dict(), "weights.pt")
    x = pictures(2, 64)
    with torch.inference_mode():
        logits = model(x)
        embedding, found = network(x)
    assert torch.equal(found, logits)
    assert torch.equal(embedding, seen[0])
    assert embedding.shape == (2, length)
    assert float(embedding.std()) > 1e-4
    assert scores_length(model.state_dict()) == scores


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "mobilevitv2_150"])
def test_a_wrapped_last_layer_loads(name: str) -> None:
    """HSEmotion put the linear layer into a Sequential."""
    model: Any = lively(timm.create_model(name, num_classes=8))
    place, _, last = f".{last_layer(model)}".rpartition(".")
    setattr(model.get_submodule(place.removeprefix(".")), last, nn.Sequential(model.get_submodule(last_layer(model))))
    state = model.state_dict()
    assert f"{last_layer(model)}.0.weight" in state
    assert scores_length(state) == 8
    network = TimmVectors(name, 8).eval()
    load_into(network, state, "weights.pt")
    x = pictures(1, 64)
    with torch.inference_mode():
        assert torch.equal(network(x)[1], model.forward_head(model.forward_features(x)))


def test_without_scores_there_are_none() -> None:
    network = TimmVectors("mobilenetv4_conv_small", 0).eval()
    with torch.inference_mode():
        embedding, scores = network(pictures(2, 64))
    assert embedding.shape == (2, 1280)
    assert scores.shape == (2, 0)
    assert scores_length(network.state_dict()) == 0


@pytest.mark.parametrize(("name", "words"), [("resnet_of_dreams", "no such model"), ("levit_128s", "linear layer")])
def test_models_that_do_not_do_are_named(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"--backbone {name}: .*{words}"):
        TimmVectors(name, 8)
