"""The command ``models`` as people and programs use it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from emobeam.emo_transforms.networks.backbones import describe_backbone
from emobeam.emo_transforms.networks.backbones.published import catalogue
from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors
from emobeam.emo_transforms.networks.checkpoints.reading import load_into, read_checkpoint
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_info
from emobeam.pipelines.cli import main
from tests.emo_transforms.networks.nets import lively, pictures


def run(capsys: pytest.CaptureFixture[str], *args: Path | str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["models", *(str(arg) for arg in args)])
    said = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, said.out, said.err


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOBEAM_MODELS", str(tmp_path / "models"))


def test_the_list_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert out == run(capsys, "list")[1]
    lines = out.splitlines()
    for model in catalogue.CATALOGUE:
        line = next(line for line in lines if line.split()[:1] == [model.name])
        assert model.architecture in line
        terms = line[line.index("[") : line.index("]") + 1]
        assert f"{terms} {model.terms}" in lines


def test_the_list_for_programs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mbf_va_mtl.pt").touch()
    models = {model["name"]: model for model in json.loads(run(capsys, "list", "--json")[1])}
    assert models["mbf_va_mtl"]["path"] == str(tmp_path / "models" / "mbf_va_mtl.pt")
    assert models["mbf_va_mtl"]["ready_for"] == ["expr", "va"]
    assert models["enet_b2_7"]["path"] == ""
    assert models["enet_b2_7"]["ready_for"] == ["expr"]
    assert models["mobilenetv4_affectnet"]["ready_for"] == []


def test_fetching(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "w.pt")
    little = replace(catalogue.entry("mbf_va_mtl"), name="little", url=f"file://{tmp_path}/w.pt")
    monkeypatch.setattr(catalogue, "CATALOGUE", (little,))
    code, out, err = run(capsys, "fetch", "little")
    assert (code, out) == (2, "")
    assert "non-commercial research only; add --accept-licence" in err
    code, out, err = run(capsys, "fetch", "little", "--accept-licence")
    assert (code, out) == (0, f"{tmp_path}/models/little.pt\n")
    assert "sha256 " in err
    code, out, err = run(capsys, "fetch", "little", "--json", "--quiet")
    assert json.loads(out)["downloaded"] is False
    assert err == ""
    code, out, _ = run(capsys, "fetch", "little", "--accept-licence", "--output", tmp_path / "else", "-q")
    assert Path(out.strip()) == tmp_path / "else" / "little.pt"
    assert run(capsys, "fetch", "big")[0] == 2
    code, _, err = run(
        capsys, "fetch", "little", "--accept-licence", "--output", tmp_path / "new", "--sha256", "f" * 64
    )
    assert (code, list((tmp_path / "new").iterdir())) == (2, [])
    assert f"expected {'f' * 64}" in err


@pytest.mark.parametrize("new", [True, False])
def test_converting_a_pickled_module(capsys: pytest.CaptureFixture[str], new: bool, tmp_path: Path) -> None:
    model: Any = lively(timm.create_model("tf_efficientnet_b0", num_classes=8))
    model.classifier = nn.Sequential(model.classifier)  # HSEmotion's
    torch.save(model, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    output = tmp_path / "out" / "w.safetensors"
    code, out, _ = run(
        capsys, "convert", tmp_path / "w.pt", "--output", output, "--architecture", "enet_b0_8_best_vgaf", "--json"
    )
    assert code == 0
    told = json.loads(out)
    assert told["scores"] == 8
    assert told["architecture"] == "tf_efficientnet_b0"
    assert told["source_class"] == "timm.models.efficientnet.EfficientNet"
    assert told["parameters"] == pytest.approx(4.05e6, rel=0.02)
    with safe_open(output, "pt") as file:
        assert file.metadata()["source_sha256"] == told["source_sha256"]
        assert file.metadata()["architecture"] == "tf_efficientnet_b0"
    info = read_info(str(output))
    assert info is not None
    assert (info.architecture, info.input_size, info.outputs) == ("tf_efficientnet_b0", 224, catalogue.AFFECTNET_8)
    loaded = describe_backbone("tf_efficientnet_b0", str(output), store=("embedding", "scores"))
    assert loaded.config.score_names == catalogue.AFFECTNET_8
    timm.create_model("tf_efficientnet_b0", num_classes=8).load_state_dict(load_file(output))  # by timm's own names
    network = TimmVectors("tf_efficientnet_b0", 8).eval()
    load_into(network, read_checkpoint(str(output)), str(output))
    x = pictures(1, 64)
    with torch.inference_mode():
        assert torch.equal(
            network(x)[1], model.classifier(model.forward_head(model.forward_features(x), pre_logits=True))
        )


def test_converting_without_a_name_keeps_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    linear = nn.Linear(2, 3)
    torch.save({"state_dict": nn.Sequential(linear).state_dict()}, tmp_path / "w.pt")
    code, out, _ = run(capsys, "convert", tmp_path / "w.pt", "--output", tmp_path / "w.safetensors")
    assert code == 0
    assert out.startswith(f"{tmp_path}/w.safetensors: 2 tensors")
    assert torch.equal(load_file(tmp_path / "w.safetensors")["0.weight"], linear.weight)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, (f"touch '{os.environ['EMOBEAM_TEST_MARK']}'",)


def test_what_can_not_be_converted_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOBEAM_TEST_MARK", str(tmp_path / "mark"))
    good, evil, bad, output = (tmp_path / name for name in ("good.pt", "evil.pt", "bad.pt", "out.safetensors"))
    torch.save(nn.Linear(2, 3).state_dict(), good)
    torch.save({"state_dict": {"a": torch.ones(2)}, "b": Runs()}, evil)
    torch.save({"a": torch.tensor([1.0, float("nan")])}, bad)
    wrong: list[tuple[list[Path | str], str]] = [
        ([evil, "--output", output], "evil.pt: neither a safetensors file nor a checkpoint that can be read without"),
        ([bad, "--output", output], "bad.pt: holds NaN"),
        ([good, "--output", tmp_path / "out.pt"], "let its name end in .safetensors"),
        ([good, "--output", output, "--architecture", "resnet_of_dreams"], "no such model"),
        (
            [good, "--output", output, "--architecture", "mobilefacenet"],
            "of the backbone are not in it (first: features.layers.0",
        ),
        ([tmp_path / "nowhere.pt", "--output", output], "nowhere.pt: no such file"),
        ([good], "--output"),
    ]
    for args, words in wrong:
        code, out, err = run(capsys, "convert", *args)
        assert (code, out) == (2, ""), args
        assert words in err, (words, err)
    assert not output.exists()
    assert not (tmp_path / "mark").exists()


def test_preparing_ahead(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    store = tmp_path / "prepared"
    monkeypatch.setenv("EMOBEAM_PREPARED", str(store))
    code, out, err = run(capsys, "prepare")
    assert code == 0
    assert out.count(f"ready in {store}") == 2
    assert err.count("preparing") == 1, "one process makes both"
    assert sorted(place.name.partition("-")[0] for place in store.iterdir()) == ["backbone", "head", "locks"]
    code, out, err = run(capsys, "prepare", "--head", "shipped", "--json")
    assert (code, err) == (0, "")
    (told,) = json.loads(out)
    assert told["network"].startswith("head emobeam-au-")
    code, out, err = run(capsys, "prepare", "--backbone-weights", "no-such-file.safetensors")
    assert code == 2
    assert "no-such-file.safetensors: no such file" in err
