"""What files of weights say of themselves: outputs, normalisation, scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from emobeam.emo_transforms.networks.backbones import (
    check_outputs,
    describe_backbone,
    embed,
    load_backbone,
    named,
    outputs_of,
)
from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, DDAMFN_8, Entry
from emobeam.emo_transforms.networks.backbones.sources import source_of
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_info
from emobeam.pipelines.convert_weights import convert
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.vector_networks import HALF, MAPS, SMALL, close, crops, normalised


def classifier_of(name: str, classes: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return timm.create_model(name, num_classes=classes).eval()


@pytest.mark.parametrize("classes", [7, 10, 0])
def test_the_file_says_how_many_scores_there_are(classes: int, tmp_path: Path) -> None:
    model = classifier_of(SMALL, classes)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone = describe_backbone(SMALL, str(tmp_path / "w.pt"), 96)
    assert (backbone.embedding, backbone.scores) == (1024, classes)
    assert backbone.config.score_names == ()
    pictures = crops(2, 96)
    wanted = model.forward_head(model.forward_features(normalised(backbone.config, pictures)), pre_logits=True)
    close(embed(backbone, pictures, ("embedding",), 2)["embedding"], wanted.detach())
    if not classes:
        assert outputs_of(backbone) == ("embedding",)
        with pytest.raises(UsageError, match="--store scores"):
            check_outputs(backbone, ("embedding", "scores"))


def test_maps_without_a_classifier_have_no_embedding(tmp_path: Path) -> None:
    path = str(tmp_path / "trunk.pt")
    torch.save(timm.create_model(MAPS, features_only=True).state_dict(), path)
    assert outputs_of(describe_backbone(MAPS, path)) == ("maps",)
    with pytest.raises(UsageError, match=r"trunk\.pt holds the maps' part .* alone.*--store maps works"):
        describe_backbone(MAPS, path, store=("maps", "embedding"))


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(classifier_of(SMALL, 8).state_dict(), path)
    with pytest.raises(EmobeamError, match=r"w\.pt: .* has shape .* is it another model's"):
        describe_backbone("mobilenetv3_small_075", str(path))


def test_a_file_that_knows_itself_is_believed(tmp_path: Path) -> None:
    outputs = ["Anger", "Neutral", "valence", "arousal"]
    notes = {"architecture": SMALL, "outputs": outputs, "input_size": 96, "mean": HALF, "std": HALF}
    path = str(tmp_path / "w.safetensors")
    state = {name: tensor.contiguous() for name, tensor in classifier_of(SMALL, 4).state_dict().items()}
    save_file(state, path, metadata={"emobeam": json.dumps(notes)})
    assert named("", path) == (SMALL, path)
    config = describe_backbone(SMALL, path).config
    assert (config.input_size, config.mean, config.std) == (96, HALF, HALF)
    assert config.score_names == tuple(outputs)
    with pytest.raises(UsageError, match=rf"holds weights of {SMALL}; leave --backbone out"):
        source_of("mobilenetv3_small_075", path)


def test_the_catalogue_names_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOBEAM_MODELS", str(tmp_path))
    with pytest.raises(EmobeamError, match="emobeam models fetch mbf_va_mtl --accept-licence"):
        source_of("mobilefacenet", "mbf_va_mtl")
    network = describe_backbone("mobilefacenet", store=()).network
    torch.save({**network.state_dict(), "fc.weight": torch.rand(10, 512), "fc.bias": torch.zeros(10)}, tmp_path / "n")
    (tmp_path / "n").rename(tmp_path / "mbf_va_mtl.pt")
    backbone = describe_backbone("mobilefacenet", "mbf_va_mtl")
    assert backbone.scores == 10
    assert backbone.config.score_names[-2:] == ("valence", "arousal")
    assert backbone.config.weights == "mbf_va_mtl"
    assert load_backbone(backbone.config).config == backbone.config


@pytest.mark.parametrize("model", CATALOGUE, ids=lambda model: model.name)
@pytest.mark.parametrize("folder", ["weights/", "memory://some/where/", "./"])
def test_a_published_file_is_known_wherever_it_lies(model: Entry, folder: str) -> None:
    """However it is named, what is known of a model is the same: by path, by path and network, by its name and any."""
    path = f"{folder}{model.file_name}"
    ways = [named("", path), (model.architecture, path), named(model.name, path), named(model.name, "my.weights")]
    ways += [(model.architecture, model.published_as)] if model.published_as else []
    for name, weights in ways:
        source = source_of(name, weights)
        assert source.name == model.architecture
        assert (source.weights, source.uri) == (weights, weights)
        assert (source.input_size, source.mean, source.std) == (model.input_size, model.mean, model.std)
        assert source.score_names == model.score_names


@pytest.mark.thorough
def test_published_files_by_path_give_named_scores(tmp_path: Path) -> None:
    """mobilevitv2_150 as timm has it sees 256 px without normalisation, HSEmotion's 224 with ImageNet's."""
    model = timm.create_model("mobilevitv2_150", num_classes=10)
    (tmp_path / "weights").mkdir()
    for path, name in ((tmp_path / "weights" / "mobilevit_va_mtl.pt", ""), (tmp_path / "my.pt", "mobilevit_va_mtl")):
        torch.save(model, path)
        backbone = describe_backbone(*named(name, str(path)))
        assert (backbone.config.name, backbone.config.weights) == ("mobilevitv2_150", str(path))
        assert (backbone.config.input_size, backbone.config.mean) == (224, (0.485, 0.456, 0.406))
        assert backbone.config.score_names[-3:] == ("Surprise", "valence", "arousal")
        assert load_backbone(backbone.config).config == backbone.config


def test_ddamfn_is_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMOBEAM_MODELS", str(tmp_path))
    with pytest.raises(EmobeamError, match="models convert FILE --architecture ddamfn_affectnet8"):
        source_of("ddamfn", "ddamfn_affectnet8")
    torch.save(describe_backbone("ddamfn", store=()).network.state_dict(), tmp_path / "mine.pth")
    assert describe_backbone("ddamfn", str(tmp_path / "mine.pth")).config.score_names == ()
    path = str(tmp_path / "mine.safetensors")
    convert(str(tmp_path / "mine.pth"), path, architecture="ddamfn_affectnet8")
    assert describe_backbone(*named("", path)).config.score_names == DDAMFN_8


@pytest.mark.parametrize("note", [{"mean": 5}, {"std": [1.0]}, {"outputs": 3}, {"input_size": "big"}, {"more": 1}])
def test_a_note_that_makes_no_sense_is_none(note: dict[str, Any], tmp_path: Path) -> None:
    notes = {"architecture": SMALL, "outputs": ["a"], "input_size": 96, "mean": HALF, "std": HALF, **note}
    path = str(tmp_path / "w.safetensors")
    save_file({"a": torch.ones(1)}, path, metadata={"emobeam": json.dumps(notes)})
    assert read_info(path) is None
    assert source_of(SMALL, path).input_size == 224


def test_onnx_files_are_run_as_they_are(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weights = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["output"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("input", kind, ["N", 3, "H", "W"])]
    outputs = [helper.make_tensor_value_info("output", kind, ["N", 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    backbone = describe_backbone("onnx", str(tmp_path / "net.onnx"), 64)
    assert backbone.shapes == {"embedding": (3,), "scores": (8,)}
    pictures = crops(3, 64)
    found = embed(backbone, pictures, ("embedding", "scores"), 2)
    mean = normalised(backbone.config, pictures).mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(found["embedding"], mean, atol=1e-5)
    np.testing.assert_allclose(found["scores"], mean @ weights.T, atol=1e-4)
    assert load_backbone(backbone.config).config == backbone.config
    with pytest.raises(UsageError, match="--store maps"):
        check_outputs(backbone, ("maps",))
