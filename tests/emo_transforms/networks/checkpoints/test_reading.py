"""One network in every form it may be published in gives the same outputs, to the bit."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.published.mobilefacenet import MobileFaceNet
from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors
from emobeam.emo_transforms.networks.checkpoints.reading import load_into, read_checkpoint, read_with_kind
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.nets import lively, pictures

Write = Callable[[nn.Module, Path], None]


class Tiny(nn.Module):
    """A network of the kind people pickle: nested, with buffers, shared and missing parts, in two precisions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.coarse = nn.Linear(4, 4).half()
        self.shared = self.coarse
        self.nothing = None
        self.register_buffer("scratch", torch.ones(5), persistent=False)
        self.register_buffer("ramp", torch.arange(24).reshape(4, 6).T)
        self.register_parameter("absent", None)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.scale.note = "kept beside the number"  # type: ignore[attr-defined]
        self.act = torch.relu

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stem(x)
        return out


def zipped(network: nn.Module, path: Path) -> None:
    torch.save(network, path)


def legacy(network: nn.Module, path: Path) -> None:
    torch.save(network, path, _use_new_zipfile_serialization=False)


def old_protocol(network: nn.Module, path: Path) -> None:
    torch.save(network, path, pickle_protocol=4)


def state_dict(network: nn.Module, path: Path) -> None:
    torch.save(network.state_dict(), path)


def averaged(network: nn.Module, path: Path) -> None:
    """timm's training checkpoint: the averaged weights count, settings are objects."""
    other = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    settings = argparse.Namespace(model="tiny", lr=1e-3)
    wrapped = {"epoch": 7, "args": settings, "state_dict": other, "state_dict_ema": network.state_dict()}
    torch.save(wrapped, path)


def in_training_script(network: nn.Module, path: Path) -> None:
    torch.save({"iter": 3, "model_state_dict": network.state_dict(), "optimizer_state_dict": {}}, path)


def module_in_dictionary(network: nn.Module, path: Path) -> None:
    torch.save({"epoch": 3, "model": network}, path)


def data_parallel(network: nn.Module, path: Path) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path)


def below_backbone(network: nn.Module, path: Path) -> None:
    torch.save({"model": {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}}, path)


def safetensors(network: nn.Module, path: Path) -> None:
    save_file({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()}, path)


FORMS: list[Write] = [zipped, legacy, old_protocol, state_dict, averaged, in_training_script, module_in_dictionary]
FORMS += [data_parallel, below_backbone, safetensors]


@cache
def efficientnet() -> nn.Module:
    return lively(timm.create_model("tf_efficientnet_b0", num_classes=8))


def written(write: Write, network: nn.Module, folder: Path) -> str:
    path = folder / ("weights.safetensors" if write is safetensors else "weights.pt")
    write(network, path)
    return str(path)


@pytest.mark.parametrize("write", FORMS)
def test_outputs_are_those_of_the_source(write: Write, tmp_path: Path) -> None:
    model: Any = efficientnet()
    uri = written(write, model, tmp_path)
    network = TimmVectors("tf_efficientnet_b0", 8).eval()
    load_into(network, read_checkpoint(uri), uri)
    x = pictures(2, 64)
    with torch.inference_mode():
        assert float((network(x)[1] - model(x)).abs().max()) == 0.0


@pytest.mark.parametrize("write", [zipped, legacy])
def test_mobilefacenet_as_it_was_pickled(write: Write, tmp_path: Path) -> None:
    source = lively(MobileFaceNet(10))
    assert isinstance(source, MobileFaceNet)
    assert source.fc is not None
    published = nn.Sequential()  # HSEmotion's file: features and fc below a Sequential
    published.add_module("features", source.features)
    published.add_module("fc", source.fc)
    uri = written(write, published, tmp_path)
    fresh = MobileFaceNet(10).eval()
    load_into(fresh, read_checkpoint(uri), uri)
    x = pictures(1, 112)
    with torch.inference_mode():
        assert torch.equal(fresh(x)[1], published(x))


