from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save, save_file
from skimage import data
from torch import Tensor, nn

from emo_transforms.backbones import (
    Backbone,
    describe_backbone,
    embed,
    feature_maps,
    final_layer_state,
    load_backbone,
)
from emo_transforms.weights import tensors_sha256
from schemas.config import BackboneConfig, ExtractConfig
from schemas.records import EmobeamError, UsageError

NAME = "mobilenetv4_conv_small"
MAPS = ("s8", "s16", "s32")
BATCH = 4


@cache
def untrained() -> Backbone:
    return load_backbone(BackboneConfig())


@cache
def lively() -> Backbone:
    """A backbone whose normalisation layers have weights, and statistics of pictures."""
    backbone = load_backbone(BackboneConfig())
    backbone.network.load_state_dict(lively_state())
    return backbone


@cache
def _lively_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model: nn.Module = timm.create_model(NAME, features_only=True, pretrained=False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
                module.momentum = None  # the mean over all batches
    with torch.no_grad():
        model.train()(normalised(crops(8, seed=9)))
    return model.eval()


def lively_state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in _lively_model().state_dict().items()}


def crops(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Parts of a photograph, 224 px."""
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(seed)
    places = rng.integers(0, photograph.shape[0] - 224, (count, 2)).tolist()
    return [np.ascontiguousarray(photograph[y : y + 224, x : x + 224]) for y, x in places]


def normalised(pictures: list[NDArray[np.uint8]]) -> Tensor:
    config = BackboneConfig()
    scaled = (np.stack(pictures) / 255 - config.mean) / config.std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def test_maps_are_those_of_timm() -> None:
    pictures = normalised(crops(BATCH))
    with torch.inference_mode():
        *_, s8, s16, final = _lively_model()(pictures)
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


def safetensors(path: Path) -> str:
    save_file(lively_state(), path.with_suffix(".safetensors"))
    return str(path.with_suffix(".safetensors"))


def checkpoint(path: Path) -> str:
    torch.save(lively_state(), path)
    return str(path)


def of_a_trainer(path: Path) -> str:
    state = {f"module.{name}": tensor for name, tensor in lively_state().items()}
    torch.save({"epoch": 3, "state_dict": state, "arch": NAME}, path)
    return str(path)


def averaged(path: Path) -> str:
    other = untrained().network.state_dict()
    torch.save({"state_dict": other, "state_dict_ema": lively_state()}, path)
    return str(path)


def with_a_classifier(path: Path) -> str:
    state = {f"backbone.{name}": tensor for name, tensor in lively_state().items()}
    torch.save({"model": {**state, "classifier.weight": torch.zeros(8, 1280)}}, path)
    return str(path)


def without_counters(path: Path) -> str:
    state = {name: tensor for name, tensor in lively_state().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, path)
    return str(path)


def as_an_object(path: Path) -> str:
    fsspec.filesystem("memory").pipe_file("/emobeam-weights/w.safetensors", save(lively_state()))
    return "memory://emobeam-weights/w.safetensors"


def as_a_checkpoint_object(path: Path) -> str:
    torch.save(lively_state(), path)
    fsspec.filesystem("memory").pipe_file("/emobeam-weights/w.pt", path.read_bytes())
    return "memory://emobeam-weights/w.pt"


def as_a_file_uri(path: Path) -> str:
    return f"file://{checkpoint(path)}"


@pytest.mark.parametrize(
    "stored",
    [
        safetensors,
        checkpoint,
        of_a_trainer,
        averaged,
        with_a_classifier,
        without_counters,
        as_an_object,
        as_a_checkpoint_object,
        as_a_file_uri,
    ],
)
def test_weights_are_loaded_from(stored: Callable[[Path], str], tmp_path: Path) -> None:
    uri = stored(tmp_path / "w.pt")
    backbone = load_backbone(BackboneConfig(weights=uri))
    state, wanted = backbone.network.state_dict(), lively_state()
    counted = {name for name in wanted if name.endswith("num_batches_tracked")}
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted.keys() - counted)
    assert backbone.config.weights == uri
    assert backbone.config.weights_sha256 != untrained().config.weights_sha256
    if stored is not without_counters:
        assert backbone.config.weights_sha256 == tensors_sha256(wanted)


def test_weights_of_another_digest_are_refused(tmp_path: Path) -> None:
    config = BackboneConfig(weights=checkpoint(tmp_path / "w.pt"))
    digest = load_backbone(config).config.weights_sha256
    load_backbone(replace(config, weights_sha256=digest))
    with pytest.raises(EmobeamError, match=r"w\.pt.*not the weights of this run"):
        load_backbone(replace(config, weights_sha256="0" * 64))


class Command:
    """Unpickling it runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["EMOBEAM_TEST_MARK"],))


def missing_keys(path: Path) -> None:
    state = lively_state()
    del state["blocks.4.0.conv.weight"]
    torch.save(state, path)


def another_prefix(path: Path) -> None:
    torch.save({f"student.{name}": tensor for name, tensor in lively_state().items()}, path)


def wrong_shape(path: Path) -> None:
    torch.save({**lively_state(), "conv_stem.weight": torch.zeros(16, 3, 3, 3)}, path)


def another_model(path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, path)


def not_a_number(path: Path) -> None:
    state = lively_state()
    state["conv_stem.weight"][0, 0, 0, 0] = torch.nan
    torch.save(state, path)


def infinite(path: Path) -> None:
    state = lively_state()
    state["bn1.running_var"][3] = torch.inf
    torch.save(state, path)


def code(path: Path) -> None:
    torch.save({"state_dict": lively_state(), "args": Command()}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Command(), protocol=2))


def text(path: Path) -> None:
    path.write_text("<html>404 Not Found</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    torch.save(lively_state(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def numbers(path: Path) -> None:
    torch.save([1, 2, 3], path)


def folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (missing_keys, r"1 of \d+ tensors .* not in it \(first: blocks\.4\.0\.conv\.weight"),
        (another_prefix, r"student\."),
        (another_model, r"layer\.weight"),
        (wrong_shape, r"conv_stem\.weight has shape \(16, 3, 3, 3\), the backbone needs \(32, 3, 3, 3\)"),
        (not_a_number, "NaN"),
        (infinite, "infinite"),
        (code, "neither"),
        (bare_pickle, "neither"),
        (text, "neither"),
        (empty, "neither"),
        (cut, "neither"),
        (numbers, "no dictionary of tensors"),
        (folder, "neither"),
        (nothing, "no such file"),
    ],
)
def test_what_can_not_be_loaded_is_named(
    harm: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOBEAM_TEST_MARK", str(tmp_path / "mark"))
    path = tmp_path / "weights.pt"
    harm(path)
    with pytest.raises(EmobeamError, match=words) as caught:
        load_backbone(BackboneConfig(weights=str(path)))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("harm", [text, empty, cut, nothing])
def test_safetensors_that_can_not_be_loaded_are_named(harm: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    harm(path)
    with pytest.raises(EmobeamError, match=r"weights\.safetensors"):
        load_backbone(BackboneConfig(weights=str(path)))


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
