"""Backbones that give embeddings and scores: which there are, what they see, and that neighbours don't matter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from skimage import data
from torch import Tensor, nn

from emo_transforms.backbones import (
    Backbone,
    check_outputs,
    describe_backbone,
    embed,
    gives_maps,
    load_backbone,
    named,
    outputs_of,
    source_of,
)
from emo_transforms.backbones.catalogue import CATALOGUE, DDAMFN_8, Entry
from emo_transforms.backbones.notes import read_info
from emo_transforms.shipped import shipped
from pipelines.models import convert
from schemas.config import BackboneConfig, ExtractConfig
from schemas.records import EmobeamError, UsageError

SMALL = "mobilenetv3_small_050"
"""A timm classifier that is quick on a CPU; embedding 1024."""
MAPS = "mobilenetv4_conv_small_050"
HALF = (0.5, 0.5, 0.5)


def crops(count: int, size: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Parts of a photograph."""
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(seed)
    places = rng.integers(0, photograph.shape[0] - size, (count, 2)).tolist()
    return [np.ascontiguousarray(photograph[y : y + size, x : x + size]) for y, x in places]


def normalised(config: BackboneConfig, pictures: list[NDArray[np.uint8]]) -> Tensor:
    scaled = (np.stack(pictures) / 255 - config.mean) / config.std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def close(found: NDArray[np.float32], wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-4 * float(wanted.abs().max()))


@cache
def lively(name: str, size: int, *store: str) -> Backbone:
    """A backbone whose normalisation layers have statistics of pictures, so that values are neither 0 nor huge."""
    backbone = describe_backbone(name, "untrained", size, store)
    with torch.no_grad():
        for module in backbone.network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                module.momentum = None
        backbone.network.train()(normalised(backbone.config, crops(8, size, seed=9))) if not backbone.map_shapes else (
            backbone.network.network.train()(normalised(backbone.config, crops(8, size, seed=9)))
        )
    backbone.network.eval()
    return backbone


# --- what there is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights", "size", "mean"),
    [
        ("mobilenetv4_conv_small", "untrained", 224, (0.485, 0.456, 0.406)),
        ("mobilenetv4_conv_small", "timm", 224, (0.485, 0.456, 0.406)),
        ("mobilenetv4_conv_small", "timm:e1200_r224_in1k", 224, (0.485, 0.456, 0.406)),
        ("mobilenetv4_conv_small", "timm:e3600_r256_in1k", 256, HALF),
        ("mobilenetv4_hybrid_medium", "file.pt", 224, (0.485, 0.456, 0.406)),
        ("mobilenetv4_hybrid_medium", "timm:ix_e550_r384_in1k", 384, (0.485, 0.456, 0.406)),
        ("tf_efficientnet_b0", "untrained", 224, (0.485, 0.456, 0.406)),
        ("tf_efficientnet_b2", "file.pt", 260, (0.485, 0.456, 0.406)),
        ("mobilevitv2_150", "file.pt", 256, (0.0, 0.0, 0.0)),
        ("mobilefacenet", "file.pt", 112, HALF),
        ("ddamfn", "untrained", 112, (0.485, 0.456, 0.406)),
    ],
)
def test_each_has_the_input_its_weights_were_made_for(
    name: str, weights: str, size: int, mean: tuple[float, ...]
) -> None:
    source = source_of(name, weights)
    assert (source.input_size, source.mean) == (size, mean)
    assert source.uri == ("file.pt" if weights == "file.pt" else "")
    assert gives_maps(name) == source.gives_maps == name.startswith("mobilenetv4")


@pytest.mark.parametrize(
    ("name", "size", "embedding"),
    [(SMALL, 224, 1024), ("mobilevitv2_050", 256, 256), ("mobilefacenet", 112, 512), ("ddamfn", 112, 512)],
)
def test_vectors_without_maps(name: str, size: int, embedding: int) -> None:
    backbone = describe_backbone(name, store=())
    assert backbone.shapes == {"embedding": (embedding,), "scores": (8,)}
    assert (backbone.embedding, backbone.scores) == (embedding, 8)
    assert backbone.config.input_size == size
    assert (backbone.config.vectors, backbone.config.classes) == (True, 8)
    assert outputs_of(backbone) == ("embedding", "scores")
    again = load_backbone(backbone.config)
    assert again.config == backbone.config
    picture = crops(1, size)
    for key, values in embed(backbone, picture, ("embedding", "scores"), 2).items():
        np.testing.assert_array_equal(values, embed(again, picture, (key,), 2)[key])


def test_maps_alone_unless_vectors_are_wanted() -> None:
    backbone = describe_backbone(MAPS)
    assert outputs_of(backbone) == ("maps",)
    assert set(backbone.shapes) == {"s8", "s16", "s32"}
    assert backbone.config == replace(backbone.config, vectors=False, classes=0, score_names=())
    with pytest.raises(UsageError, match=r"--store embedding: .* gives no embedding, only maps; use --store maps"):
        check_outputs(backbone, ("maps", "embedding"))


