"""TorchBackbone and mixer trained together from stored crops, and the cache that the trained backbone makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import final_layer_state
from emobeam.emo_transforms.networks.backbones.torch_backbones import TorchBackbone
from emobeam.emo_transforms.networks.heads.architectures.module import FinalLayer
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.folder import check_head
from emobeam.emo_transforms.training.end_to_end.crops_data import clip_windows, workers_that_fit
from emobeam.emo_transforms.training.end_to_end.crops_learner import (
    CropsLearner,
    EndToEndConfig,
    EndToEndResult,
    start_backbone,
    train_end_to_end,
)
from emobeam.emo_transforms.training.end_to_end.trunk_and_head import EndToEnd, timm_final_layer
from emobeam.emo_transforms.training.heads.evaluation import values_of
from emobeam.emo_transforms.training.heads.head_loop import TrainSetup
from emobeam.emo_transforms.training.heads.recipe import RECIPES
from emobeam.emo_transforms.training.heads.samples import join_labels
from emobeam.emo_transforms.training.images.pixels import FrameAugmentation
from emobeam.pipelines.cli import main
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import BackboneConfig, ExtractConfig, SamplingConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.drawn_faces import draw_face
from tests.pipelines import runs

BACKBONE = BackboneConfig(name="mobilenetv4_conv_small_035", input_size=32)
FRAMES = 24
TASK = TASKS["vd"]
RECIPE = replace(RECIPES["authors"], batch=4, epochs=10, fraction=1.0, lr=1e-3, patience=0, schedule="cosine")
PLAIN = EndToEndConfig(augmentation=FrameAugmentation(flip=0.5))


def label(video: int, frame: int) -> int:
    """1 in every other video, -1 (nobody knows) in frames 5 and 6."""
    return -1 if frame in (5, 6) else video % 2


def labels(videos: int) -> list[VideoLabels]:
    frames = np.arange(1, FRAMES + 1, dtype=np.int32)
    values = [np.array([[label(video, frame)] for frame in frames.tolist()], np.float32) for video in range(videos)]
    return [VideoLabels(f"v{n:02d}", frames, own, own != -1) for n, own in enumerate(values)]


@dataclass(frozen=True)
class Cropped:
    folder: Path
    features: Path
    setup: TrainSetup
    backbone: TorchBackbone


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Cropped:
    folder, features = tmp_path_factory.mktemp("crops"), tmp_path_factory.mktemp("caches") / "crops"
    for video in range(10):
        (folder / f"v{video:02d}").mkdir()
        for frame in range(1, FRAMES + 1):
            name = "Surprise" if video % 2 else "Neutral"
            picture = draw_face(name, np.random.default_rng([video, frame]), 48)
            Image.fromarray(picture).save(folder / f"v{video:02d}" / f"{frame:05d}.jpg", quality=95)
    config = ExtractConfig(source="affwild2", backbone=BACKBONE, sampling=SamplingConfig(fps=0.0), store=("crops",))
    runs.extract([folder], features, pool, config=config)
    dataset = read_dataset(str(features))
    joined = join_labels(str(features), dataset, TASK, labels(10))
    setup = TrainSetup(TASK, RECIPE, str(features), dataset, joined, tuple(range(8)), (8, 9))
    assert dataset.config.backbone.name == "none", "crops alone are stored without a backbone"
    return Cropped(folder, features, setup, start_backbone(dataset, name=BACKBONE.name, input_size=32))


@pytest.fixture(scope="module")
def trained(cropped: Cropped, tmp_path_factory: pytest.TempPathFactory) -> EndToEndResult:
    return train_end_to_end(
        cropped.setup, 1, str(tmp_path_factory.mktemp("work")), backbone=cropped.backbone, config=PLAIN
    )


@pytest.mark.thorough
def test_it_learns_and_only_the_stem_stays(cropped: Cropped, trained: EndToEndResult) -> None:
    history = trained.result.history
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert trained.result.score > 0.75, "macro F1; one class for all gives 0.33"
    assert trained.result.head.config.inputs == ("s32",), "one level of maps, as in the published run"
    before = cropped.backbone.network.state_dict()
    assert set(before) == set(trained.backbone)
    same = {name for name in before if torch.equal(before[name], trained.backbone[name])}
    assert same == {name for name in before if name.startswith(("conv_stem.", "bn1."))}
    assert trained.config.weights_sha256 != cropped.backbone.config.weights_sha256


@pytest.mark.thorough
def test_head_and_new_cache_give_what_training_saw(
    cropped: Cropped, trained: EndToEndResult, tmp_path: Path, pool: LocalPool
) -> None:
    head = trained.result.head
    save_head(head, str(tmp_path / "head"), backbone=trained.backbone)
    assert load_head(str(tmp_path / "head")).weights_sha256 == head.weights_sha256
    weights = str(tmp_path / "head" / "backbone.safetensors")
    assert set(load_file(weights)) == set(trained.backbone)
    config = ExtractConfig(
        source="affwild2",
        backbone=replace(BACKBONE, weights=weights),
        sampling=SamplingConfig(fps=0.0),
    )
    runs.extract([cropped.folder / "v08", cropped.folder / "v09"], tmp_path / "features", pool, config=config)
    dataset = read_dataset(str(tmp_path / "features"))
    assert dataset.config.features_id == head.config.features_id
    runs.predict(tmp_path / "features", tmp_path / "out", pool, heads=(str(tmp_path / "head"),), tasks=("vd",))
    learner = CropsLearner(cropped.setup, cropped.backbone, PLAIN, 1, str(tmp_path / "work"))
    learner.network.trunk.load_state_dict(trained.backbone)
    learner.network.head.load_state_dict(head.module.state_dict())
    expected = values_of(learner.logits(), "sigmoid")
    means = {}
    for index, name in ((8, "v08"), (9, "v09")):
        found = [row["Violence"] for row in runs.part(tmp_path / "out", "vd", name)]
        # Maps are rounded to float16 in the cache: a relative error of 5e-4 of each value.
        np.testing.assert_allclose(found, expected[index][:, 0], atol=5e-3)
        means[name] = np.mean(found)
    # Which of them is above 0.5 differs between makes of CPU, whose last bits training amplifies.
    assert means["v09"] > means["v08"], "v09 is the video with label 1"
    described = head.config
    assert described.provenance["backbone"]["sha256"] == trained.config.weights_sha256
    assert described.trained_on == tuple(f"v{n:02d}" for n in range(8))
    assert described.tuned_on == ("v08", "v09")
    started = cropped.setup.dataset.config
    with pytest.raises(EmobeamError, match=r"brings its own backbone.*--backbone-weights HEAD/backbone.safetensors"):
        check_head(
            load_head(str(tmp_path / "head")), replace(dataset.offer, features_id=started.features_id, maps_id="")
        )


class Break(Exception):
    """Stands for a power cut."""


@pytest.mark.thorough
def test_a_broken_run_ends_the_same(cropped: Cropped, tmp_path: Path) -> None:
    setup = replace(cropped.setup, recipe=replace(RECIPE, epochs=2), train=(0, 1, 2, 3))
    whole = train_end_to_end(setup, 3, str(tmp_path / "whole"), backbone=cropped.backbone)

    def tell(event: str, data: Mapping[str, Any]) -> None:
        if event == "step" and (data["epoch"], data["step"]) == (1, 1):
            raise Break

    with pytest.raises(Break):
        train_end_to_end(setup, 3, str(tmp_path / "parts"), tell, backbone=cropped.backbone)
    packed = (tmp_path / "parts" / "crops.bin").stat().st_mtime_ns
    seen = []
    again = train_end_to_end(
        setup,
        3,
        str(tmp_path / "parts"),
        lambda event, data: seen.append((event, (tmp_path / "parts" / "crops.bin").stat().st_mtime_ns)),
        backbone=cropped.backbone,
    )
    assert seen[0] == ("resume", packed), "crops are packed once"
    assert again.result.resumed
    assert not (tmp_path / "parts" / "crops.bin").exists()
    assert again.result.head.weights_sha256 == whole.result.head.weights_sha256
    for name, tensor in whole.backbone.items():
        assert torch.equal(tensor, again.backbone[name]), name


@pytest.mark.thorough
def test_workers_change_nothing(cropped: Cropped, tmp_path: Path) -> None:
    setup = replace(cropped.setup, recipe=replace(RECIPE, epochs=1), train=(0, 1))
    done = [
        train_end_to_end(
            setup, 1, str(tmp_path / str(workers)), backbone=cropped.backbone, config=replace(PLAIN, workers=workers)
        )
        for workers in (0, 2)
    ]
    assert done[0].config.weights_sha256 == done[1].config.weights_sha256
    assert done[0].result.head.weights_sha256 == done[1].result.head.weights_sha256
    assert done[0].result.history == done[1].result.history


def test_workers_have_room_in_shared_memory() -> None:
    batch = 128 * 8 * 224 * 224 * 3
    assert workers_that_fit(16, 128 * 8, 224, free=64 * 2**20) == 0, "docker's own share"
    assert workers_that_fit(16, 128 * 8, 224, free=2 * 3 * batch * 5) == 5, "two ahead, one in hand, half of it used"
    assert workers_that_fit(4, 128 * 8, 224, free=2**40) == 4


def test_without_a_holdout_there_is_no_figure_of_one(cropped: Cropped, tmp_path: Path) -> None:
    setup = replace(cropped.setup, recipe=replace(RECIPE, epochs=2), train=(0, 1), held=())
    done = train_end_to_end(setup, 1, str(tmp_path), backbone=cropped.backbone)
    rows = [*done.result.history, *done.result.head.config.metrics["history"]]
    assert len(rows) == 4
    assert all("loss" in row and not [name for name in row if name.startswith("holdout")] for row in rows)
    assert "holdout" not in done.result.head.config.metrics
    assert np.isnan(done.result.score)


def test_windows_skip_what_nobody_labelled(cropped: Cropped) -> None:
    faces = cropped.setup.joined.faces
    windows = clip_windows(faces, (0,), 8, gap=1e9, labelled=True)
    frames = [faces[0].frame[rows].tolist() for rows in windows.rows]
    assert frames[0] == [1, 2, 3, 4, 7, 8, 9, 10], "frames 5 and 6 are dropped first"
    assert frames[-1] == [19, 20, 21, 22, 23, 24, 24, 24], "the tail repeats the last one"
    assert windows.real.sum() == 22
    held = clip_windows(faces, (0,), 8, gap=0.5, labelled=False)
    assert [faces[0].frame[rows].tolist() for rows in held.rows] == [list(range(n, n + 8)) for n in (1, 9, 17)]


@pytest.mark.thorough
@pytest.mark.parametrize("freeze", ["all_but_final", "none"])
def test_other_freezes(cropped: Cropped, tmp_path: Path, freeze: str) -> None:
    setup = replace(cropped.setup, recipe=replace(RECIPE, epochs=1), train=(0, 1), held=())
    done = train_end_to_end(setup, 1, str(tmp_path), backbone=cropped.backbone, config=EndToEndConfig(freeze=freeze))
    before = cropped.backbone.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], done.backbone[name])}
    assert all(name.startswith("blocks.4.") for name in changed) == (freeze == "all_but_final")
    assert ("conv_stem.weight" in changed) == (freeze == "none")


def test_the_final_layer_comes_back_under_timms_names(cropped: Cropped) -> None:
    state = final_layer_state(cropped.backbone.network)
    layer = FinalLayer(*state["0.conv.weight"].shape[1::-1])
    layer.load_timm(state)
    back = timm_final_layer(layer)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_what_makes_no_sense_is_refused(cropped: Cropped, tmp_path: Path) -> None:
    clips = replace(cropped.setup, task=TASKS["emi"])
    with pytest.raises(UsageError, match="trains on frames"):
        train_end_to_end(clips, 1, str(tmp_path), backbone=cropped.backbone)
    config = replace(cropped.setup.dataset.config, store=("maps",))
    maps = replace(cropped.setup, dataset=replace(cropped.setup.dataset, config=config))
    with pytest.raises(UsageError, match="the cache holds none; extract with --store crops"):
        train_end_to_end(maps, 1, str(tmp_path), backbone=cropped.backbone)
    with pytest.raises(UsageError, match="choose one of stem"):
        EndToEnd(cropped.backbone.network, None, "stems")  # type: ignore[arg-type]


@pytest.mark.thorough
def test_another_backbone_is_another_run(cropped: Cropped, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "labels" / "Training"
    folder.mkdir(parents=True)
    for video in range(10):
        rows = [f"{frame},{label(video, frame)}" for frame in range(1, FRAMES + 1)]
        (folder / f"v{video:02d}.csv").write_text("\n".join([TASK.labels.header or "", *rows]) + "\n")
    command = ["train", str(cropped.features), "--task", "vd", "--labels", str(tmp_path / "labels"), "--recipe"]
    command += ["authors", "--levels", "1", "--epochs", "1", "--holdout", "0", "--set", "fraction=0.05"]
    command += ["--set", "batch=2", "--device", "cpu", "--threads", "1", "--output", str(tmp_path / "head")]
    said = {}
    for name in ("mobilenetv4_conv_small_035", "mobilenetv4_conv_small_035", "mobilenetv4_conv_small_050"):
        with pytest.raises(SystemExit) as end:
            main([*command, "--backbone", name])
        said.setdefault(name, []).append((end.value.code, capsys.readouterr().err))
    (first, again), (other,) = said.values()
    assert first[0] == again[0] == 0, first[1] + again[1]
    assert "done already" in again[1]
    assert "holdout" not in json.dumps(json.loads((tmp_path / "head" / "head.json").read_text())["metrics"])
    assert other[0] == 2, "its head would be that of the backbone before"
    assert "trained with other data or settings" in other[1]
