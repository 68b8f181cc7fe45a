"""Tuning finds what was planted, and its figure is the scorer's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.abaw.scoring.scores import score
from emobeam.emo_transforms.abaw.scoring.tuning import tune
from emobeam.schemas.post_config import PostConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.abaw.predictions import Values, invent_labels, write_tables
from tests.emo_transforms.abaw.truth import write_labels

ROWS = 150
HALVES = (0, 3, 10, 30)


def slow(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Values in [-1, 1] that change slowly, ``[ROWS, columns]``."""
    phase = rng.random(columns) * 6
    return np.sin(np.linspace(0, 9, ROWS)[:, None] + phase)


def planted_au(tmp_path: Path) -> tuple[str, str]:
    """Scores of AU1 that are right at 0.3 and of the others at 0.5, with noise from frame to frame."""
    task, rng = task_named("au"), np.random.default_rng(0)
    labels, values = [], {}
    for number in range(5):
        hidden = slow(rng, 12)
        truth = (hidden > 0.3).astype(np.float32)
        valid = rng.random((ROWS, 1)) > 0.1
        labels.append(VideoLabels(f"video{number}", np.arange(1, ROWS + 1, dtype=np.int32), truth, valid))
        scores = np.clip(0.5 + 0.4 * (hidden - 0.3) + rng.normal(scale=0.2, size=hidden.shape), 0, 1)
        scores[:, 0] *= 0.6
        values[f"video{number}", ""] = scores.astype(np.float32)
    values["video0", ""][20:40] = np.nan
    return write_labels(tmp_path, task, labels), write_tables(tmp_path / "out", task, values)


def test_thresholds_and_half_windows_of_action_units(tmp_path: Path) -> None:
    task = task_named("au")
    truth, out = planted_au(tmp_path)
    config = tune(task, 8, truth, out, half_windows=HALVES, warn=pytest.fail)
    assert config.thresholds[0] == 0.3
    assert np.mean(config.thresholds[1:]) == pytest.approx(0.5, abs=0.06)
    assert min(config.half_windows) >= 3
    assert config.tuned_on == tuple(f"video{number}" for number in range(5))
    plain = score(task, 8, truth, out, resamples=0, warn=pytest.fail)
    tuned = score(task, 8, truth, out, post=config, resamples=0, warn=[].append)
    assert config.metrics["untuned"] == pytest.approx(plain.value, abs=1e-9)
    assert config.metrics["tuned"] == pytest.approx(tuned.data["at_thresholds"]["score"], abs=1e-6)
    assert config.metrics["tuned"] > plain.value + 0.05
    assert tuned.data["tuned_on_this_data"]["videos"] == 5
    assert tuned.value < config.metrics["tuned"]  # the primary figure stays at 0.5


def test_without_smoothing_only_thresholds_are_fitted(tmp_path: Path) -> None:
    truth, out = planted_au(tmp_path)
    config = tune(task_named("au"), 8, truth, out, smoothing="none", warn=pytest.fail)
    assert (config.smoothing, config.half_windows) == ("none", ())
    assert config.thresholds[0] < 0.5


def test_each_dimension_gets_its_own_half_window(tmp_path: Path) -> None:
    task, rng = task_named("va"), np.random.default_rng(1)
    labels, values = [], {}
    for number in range(4):
        hidden = slow(rng, 2) * 0.8
        valid = np.ones((ROWS, 1), bool)
        truth = hidden.astype(np.float32)
        labels.append(VideoLabels(f"{number}", np.arange(1, ROWS + 1, dtype=np.int32), truth, valid))
        noise = rng.normal(size=hidden.shape) * [0.0, 0.6]  # valence needs no filter
        values[f"{number}", ""] = (hidden + noise).astype(np.float32)
    truth_uri, out = write_labels(tmp_path, task, labels), write_tables(tmp_path / "out", task, values)
    config = tune(task, 8, truth_uri, out, half_windows=HALVES, warn=pytest.fail)
    assert config.half_windows == (0, 10)
    assert config.thresholds == ()
    result = score(task, 8, truth_uri, out, post=config, resamples=0, warn=[].append)
    assert result.value == pytest.approx(config.metrics["tuned"], abs=1e-6)
    assert result.data["at_thresholds"] is None


def test_classes_share_a_half_window_and_a_gate_is_searched(tmp_path: Path) -> None:
    task, rng = task_named("expr"), np.random.default_rng(2)
    labels = [invent_labels(task, f"v{n}", ROWS, rng) for n in range(3)]
    poor: Values = {}
    sure: Values = {}
    for entry in labels:
        right = np.eye(8, dtype=np.float32)[entry.values[:, 0].astype(int)]
        poor[entry.name, ""] = np.full((ROWS, 8), 0.125, np.float32)
        known = rng.random(ROWS) < 0.7
        wrong = np.roll(right, 1, axis=1)
        sure[entry.name, ""] = np.where(known[:, None], right * 0.95, wrong * 0.65).astype(np.float32)
    truth, out = write_labels(tmp_path, task, labels), write_tables(tmp_path / "out", task, poor)
    gate = write_tables(tmp_path / "gate", task, sure)
    config = tune(task, 8, truth, out, half_windows=(0, 3), gate=gate, warn=pytest.fail)
    assert config.gate in (0.7, 0.8, 0.9)
    assert config.half_windows == (0,) * 8
    result = score(task, 8, truth, out, post=config, gate=gate, resamples=0, warn=[].append)
    assert result.value == pytest.approx(config.metrics["tuned"], abs=1e-6)
    assert result.value > score(task, 8, truth, out, resamples=0, warn=pytest.fail).value + 0.3


def test_clips_are_not_smoothed(tmp_path: Path) -> None:
    task, rng = task_named("emi"), np.random.default_rng(3)
    labels = [invent_labels(task, f"{n:05d}", 1, rng) for n in range(8)]
    values: Values = {(entry.name, ""): entry.values for entry in labels}
    truth, out = write_labels(tmp_path, task, labels), write_tables(tmp_path / "out", task, values)
    config = tune(task, 8, truth, out, warn=pytest.fail)
    assert config == PostConfig("emi", tuned_on=config.tuned_on, metrics=config.metrics)
    assert config.metrics["tuned"] == pytest.approx(1.0)


def test_mistakes_are_told(tmp_path: Path) -> None:
    truth, out = planted_au(tmp_path)
    task = task_named("au")
    with pytest.raises(UsageError, match="no classes"):
        tune(task, 8, truth, out, gate=out, warn=pytest.fail)
    with pytest.raises(EmobeamError, match="wavelet"):
        tune(task, 8, truth, out, smoothing="wavelet", warn=pytest.fail)
    other = write_tables(tmp_path / "other", task, {("elsewhere", ""): np.zeros((3, 12), np.float32)})
    with pytest.raises(EmobeamError, match="nothing to tune on"):
        tune(task, 8, truth, other, warn=pytest.fail)
    with pytest.raises(UsageError, match="no scores to tune"):
        tune(task, 8, truth, truth, warn=pytest.fail)
