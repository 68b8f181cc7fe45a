"""Training on data sets whose truth is known, from the command line to the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.pipelines.cli import main
from emobeam.schemas.config import BackboneConfig, ExtractConfig, SamplingConfig
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import FOLDERS, STEP, write_rows
from tests.generated import affect_dataset, columns_of, twins, write_affect, write_faces

QUICK = ["--set", "patience=0", "--set", "warmup_steps=20", "--set", "final_start=random"]
QUICK += ["--device", "cpu", "--threads", "1", "-q"]


def run(*arguments: Path | str) -> None:
    """Runs a command of emobeam; fails the test unless it succeeds."""
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    assert end.value.code == 0, arguments


def train(features: Path, task: str, labels: Path, head: Path, *more: str) -> float:
    """Trains by the command line; returns the figure on the hold-out."""
    run("train", features, "--task", task, "--labels", labels, "--output", head, *QUICK, *more)
    return float(load_head(str(head)).config.metrics["holdout"]["score"])


# --- what single frames tell, and what they don't ----------------------------------------------------------


def test_a_twin_shows_the_same_frames_and_asks_for_the_opposite() -> None:
    for number in range(3):
        clip, twin = twins("motion", number, 32)
        np.testing.assert_array_equal(twin.labels, -clip.labels[::-1])
        for name, maps in clip.maps.items():
            assert [frame.tobytes() for frame in maps[::-1]] == [frame.tobytes() for frame in twin.maps[name]]
        # So any function of a frame whatever, here a fixed random one, is uncorrelated with the label over both.
        weights = np.random.default_rng(number).normal(size=clip.maps["s32"][0].size)
        said = [np.tanh(each.maps["s32"].reshape(32, -1) @ weights) for each in (clip, twin)]
        together = np.concatenate(said) @ np.concatenate([clip.labels, twin.labels])
        np.testing.assert_allclose(together, 0, atol=1e-9)
    clip, twin = twins("look", 0, 32)
    np.testing.assert_array_equal(twin.labels, clip.labels[::-1])


@pytest.mark.thorough
def test_what_every_frame_shows_is_learned_by_all(tmp_path: Path) -> None:
    features, labels = write_affect(tmp_path, "look", pairs=10, rows=48, noise=0.1)
    same = ["--levels", "1", "--holdout", "0.2", "--set", "lr=0.003"]
    tried = {
        "clip": ["--epochs", "18", "--set", "batch=16"],
        "per-frame": ["--epochs", "18", "--set", "batch=16", "--form", "frame"],
        "frame": ["--epochs", "6", "--architecture", "frame"],
        "tcn": ["--epochs", "8", "--architecture", "tcn", "--window", "48", "--set", "batch=2"],
    }
    scores = {name: train(features, "va", labels, tmp_path / name, *same, *more) for name, more in tried.items()}
    assert min(scores.values()) >= 0.9, scores


# --- from video to the figure ------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("in_pool")
def test_action_units_of_a_painted_face(tmp_path: Path) -> None:
    videos, labels = write_faces(tmp_path, clips=9, validation=2)
    features, head, output = tmp_path / "features", tmp_path / "head", tmp_path / "out"
    run("extract", videos, "--output", features, "--fps", "3", "--maps", "s32", "--input-size", "160", "--workers", "1",
        "-q")  # fmt: skip
    # Statistics of the batch, because those of an untrained backbone mean nothing.
    more = ["--form", "frame", "--window", "4", "--set", "time_patch=1", "--set", "batch=8", "--set", "lr=0.001"]
    tuned = train(
        features, "au", labels, head, *more, "--set", "final_norm=batch", "--holdout", "0.25", "--epochs", "22"
    )
    assert tuned > 0.8
    run("predict", features, "--head", head, "--only", "face0,face1", "--output", output, "--workers", "1", "-q")
    run(
        "score", "--task", "au", "--truth", labels, "--partition", "validation", "--predictions", output, "--head", head
    )
    figures = json.loads((output / "metrics.json").read_text())["tasks"]["au"]
    truth = np.concatenate([_labels(labels, name) for name in ("face0", "face1")])
    yes = truth.mean(axis=0)
    constant = np.mean(2 * yes / (1 + yes))  # always "yes" is the best constant answer of F1
    assert figures["rows"]["valid"] == len(truth) == 240
    assert figures["score"] > constant + 0.1
    assert figures["score"] > 0.75
    assert "tuned_on_this_data" not in figures or not figures["tuned_on_this_data"]


def _labels(labels: Path, name: str) -> np.ndarray:
    (path,) = (labels / FOLDERS["au"]).rglob(f"{name}.txt")
    return np.loadtxt(path, delimiter=",", skiprows=1)


# --- the other kinds of heads and tasks --------------------------------------------------------------------


EMBEDDED = Dataset(
    ExtractConfig(
        backbone=BackboneConfig(name="mobilefacenet"), store=("embedding", "scores"), sampling=SamplingConfig(6.0)
    ),
    {},
    embedding=16,
    scores=8,
)


def write_embedded(folder: Path, values: Sequence[np.ndarray]) -> Path:
    """A cache without maps: ``values[n]`` ``[rows, C]`` of video n stand in its vectors, mixed and with noise."""
    features = folder / "features"
    open_dataset(str(features), EMBEDDED)
    for number, known in enumerate(values):
        rng = np.random.default_rng([number, 5])
        vectors = {}
        for name, length in (("embedding", EMBEDDED.embedding), ("scores", EMBEDDED.scores)):
            mixture = np.random.default_rng(length).normal(size=(known.shape[1], length))
            vectors[name] = (known @ mixture + 0.1 * rng.normal(size=(len(known), length))).astype(np.float32)
        write_rows(features, f"v{number:02d}", vectors, EMBEDDED)
    return features


def walk(number: int, rows: int, columns: int) -> np.ndarray:
    rng = np.random.default_rng([number, columns])
    at = np.linspace(0, 1, rows)[:, None]
    return np.sin(2 * np.pi * (rng.uniform(0.5, 2, columns) * at + rng.uniform(0, 1, columns)))


@pytest.mark.thorough
@pytest.mark.usefixtures("in_pool")
@pytest.mark.parametrize(("task", "reads"), [("va", "scores"), ("au", "embedding")])
def test_small_heads_on_vectors(tmp_path: Path, task: str, reads: str) -> None:
    columns = len(TASKS[task].outputs)
    known = [walk(number, 40, columns) for number in range(12)]
    features = write_embedded(tmp_path, known)
    folder = tmp_path / "labels" / FOLDERS[task] / "Train_Set"
    folder.mkdir(parents=True)
    for number, values in enumerate(known):
        rows = np.repeat(0.9 * values if task == "va" else (values > 0).astype(float), STEP, axis=0)
        lines = [",".join(f"{value:.4g}" for value in row) for row in rows]
        (folder / f"v{number:02d}.txt").write_text("\n".join([TASKS[task].labels.header or "", *lines]) + "\n")
    more = ["--recipe", "hsemotion", "--holdout", "0.2", "--epochs", "30", "--set", "lr=0.02", "--set", "batch=64"]
    score = train(features, task, tmp_path / "labels", tmp_path / "head", *more)
    config = load_head(str(tmp_path / "head")).config
    assert (config.architecture, config.inputs) == ("frame", (reads,))
    assert score > 0.85
    run("predict", features, "--head", tmp_path / "head", "--only", "v00", "--output", tmp_path / "out", "-q")


def test_three_tasks_at_once_where_each_row_knows_some(tmp_path: Path) -> None:
    features, made = tmp_path / "features", affect_dataset()
    open_dataset(str(features), made)
    task, rng = TASKS["mtl"], np.random.default_rng(0)
    lines = [task.labels.header or ""]
    for number in range(12):
        clip, _ = twins("look", number, 40, noise=0.1)
        write_rows(features, f"v{number:02d}", columns_of(clip.maps), made)
        for row, (valence, arousal) in enumerate(clip.labels):
            known = rng.random(3) < 0.7
            va = f"{valence:.4f},{arousal:.4f}" if known[0] else "-5,-5"
            expression = str(int(np.clip((valence + 1) / 2 * 8, 0, 7))) if known[1] else "-1"
            units = [str(int((valence if unit % 2 else arousal) > 0)) if known[2] else "-1" for unit in range(12)]
            lines.append(f"v{number:02d}/{row * STEP + 1:05d}.jpg,{va},{expression},{','.join(units)}")
    labels = tmp_path / "mtl"
    labels.mkdir()
    (labels / "training_set_annotations.txt").write_text("\n".join(lines) + "\n")
    more = ["--levels", "1", "--epochs", "10", "--set", "batch=8", "--set", "lr=0.003", "--holdout", "0.25"]
    score = train(features, "mtl", labels, tmp_path / "head", *more)
    config = load_head(str(tmp_path / "head")).config
    figures = config.metrics["holdout"]["outputs"]
    assert config.activation == "tanh:2,softmax:8,sigmoid:12"
    assert figures["valence"] > 0.8
    assert figures["AU1"] > 0.8
    assert score > 1.6, "the sum of three figures up to 1"
    counts = config.provenance["label_counts"]
    rows = sum(counts["expression"][0])
    assert 0.6 < rows / (9 * 40) < 0.8, "rows without an expression take no part in its loss"


@pytest.mark.parametrize("recipe", ["hsemotion", pytest.param("emobeam", marks=pytest.mark.thorough)])
def test_whole_clips(tmp_path: Path, recipe: str) -> None:
    task = TASKS["emi"]
    intensities = np.random.default_rng(1).uniform(0, 1, (40, 6))
    if recipe == "hsemotion":
        noise = [np.random.default_rng(n).normal(size=(16, 6)) for n in range(40)]
        features = write_embedded(tmp_path, [known + 0.2 * own for known, own in zip(intensities, noise, strict=True)])
    else:
        made = Dataset(ExtractConfig(sampling=SamplingConfig(6.0)), {"s32": (8, 2, 2)})
        features = tmp_path / "features"
        open_dataset(str(features), made)
        mixture = np.random.default_rng(3).normal(size=(6, 8))
        for number, known in enumerate(intensities):
            maps = np.tile((known @ mixture)[None, :, None, None], (16, 1, 2, 2))
            maps += 0.2 * np.random.default_rng(number).normal(size=maps.shape)
            write_rows(features, f"v{number:02d}", {"map_s32": maps.astype(np.float16)}, made)
    lines = [f"v{n:02d}," + ",".join(f"{value:.4f}" for value in row) for n, row in enumerate(intensities)]
    labels = tmp_path / "train_split.csv"
    labels.write_text("\n".join([task.labels.header or "", *lines]) + "\n")
    more = ["--recipe", recipe, "--holdout", "0.25", "--epochs", "40", "--set", "lr=0.005", "--set", "clip_batch=10"]
    score = train(features, "emi", labels, tmp_path / "head", *more)
    config = load_head(str(tmp_path / "head")).config
    assert (config.scope, config.architecture) == ("clip", "clip-statistics" if recipe == "hsemotion" else "tam")
    assert score > 0.7, "mean correlation over six outputs"
