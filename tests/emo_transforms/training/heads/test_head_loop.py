"""One seed of training: it learns, tunes, resumes in the same bits, and stage 2 gives what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, read_labels
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.prediction.video_prediction import predict_table, view_video
from emobeam.emo_transforms.training.curves import draw_curves
from emobeam.emo_transforms.training.fitting import has_checkpoint
from emobeam.emo_transforms.training.heads import head_loop
from emobeam.emo_transforms.training.heads.evaluation import holdout_score, predict_logits, tune_on, values_of
from emobeam.emo_transforms.training.heads.head_loop import HeadLearner, SeedResult, TrainSetup, train_seed
from emobeam.emo_transforms.training.heads.head_start import head_config, start_module
from emobeam.emo_transforms.training.heads.loader import Streamed
from emobeam.emo_transforms.training.heads.recipe import Recipe, recipe_named
from emobeam.emo_transforms.training.heads.samples import LabelledFace, join_labels
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, UsageError, VideoFeatures
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import Clip, dataset, make_data, some_clips

QUICK = ["final_start=random", "batch=8", "lr=0.002", "warmup_steps=0", "epochs=3", "patience=0", "levels=1"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["va", pytest.param("expr", marks=pytest.mark.thorough), "au"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    clips = [*some_clips(9, 60), Clip("gappy", 50, seed=50, gaps=(3, 20, 21, 22, 23, 24, 40), invalid=(7, 8))]
    folder, task = tmp_path_factory.mktemp("made"), request.param
    make_data(folder, task, clips)
    return task, folder


def setup_of(
    task: str, folder: Path, settings: Sequence[str] = (), recipe: str = "emobeam", **changes: Any
) -> TrainSetup:
    chosen = recipe_named(recipe, task, [*QUICK, *settings])
    labels = list(read_labels(str(folder / "labels"), TASKS[task], warn=pytest.fail))
    joined = join_labels(str(folder / "features"), dataset(), TASKS[task], labels)
    count = len(joined.faces)
    base = TrainSetup(
        TASKS[task],
        chosen,
        str(folder / "features"),
        dataset(),
        joined,
        tuple(range(3, count)),
        (0, 1, 2),
        buffer_mb=256,
        readers=2,
    )
    return replace(base, **changes)


def weights(result: SeedResult) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in result.head.module.state_dict().items()}


def test_it_learns(made: tuple[str, Path], tmp_path: Path) -> None:
    task, folder = made
    setup = setup_of(task, folder, ["epochs=8", "levels=2"])
    result = train_seed(setup, 1, str(tmp_path))
    history = result.history
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    guess = {"va": 0.0, "expr": 1 / 8, "au": 0.6}[task]
    assert result.score > guess + 0.2
    metrics = result.head.config.metrics
    assert (
        metrics["holdout"]["score"]
        == result.score
        >= metrics["holdout"]["untuned"]
        == max(row["holdout_score"] for row in history)
    )
    config = result.head.config
    assert config.trained_on == tuple(sorted(face.name for face in setup.joined.faces[3:]))
    assert config.tuned_on == tuple(sorted(face.name for face in setup.joined.faces[:3]))
    assert (config.rate, config.window, config.task, config.levels) == (6.0, 8, task, 2)
    assert config.provenance["cache_id"] == dataset().config.cache_id
    assert len(config.thresholds) == (12 if task == "au" else 0)


def test_stage_2_gives_what_was_measured(made: tuple[str, Path], tmp_path: Path) -> None:
    """The saved head, run by stage 2's own code, gives the values of the hold-out, and their figure."""
    task, folder = made
    setup = setup_of(task, folder, ["levels=3", "epochs=1"], held=(0, 1, 2, 9), train=(3, 4, 5, 6, 7, 8))
    result = train_seed(setup, 1, str(tmp_path / "work"))
    save_head(result.head, str(tmp_path / "head"))
    head = load_head(str(tmp_path / "head"))
    learner = HeadLearner(setup, head.config, head.module, 1)
    values = values_of(predict_logits(head.module, learner._source, learner._held), head.config.activation)
    plain = replace(head, config=replace(head.config, smoothing=0))
    truths, said = [], []
    for index in setup.held:
        face = setup.joined.faces[index]
        item = VideoFeatures(face.video, face.shards)
        view = view_video(setup.features, item, ("s8", "s16", "s32"))
        table = predict_table(setup.features, item, view, [plain], PredictConfig())
        rows = [row for row in table.to_pylist() if row["source"] == "sampled"]
        assert [row["frame"] for row in rows] == face.frame.tolist()
        theirs = np.array([[row[name] for name in head.config.outputs] for row in rows])
        np.testing.assert_allclose(values[index], theirs, atol=2e-5)
        valid = face.valid[:, 0]
        truths.append(face.labels[valid])
        said.append(theirs[valid])
    truth, guess = np.concatenate(truths), np.concatenate(said)
    if task == "va":
        mx, my, vx, vy = truth.mean(0), guess.mean(0), truth.var(0), guess.var(0)
        expected = (2 * ((truth - mx) * (guess - my)).mean(0) / (vx + vy + (mx - my) ** 2)).mean()
    elif task == "expr":
        expected = f1_score(truth[:, 0], guess.argmax(1), labels=range(8), average="macro", zero_division=0)
    else:
        expected = f1_score(truth, guess >= 0.5, average="macro", zero_division=0)
    assert head.config.metrics["holdout"]["untuned"] == pytest.approx(expected, abs=1e-4)