def test_a_backbone_without_maps_refuses_them() -> None:
    backbone = describe_backbone("mobilefacenet", store=("maps",))
    with pytest.raises(UsageError, match=r"--store maps: mobilefacenet .* only embedding and scores"):
        check_outputs(backbone, ("maps", "crops"))
    check_outputs(backbone, ("crops", "embedding", "scores"))


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("resnet_of_dreams", "untrained", "no such model; for example"),
        (MAPS, "timm:e9_r9", "it has e3000_r224_in1k"),
        ("mobilefacenet", "timm", "name a file"),
        ("onnx", "untrained", "name a file"),
        ("mobilenetv4_conv_small.e3600_r256_in1k", "timm", "--backbone-weights timm:e3600_r256_in1k"),
        ("mobilenetv4_hybrid_medium.ix_e550_r384_in1k", "w.pt", "--backbone-weights timm:ix_e550_r384_in1k"),
        ("mobilefacenet", "weights/mobilevit_va_mtl.pt", "holds weights of mobilevitv2_150"),
        ("mobilefacenet", "enet_b0_8_va_mtl", "holds weights of tf_efficientnet_b0"),
    ],
)
def test_what_there_is_not(name: str, weights: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        source_of(name, weights)


def test_networks_of_one_size_refuse_others() -> None:
    with pytest.raises(UsageError, match="112 px only, not --input-size 224"):
        describe_backbone("mobilefacenet", input_size=224)
    assert describe_backbone(SMALL, input_size=96).config.input_size == 96


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("", "untrained"), ("mobilenetv4_conv_small", "untrained")),
        (("", "mbf_va_mtl"), ("mobilefacenet", "mbf_va_mtl")),
        (("enet_b2_8", ""), ("tf_efficientnet_b2", "enet_b2_8")),
        (("enet_b2_8", "untrained"), ("tf_efficientnet_b2", "untrained")),
        (("", ""), ("mobilenetv4_conv_small", shipped().name)),
        (("mobilenetv4_conv_small", ""), ("mobilenetv4_conv_small", shipped().name)),
        (("", "shipped"), ("mobilenetv4_conv_small", shipped().name)),
        (("mobilenetv4_conv_medium", ""), ("mobilenetv4_conv_medium", "untrained")),
        (("", "net.onnx"), ("onnx", "net.onnx")),
        (("tf_efficientnet_b0", "w.pt"), ("tf_efficientnet_b0", "w.pt")),
        (("", "w.pt"), ("mobilenetv4_conv_small", "w.pt")),
        (("", "weights/mobilevit_va_mtl.pt"), ("mobilevitv2_150", "weights/mobilevit_va_mtl.pt")),
        (("", "s3://bucket/mbf_va_mtl.onnx"), ("mobilefacenet", "s3://bucket/mbf_va_mtl.onnx")),
        (("mobilevit_va_mtl", "w.pt"), ("mobilevit_va_mtl", "w.pt")),
    ],
)
def test_one_name_is_enough_where_it_says_all(given: tuple[str, str], meant: tuple[str, str]) -> None:
    assert named(*given) == meant


# --- what it sees and gives -------------------------------------------------------------------------------


def test_vectors_are_those_of_timm() -> None:
    backbone = lively(SMALL, 96)
    model = timm.create_model(SMALL, num_classes=8)
    model.load_state_dict(backbone.network.network.state_dict())
    pictures = crops(5, 96)
    found = embed(backbone, pictures, ("scores", "embedding"), 4)
    with torch.inference_mode():
        inputs = normalised(backbone.config, pictures)
        close(found["scores"], model.eval()(inputs))
        close(found["embedding"], model.forward_head(model.forward_features(inputs), pre_logits=True))
    assert float(found["scores"].std()) > 0


def test_one_pass_gives_maps_and_vectors() -> None:
    both = lively(MAPS, 224, "maps", "embedding", "scores")
    assert list(both.shapes) == ["s8", "s16", "s32", "embedding", "scores"]
    model = both.network.network
    trunk = timm.create_model(MAPS, features_only=True)
    trunk.load_state_dict({name: model.state_dict()[name] for name in trunk.state_dict()})
    pictures = crops(3, 224)
    found = embed(both, pictures, tuple(both.shapes), 3)
    with torch.inference_mode():
        inputs = normalised(both.config, pictures)
        *_, s8, s16, final = trunk.eval()(inputs)
        close(found["s8"], s8)
        close(found["s16"], s16)
        close(model.blocks[-1](torch.from_numpy(found["s32"])).numpy(), final)
        close(found["scores"], model(inputs))
        close(found["embedding"], model.forward_head(final, pre_logits=True))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "size", "store", "counts"),
    [
        (MAPS, 224, ("maps", "embedding", "scores"), (1, 2)),
        ("tf_efficientnet_b0", 96, (), (1, 2)),
        ("mobilevitv2_050", 128, (), (1, 2)),
        ("mobilefacenet", 112, (), (1, 2)),
        ("ddamfn", 112, (), (1,)),
    ],
)
def test_a_crop_gives_the_same_bits_whoever_stands_beside_it(
    name: str, size: int, store: tuple[str, ...], counts: tuple[int, ...], threads: Callable[[int], None]
) -> None:
    backbone = lively(name, size, *store)
    batch = ExtractConfig().kernel_batch
    one, *others = crops(batch + 1, size)
    runs = []
    for count in counts:
        threads(count)
        runs.append(embed(backbone, [one], ("embedding", "scores"), batch))
        for place in (batch - 1,):
            mixed = [*others[:place], one, *others[place : batch - 1]]
            found = embed(backbone, mixed, ("embedding", "scores"), batch)
            runs.append({key: values[place : place + 1] for key, values in found.items()})
        found = embed(backbone, [*others, one], ("embedding", "scores"), batch)  # in a second call, with padding
        runs.append({key: values[-1:] for key, values in found.items()})
    for run in runs[1:]:
        for key in ("embedding", "scores"):
            np.testing.assert_array_equal(run[key], runs[0][key], err_msg=f"{name} {key}")


def test_nothing_in_nothing_out() -> None:
    backbone = lively(SMALL, 96)
    found = embed(backbone, [], ("embedding", "scores"), 4)
    assert {name: values.shape for name, values in found.items()} == {"embedding": (0, 1024), "scores": (0, 8)}


# --- weights ----------------------------------------------------------------------------------------------


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
