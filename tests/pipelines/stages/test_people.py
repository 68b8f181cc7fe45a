"""People folders through the commands: cut into features, trained on with the units that are known, inspected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from emobeam.emo_transforms.networks.heads.config import config_from_json, config_to_json
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.pipelines.cli import main
from emobeam.pipelines.commands.material import render
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.training.material.rendering.faces import write_ball
from tests.people import UNITS, clip_rows, crop_row, write_people
from tests.pipelines.runs import extract, predict, rows, videos

SHARED = Path(__file__).resolve().parents[4] / "shared"
MODELS = sorted(SHARED.glob("training/ict*.npz")) if SHARED.is_dir() else []
QUICK = ["--set", "final_start=random", "--set", "batch=4", "--set", "warmup_steps=0", "--set", "lr=0.002"]
QUICK += ["--device", "cpu", "--threads", "1", "--buffer-mb", "256", "--epochs", "1"]


def config(fps: float = 6.0) -> ExtractConfig:
    return ExtractConfig(source="people", sampling=SamplingConfig(fps=fps), store=("maps", "crops"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with people of equal numbers; five units are unknown, AU12 in one of the clips too."""
    root = tmp_path_factory.mktemp("folders")
    for name, seed in (("a", 0), ("b", 1)):
        for person in (3, 4, 100000):
            made = [*clip_rows(person, 0, 10, seed=seed), *clip_rows(person, 1, 9, seed=seed)]
            made += [crop_row(person, 2, 1, None, {"AU1": 0.4})] if name == "a" and person == 4 else []
            write_people(root / name, made)
    return root


