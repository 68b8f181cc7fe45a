"""Files of weights: which are loaded, and what is said of those that can not be."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import save, save_file

from emobeam.emo_transforms.networks.backbones import load_backbone
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.config import BackboneConfig
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.map_networks import NAME, lively_state, untrained


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