@pytest.mark.parametrize("write", [zipped, legacy])
def test_the_class_need_not_exist(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Tiny()
    uri = written(write, network, tmp_path)
    monkeypatch.delattr("tests.emo_transforms.networks.checkpoints.test_reading.Tiny")
    with pytest.raises(AttributeError):
        torch.load(uri, weights_only=False)
    state, kind = read_with_kind(uri)
    assert kind == "tests.emo_transforms.networks.checkpoints.test_reading.Tiny"
    own = network.state_dict()
    assert list(state) == list(own)
    for name, tensor in own.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor), name


def test_remote_checkpoints_are_read(tmp_path: Path) -> None:
    import fsspec

    path = tmp_path / "weights.pt"
    legacy(Tiny(), path)
    with fsspec.open("memory://a1/weights.pt", "wb") as file:
        file.write(path.read_bytes())
    assert "ramp" in read_checkpoint("memory://a1/weights.pt")


Harm = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def without(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "0.weight"}


def more(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "2.weight": torch.ones(2)}


def more_beside_the_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**{f"module.{name}": tensor for name, tensor in state.items()}, "temperature": torch.ones(1)}


def other_shape(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "0.weight": torch.ones(4, 2, 3, 3)}


def not_a_number(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "0.weight": state["0.weight"] * float("nan")}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (without, r"1 of 7 tensors of the backbone are not in it \(first: 0\.weight"),
        (more, r"1 of its 8 tensors have no place in the backbone \(first: '2\.weight'"),
        (more_beside_the_prefix, r"no place in the backbone \(first: 'temperature'"),
        (other_shape, r"0\.weight has shape \(4, 2, 3, 3\), the backbone needs \(4, 3, 3, 3\)"),
        (not_a_number, r"NaN or infinite weights \(first: 0\.weight"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(harm: Harm, words: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fresh = {name: tensor + 1 for name, tensor in before.items()}
    with pytest.raises(EmobeamError, match=rf"w\.pt: .*{words}"):
        load_into(network, harm(fresh), "w.pt")
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_classifier_gives_its_trunk() -> None:
    network = nn.ModuleDict({"conv_stem": nn.Conv2d(3, 4, 3)})
    state: dict[str, Tensor] = {f"conv_stem.{n}": t + 1 for n, t in network["conv_stem"].state_dict().items()}
    classifier = {name: torch.ones(2) for name in ("classifier.weight", "conv_head.weight", "norm_head.bias")}
    load_into(network, {**state, **classifier}, "w.pt")
    assert torch.equal(network.state_dict()["conv_stem.bias"], state["conv_stem.bias"])
    with pytest.raises(EmobeamError, match=r"3 of its 5 tensors"):
        load_into(network, {**state, **classifier}, "w.pt", extra=())


def test_a_network_that_takes_nothing_is_noticed() -> None:
    class Deaf(nn.Conv2d):
        def load_state_dict(self, *_args: Any, **_keywords: Any) -> None:  # type: ignore[override]
            """As some libraries do when names don't fit: nothing."""

    network = Deaf(3, 4, 3)
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    with pytest.raises(EmobeamError, match=r"w\.pt: loading left weight as it was"):
        load_into(network, state, "w.pt")


def test_half_precision_files_load() -> None:
    network = nn.Linear(3, 2)
    state = {name: (tensor * 3).half() for name, tensor in network.state_dict().items()}
    load_into(network, state, "w.pt")
    assert torch.equal(network.weight, state["weight"].float())
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), 7, {"state_dict": {"a": 1}}])
def test_files_without_weights_are_named(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(EmobeamError, match=r"w\.pt: holds no dictionary of tensors"):
        read_checkpoint(str(path))


OTHER = [b"", b"PK\x03\x04", b"\x80\x02.", b"<!DOCTYPE html><title>moved</title>", b"\x80\x02K\x01."]


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.onnx", "w.pth"])
@pytest.mark.parametrize("data", OTHER)
def test_other_files_are_named(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EmobeamError, match=name.replace(".", r"\.")) as caught:
        read_checkpoint(str(tmp_path / name))
    assert len(str(caught.value)) < 600


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=r"nowhere\.pt: no such file"):
        read_checkpoint(str(tmp_path / "nowhere.pt"))
