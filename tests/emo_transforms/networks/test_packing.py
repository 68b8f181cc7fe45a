"""Packing: a backbone and heads in float16, bound to each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from emobeam.emo_transforms.networks.backbones import describe_backbone
from emobeam.emo_transforms.networks.checkpoints.trained_on import trained_on
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NetworkInfo, read_info
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.packing import pack_backbone, pack_head
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.pretraining.affect_network import write_network
from emobeam.pipelines.cli import main
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named

SMALL = "mobilenetv4_conv_small_035"
INFO = NetworkInfo(SMALL, ("a", "b", "c"), 96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with three classes, as pretrain writes it."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("trained") / "network.safetensors"
    write_network(str(file), timm.create_model(SMALL, num_classes=3).state_dict(), INFO)
    return file


@pytest.fixture
def packed(trained: Path, tmp_path: Path) -> Path:
    pack_backbone(str(trained), tmp_path / "lab", "lab-au-1")
    return tmp_path / "lab"


def head_for(folder: Path, **options: Any) -> Head:
    backbone = described(folder)
    offer = Offer(ExtractConfig(backbone=backbone.config).features_id, backbone.map_shapes, backbone=SMALL)
    settings = {"dim": 16, "final_channels": 32, "weights": "trained", "seed": 4, **options}
    return new_head(task_named("au"), offer, inputs=("s32",), **settings)


def described(folder: Path) -> Any:
    return describe_backbone(SMALL, str(folder / "backbone.safetensors"))


def test_a_packed_backbone_is_a_plain_file_of_timm(trained: Path, packed: Path) -> None:
    state, before = load_file(packed / "backbone.safetensors"), load_file(trained)
    assert set(before) - set(state) == {"classifier.weight", "classifier.bias"}
    timm.create_model(SMALL, num_classes=0).load_state_dict(state, strict=True)
    for name, value in state.items():
        expected = before[name].half() if before[name].is_floating_point() else before[name]
        assert torch.equal(value, expected)
    assert read_info(str(packed / "backbone.safetensors")) == replace(INFO, outputs=())
    assert described(packed).config.input_size == 96


def test_packing_again_writes_the_same_bytes(trained: Path, packed: Path, tmp_path: Path) -> None:
    pack_backbone(str(trained), tmp_path / "again", "lab-au-1")
    for name in ("backbone.safetensors", "weights.json"):
        assert (packed / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_packed_head_is_the_head_rounded(packed: Path, tmp_path: Path) -> None:
    made = head_for(packed, provenance={"features": "/srv/lab/features", "labels": ["/srv/lab/a.csv"], "epochs": 3})
    save_head(made, str(tmp_path / "head"))
    found = pack_head(str(tmp_path / "head"), packed)
    head = load_head(str(found.heads["au"].folder))
    assert head.weights_sha256 == found.heads["au"].tensors.weights_sha256
    assert (head.config.name, head.config.weights) == ("lab-au-1", "lab-au-1")
    for name, value in made.module.state_dict().items():
        assert torch.equal(head.module.state_dict()[name], value.half().float())
    tensors = load_file(packed / "heads/au/head.safetensors").values()
    assert {value.dtype for value in tensors if value.is_floating_point()} == {torch.float16}
    assert "/srv" not in (packed / "heads/au/head.json").read_text()
    assert head.config.provenance["features"] == "features"
    assert head.config.provenance["epochs"] == 3
    batch = {"s32": np.random.default_rng(0).normal(size=(2, 8, *made.config.map_shapes["s32"])).astype(np.float32)}
    np.testing.assert_allclose(head.run(batch), made.run(batch), atol=5e-3)


def test_a_head_of_other_features_is_refused(trained: Path, packed: Path, tmp_path: Path) -> None:
    """A head trained on features of the file before rounding fits nothing that is packed."""
    backbone = describe_backbone(SMALL, str(trained))
    offer = Offer(ExtractConfig(backbone=backbone.config).features_id, backbone.map_shapes)
    made = new_head(task_named("au"), offer, inputs=("s32",), dim=16, final_channels=32, weights="trained")
    save_head(made, str(tmp_path / "head"))
    with pytest.raises(EmobeamError, match=r"was made for features .* extract with --backbone-weights"):
        pack_head(str(tmp_path / "head"), packed)


def test_a_new_backbone_takes_the_place_of_the_old_heads(trained: Path, packed: Path, tmp_path: Path) -> None:
    save_head(head_for(packed), str(tmp_path / "head"))
    assert set(pack_head(str(tmp_path / "head"), packed).heads) == {"au"}
    assert not pack_backbone(str(trained), packed, "lab-au-2").heads
    assert not (packed / "heads").exists()


def test_whom_a_backbone_was_trained_on_goes_with_it(trained: Path, packed: Path, tmp_path: Path) -> None:
    assert "trained_on" not in json.loads((packed / "weights.json").read_text())["backbone"]
    file = tmp_path / "run" / "backbone.safetensors"
    file.parent.mkdir()
    file.write_bytes(trained.read_bytes())
    assert trained_on(str(file)) is None
    note = {
        "weights": {"sha256": tensors_sha256(load_file(file))},
        "data": {
            "train": {"groups": ["photo/000002", "render/000001"]},
            "holdout": {"groups": ["photo/000003"]},
            "start": {"groups": ["photo/000002", "photo/000001"]},
        },
    }
    people = ["photo/000001", "photo/000002", "render/000001"]
    (file.parent / "pretrain.json").write_text(json.dumps(note))
    assert pack_backbone(str(file), tmp_path / "out", "lab-au-1").backbone.bytes
    data = json.loads((tmp_path / "out" / "weights.json").read_text())
    assert data["backbone"]["trained_on"] == people
    assert data["schema_version"] == 1
    assert trained_on(str(tmp_path / "out" / "backbone.safetensors")) == people, "a packed file says so too"
    save_head(head_for(tmp_path / "out"), str(tmp_path / "head"))
    pack_head(str(tmp_path / "head"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "weights.json").read_text())["backbone"] == data["backbone"]

    (file.parent / "pretrain.json").write_text(json.dumps(note | {"weights": {"sha256": "of others"}}))
    assert trained_on(str(file)) is None, "the note is about another file"
    images = note | {"data": {"train": {"images": 3}}}
    (file.parent / "pretrain.json").write_text(json.dumps(images))
    assert trained_on(str(file)) is None
    (file.parent / "pretrain.json").write_text("[]")
    with pytest.raises(EmobeamError, match=r"pretrain\.json: damaged"):
        pack_backbone(str(file), tmp_path / "none", "lab-au-1")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("name", "warned"), [("emobeam-au-7", True), ("lab-au-7", False)])
def test_names_of_our_own_are_warned_of(
    name: str, warned: bool, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["models", "pack", "--backbone", str(trained), "--name", name, "--output", str(tmp_path / "out")])
    assert end.value.code == 0
    text = "names emobeam-... are for weights that come with emobeam; take another unless you build the package"
    assert (text in " ".join(capsys.readouterr().err.split())) == warned
    assert (tmp_path / "out" / "weights.json").exists()


def test_what_cannot_be_packed_is_told(trained: Path, packed: Path, tmp_path: Path) -> None:
    save_head(head_for(packed, weights="untrained"), str(tmp_path / "head"))
    with pytest.raises(UsageError, match="is untrained"):
        pack_head(str(tmp_path / "head"), packed)
    state = load_file(trained)
    save_file(state, tmp_path / "plain.safetensors")
    with pytest.raises(UsageError, match="say which one by --architecture"):
        pack_backbone(str(tmp_path / "plain.safetensors"), tmp_path / "out", "lab-au-1")
    assert pack_backbone(str(tmp_path / "plain.safetensors"), tmp_path / "out", "lab-au-1", SMALL).name == "lab-au-1"
    state["conv_stem.weight"][0, 0, 0, 0] = 1e6
    save_file(state, tmp_path / "large.safetensors")
    with pytest.raises(EmobeamError, match=r"conv_stem\.weight holds numbers outside the range of float16"):
        pack_backbone(str(tmp_path / "large.safetensors"), tmp_path / "large", "lab-au-1", SMALL)
    assert not (tmp_path / "large").exists()
    broken = json.loads((packed / "weights.json").read_text())
    del broken["backbone"]
    (packed / "weights.json").write_text(json.dumps(broken))
    with pytest.raises(EmobeamError, match="damaged"):
        pack_head(str(tmp_path / "head"), packed)
