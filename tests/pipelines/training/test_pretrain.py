"""Pretraining from folders of drawn faces to a backbone that timm and stage 1 read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from emobeam.emo_transforms.networks.backbones import describe_backbone, embed
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_info
from emobeam.emo_transforms.training.images.image_loader import ImageLoader, PlainTransform
from emobeam.emo_transforms.training.images.pixels import normalise, to_float
from emobeam.emo_transforms.training.pretraining.affect_network import start_from
from emobeam.pipelines.commands.pretrain import pretrain
from emobeam.pipelines.training.pretrain import PretrainRequest, run_pretrain
from emobeam.schemas.records import EmobeamError, UsageError
from tests.emo_transforms.training.drawn_faces import AROUSAL, MOUTHS, VALENCE, write_faces
from tests.pipelines.runs import Told

NAMES = ("Happiness", "Neutral", "Sadness", "Surprise")
SMALL = ("input_size=48", "batch=16", "epochs=8", "lr=3e-3", "ema=0.9", "dropout=0", "drop_path=0", "va_rows=8")
MODEL = "test_resnet"
WITH_MAPS = "mobilenetv4_conv_small_035"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_faces(folder / "train", 40)
    write_faces(folder / "val", 10, seed=1)
    (folder / "train" / "Sadness" / "torn.jpg").write_bytes(b"\xff\xd8 no picture")
    rows = [
        {"path": str(path.relative_to(folder)), "expression": path.parent.name, "split": path.parts[-3]}
        | {"valence": VALENCE[path.parent.name], "arousal": AROUSAL[path.parent.name]}
        for path in sorted(folder.rglob("*.jpg"))
    ]
    pd.DataFrame(rows).to_csv(folder / "faces.csv", index=False)
    return folder


def request(faces: Path, output: Path, *settings: str, **changes: Any) -> PretrainRequest:
    base = PretrainRequest(
        data=str(faces / "faces.csv"),
        output=str(output),
        backbone=MODEL,
        start="untrained",
        settings=(*SMALL, "holdout=0.2", *settings),
        classes=",".join(NAMES),
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Told]:
    output, told = tmp_path_factory.mktemp("trained") / "net", Told()
    return output, run_pretrain(request(faces, output), told), told


def test_it_learns(trained: tuple[Path, dict[str, Any], Told]) -> None:
    output, result, told = trained
    losses = [row["expression"] for row in result["history"]]
    assert len(losses) == 8, "from an untrained start there is no stage of the output layer alone"
    assert losses[-1] < 0.75 * losses[0]
    assert result["holdout"]["mean_recall"] > 0.6, "chance is 0.25"
    assert result["official"]["mean_recall"] > 0.6
    assert result["official"]["valence"]["ccc"] > 0.4
    assert result["official"]["images"] == 40
    assert result["data"]["train"]["images"] + result["data"]["holdout"]["images"] == 161
    assert result["unreadable"]["count"] == 1
    assert "torn.jpg" in next(iter(result["unreadable"]["first"]))
    assert any("1 images could not be read" in text for text in told.warned)
    written = json.loads((output / "pretrain.json").read_text())
    assert written == json.loads(json.dumps(result))
    held = (output / "holdout.txt").read_text().split("\n")[:-1]
    assert len(set(held)) == len(held) == result["data"]["holdout"]["images"]
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (output / "README.md").read_text()
    assert f"{result['official']['accuracy']:.4f}" in card
    assert result["weights"]["sha256"] in card
    assert not (output / ".training" / "state.pt").exists()


def outputs_on(network: torch.nn.Module, faces: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    from emobeam.emo_transforms.training.images.face_layouts import read_face_data

    images = read_face_data(str(faces / "faces.csv"), classes=",".join(NAMES)).official
    assert images is not None
    found, normal = [], (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])  # type: ignore[union-attr]
    with torch.inference_mode():
        for batch in ImageLoader(images, PlainTransform(size), batch=16, seed=0).in_order():
            found.append(network.eval()(normalise(to_float(batch.pictures, "cpu"), *normal)).numpy())
    return np.concatenate(found), images.labels


def test_timm_loads_it_strictly(trained: tuple[Path, dict[str, Any], Told], faces: Path) -> None:
    output, result, _ = trained
    file = output / "backbone.safetensors"
    network = timm.create_model(MODEL, num_classes=6)
    assert set(network.state_dict()) == set(load_file(file))
    network = timm.create_model(MODEL, num_classes=6, checkpoint_path=str(file))
    outputs, labels = outputs_on(network, faces, 48)
    assert (outputs[:, :4].argmax(axis=1) == labels).mean() == pytest.approx(result["official"]["accuracy"])
    info = read_info(str(file))
    assert info is not None
    assert (info.classes, info.outputs[4:], info.input_size) == (NAMES, ("valence", "arousal"), 48)


@pytest.mark.thorough
def test_stage_1_loads_it(faces: Path, tmp_path: Path) -> None:
    output = tmp_path / "net"
    run_pretrain(request(faces, output, "input_size=64", "batch=64", "epochs=1", backbone=WITH_MAPS), Told())
    file = str(output / "backbone.safetensors")
    maps = describe_backbone(WITH_MAPS, file, 64)
    assert set(maps.map_shapes) == {"s8", "s16", "s32"}
    written = load_file(file)
    for name, tensor in maps.network.state_dict().items():
        assert torch.equal(tensor, written[name]), name
    cfg = timm.create_model(WITH_MAPS).pretrained_cfg
    assert (maps.config.mean, maps.config.std) == (cfg["mean"], cfg["std"])
    vectors = describe_backbone(WITH_MAPS, file, 64, store=("maps", "scores"))
    assert vectors.config.score_names == (*NAMES, "valence", "arousal")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    scores = embed(vectors, list(pixels), ["scores"], 4)["scores"]
    network = timm.create_model(WITH_MAPS, num_classes=6, checkpoint_path=file).eval()
    with torch.inference_mode():
        expected = network(normalise(to_float(torch.from_numpy(pixels), "cpu"), cfg["mean"], cfg["std"])).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4)


class Break(Exception):
    """Stands for a power cut."""


@pytest.mark.thorough
def test_a_broken_run_ends_with_the_same_weights(faces: Path, tmp_path: Path) -> None:
    few = ("epochs=2", "head_epochs=1", "batch=32")
    start = tmp_path / "start.safetensors"
    first = run_pretrain(request(faces, tmp_path / "first", "epochs=1"), Told())
    (tmp_path / "first" / "backbone.safetensors").rename(start)
    assert first["best_epoch"] == 1
    whole = run_pretrain(request(faces, tmp_path / "whole", *few, start=str(start)), Told())
    assert len(whole["history"]) == 3, "one epoch of the output layer alone, two of all"

    def cut(at: int) -> Told:
        seen = []

        def on(event: str, data: Mapping[str, Any]) -> None:
            seen.append(event)
            if seen.count("frames") == at:
                raise Break

        return Told(on)

    parts = request(faces, tmp_path / "parts", *few, start=str(start), checkpoint_minutes=0.0)
    for at in (3, 4, 4):
        with pytest.raises(Break):
            run_pretrain(parts, cut(at))
    told = Told()
    again = run_pretrain(parts, told)
    assert any("going on with epoch" in text for text in told.said)
    assert again["weights"]["sha256"] == whole["weights"]["sha256"]
    assert again["history"] == whole["history"]
    one, other = (tmp_path / name / "backbone.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
    done = run_pretrain(parts, told)
    assert done["identity"] == again["identity"]
    assert "done already" in told.said[-1]
    with pytest.raises(UsageError, match="trained on other data or with other settings"):
        run_pretrain(replace(parts, seed=5), Told())


@pytest.mark.thorough
def test_the_output_layer_alone_trains_first(faces: Path, tmp_path: Path) -> None:
    only = ("head_epochs=2", "epochs=0", "augment=none", "erase=0")
    start = tmp_path / "start.safetensors"
    run_pretrain(request(faces, tmp_path / "first", "epochs=1"), Told())
    (tmp_path / "first" / "backbone.safetensors").rename(start)
    told = Told()
    run_pretrain(request(faces, tmp_path / "head", *only, start=str(start)), told)
    assert not any("untrained" in text for text in told.warned), "its classes are the same"
    without_va = request(faces, tmp_path / "other", "head_epochs=1", "epochs=0", start=str(start), loss="expression")
    run_pretrain(without_va, told)
    assert [text.split(": ", 1)[1] for text in told.warned if "untrained" in text] == [
        "2 tensors are not in it as the network needs them and start untrained: fc.weight, fc.bias"
    ]
    before, after = load_file(start), load_file(tmp_path / "head" / "backbone.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("recipe", ["hsemotion", "authors"])
def test_the_other_recipes_run(faces: Path, tmp_path: Path, recipe: str) -> None:
    size = ("input_size=32", "batch=32", "epochs=1", "holdout=0.2", "precision=float32")
    asked = replace(request(faces, tmp_path / "net"), recipe=recipe, settings=size, loss="expression")
    result = run_pretrain(asked, Told())
    assert result["network"]["outputs"] == list(NAMES)
    assert np.isfinite(result["history"][0]["loss"])
    assert result["recipe"]["sam"] == (0.05 if recipe == "hsemotion" else 0)


def test_other_backbones_and_the_command(faces: Path, tmp_path: Path) -> None:
    common = ["--start", "untrained", "--classes", ",".join(NAMES), "--epochs", "1", "--batch", "16", "--workers", "0"]
    more = ["--input-size", "32", "--device", "cpu", "--set", "holdout=0.2", "--json", "-q"]
    asked = [str(faces), "--output", str(tmp_path / "net"), "--backbone", "test_efficientnet", *common, *more]
    done = CliRunner().invoke(pretrain, asked, catch_exceptions=False)
    assert done.exit_code == 1, "an image could not be read"
    result = json.loads(done.stdout)
    assert result["network"]["architecture"] == "test_efficientnet"
    assert result["network"]["outputs"] == list(NAMES), "the folders say nothing of valence and arousal"
    file = str(tmp_path / "net" / "backbone.safetensors")
    timm.create_model("test_efficientnet", num_classes=4, checkpoint_path=file)
    assert describe_backbone("test_efficientnet", file).scores == 4
    for name in ("auto|8|7", "Examples:", "hsemotion"):
        assert name in CliRunner().invoke(pretrain, ["--help"]).stdout


def test_what_is_in_a_foreign_folder_stays(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("mine")
    (tmp_path / "notes" / ".training").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, text in (("notes", "holds something that is no pretrained backbone"), ("file", "is a file")):
        with pytest.raises(UsageError, match=text):
            run_pretrain(request(faces, tmp_path / name), Told())
    assert (tmp_path / "notes" / "README.md").read_text() == "mine"
    assert [path.name for path in (tmp_path / "notes").iterdir() if path.name[0] != "."] == ["README.md"]


@pytest.mark.parametrize("cut", ["classifier.weight", "conv_head.weight", "norm_head.bias"])
def test_what_starts_untrained_is_named(cut: str) -> None:
    network = timm.create_model(WITH_MAPS, num_classes=4)
    given = {key: torch.full_like(value, 0.5) for key, value in network.state_dict().items() if key != cut}
    before = network.state_dict()[cut].clone()
    assert start_from(network, {f"module.{key}": value for key, value in given.items()}, "x") == (cut,)
    after = network.state_dict()
    assert torch.equal(after[cut], before)
    assert all(torch.equal(after[key], value) for key, value in given.items())


def test_an_output_layer_of_other_classes_starts_untrained() -> None:
    network = timm.create_model(WITH_MAPS, num_classes=4)
    other = timm.create_model(WITH_MAPS, num_classes=7).state_dict()
    assert start_from(network, other, "x") == ("classifier.weight", "classifier.bias")


@pytest.mark.parametrize("spoil", ["missing", "left over", "shape", "nan"])
def test_a_start_that_fits_badly_is_refused(spoil: str) -> None:
    network = timm.create_model(WITH_MAPS, num_classes=4)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if spoil == "missing":
        del state["conv_stem.weight"]
    elif spoil == "left over":
        state["blocks.9.0.conv.weight"] = torch.zeros(1)
    elif spoil == "shape":
        state["conv_stem.weight"] = torch.zeros(3)
    else:
        state["conv_stem.weight"].fill_(torch.nan)
    before = network.state_dict()["conv_stem.weight"].clone()
    with pytest.raises(EmobeamError, match="--start x: "):
        start_from(network, state, "x")
    assert torch.equal(network.state_dict()["conv_stem.weight"], before)


def test_what_makes_no_sense_is_refused(faces: Path, tmp_path: Path) -> None:
    plain = request(faces, tmp_path / "net")
    for changes, text in (
        ({"backbone": "nonet"}, "timm has no such model"),
        ({"data": str(faces), "loss": "expression+va"}, "has no valence and arousal"),
        ({"settings": ("holdout=0",)}, "holdout is 0"),
    ):
        with pytest.raises(UsageError, match=text):
            run_pretrain(replace(plain, **changes), Told())
    wrong = tmp_path / "wrong.safetensors"
    from safetensors.torch import save_file

    save_file({"conv_stem.weight": torch.zeros(3)}, wrong)
    with pytest.raises(
        EmobeamError, match=r"--start .*wrong.safetensors: \d+ of \d+ tensors of the backbone are not in it"
    ):
        run_pretrain(replace(plain, start=str(wrong)), Told())
    for path in (faces / "train").rglob("*.jpg"):
        assert path.parent.name in MOUTHS
    blank = tmp_path / "blank"
    for name in NAMES:
        (blank / "train" / name).mkdir(parents=True)
        for number in range(6):
            (blank / "train" / name / f"{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(EmobeamError, match="none of 4 images can be read"):
        run_pretrain(replace(plain, data=str(blank), output=str(tmp_path / "blank_out")), Told())
