"""The command ``train`` on small caches: the folder it leaves, seeds, hold-out, resuming after a kill, bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.training.heads.recipe import recipe_named
from emobeam.emo_transforms.training.holdout import group_of
from emobeam.pipelines.cli import main
from emobeam.pipelines.console import make_ui
from emobeam.pipelines.training.train import prepare_all
from emobeam.pipelines.training.train_output import TrainRequest
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import Clip, make_data, some_clips, write_labels
from tests.pipelines.runs import part, predict

QUICK = ["--set", "final_start=random", "--set", "batch=8", "--set", "warmup_steps=0", "--set", "lr=0.002"]
QUICK += ["--levels", "1", "--device", "cpu", "--threads", "1", "--buffer-mb", "64"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    clips = [*some_clips(8, 50), Clip("video1-2", 30, seed=77), Clip("seen", 30, seed=78, partition="Validation_Set")]
    return make_data(tmp_path_factory.mktemp("train"), "au", clips)


def command(data: tuple[Path, Path], output: Path, *more: str) -> list[str]:
    features, labels = data
    return ["train", str(features), "--task", "au", "--labels", str(labels), "--output", str(output), *QUICK, *more]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out, shown.err


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_by_a_killed_run(output: Path, dead_mark: str) -> None:
    """As if it had died after the head of seed 2 was there, and others before it here and there."""
    for name in ("seeds/1/curves.png", "head.json"):
        (output / name).unlink()
    (output / ".training/seed-2").mkdir(parents=True)
    (output / ".training/seed-2/state.pt").write_bytes(b"late")
    for place in ("", "seeds", "seeds/1", ".training", ".training/seed-2"):
        (output / place / f".emobeam-{dead_mark}-0a.tmp").write_bytes(b"half")
        (output / place / f".emobeam-{dead_mark}-0b.tmp").mkdir()
    (output / "seeds/2").rename(output / f"seeds/.emobeam-{dead_mark}-0c.2.old")  # between the two renames


def test_several_seeds_and_what_they_leave(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], pool: LocalPool, dead_mark: str
) -> None:
    output = tmp_path / "head"
    arguments = command(data, output, "--epochs", "2", "--seeds", "2", "--holdout", "0.3", "--json")
    code, out, err = run(arguments, capsys)
    assert code == 0, err
    assert "windows of 8 frames (1.33 s)" in err
    assert "10 labelled" not in err, "labels of the validation set are not read as training labels"
    summary = json.loads(out)
    assert summary == json.loads((output / "summary.json").read_text())
    scores = [entry["score"] for entry in summary["seeds"]]
    assert summary["mean"] == pytest.approx(np.mean(scores))
    assert summary["sd"] == pytest.approx(np.std(scores, ddof=1))
    heads = {seed: load_head(str(output / "seeds" / str(seed))) for seed in (1, 2)}
    best = load_head(str(output))
    assert best.weights_sha256 == heads[summary["best_seed"]].weights_sha256
    assert summary["best_seed"] == 1 + int(np.argmax(scores))
    assert best.config.metrics["seeds"]["scores"] == scores
    assert heads[1].weights_sha256 != heads[2].weights_sha256
    for folder in (output, output / "seeds" / "1"):
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (output / ".training").exists()
    trained, tuned = set(best.config.trained_on), set(best.config.tuned_on)
    assert "seen" not in trained | tuned
    assert trained | tuned == {f"video{n}" for n in range(1, 9)} | {"video1-2"}
    assert ("video1" in trained) == ("video1-2" in trained), "parts of one recording stay together"
    assert heads[1].config.tuned_on == heads[2].config.tuned_on

    predict(data[0], tmp_path / "out", pool, heads=[str(output)], only="video2")
    rows = part(tmp_path / "out", "au", "video2")
    assert len(rows) == 250
    assert all(0 <= row["AU12"] <= 1 for row in rows)

    whole = files_below(output)
    left_by_a_killed_run(output, dead_mark)
    code, out, err = run(arguments, capsys)
    assert code == 0
    assert "done already" in err
    assert json.loads(out)["seeds"] == summary["seeds"]
    again = files_below(output)
    assert again.keys() == whole.keys(), "nothing lacks, and nothing is left over"
    told = {"summary.json"}  # seconds
    assert {name for name in whole if again[name] != whole[name]} <= told
    code, _, err = run([*arguments, "--set", "lr=0.1"], capsys)
    assert code == 2
    assert "--restart" in err
    assert "lr 0.002 (now 0.1)" in err
    index = arguments.index("--buffer-mb")
    code, _, err = run([*arguments[: index + 1], "128", *arguments[index + 2 :]], capsys)
    assert code == 0, "memory decides nothing where all rows fit"
    assert "done already" in err
    (output / ".training" / "seed-2").mkdir(parents=True)
    code, out, _ = run([*arguments, "--epochs", "1", "--restart", "--seeds", "1"], capsys)
    assert code == 0
    assert [entry["epochs"] for entry in json.loads(out)["seeds"]] == [1]
    assert [path.name for path in (output / "seeds").iterdir()] == ["1"], "what is thrown away is away"
    assert not (output / ".training").exists()


def test_both_figures_are_told_and_which_is_which(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(command(data, tmp_path / "head", "--epochs", "1", "--seeds", "2", "--holdout", "0.3"), capsys)
    assert code == 0, err
    summary = json.loads((tmp_path / "head" / "summary.json").read_text())
    assert "0.5" not in summary["measure"]
    assert summary["figures"]["untuned"] == "untuned (0.5, no smoothing)"
    untuned = [entry["untuned"] for entry in summary["seeds"]]
    assert summary["mean_untuned"] == pytest.approx(np.mean(untuned))
    assert out.index("untuned (0.5, no smoothing)") < out.index("tuned on the hold-out")
    for entry in summary["seeds"]:
        assert f"{entry['untuned']:.4f}, {entry['score']:.4f}" in out
        assert entry["score"] >= entry["untuned"]


def test_a_head_from_elsewhere_is_replaced_only_if_asked(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "head"
    save_head(new_head(TASKS["va"], Offer("f", {"s32": (4, 2, 2)})), str(output))
    before = (output / "head.json").read_bytes()
    arguments = command(data, output, "--epochs", "1", "--holdout", "0.3")
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert "--restart" in err
    assert (output / "head.json").read_bytes() == before
    code, _, err = run([*arguments, "--restart"], capsys)
    assert code == 0, err
    assert load_head(str(output)).config.task == "au"


def test_a_hold_out_that_tells_nothing_is_told_before_training(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = data
    other = tmp_path / "labels" / "AU_Detection_Challenge" / "Train_Set"
    other.mkdir(parents=True)
    for file in (labels / "AU_Detection_Challenge" / "Train_Set").iterdir():
        lines = file.read_text().splitlines()
        if file.stem == "video3":
            lines = [lines[0], *(["-1" + ",-1" * 11] * (len(lines) - 1))]
        elif file.stem == "video4":
            lines = [lines[0], *(f"0,{line.partition(',')[2]}" for line in lines[1:])]
        (other / file.name).write_text("\n".join(lines) + "\n")
    ids = tmp_path / "ids.txt"
    ids.write_text("video3\n")
    arguments = command((features, tmp_path / "labels"), tmp_path / "head", "--holdout", str(ids), "--epochs", "1")
    code, _, err = run(arguments, capsys)
    assert code == 2
    assert "held-out videos has a valid label" in err
    assert not (tmp_path / "head").exists(), "not a step was taken"
    ids.write_text("video4\n")
    code, _, err = run(arguments, capsys)
    assert code == 0, err
    assert "the hold-out shows no AU1:" in err or "the hold-out shows no AU1," in err


def test_caches_hold_out_the_same_people(tmp_path: Path) -> None:
    """The first cache lacks the part that is held out of the second one's point of view."""
    names = [f"video{number}{part}" for number in range(1, 7) for part in ("", "-2", "-3")]
    clips = [Clip(name, 20 + 3 * place, seed=place) for place, name in enumerate(names)]
    whole, labels = make_data(tmp_path / "whole", "va", clips)
    part, _ = make_data(tmp_path / "part", "va", clips[::2])
    recipe = recipe_named("emobeam", "va", ["final_start=random", "levels=1", "holdout=0.4"])
    requests = [TrainRequest(str(uri), TASKS["va"], str(labels), "", recipe) for uri in (part, whole)]
    found = prepare_all(requests, make_ui(quiet=True))
    people = [
        ({group_of(TASKS["va"], name) for name in each.cut.held}, {group_of(TASKS["va"], n) for n in each.cut.train})
        for each in found
    ]
    for held, _ in people:
        for _, train in people:
            assert held
            assert not held & train, "nobody is trained on in one cache and judged in the other"
    assert len(found[0].cut.held) < len(found[1].cut.held)
    for each in found:
        assert tuple(sorted(each.setup.joined.faces[index].name for index in each.setup.held)) == each.cut.held


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load_head(str(folder)).module.state_dict().items()}


