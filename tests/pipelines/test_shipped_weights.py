"""What comes with emobeam is what runs where nothing is named: every output says so, and what the head doesn't know."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.networks.engines import head_engine
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_for
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.shipped import shipped, shipped_head
from emobeam.emo_transforms.prediction.prediction_tables import read_part_footer
from emobeam.pipelines.cli import main
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import task_named
from tests.clips import portrait
from tests.pipelines.runs import LocalPool, predict, rows

AU = task_named("au")
NAME = shipped().name


def emobeam(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shortest command there is, and a submission."""
    folder = tmp_path_factory.mktemp("first run")
    portrait(folder / "talk.mp4", frames=50)
    with pytest.raises(SystemExit) as end:
        main(["annotate", str(folder / "talk.mp4"), "--output", str(folder / "out"), "--edition", "8", "-q"])
    assert not end.value.code
    return folder / "out"


@pytest.fixture(scope="module")
def marks() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the head says of its outputs: unknown, experimental."""
    found = shipped_head("au")
    assert found is not None
    config = load_head(str(found.folder)).config
    assert config.unknown
    return config.unknown, config.experimental


def table_of(output: Path) -> Any:
    (path,) = (output / "predictions" / "au").glob("*.parquet")
    return pq.read_table(path), read_part_footer(str(path))


def test_every_record_says_which_weights(annotated: Path) -> None:
    run = json.loads((annotated / "run.json").read_text())
    head = shipped_head("au")
    assert head is not None
    assert (run["backbone"]["weights"], run["backbone"]["sha256"]) == (NAME, shipped().backbone.weights_sha256)
    (entry,) = run["heads"]["au"]
    assert (entry["name"], entry["weights"], entry["sha256"]) == (NAME, NAME, head.tensors.weights_sha256)
    assert not [text for text in run["warnings"] if "untrained" in text]
    dataset = json.loads((annotated / "features" / "dataset.json").read_text())
    assert dataset["config"]["backbone"]["weights"] == NAME
    assert dataset["features_id"] == shipped().features_id == run["features_id"]
    _, footer = table_of(annotated)
    assert footer["heads"] == [[NAME, NAME, head.tensors.weights_sha256]]


def test_what_nobody_taught_is_null_and_nothing_else(annotated: Path, marks: Any) -> None:
    table, footer = table_of(annotated)
    assert (tuple(footer["unknown"]), tuple(footer["experimental"])) == marks
    assert tuple(table.column_names[5:-1]) == AU.outputs
    seen = np.array(table["source"].to_pylist()) != "absent"
    assert seen.any()
    for name in AU.outputs:
        column = table[name]
        assert str(column.type) == "float"
        expected = len(table) if name in marks[0] else int((~seen).sum())
        assert column.null_count == expected, name


def test_the_submission_is_neutral_there(annotated: Path, marks: Any) -> None:
    header, *lines = (annotated / "submission/au/predictions.txt").read_text().splitlines()
    names = header.split(",")[1:]
    assert tuple(names) == AU.outputs
    for name in marks[0]:
        assert {line.split(",")[1:][names.index(name)] for line in lines} == {"0"}
    assert len(lines) == 50
    run = json.loads((annotated / "run.json").read_text())
    assert run["submissions"]["au"]["unknown"] == list(marks[0])
    assert run["submissions"]["au"]["neutral"] == 0
    assert run["submissions"]["au"]["weights"][0].startswith(f"{NAME} (sha256 ")
    assert run["marks"]["au"]["unknown"] == list(marks[0])


def test_the_summary_says_it(annotated: Path, marks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    again = ("annotate", annotated.parent / "talk.mp4", "--output", annotated, "--edition", "8")
    code, out, err = emobeam(capsys, *again)
    assert code == 0
    assert re.search(rf"weights: backbone {shipped().architecture}, {NAME} \(sha256 [0-9a-f]{{12}}\); au {NAME} ", out)
    assert f"task au: {', '.join(marks[0])} unknown" in out
    assert "UNTRAINED" not in out
    assert f"{', '.join(marks[0])}: unknown to the head, the neutral value in every row" in err
    told = json.loads(emobeam(capsys, *again, "--json")[1])
    assert told["weights"]["backbone"]["weights"] == NAME
    assert told["untrained"] == []
    assert told["marks"]["au"]["unknown"] == list(marks[0])


def test_everything_that_reads_tables_copes(
    annotated: Path, marks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = marks[0][0]
    code, out, _ = emobeam(capsys, "inspect", annotated)
    assert code == 0
    assert f"{NAME}, weights {NAME} (sha256 " in out
    assert f"{unknown} (unknown)" in out
    entry = json.loads(emobeam(capsys, "inspect", annotated, "--json")[1])["tasks"]["au"]["outputs"]
    assert entry[unknown] == {"values": 0, "mark": "unknown"}
    assert entry["AU12"]["values"] > 0

    code, _, err = emobeam(capsys, "summarise", annotated, "--output", tmp_path / "s.parquet")
    assert code == 0
    assert f"{unknown} unknown" in err
    notes = {row["unit"]: (row["rows"], row["note"]) for row in rows(tmp_path / "s.parquet")}
    assert notes[unknown][0] == 0
    assert notes[unknown][1].startswith("unknown")
    assert notes["AU12"][0] == 50
    options = ("--baseline", "median", "--threshold", "0.1")
    code, _, _ = emobeam(capsys, "events", annotated, "--output", tmp_path / "e.parquet", *options)
    assert code == 0
    assert unknown not in {row["unit"] for row in rows(tmp_path / "e.parquet")}

    for form in ("csv", "openface", "elan", "datasets"):
        assert emobeam(capsys, "export", annotated, "--format", form, "--output", tmp_path / form)[0] == 0, form
    assert f"{unknown} unknown" in (tmp_path / "datasets" / "README.md").read_text()
    (openface,) = (tmp_path / "openface").glob("*.csv")
    assert re.search(r"AU23_p", openface.read_text()) if unknown == "AU23" else True

    code, _, _ = emobeam(capsys, "report", annotated)
    assert code == 0
    page = (annotated / "report.html").read_text()
    assert NAME in page
    assert "Untrained weights" not in page
    assert f"{unknown} unknown" in page

    picture = tmp_path / "over.mp4"
    assert emobeam(capsys, "overlay", annotated.parent / "talk.mp4", annotated, "--output", picture)[0] == 0
    assert picture.stat().st_size


def test_score_and_tune_count_it_as_neutral(
    annotated: Path, marks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "labels" / "AU_Detection_Challenge" / "Validation_Set"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0).integers(0, 2, (50, 12))
    text = [",".join(AU.outputs), *(",".join(map(str, row)) for row in drawn.tolist())]
    (folder / "talk.txt").write_text("\n".join(text) + "\n")
    common = ("--task", "au", "--truth", tmp_path / "labels", "--predictions")
    head = shipped().heads["au"].folder  # its thresholds decided what was submitted
    tables = json.loads(emobeam(capsys, "score", *common, annotated, "--head", head, "--json")[1])
    submitted = json.loads(emobeam(capsys, "score", *common, annotated / "submission/au/predictions.txt", "--json")[1])
    assert tables["at_thresholds"]["score"] == submitted["score"]
    assert tables["unknown"] == list(marks[0])
    assert submitted["unknown"] == []
    assert f"{', '.join(marks[0])}: no values" in emobeam(capsys, "score", *common, annotated)[1]
    code, out, _ = emobeam(capsys, "tune", *common, annotated, "--output", tmp_path / "post.json")
    assert code == 0
    assert f"{', '.join(marks[0])}: unknown to the head" in out


@pytest.mark.parametrize("task", ["va", "expr", "emi"])
def test_a_task_without_a_head_says_why_before_any_work(
    task: str, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = annotated.parent / "talk.mp4"
    for command in (("annotate", clip), ("predict", annotated / "features")):
        code, _, err = emobeam(capsys, *command, "--output", tmp_path / "out", "--task", task)
        assert code == 2
        assert f"--task {task}: no head: emobeam comes with a head of au alone" in err
        assert "no clean teacher" in err
        assert f"emobeam train FEATURES --task {task}" in err
        assert "--head untrained" in err
        assert ("models fetch" in err) == (task != "emi")
        assert not (tmp_path / "out").exists()


def test_other_features_have_no_head(tmp_path: Path, annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, random = annotated.parent / "talk.mp4", ("--backbone-weights", "untrained")
    code, _, err = emobeam(capsys, "annotate", clip, "--output", tmp_path / "out", *random)
    assert code == 2
    assert f"the head that comes with emobeam reads features {shipped().features_id}" in err
    assert not (tmp_path / "out").exists()


def test_the_engines_of_stage_2_agree(annotated: Path, tmp_path: Path, pool: LocalPool) -> None:
    pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    tables = {}
    for engine in ("torch", "openvino-f32"):
        config = PredictConfig(engine=engine)
        predict(annotated / "features", tmp_path / engine, pool, heads=["shipped"], config=config, keep_engine=True)
        tables[engine] = table_of(tmp_path / engine)[0]
        assert json.loads((tmp_path / engine / "run.json").read_text())["config"]["engine"] == engine
    assert tables["openvino-f32"].equals(table_of(annotated)[0]), "annotate takes OpenVINO by itself"
    plain = ["video", "subject", "face", "frame", "time", "source"]
    assert tables["torch"].select(plain).equals(tables["openvino-f32"].select(plain))
    for name in set(tables["torch"].column_names) - set(plain):
        one, other = (table[name].to_numpy() for table in tables.values())
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_untrained_and_shipped_are_asked_for_by_name(annotated: Path, tmp_path: Path, pool: LocalPool) -> None:
    features = annotated / "features"
    result, told = predict(features, tmp_path / "a", pool, tasks=["au", "va"])
    assert result.untrained == ("au", "va")
    assert sum("NOTHING" in text for text in told.warned) == 2
    config = PredictConfig(engine=head_engine("auto", "cpu"))
    result, _ = predict(
        features, tmp_path / "b", pool, tasks=["au", "va"], heads=["shipped", "untrained"], config=config
    )
    assert result.untrained == ("va",)
    assert table_of(tmp_path / "b")[0].equals(table_of(annotated)[0])
    with pytest.raises(UsageError, match="comes with no head of task va, only of au"):
        predict(features, tmp_path / "c", pool, tasks=["va"], heads=["shipped"])
    head = tmp_path / "head"
    save_head(untrained_for(AU, read_dataset(str(features)).offer), str(head))
    with pytest.raises(UsageError, match="--head untrained: every task has a head already"):
        predict(features, tmp_path / "c", pool, heads=[str(head), "untrained"])


def test_an_average_takes_what_one_of_the_heads_knows(
    annotated: Path, tmp_path: Path, pool: LocalPool, marks: Any
) -> None:
    """An output that one head doesn't know is the other's alone; the rest are means."""
    from dataclasses import replace

    features, unknown = annotated / "features", marks[0][0]
    made = untrained_for(AU, read_dataset(str(features)).offer)
    other = tmp_path / "other"
    save_head(Head(replace(made.config, experimental=("AU1",)), made.module, made.weights_sha256), str(other))
    predict(features, tmp_path / "one", pool, heads=[str(other)])
    own = shipped_head("au")
    assert own is not None
    predict(features, tmp_path / "both", pool, heads=[str(other), str(own.folder)])
    (one, _), (both, footer), (ours, _) = (table_of(path) for path in (tmp_path / "one", tmp_path / "both", annotated))
    assert both[unknown].equals(one[unknown])
    mean = (one["AU12"].to_numpy().astype(float) + ours["AU12"].to_numpy()) / 2
    np.testing.assert_allclose(both["AU12"].to_numpy(), mean, atol=1e-6)
    assert footer["unknown"] == []
    assert footer["experimental"] == [name for name in AU.outputs if name in {"AU1", *marks[1]}]


def test_models_tells_of_them_first(capsys: pytest.CaptureFixture[str], marks: Any) -> None:
    out = emobeam(capsys, "models")[1]
    assert out.index(NAME) < out.index("published by others") < out.index("enet_b0_8_va_mtl")
    first = json.loads(emobeam(capsys, "models", "list", "--json")[1])[0]
    assert (first["shipped"], first["name"]) == (True, NAME)
    shown = json.loads(emobeam(capsys, "models", "show", "--json")[1])
    assert (shown["heads"]["au"]["unknown"], shown["heads"]["au"]["experimental"]) == (list(marks[0]), list(marks[1]))
    assert emobeam(capsys, "models", "show", "--card")[1].startswith("# ")
    code, out, _ = emobeam(capsys, "inspect", "shipped")
    assert code == 0
    assert re.search(rf"unknown +{', '.join(marks[0])}", out)
    code, _, err = emobeam(capsys, "models", "pack", "--output", "x")
    assert (code, "say what to pack" in err) == (2, True)
