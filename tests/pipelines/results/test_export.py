"""``emobeam export`` over a real run: every form read back by the library of the program it is for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pympi
import pytest

from emobeam.emo_transforms.prediction.prediction_tables import part_name
from emobeam.pipelines.cli import main
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.results.exports.made import frame_table, put, write_run
from tests.pipelines.conftest import Run


def emobeam(*args: Path | str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, args)])
    return int(end.value.code or 0)


def table(run: Run, video: str) -> pd.DataFrame:
    return pq.read_table(run.output / "predictions" / "au" / part_name(video)).to_pandas()


def test_csv(reference: Run, tmp_path: Path) -> None:
    assert emobeam("export", reference.output, "--format", "csv", "--rate", "native", "--output", tmp_path / "x") == 0
    read = pd.read_csv(tmp_path / "x" / "day 1" / "pair.csv", dtype=dict.fromkeys(_units(), "float32"))
    expected = table(reference, "day 1/pair")
    assert len(read) == len(expected) > 0
    for name in ("face", "frame", "time"):
        np.testing.assert_array_equal(read[name], expected[name])
    np.testing.assert_array_equal(read[_units()], expected[_units()])
    assert read["au_source"].tolist() == expected["source"].tolist()
    assert (tmp_path / "x" / "absent.csv").exists()


def test_a_video_without_faces_has_a_table_without_rows(reference: Run, tmp_path: Path) -> None:
    assert emobeam("export", reference.output, "--format", "csv", "--output", tmp_path / "x") == 0
    read = pd.read_csv(tmp_path / "x" / "nobody.csv")
    assert len(read) == 0
    assert set(_units()) <= set(read.columns)


def _units() -> list[str]:
    return list(task_named("au").outputs)


def test_sampled_is_the_usual_rate_of_csv(reference: Run, tmp_path: Path) -> None:
    assert emobeam("export", reference.output, "--format", "csv", "--output", tmp_path / "x", "--only", "talk") == 0
    read = pd.read_csv(tmp_path / "x" / "talk.csv")
    assert set(read["au_source"]) == {"sampled"}
    assert len(read) == (table(reference, "talk")["source"] == "sampled").sum()
    assert not (tmp_path / "x" / "absent.csv").exists()


def test_openface(reference: Run, tmp_path: Path) -> None:
    assert emobeam("export", reference.output, "--format", "openface", "--output", tmp_path / "x") == 0
    read = pd.read_csv(tmp_path / "x" / "absent.csv", skipinitialspace=True)
    expected = table(reference, "absent")
    assert (read["success"] == (expected["source"] != "absent")).all()
    assert 0 < read["success"].sum() < len(read)
    np.testing.assert_allclose(read["AU12_p"], expected["AU12"], atol=1e-6)
    assert set(read["AU12_c"].dropna()) <= {0, 1}
    assert (read.loc[read["success"] == 1, "confidence"] > 0.8).all()


def test_elan_with_the_clips(reference: Run, tmp_path: Path) -> None:
    there = ("--media", reference.inputs)
    assert emobeam("export", reference.output, "--format", "elan", *there, "--output", tmp_path / "x") == 0
    document = tmp_path / "x" / "day 1" / "pair.eaf"
    eaf = pympi.Elan.Eaf(str(document))
    (media,) = eaf.media_descriptors
    assert (document.parent / media["RELATIVE_MEDIA_URL"]).resolve() == (reference.inputs / "day 1/pair.mp4").resolve()
    assert "AU12_face0" in eaf.get_tier_names()
    last = table(reference, "day 1/pair")["time"].max()
    spans = [span for name in eaf.get_tier_names() for span in eaf.get_annotation_data_for_tier(name)]
    assert spans
    assert all(end - start >= 200 and end <= last * 1000 + 100 for start, end, _ in spans)


def test_the_same_tables_give_the_same_bytes(reference: Run, tmp_path: Path) -> None:
    for form in ("csv", "openface", "elan", "datasets"):
        for place in ("a", "b"):
            command = ("export", reference.output, "--format", form, "--output", tmp_path / place / form)
            assert emobeam(*command, "--quiet") == 0
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_json_for_programs(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emobeam("export", reference.output, "--format", "datasets", "--output", tmp_path / "x", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rows"] == pq.read_table(tmp_path / "x" / "data" / "frames").num_rows
    assert "task au: untrained" in said["warnings"]
    assert "untrained" in (tmp_path / "x" / "README.md").read_text()


def test_a_damaged_table_costs_its_own_video(
    reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(reference.output / "predictions", output / "predictions")
    shutil.copy(reference.output / "run.json", output)
    part = output / "predictions" / "au" / part_name("talk")
    content = bytearray(part.read_bytes())
    content[4:200] = b"\0" * 196  # pages, not the footer
    part.write_bytes(content)
    assert emobeam("export", output, "--format", "csv", "--output", tmp_path / "x") == 1
    assert "talk: left out" in capsys.readouterr().err
    assert (tmp_path / "x" / "absent.csv").exists()
    assert not (tmp_path / "x" / "talk.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "csv", "--task", "va"), "no predictions of task va"),
        (("--format", "elan", "--rate", "sampled"), "leave --rate out"),
        (("--format", "csv", "--only", "stranger"), "no predictions of stranger"),
        (("--format", "csv", "--only", ","), "--only names no video"),
        (("--format", "spss"), "Invalid value for '--format'"),
    ],
)
def test_mistakes(
    reference: Run, tmp_path: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert emobeam("export", reference.output, "--output", tmp_path / "x", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_of_somebody_elses_is_left_alone(reference: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    assert emobeam("export", reference.output, "--format", "csv", "--output", tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_spans_come_back_as_the_predictions_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    for task in ("au", "expr"):
        put(output, task, "talk", frame_table(task, "talk", (("", 0), ("", 1))))
    put(output, "au", "sides", frame_table("au", "sides", (("left", 0), ("right", 0))))
    write_run(output)
    exact = ("--min-duration", "0", "--merge-gap", "0")
    assert emobeam("export", output, "--format", "elan", *exact, "--output", tmp_path / "elan") == 0
    for task in ("au", "expr"):
        capsys.readouterr()
        command = ("agree", output, "--human", tmp_path / "elan", "--task", task, *exact, "--resamples", "0", "--json")
        assert emobeam(*command) == 0
        units = json.loads(capsys.readouterr().out)["units"]
        assert {unit["unit"] for unit in units} == set(task_named(task).outputs)
        assert {unit["agreement"] for unit in units} == {1.0}
        assert {(unit["missed"], unit["extra"]) for unit in units} == {(0, 0)}
        assert sum(unit["matched"] for unit in units) > 20