KILLED = """
import os, signal, sys
from emobeam.emo_transforms.training import fitting
from emobeam.pipelines.cli import main

write = fitting._write_state

def write_and_die(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)

fitting._write_state = write_and_die
main(sys.argv[1:])
"""
"""The command line in a process that is killed after the first epoch: from outside, all may be over by then."""


@pytest.mark.thorough
def test_killed_and_run_again_it_ends_in_the_same_weights(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--epochs", "4", "--set", "patience=0", "--holdout", "0.3", "--seeds", "5,"]
    code, _, err = run(command(data, tmp_path / "whole", *more), capsys)
    assert code == 0, err
    killed = command(data, tmp_path / "killed", *more)
    process = subprocess.run([sys.executable, "-c", KILLED, *killed], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (tmp_path / "killed" / ".training" / "seed-5" / "state.pt").exists()
    assert not (tmp_path / "killed" / "head.json").exists()
    code, _, err = run(killed, capsys)
    assert code == 0, err
    assert "goes on in epoch" in err
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    first, second = (json.loads((tmp_path / name / "head.json").read_text()) for name in ("whole", "killed"))
    assert first == second


def test_ctrl_c_says_how_to_go_on(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from emobeam.emo_transforms.training.heads.head_loop import HeadLearner

    plain, steps = HeadLearner.step, []

    def interrupted(self: HeadLearner, *args: Any) -> Any:
        steps.append(args)
        if len(steps) == 12:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(HeadLearner, "step", interrupted)
    arguments = command(data, tmp_path / "head", "--epochs", "3", "--holdout", "0.3", "-q")
    code, _, err = run(arguments, capsys)
    assert code == 130
    assert "same command" in err
    code, out, _ = run(arguments[:-1], capsys)
    assert code == 0
    assert "hold-out" in out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--partition", "validation"], "official"),
        (["--partition", "test"], "partition"),
        (["--recipe", "none"], "choose one of paper"),
        (["--set", "lrr=1"], "lrr"),
        (["--seeds", "x"], "--seeds"),
        (["--seeds", "0"], "--seeds"),
        (["--window", "5"], "time patch"),
        (["--window", "0s"], "--window"),
        (["--holdout", "ids.txt"], "no such file"),
        (["--subjects", "none.csv"], "no such file"),
        (["--recipe", "hsemotion"], "embedding"),
        (["--set", "final_start=backbone", "--backbone-weights", "gone.safetensors"], "gone.safetensors"),
        (["--device", "cuda"], "CUDA"),
    ],
)
def test_what_makes_no_sense_is_told(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    if more == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    if "hsemotion" in more:
        arguments = command(data, tmp_path / "head", *more)
        index = arguments.index("--levels")
        del arguments[index : index + 2]
        arguments += ["--set", "inputs=embedding"]
    else:
        arguments = command(data, tmp_path / "head", *more)
    code, out, err = run(arguments, capsys)
    assert code == 2, err
    assert text in err
    assert out == ""
    assert not (tmp_path / "head" / "head.json").exists()


def test_a_folder_with_something_else_is_left_alone(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "precious"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    code, _, err = run(command(data, output), capsys)
    assert code == 2
    assert "no head" in err
    assert [path.name for path in output.iterdir()] == ["thesis.txt"]


def test_people_in_a_file_are_held_out_together(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = tmp_path / "people.csv"
    rows = [f"video{n},{'anna' if n < 5 else 'bob'}" for n in range(1, 9)]
    people.write_text("\n".join(["video,subject", *rows, "video1-2,anna"]) + "\n")
    more = ["--subjects", str(people), "--holdout", "0.4", "--epochs", "1"]
    code, _, err = run(command(data, tmp_path / "head", *more), capsys)
    assert code == 0, err
    config = load_head(str(tmp_path / "head")).config
    sides = [{"video1", "video2", "video3", "video4", "video1-2"}, {"video5", "video6", "video7", "video8"}]
    assert sorted(map(set, (config.trained_on, config.tuned_on)), key=len) == sorted(sides, key=len)


def test_ids_in_a_file_are_held_out_and_missing_videos_told(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, labels = data
    other = tmp_path / "labels"
    for file in (labels / "AU_Detection_Challenge" / "Train_Set").iterdir():
        target = other / "AU_Detection_Challenge" / "Train_Set" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    write_labels(other, Clip("elsewhere", 5), TASKS["au"])
    (tmp_path / "ids.txt").write_text("video3\nvideo4\n")
    more = ["--holdout", str(tmp_path / "ids.txt"), "--epochs", "1"]
    code, _, err = run(command((features, other), tmp_path / "head", *more), capsys)
    assert code == 0, err
    assert "warning: 1 of 10 labelled videos is not in the cache" in err
    assert load_head(str(tmp_path / "head")).config.tuned_on == ("video3", "video4")


@pytest.mark.thorough
def test_windows_in_seconds_and_other_architectures(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--architecture", "tcn", "--window", "4s", "--epochs", "1", "--holdout", "0.3"]
    code, _, err = run(command(data, tmp_path / "tcn", *more), capsys)
    assert code == 0, err
    config = load_head(str(tmp_path / "tcn")).config
    assert (config.architecture, config.window, config.window_seconds) == ("tcn", 24, 4.0)
    code, _, err = run(command(data, tmp_path / "frame", "--architecture", "frame", "--epochs", "1"), capsys)
    assert code == 0, err
    config = load_head(str(tmp_path / "frame")).config
    assert (config.window, config.hidden) == (1, 128)
    assert config.provenance["recipe"]["name"] == "emobeam+"