class Broken(Exception):
    pass


def break_at(at: int, seconds: float = 0.0) -> Any:
    """Breaks off after so many steps."""
    seen: list[str] = []

    def tell(event: str, data: Mapping[str, Any]) -> None:
        if event == "step":
            seen.append(event)
            if len(seen) == at:
                raise Broken

    return tell


@pytest.mark.parametrize(
    ("resident", "at", "each_step"),
    [
        (True, 9, False),
        *(pytest.param(False, at, each, marks=pytest.mark.thorough) for at, each in ((9, False), (4, True))),
    ],
)
def test_a_broken_off_run_ends_in_the_same_bits(
    tmp_path: Path, resident: bool, at: int, each_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs have 7 steps; broken off twice, with checkpoints at the end of epochs or after each step."""
    make_data(tmp_path, "au", some_clips(8, 50))
    if not resident:
        monkeypatch.setattr(head_loop, "make_loader", Streamed)
    if each_step:
        monkeypatch.setattr(head_loop, "FitPlan", partial(head_loop.FitPlan, checkpoint_seconds=0.0))
    setup = setup_of("au", tmp_path, ["dropout=0.5", "batch=5"], recipe="emobeam")
    whole = train_seed(setup, 3, str(tmp_path / "whole"))
    for _ in range(2):
        with pytest.raises(Broken):
            train_seed(setup, 3, str(tmp_path / "broken"), break_at(at))
    resumed = train_seed(setup, 3, str(tmp_path / "broken"))
    assert weights(resumed) == weights(whole)
    assert resumed.history == whole.history
    assert resumed.head.config == whole.head.config
    assert resumed.resumed
    assert whole.head.config.provenance["rows_in_memory"] == resident


def test_same_seed_same_weights_other_seed_others(tmp_path: Path) -> None:
    make_data(tmp_path, "va", some_clips(6, 40))
    setup = setup_of("va", tmp_path, ["epochs=2"])
    first = train_seed(setup, 1, str(tmp_path / "1"))
    state = torch.random.get_rng_state()
    torch.manual_seed(99)
    again = train_seed(setup, 1, str(tmp_path / "2"))
    torch.random.set_rng_state(state)
    assert weights(first) == weights(again)
    assert first.head.weights_sha256 == again.head.weights_sha256
    assert weights(first) != weights(train_seed(setup, 2, str(tmp_path / "3")))
    assert has_checkpoint(str(tmp_path / "1")), "kept until the head is saved"


def test_checkpoints_of_other_data_are_refused(tmp_path: Path) -> None:
    make_data(tmp_path, "va", some_clips(6, 40))
    with pytest.raises(Broken):
        train_seed(setup_of("va", tmp_path), 1, str(tmp_path / "work"), break_at(2))
    with pytest.raises(UsageError, match="other data or settings"):
        train_seed(setup_of("va", tmp_path, ["lr=0.1"]), 1, str(tmp_path / "work"))
    with pytest.raises(UsageError, match="other data or settings"):
        train_seed(setup_of("va", tmp_path, train=(4, 5)), 1, str(tmp_path / "work"))


def test_the_paper_trains_the_final_layer_and_can_freeze_it(tmp_path: Path) -> None:
    make_data(tmp_path, "va", some_clips(6, 40))

    def finals(settings: Sequence[str]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        setup = setup_of("va", tmp_path, ["epochs=1", *settings], recipe="paper")
        start = start_module(head_config(setup.task, setup.dataset, setup.recipe, 1))
        done = train_seed(setup, 1, str(tmp_path / "-".join(settings))).head.module
        assert start.final is not None
        assert done.final is not None
        return dict(start.final.state_dict()), dict(done.final.state_dict())

    start, done = finals([])
    assert all(not torch.equal(start[name], done[name]) for name in start), "weights and statistics"
    start, done = finals(["final_norm=fixed"])
    moved = {name for name in start if not torch.equal(start[name], done[name])}
    assert moved == {"conv.weight", "norm.weight", "norm.bias"}
    start, done = finals(["final_layer=frozen"])
    assert all(torch.equal(start[name], done[name]) for name in start)


def test_the_start_is_the_backbones_final_layer() -> None:
    final = {
        "0.conv.weight": torch.rand(960, 4, 1, 1),
        "0.bn1.weight": torch.rand(960),
        "0.bn1.bias": torch.rand(960),
        "0.bn1.running_mean": torch.rand(960),
        "0.bn1.running_var": torch.rand(960),
        "0.bn1.num_batches_tracked": torch.tensor(5),
    }
    config = head_config(TASKS["va"], dataset(), recipe_named("paper", "va"), 1)
    module = start_module(config, final)
    assert module.final is not None
    assert torch.equal(module.final.conv.weight, final["0.conv.weight"])
    assert torch.equal(module.final.norm.running_var, final["0.bn1.running_var"])


def test_clips_are_trained_as_a_whole(tmp_path: Path) -> None:
    """EMI: the maps of a clip hold its six intensities."""
    rng = np.random.default_rng(0)
    clips = [Clip(f"{n:05d}", 20 + n % 7, seed=n) for n in range(24)]
    features, _ = make_data(tmp_path, "va", clips)
    emi = TASKS["emi"]
    means = [clip.labels(TASKS["va"])[::5].mean(axis=0) for clip in clips]
    mixing = rng.normal(size=(2, 6))
    labels = [
        VideoLabels(
            clip.name,
            np.ones(1, np.int32),
            (0.5 + 0.3 * np.tanh(mean @ mixing))[None].astype(np.float32),
            np.ones((1, 1), bool),
        )
        for clip, mean in zip(clips, means, strict=True)
    ]
    joined = join_labels(str(features), dataset(), emi, labels)
    recipe = recipe_named("emobeam", "emi", [*QUICK, "epochs=12", "clip_batch=8", "clip_windows=2", "levels=1"])
    setup = TrainSetup(
        emi, recipe, str(features), dataset(), joined, tuple(range(6, 24)), tuple(range(6)), buffer_mb=64
    )
    result = train_seed(setup, 1, str(tmp_path / "work"))
    assert result.history[-1]["loss"] < result.history[0]["loss"] - 0.1
    assert result.head.config.scope == "clip"
    assert result.score > 0.3


def test_without_a_hold_out_the_last_epoch_is_taken(tmp_path: Path) -> None:
    make_data(tmp_path, "va", some_clips(4, 40))
    result = train_seed(setup_of("va", tmp_path, held=(), train=(0, 1, 2, 3)), 1, str(tmp_path / "work"))
    assert len(result.history) == 3
    assert result.head.config.metrics["best_epoch"] == 3
    assert "holdout" not in result.head.config.metrics
    assert all(not name.startswith("holdout") for row in result.history for name in row)


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    make_data(tmp_path, "va", some_clips(4, 40))
    setup = setup_of("va", tmp_path, ["lr=1e30", "clip_norm=0", "schedule=constant"], held=(), train=(0, 1, 2, 3))
    with pytest.raises(EmobeamError, match="learning rate"):
        train_seed(setup, 1, str(tmp_path / "work"))


def face(labels: np.ndarray) -> LabelledFace:
    rows = len(labels)
    nothing = np.zeros(rows, np.int32)
    return LabelledFace(
        "a", "a", "", ("s",), nothing, nothing[None].astype(np.int64), nothing, np.arange(rows) / 6,
        labels.astype(np.float32), np.ones((rows, 1), bool),
    )  # fmt: skip


def test_tuning_finds_thresholds_and_smoothing() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(0, 2, (40, 12)), 10, axis=0)
    noisy = (0.15 + 0.2 * truth + 0.12 * rng.normal(size=truth.shape)).clip(0, 1).astype(np.float32)
    faces, values = [face(truth)], {0: noisy}
    untuned = holdout_score(TASKS["au"], faces, values)
    assert untuned == pytest.approx(f1_score(truth, noisy >= 0.5, average="macro", zero_division=0))
    tuned = tune_on(TASKS["au"], faces, values, gap=0.5, thresholds=True, smoothing=True)
    assert tuned.untuned == untuned
    assert tuned.score > 0.85 > untuned
    assert tuned.smoothing in {1, 2, 3, 5}
    assert all(limit in {0.2, 0.3} for limit in tuned.thresholds)
    assert tuned.score == pytest.approx(np.mean(list(tuned.outputs.values())))
    alone = tune_on(TASKS["au"], faces, values, gap=0.5, thresholds=False, smoothing=False)
    assert (alone.score, alone.thresholds, alone.smoothing) == (untuned, (), 0)


def test_curves() -> None:
    history = [{"loss": 1.0 / n, "holdout_loss": 1.1 / n, "holdout_score": 0.1 * n} for n in range(1, 5)]
    drawn = draw_curves("a head", "mean CCC", {"seed 1": history, "seed 2": [{"loss": 0.5}]})
    assert drawn.startswith(b"\x89PNG")
    assert draw_curves("a head", "mean CCC", {"seed 1": []}) != drawn


def test_every_field_of_the_recipe_is_used() -> None:
    """A field that nothing reads would be a promise broken."""
    root = Path(__file__).resolve().parents[4]
    sources = [*(root / "emo_transforms" / "training").rglob("*.py"), *(root / "pipelines" / "training").glob("*.py")]
    text = "\n".join(path.read_text() for path in sources)
    unused = [entry.name for entry in dataclasses.fields(Recipe) if f"recipe.{entry.name}" not in text]
    assert unused == []
