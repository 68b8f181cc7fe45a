"""Figures say what they are of: which labels, and whether the heads have seen them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.pipelines.challenge.score import print_score, run_score
from emobeam.pipelines.challenge.tune import run_tune
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.abaw.predictions import invent_labels, invent_scores, write_tables
from tests.emo_transforms.abaw.truth import write_labels
from tests.pipelines.challenge.heads import record_heads, write_head
from tests.pipelines.runs import Told

AU, EXPR = task_named("au"), task_named("expr")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Labels of two videos to train on and two to validate on, and predictions of all four."""
    rng = np.random.default_rng(0)
    labels = [invent_labels(AU, f"video{number}", 30, rng) for number in range(4)]
    labels = [replace(entry, valid=np.ones_like(entry.valid), values=abs(entry.values)) for entry in labels]
    root = Path(write_labels(tmp_path, AU, labels)) / AU.labels.folders[0]
    (root / "Train_Set").mkdir()
    for name in ("video0.txt", "video1.txt"):
        (root / "Validation_Set" / name).rename(root / "Train_Set" / name)
    values = {(entry.name, ""): invent_scores(AU, 30, rng) for entry in labels}
    return str(root.parent), write_tables(tmp_path / "out", AU, values)


def printed(data: dict[str, object]) -> str:
    screen = io.StringIO()
    print_score(data, Console(file=screen, width=200))
    return screen.getvalue()


def test_the_official_validation_part_is_what_counts(files: tuple[str, str]) -> None:
    truth, out = files
    told = Told()
    found = {part: run_score(AU, truth, [out], partition=part, resamples=0, ui=told) for part in ("", "validation")}
    assert found[""]["score"] == found["validation"]["score"]
    assert (found[""]["partition"], found[""]["partitions"], told.warned) == ("validation", ["validation"], [])
    assert "labels: partition validation\n" in printed(found[""])
    pooled = run_score(AU, truth, [out], partition="all", resamples=0, ui=told)
    assert pooled["score"] != found[""]["score"]
    assert (pooled["rows"]["truth"], pooled["partitions"]) == (120, ["train", "validation"])
    assert "labels: partition train and validation\n" in printed(pooled)
    assert pooled["warnings"] == told.warned
    assert "labels of train, validation are pooled" in told.warned[0]
    with pytest.raises(
        EmobeamError, match=r"no partition 'vaildation' .* train, validation; did you mean 'validation'\?"
    ):
        run_score(AU, truth, [out], partition="vaildation", ui=told)


def test_labels_one_level_too_high(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    with pytest.raises(EmobeamError, match=rf"they lie one level lower, name '{truth}'"):
        run_score(AU, str(tmp_path), [out], ui=Told())


def test_what_the_heads_were_fitted_on_is_known_without_naming_them(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    head = write_head(tmp_path / "head", AU, trained_on=("video2",), tuned_on=("video0",))
    record_heads(out, AU, head)
    told = Told()
    data = run_score(AU, truth, [out], resamples=0, ui=told)
    assert data["trained_on_this_data"] == {"videos": 1, "first": ["video2"]}
    assert data["tuned_on_this_data"] is None
    assert data["fitted"] == {"heads": ["h"], "unknown": []}
    (text,) = told.warned
    assert data["warnings"] == [text]
    assert text == "1 of these 2 videos was trained on, for example video2: a figure on them is no evidence"
    assert "trained on this data: 1 of the labelled videos; this figure is no evidence" in printed(data)
    tables = run_score(AU, truth, [f"{out}/predictions/au"], resamples=0, ui=Told())  # what lies in an output
    assert tables["trained_on_this_data"] == data["trained_on_this_data"]

    other = write_head(tmp_path / "other", AU, trained_on=("video0",))
    record_heads(out, AU, other)
    told = Told()
    assert "not trained or tuned on this data" in printed(run_score(AU, truth, [out], resamples=0, ui=told))
    assert told.warned == []
    (tmp_path / "other" / "head.json").unlink()
    unknown = run_score(AU, truth, [out], resamples=0, ui=Told())
    assert f"trained or tuned on this data? not known: the head {other} can't be read any more" in printed(unknown)


def test_tuning_on_what_a_head_was_trained_on(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    head = write_head(tmp_path / "head", AU, trained_on=("video0",), tuned_on=("video1",))
    record_heads(out, AU, head)
    told = Told()
    config = run_tune(AU, truth, [out], str(tmp_path / "post.json"), half_windows=(0,), ui=told)
    assert config.tuned_on == ("video0", "video1")  # those to train on, where nobody names a part
    (text,) = told.warned
    assert text.startswith("1 of these 2 videos was trained on, for example video0: a figure on them is no evidence;")
    assert "--holdout-of HEAD fits on those that it held out" in text
    assert config.metrics["warnings"] == [text]
    told = Told()
    config = run_tune(AU, truth, [out], str(tmp_path / "p.json"), holdout_of=head, half_windows=(0,), ui=told)
    assert (config.tuned_on, told.warned) == (("video1",), [])
    run_tune(AU, truth, [out], str(tmp_path / "p.json"), partition="validation", half_windows=(0,), ui=told)
    assert "validation is an official partition" in told.warned[0]
    told = Told()
    run_tune(
        AU, truth, [out], str(tmp_path / "p.json"), partition="Train_Set", holdout_of=head, half_windows=(0,), ui=told
    )
    assert told.warned == []
    with pytest.raises(EmobeamError, match=r"no partition 'trian' .*; did you mean 'train'\?"):
        run_tune(AU, truth, [out], str(tmp_path / "p.json"), partition="trian", ui=told)
    bare = write_head(tmp_path / "bare", AU, trained_on=("video0",))
    with pytest.raises(UsageError, match="nothing was held out when it was trained"):
        run_tune(AU, truth, [out], str(tmp_path / "p.json"), holdout_of=bare, ui=told)


@pytest.mark.parametrize(("task", "value"), [(EXPR, "3.0"), (AU, "1.0" + ",0" * 11)])
def test_score_reads_submissions_as_strictly_as_validate(tmp_path: Path, task: object, value: str) -> None:
    rng = np.random.default_rng(1)
    truth = write_labels(tmp_path, task, [invent_labels(task, "v", 3, rng)])
    file = tmp_path / "predictions.txt"
    file.write_text(f"{task.form.header}\nv/00001.jpg,{value}\n")
    with pytest.raises(EmobeamError, match=r"line 2: .* has to be an integer, written without a point"):
        run_score(task, truth, [str(file)], ui=Told())
    assert list(read_labels(truth, task, warn=pytest.fail))


def test_ids_that_lost_their_zeros(tmp_path: Path) -> None:
    """Ids from 10000 on still match, so that most were scored as neutral without a word."""
    emi = task_named("emi")
    rng = np.random.default_rng(2)
    out = write_tables(tmp_path / "out", emi, {(name, ""): rng.random((1, 6)) for name in ("00012", "12660")})
    labels = [invent_labels(emi, name, 1, rng) for name in ("12", "12660")]
    truth = write_labels(tmp_path, emi, labels)
    with pytest.raises(
        EmobeamError, match=r"'12' means no video, but is it '00012'\? .* as text \(pandas: dtype=str\)"
    ):
        run_score(emi, truth, [out], ui=Told())