@pytest.fixture(scope="module")
def features(clips: Path, tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Path:
    output = tmp_path_factory.mktemp("people") / "features"
    extract([clips], output, pool, config=config())
    return output


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out, shown.err


def train(features: Path, output: Path, *more: str) -> list[str]:
    return ["train", str(features), "--task", "au", "--output", str(output), *QUICK, *more]


def test_rows_and_crops_keep_their_bytes(clips: Path, features: Path) -> None:
    ids = [f"{name}/{person:06d}-{clip}" for name in "ab" for person in (3, 4, 100000) for clip in (0, 1)]
    assert sorted(videos(features)) == sorted([*ids, "a/000004-2-0001"])
    shards = {row["video"]: f"{row['shard']}.parquet" for row in rows(features / "segments.parquet")}
    found = rows(features / "shards" / shards["b/000004-1"])
    wanted = [row for row in rows(clips / "b" / "people" / "000004.parquet") if row["clip"] == 1]
    assert [(row["frame"], row["time"], row["crop"]) for row in found] == [
        (row["frame"], row["time"], row["crop"]) for row in wanted
    ]
    assert all(row["image"] == f"000004.parquet#1-{row['frame']}" for row in found)
    assert all((row["box"], row["score"], row["landmarks"]) == (None, None, None) for row in found)
    (single,) = rows(features / "shards" / shards["a/000004-2-0001"])
    assert (single["frame"], single["time"]) == (1, None)


def test_a_second_run_has_nothing_to_do_and_new_people_are_added(tmp_path: Path, pool: LocalPool) -> None:
    folder = write_people(tmp_path / "in", clip_rows(3, 0, 4))
    extract([folder], tmp_path / "features", pool, config=config())
    write_people(folder, clip_rows(4, 0, 4))
    (before,) = (tmp_path / "features" / "shards").iterdir()
    stamp = before.stat().st_mtime_ns
    extract([folder], tmp_path / "features", pool, config=config())
    assert before.stat().st_mtime_ns == stamp
    assert len(list((tmp_path / "features" / "shards").iterdir())) == 2


@pytest.mark.parametrize(
    "network",
    [
        ["--levels", "3"],
        *(pytest.param(each, marks=pytest.mark.thorough) for each in (["--levels", "1"], ["--architecture", "frame"])),
    ],
)
def test_training_on_activations(
    network: list[str], clips: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["--labels", str(clips / "a"), "--labels", str(clips / "b")]
    arguments = train(features, tmp_path / "head", *labels, *network, "--holdout", "0.4", "--experimental", "AU6,AU4")
    code, out, err = run([*arguments, "--json"], capsys)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["recipe"]["au_loss"] == "bce"
    assert summary["figures"]["untuned"] == "untuned (0.3, no smoothing)"
    head = load_head(str(tmp_path / "head")).config
    assert head.unknown == UNITS[8:]
    assert head.experimental == ("AU4", "AU6")
    assert head.outputs == UNITS
    assert config_from_json(config_to_json(head)) == head
    assert set(head.metrics["holdout"]["outputs"]) == set(UNITS[:8])
    assert summary["videos"]["grouped_by"] == "person"
    assert summary["videos"]["groups"] == 6, "equal numbers in two folders are two people"
    held = {name.rpartition("-")[0] for name in head.tuned_on}
    assert held
    assert not held & {"-".join(name.split("-")[:2]) for name in head.trained_on if name.count("-") == 1}
    assert "nobody teaches AU23, AU24, AU25, AU26" in err

    before = (tmp_path / "head" / "seeds" / "1" / "head.safetensors").read_bytes()
    code, _, err = run([*arguments, "--experimental", "AU1"], capsys)
    assert code == 0, err
    assert "done already" in err
    assert load_head(str(tmp_path / "head")).config.experimental == ("AU1",), "a mark needs no training"
    assert (tmp_path / "head" / "seeds" / "1" / "head.safetensors").read_bytes() == before


def test_who_is_held_out_may_be_named(
    clips: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held.txt").write_text("a/000003\n000004\nb/100000-1\n")
    holdout = ["--labels", str(clips), "--holdout", str(tmp_path / "held.txt")]
    code, _, err = run(train(features, tmp_path / "head", *holdout, "--levels", "1"), capsys)
    assert code == 0, err
    held = load_head(str(tmp_path / "head")).config.tuned_on
    root = clips.name
    own = ["a/000003-0", "a/000003-1", "a/000004-0", "a/000004-1", "a/000004-2-0001", "b/000004-0", "b/000004-1"]
    assert held == tuple(f"{root}/{name}" for name in [*own, "b/100000-1"])


def test_what_can_not_be_trained_on(
    clips: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["--labels", str(clips / "a")]
    output = tmp_path / "head"
    for more, said in [
        ([*labels, "--labels", str(tmp_path)], "is a people folder and"),
        ([*labels, "--experimental", "AU99"], "--experimental: no output AU99"),
        ([*labels, "--experimental", "AU23", "--levels", "1"], "no label to train on is about AU23"),
        ([*labels, "--partition", "train"], "people folders have no partitions"),
        (["--labels", str(tmp_path), "--labels", str(tmp_path)], "several places are for people folders"),
    ]:
        code, _, err = run(train(features, output, *more), capsys)
        assert (code, said in err) == (2, True), err
    code, _, err = run(["train", str(features), "--task", "va", "--output", str(output), *QUICK, *labels], capsys)
    assert code == 2
    assert "people folders label action units" in err


@pytest.mark.parametrize("key", ["unknown", "experimental"])
def test_marks_of_a_head_name_its_outputs(key: str) -> None:
    base = {
        "name": "h",
        "task": "au",
        "outputs": ["AU1", "AU2"],
        "scope": "frame",
        "activation": "sigmoid",
        "features_id": "f",
        "map_shapes": {"s32": [4, 2, 2]},
        "levels": 1,
        "schema_version": 1,
    }
    plain = config_from_json(json.dumps(base))
    assert (plain.unknown, plain.experimental) == ((), ())
    assert key not in json.loads(config_to_json(plain)), "heads without marks stay as they were"
    marked = config_from_json(json.dumps(base | {key: ["AU2"]}))
    assert json.loads(config_to_json(marked))[key] == ["AU2"]
    for wrong, said in ((["AU9"], "names AU9; the outputs are AU1, AU2"), (["AU1", "AU1"], "different names")):
        with pytest.raises(EmobeamError, match=f"{key}.*{said}"):
            config_from_json(json.dumps(base | {key: wrong}))
    with pytest.raises(EmobeamError, match="AU1: both unknown and experimental"):
        config_from_json(json.dumps(base | {"unknown": ["AU1"], "experimental": ["AU1"]}))


def test_inspect_tells_people_crops_and_base_rates(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["inspect", str(clips), "--json"], capsys)
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    assert told["kind"] == "people"
    one = told["folders"]["a"]
    assert {key: one[key] for key in ("people", "clips", "pictures", "crops")} == {
        "people": 3,
        "clips": 6,
        "pictures": 1,
        "crops": 58,
    }
    assert one["seconds"] == pytest.approx(57 / 6, abs=1e-3)
    assert one["rates"] == {"6": 6}
    every = [row for file in (clips / "a" / "people").iterdir() for row in rows(file)]
    known = np.array([row["AU1"] for row in every if row["AU1"] is not None])
    assert one["units"]["AU1"]["known"] == len(known) == 58
    assert one["units"]["AU1"]["present"] == pytest.approx((known >= np.float32(0.3)).mean(), abs=1e-4)
    assert one["units"]["AU1"]["mean"] == pytest.approx(known.mean(), abs=1e-4)
    assert one["units"]["AU23"] == {"known": 0}
    code, out, _ = run(["inspect", str(clips / "b")], capsys)
    assert code == 0
    assert "3 people, 6 clips" in out
    assert "AU23  unknown" in out


def test_from_a_render_to_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], pool: LocalPool) -> None:
    model = MODELS[0] if MODELS else write_ball(tmp_path / "ball.npz")
    options = ["--pictures", "0", "--clips", "1", "--seconds", "1.5", "--size", "48", "--people", "3", "--workers", "1"]
    folder, output, head = tmp_path / "rendered", tmp_path / "features", tmp_path / "head"
    done = CliRunner().invoke(render, [str(model), "--output", str(folder), *options], catch_exceptions=False)
    assert done.exit_code == 0
    extract([folder], output, pool, config=config())
    assert sorted(videos(output)) == ["000000-0", "000001-0", "000002-0"]
    code, _, err = run(train(output, head, "--labels", str(folder), "--levels", "1", "--holdout", "0.3"), capsys)
    assert code == 0, err
    assert "AU23" in load_head(str(head)).config.unknown
    predict(output, tmp_path / "out", pool, heads=[str(head)])
    tables = list((tmp_path / "out" / "predictions" / "au").rglob("*.parquet"))
    assert sum(len(rows(path)) for path in tables) == 27
