"""Backbones that give embeddings and scores: which there are, what they see, and that neighbours don't matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from emobeam.emo_transforms.networks.backbones import (
    check_outputs,
    describe_backbone,
    embed,
    gives_maps,
    load_backbone,
    named,
    outputs_of,
    timm_names,
)
from emobeam.emo_transforms.networks.backbones.sources import source_of
from emobeam.emo_transforms.networks.backbones.timm_names import check_timm_name
from emobeam.emo_transforms.networks.shipped import shipped
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import UsageError
from tests.emo_transforms.vector_networks import HALF, MAPS, SMALL, close, crops, lively, normalised

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
    with pytest.raises(
        UsageError, match=r"--store embedding: .* gives no embedding, only maps: --store maps is what it can do"
    ):
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


def test_weights_whose_names_timm_puts_together_are_left_to_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Path(timm.__path__[0], "models")
    some = "\n".join((models / name).read_text() for name in ("mobilenetv3.py", "vision_transformer.py"))
    monkeypatch.setattr(timm_names, "_sources", lambda: some)  # to read all of them takes half a second
    check_timm_name("vit_base_patch32_clip_quickgelu_224", "timm:laion400m_e32")
    with pytest.raises(UsageError, match="it has e3000_r224_in1k"):
        check_timm_name(MAPS, "timm:e9_r9")


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
        pytest.param("mobilevitv2_050", 128, (), (1, 2), marks=pytest.mark.thorough),
        pytest.param("mobilefacenet", 112, (), (1, 2), marks=pytest.mark.thorough),
        pytest.param("ddamfn", 112, (), (1,), marks=pytest.mark.thorough),
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
