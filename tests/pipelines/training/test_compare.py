"""The command ``compare`` on a data set whose labels only motion tells, and what it leaves."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.pipelines.cli import main
from emobeam.pipelines.console import Ui
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.pipelines.stages.run_record import PredictResult
from emobeam.pipelines.training import compare as comparing
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from tests.emo_transforms.training.data import write_rows
from tests.generated import twins, write_affect
from tests.pipelines.runs import Told, working_in

SETTINGS = ["--set", "final_start=random", "--set", "batch=16", "--set", "lr=0.003", "--set", "warmup_steps=20"]
SETTINGS += ["--set", "patience=0", "--set", "tcn.window=64", "--set", "tcn.dropout=0", "--set", "tcn.lr=0.002"]
SETTINGS += ["--holdout", "0.25", "--levels", "2", "--device", "cpu", "--threads", "1"]

SHORT = ["--epochs", "2", "--set", "tcn.epochs=2"]
LONG = ["--epochs", "10", "--set", "tcn.epochs=24"]
"""Enough to learn."""


@dataclass(frozen=True)
class Compared:
    features: Path
    labels: Path
    output: Path
    results: dict[str, Any]

    def command(self, *more: str) -> list[str]:
        arguments = ["compare", str(self.features), "--task", "va", "--labels", str(self.labels)]
        return [*arguments, "--output", str(self.output), *SETTINGS, *SHORT, "--workers", "1", *more]

    def cell(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = next(cell for cell in self.results["cells"] if cell["architecture"] == kind)
        return found


def compare(folder: Path, *more: str) -> Compared:
    """Architectures, all four by default, on pairs of videos that differ in their motion alone."""
    features, labels = write_affect(folder, "motion", pairs=14, validation=2, noise=0.1)
    made = Compared(features, labels, folder / "out", {})
    with pytest.raises(SystemExit) as end:
        main(made.command("--seeds", "1", "--truth", str(labels), "-q", *more))
    assert end.value.code == 0
    return Compared(features, labels, made.output, json.loads((made.output / "results.json").read_text()))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, pool: LocalPool) -> Compared:
    with working_in(pool):
        return compare(tmp_path_factory.mktemp("motion"), "--architectures", "tam-clip,frame")


@pytest.mark.thorough
def test_motion_is_seen_by_those_that_look_at_several_frames(tmp_path: Path) -> None:
    compared = compare(tmp_path, *LONG)
    for kind in ("tam-clip", "tam-frame", "tcn"):
        cell = compared.cell(kind)
        assert cell["holdout"]["mean"] >= 0.9, kind
        assert cell["official"]["mean"] >= 0.9, f"{kind}: videos that no part of training has seen"
    frame = compared.cell("frame")
    assert abs(frame["holdout"]["mean"]) < 1e-6, "exactly nothing, by the construction of the data"
    # Between the sampled frames values are interpolated, and that isn't quite the same backwards.
    assert abs(frame["official"]["mean"]) < 0.05
    assert [cell["architecture"] for cell in compared.results["cells"]] == ["tam-clip", "tam-frame", "frame", "tcn"]
    for cell in compared.results["cells"]:
        assert cell["recipe"]["lr"] == (0.002 if cell["architecture"] == "tcn" else 0.003)
        assert cell["recipe"]["batch"] * cell["window"] == 128, "a step of each sees as many frames"


def test_results_can_be_shared_and_read(compared: Compared) -> None:
    results, text = compared.results, (compared.output / "results.json").read_text()
    assert str(compared.features.parent) not in text
    assert "clip3" not in text, "names of videos"
    assert [cell["architecture"] for cell in results["cells"]] == ["tam-clip", "frame"]
    assert results["videos"] == {"train": 18, "holdout": 6, "groups": 12, "grouped_by": "recording"}
    assert len(results["caches"][0]["cache_id"]) > 8
    assert results["versions"]["torch"]
    assert results["machine"]["processor"]
    for cell in results["cells"]:
        assert cell["latency_ms"] > 0
        assert cell["latency_runs"] >= 7
        assert 0 < cell["libraries_mb"] < cell["peak_memory_mb"]
    folders = sorted(path.name for path in (compared.output / "heads").iterdir())
    assert len(folders) == 2
    head = load_head(str(next((compared.output / "heads").glob("*-tam-clip-*"))))
    cell = compared.cell("tam-clip")
    inside = sum(value.numel() for value in head.module.parameters())
    assert cell["parameters"] + cell["final_layer_parameters"] == inside
    assert head.weights_sha256 == cell["seeds"][0]["weights_sha256"]
    table = (compared.output / "results.md").read_text()
    rows = [line for line in table.splitlines() if line.startswith(("| t", "| f"))]
    assert len(rows) == 2
    assert f"{cell['official_untuned']['mean']:.4f} (1) | {cell['official']['mean']:.4f} (1)" in table
    assert f"{cell['untuned']['mean']:.4f} (1) | {cell['holdout']['mean']:.4f} (1)" in table
    assert "hold-out, untuned | hold-out, tuned" in table
    for path in (compared.output / "heads").iterdir():
        own = load_head(str(path))
        (seed,) = [
            seed for cell in results["cells"] for seed in cell["seeds"] if seed["weights_sha256"] == own.weights_sha256
        ]
        assert seed["holdout"] >= seed["untuned"]
        same = seed["official"] == seed["official_untuned"]
        assert same == (not own.config.smoothing), "of values, smoothing is all that is tuned"
    assert results["machine"]["processor"] in table
    assert (compared.output / "results.png").read_bytes().startswith(b"\x89PNG")


def test_size_as_onnx(compared: Compared) -> None:
    pytest.importorskip("onnx")
    for cell in compared.results["cells"]:
        weights = 4 * (cell["parameters"] + cell["final_layer_parameters"])
        assert weights < cell["onnx_bytes"] < 1.1 * weights + 50_000


def test_what_is_done_is_not_done_again(compared: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    heads = compared.output / "heads"
    before = {path: path.stat().st_mtime_ns for path in heads.rglob("seeds/1/head.safetensors")}
    costs = {path: path.stat().st_mtime_ns for path in heads.rglob("costs.json")}
    assert (len(before), len(costs)) == (2, 2)
    more = ["--architectures", "frame", "--epochs", "1", "--seeds", "2", "--json"]
    with pytest.raises(SystemExit) as end:
        main(compared.command("--architectures", "frame", "--seeds", "2", "--json"))
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert "seed 1: done already" in shown.err
    (cell,) = json.loads(shown.out)["cells"]
    assert [seed["seed"] for seed in cell["seeds"]] == [1, 2]
    assert cell["seeds"][0] == compared.cell("frame")["seeds"][0] | {"official": None, "official_untuned": None}
    assert cell["holdout"]["n"] == 2
    figures = [seed["holdout"] for seed in cell["seeds"]]
    assert cell["holdout"]["sd"] == pytest.approx(np.std(figures, ddof=1))
    assert cell["official"] is None, "nobody asked for it"
    with pytest.raises(SystemExit) as end:
        main(compared.command(*more))
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    assert "done already" not in shown.err
    assert len(list(heads.iterdir())) == 3, "another recipe is another cell"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in costs} == costs


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--architectures", "lstm"], "choose among tam-clip"),
        (["--architectures", "clip-statistics"], "of frame scope"),
        (["--levels", "4"], "--levels 4"),
        (["--levels", "x"], "--levels x"),
        (["--recipe", "authors"], "a comparison is of heads on caches"),
        (["--recipe", "hsemotion"], "nothing to compare"),
        (["--set", "lstm.lr=1"], "no architecture 'lstm'"),
        (["--set", "tam-clip.form=frame"], "chooses this itself"),
        (["--set", "tcn.speed=1"], "no such field"),
    ],
)
def test_what_makes_no_sense_is_told(
    compared: Compared, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], text: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compare", str(compared.features), "--task", "va", "--labels", str(compared.labels), "--output",
              str(tmp_path / "out"), *more])  # fmt: skip
    assert end.value.code == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(compared: Compared, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    arguments = ["compare", str(compared.features), "--task", "va", "--labels", str(compared.labels)]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--output", str(tmp_path)])
    assert end.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_figure_is_a_number_that_is_none(compared: Compared) -> None:
    for cell in compared.results["cells"]:
        assert all(math.isfinite(seed["holdout"]) for seed in cell["seeds"])


@pytest.mark.thorough
def test_several_caches_share_the_hold_out(
    compared: Compared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = Dataset(
        ExtractConfig(backbone=BackboneConfig(name="mobilefacenet"), store=("embedding",)), {}, embedding=4
    )
    open_dataset(str(tmp_path / "vectors"), vectors)
    for number in range(2, 14):
        for twin in twins("look", number, 40 + number):  # as if another detector had found other frames
            seen = np.concatenate([twin.labels, -twin.labels], axis=1).astype(np.float32)
            write_rows(tmp_path / "vectors", twin.name, {"embedding": seen}, vectors)
    command = ["compare", str(compared.features), str(tmp_path / "vectors"), "--task", "va", "--labels"]
    command += [str(compared.labels), "--output", str(tmp_path / "out"), *SETTINGS, "--epochs", "1"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--seeds", "1", "--architectures", "tam-clip,frame", "--json"])
    shown = capsys.readouterr()
    assert end.value.code == 0, shown.err
    results = json.loads(shown.out)
    assert [(cell["cache"], cell["architecture"], cell["inputs"]) for cell in results["cells"]] == [
        ("mobilenetv4_conv_small", "tam-clip", ["s16", "s32"]),
        ("mobilenetv4_conv_small", "frame", ["s16", "s32"]),
        ("mobilefacenet", "frame", ["embedding"]),
    ]
    assert results["notes"] == ["mobilefacenet: no tam-clip, it reads maps and the cache holds none"]
    heads = [load_head(str(path)).config for path in (tmp_path / "out" / "heads").iterdir()]
    assert len({head.tuned_on for head in heads}) == 1
    assert "| mobilefacenet | frame | embedding |" in (tmp_path / "out" / "results.md").read_text()


def test_records_of_predictions_hold_their_own_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, list[str]] = {}

    def predicted(request: PredictRequest, ui: Ui, pool: LocalPool) -> PredictResult:
        ui.warn(f"of {request.output}")
        ui.warn("of all")
        kept[request.output] = ui.warned
        failed = {"clip": f"damaged in {request.output}"}
        return PredictResult(videos.empty_table(), {}, (), {}, {}, failed, 0.0)

    videos = pa.schema([("outcome", pa.string())])
    monkeypatch.setattr(comparing, "run_predict", predicted)
    monkeypatch.setattr(comparing, "_score", lambda *_: 0.5)
    told, anything = Told(), cast(Any, None)
    for output in ("first", "second"):
        ask = PredictRequest("features", output, heads=("untrained",))
        assert comparing._official(anything, ask, (), anything, told) == 0.5
    assert kept == {output: [f"of {output}", "of all"] for output in ("first", "second")}
    assert told.warned == [
        "of first", "of all", "clip: damaged in first", "of second", "clip: damaged in second",
    ]  # fmt: skip
