"""The weights that come with emobeam: files that anybody's timm reads, and what emobeam makes of them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from emobeam.emo_transforms.networks.backbones import describe_backbone, load_backbone, named
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_info
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.folder import check_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.shipped import (
    is_shipped,
    read_shipped,
    shipped,
    shipped_as,
    shipped_head,
    told_weights,
)
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.schemas.records import EmobeamError, UsageError

ROOT = Path(__file__).resolve().parents[3]
SMALL = "mobilenetv4_conv_small"
LIMIT = 9_000_000


def test_the_files_are_those_that_are_noted_and_small() -> None:
    found = shipped()
    files = [found.backbone, *(head.tensors for head in found.heads.values())]
    for file in files:
        data = file.path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
    assert found.bytes == sum(file.bytes for file in files) <= LIMIT
    assert is_shipped(found.name)
    assert set(found.heads) == {"au"}


def test_plain_timm_and_safetensors_read_the_backbone() -> None:
    found = shipped()
    state = load_file(found.backbone.path)
    assert {value.dtype for name, value in state.items() if not name.endswith("num_batches_tracked")} == {torch.float16}
    network = timm.create_model(found.architecture, num_classes=0)
    network.load_state_dict(state, strict=True)
    network.float().eval()
    info = read_info(str(found.backbone.path))
    assert info is not None
    assert info.architecture == found.architecture == SMALL
    with torch.inference_mode():
        assert torch.isfinite(network(torch.rand(1, 3, info.input_size, info.input_size))).all()
    for head in found.heads.values():
        with safe_open(head.tensors.path, "pt") as tensors:
            kinds = {str(tensors.get_slice(name).get_dtype()) for name in tensors.keys()}  # noqa: SIM118
        assert "F32" not in kinds


def test_emobeam_computes_with_the_numbers_of_the_file() -> None:
    found = shipped()
    config = describe_backbone(*named("", "")).config
    assert (config.name, config.weights, config.weights_sha256) == (
        SMALL,
        found.name,
        found.backbone.weights_sha256,
    )
    assert ExtractConfig(backbone=config).features_id == found.features_id
    network = load_backbone(config).network
    state = load_file(found.backbone.path)
    own = network.state_dict()
    assert len(own) > 100
    assert all(torch.equal(own[name], state[name].to(own[name].dtype)) for name in own)


def test_the_head_fits_the_backbone_and_says_what_it_is() -> None:
    found = shipped_head("au")
    assert found is not None
    head = load_head(str(found.folder))
    assert head.weights_sha256 == found.tensors.weights_sha256
    assert {value.dtype for value in head.module.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert head.config.weights == head.config.name == shipped().name
    backbone = describe_backbone(*named("", ""))
    config = head.config
    offer = Offer(shipped().features_id, backbone.map_shapes, rate=config.rate, crop_style=config.crop_style)
    assert check_head(head, offer) == []
    assert "AU23" in config.unknown  # nobody teaches a lip tightener
    assert shipped_head("va") is None


def test_names_stand_for_them() -> None:
    name = shipped().name
    assert shipped_as("shipped") is shipped_as(name) is shipped()
    one, other = describe_backbone(SMALL, "shipped"), describe_backbone(SMALL, name)
    assert one.config == other.config
    assert one.config.weights == name
    with pytest.raises(EmobeamError, match="emobeam-au-999: weights of another version of emobeam"):
        named("", "emobeam-au-999")
    with pytest.raises(UsageError, match=f"holds weights of {SMALL}"):
        describe_backbone("mobilenetv4_conv_medium", "shipped")
    assert told_weights("w", "0123456789abcdef") == "w (sha256 0123456789ab)"


def test_the_embedding_is_there_but_no_scores() -> None:
    config = describe_backbone(SMALL, "shipped", store=("maps", "embedding"))
    assert (config.embedding, config.scores) == (1280, 0)


def test_a_worker_with_other_weights_says_so() -> None:
    config = describe_backbone(*named("", "")).config
    with pytest.raises(EmobeamError, match="not the weights of this run"):
        load_backbone(BackboneConfig(**{**vars(config), "weights_sha256": "0" * 64}))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped().backbone.path.parent, tmp_path / "weights"))


def test_a_folder_that_lacks_something_is_told(copy: Path, tmp_path: Path) -> None:
    assert read_shipped(copy).name == shipped().name
    (copy / "backbone.safetensors").unlink()
    with pytest.raises(EmobeamError, match=r"backbone\.safetensors: missing"):
        read_shipped(copy)
    data = json.loads((copy / "weights.json").read_text())
    (copy / "weights.json").write_text(json.dumps({**data, "schema_version": 9}))
    with pytest.raises(EmobeamError, match=r"damaged.*schema_version is 9"):
        read_shipped(copy)
    with pytest.raises(EmobeamError, match="missing; the weights are a part of emobeam"):
        read_shipped(tmp_path / "nowhere")


def test_wheel_and_sdist_hold_them() -> None:
    """Hatch takes all files of a package but those that git ignores; nothing else is left out."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["emobeam"]
    assert set(build) == {"exclude", "targets"}
    assert build["exclude"] == ["/emobeam/runners/images"]
    assert set(build["targets"]) == {"sdist", "wheel"}
    assert set(build["targets"]["wheel"]) == {"packages"}
    folder = ROOT / "emo_transforms" / "networks" / "shipped"
    assert folder == shipped().backbone.path.parent.resolve()
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {path.relative_to(folder).as_posix() for path in files}
    files.append(ROOT / "emo_transforms" / "faces" / "detection" / "gate.safetensors")
    assert {"README.md", "split.json", "weights.json", "backbone.safetensors", "heads/au/head.json"} <= names
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no checkout: nobody can say what git ignores")
    ignored = subprocess.run(["git", "check-ignore", *map(str, files)], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == ""
