from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from emobeam.emo_transforms.networks.backbones import describe_backbone, embed, load_backbone
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import feature_maps, final_layer_state
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.schemas.records import UsageError
from tests.emo_transforms.map_networks import NAME, crops, lively, lively_model, normalised, untrained

MAPS = ("s8", "s16", "s32")
BATCH = 4


def test_maps_are_those_of_timm() -> None:
    pictures = normalised(crops(BATCH))
    with torch.inference_mode():
        *_, s8, s16, final = lively_model()(pictures)
        found = feature_maps(lively().network, pictures)
        assert torch.equal(found["s8"], s8)
        assert torch.equal(found["s16"], s16)
        assert found["s32"].shape == (BATCH, 128, 7, 7)
        blocks: Any = lively().network.blocks
        assert torch.equal(blocks[-1](found["s32"]), final)
        assert final.shape == (BATCH, 960, 7, 7)
        rounded = blocks[-1](found["s32"].half().float())
        assert (rounded - final).abs().max() <= 1e-3 * final.abs().max()
        assert (rounded != final).any()


def test_the_final_layer_is_what_a_head_starts_from() -> None:
    state = final_layer_state(lively().network)
    whole = lively().network.state_dict()
    assert state
    assert all(torch.equal(tensor, whole[f"blocks.4.{name}"]) for name, tensor in state.items())
    assert state["0.conv.weight"].shape == (960, 128, 1, 1)


def test_embedding_is_normalisation_and_maps() -> None:
    pictures = crops(6)
    found = embed(lively(), pictures, MAPS, BATCH)
    with torch.inference_mode():
        wanted = feature_maps(lively().network, normalised(pictures))
    for name in MAPS:
        assert found[name].dtype == np.float32
        assert found[name].shape == (6, *lively().map_shapes[name])
        largest = float(wanted[name].abs().max())
        np.testing.assert_allclose(found[name], wanted[name].numpy(), rtol=0, atol=1e-4 * largest)


def test_shapes_are_those_that_were_promised() -> None:
    assert dict(untrained().map_shapes) == {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}


@pytest.mark.parametrize("size", [160, 200, 256])
def test_shapes_follow_the_input_size(size: int) -> None:
    backbone = load_backbone(BackboneConfig(input_size=size))
    picture = np.zeros((size, size, 3), np.uint8)
    found = embed(backbone, [picture], MAPS, 2)
    assert {name: values.shape[1:] for name, values in found.items()} == dict(backbone.map_shapes)
    assert [backbone.map_shapes[name][1] for name in MAPS] == [-(-size // stride) for stride in (8, 16, 32)]


def test_only_the_maps_asked_for_are_returned() -> None:
    assert list(embed(untrained(), crops(1), ("s32",), BATCH)) == ["s32"]
    nothing = embed(untrained(), [], ("s8", "s32"), BATCH)
    assert {name: values.shape for name, values in nothing.items()} == {"s8": (0, 64, 28, 28), "s32": (0, 128, 7, 7)}


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_crop_gives_the_same_bits_whoever_stands_beside_it(threads: Callable[[int], None]) -> None:
    size = ExtractConfig().kernel_batch
    one, *others = crops(size + 1)
    runs = []
    for count in (1, 2):
        threads(count)
        runs.append(embed(lively(), [one], MAPS, size))
        for place in (0, 1, size - 2, size - 1):
            batch = [*others[:place], one, *others[place : size - 1]]
            found = embed(lively(), batch, MAPS, size)
            runs.append({name: values[place : place + 1] for name, values in found.items()})
        found = embed(lively(), [*others, one], MAPS, size)  # in a second call, with padding
        runs.append({name: values[-1:] for name, values in found.items()})
    for run in runs[1:]:
        for name in MAPS:
            np.testing.assert_array_equal(run[name], runs[0][name])


def test_the_initialisation_is_seeded_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = load_backbone(BackboneConfig())
    torch.rand(3)
    two = load_backbone(BackboneConfig())
    torch.set_rng_state(state)
    load_backbone(BackboneConfig())
    assert torch.equal(torch.get_rng_state(), state)
    assert one.config.weights_sha256 == two.config.weights_sha256 == tensors_sha256(one.network.state_dict())
    assert len(one.config.weights_sha256) == 64
    assert not one.network.training
    assert not any(parameter.requires_grad for parameter in one.network.parameters())


def test_the_digest_knows_names_types_shapes_and_values() -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    digest = tensors_sha256(tensors)
    assert tensors_sha256(dict(reversed(tensors.items()))) == digest
    assert tensors_sha256({name: tensor.clone().t().contiguous().t() for name, tensor in tensors.items()}) == digest
    others: list[dict[str, Tensor]] = [
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1.0, 1.0001])},
    ]
    assert len({digest, *map(tensors_sha256, others)}) == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [("mobilenetv9_conv_small", "no such model"), ("resnet18", "MobileNetV4"), ("", "no such model")],
)
def test_models_that_do_not_do_are_named(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=rf"--backbone {name}.*{words}"):
        load_backbone(BackboneConfig(name=name))


def test_a_described_backbone_has_the_normalisation_timm_records() -> None:
    recorded = timm.get_pretrained_cfg(NAME)
    assert recorded is not None
    config = describe_backbone(NAME).config
    assert (config.mean, config.std) == (tuple(recorded.mean), tuple(recorded.std))
    assert config.weights_sha256 == untrained().config.weights_sha256
