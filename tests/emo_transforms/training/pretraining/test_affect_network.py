"""The network that is pretrained: starting from the weights that come with emobeam."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from emobeam.emo_transforms.networks.shipped import shipped
from emobeam.emo_transforms.training.pretraining.affect_network import make_network
from emobeam.schemas.records import EmobeamError, UsageError


@pytest.mark.parametrize("start", ["shipped", shipped().name])
def test_it_starts_from_what_comes_with_emobeam(start: str) -> None:
    network, info, untrained = make_network(
        shipped().architecture, start, ("AU1", "AU2"), input_size=96, dropout=0.0, drop_path=0.0, seed=0
    )
    assert untrained == ("classifier.weight", "classifier.bias")
    assert (info.outputs, info.input_size) == (("AU1", "AU2"), 96)
    given, state = load_file(shipped().backbone.path), network.state_dict()
    assert set(state) - set(given) == set(untrained)
    for name, tensor in given.items():
        assert torch.equal(state[name], tensor.to(state[name].dtype)), name


def test_another_network_can_not_start_from_it() -> None:
    with pytest.raises(UsageError, match=f"{shipped().name} is a {shipped().architecture}, not a resnet18"):
        make_network("resnet18", "shipped", ("AU1",), input_size=96, dropout=0.0, drop_path=0.0, seed=0)


def test_weights_of_another_version_are_not_taken_for_these() -> None:
    with pytest.raises(EmobeamError, match="another version of emobeam"):
        make_network(
            shipped().architecture, "emobeam-au-99", ("AU1",), input_size=96, dropout=0.0, drop_path=0.0, seed=0
        )
