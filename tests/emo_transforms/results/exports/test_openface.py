"""OpenFace-style tables, read as scripts for OpenFace read them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emobeam.emo_transforms.results.exports.gather import frame_rows, open_output
from emobeam.emo_transforms.results.exports.openface import openface_rows, unit_name, units_task, write_openface
from emobeam.emo_transforms.results.exports.tables import by_subject
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.results.exports.made import FRAMES


@pytest.fixture
def read(output: Path, tmp_path: Path) -> pd.DataFrame:
    """The clip with two faces, written and read back."""
    found = open_output(str(output))
    rows = frame_rows(found, "day 1/pair")
    (subject, own), *others = by_subject(rows)
    assert (subject, others) == ("", [])
    table = openface_rows(own, found.frame_tasks, found.faces["day 1/pair"], found.run)
    write_openface(table, tmp_path / "pair.csv")
    return pd.read_csv(tmp_path / "pair.csv", skipinitialspace=True)


def test_columns_are_openfaces_own(read: pd.DataFrame, tmp_path: Path) -> None:
    units = ["01", "02", "04", "06", "07", "10", "12", "15", "23", "24", "25", "26"]
    assert list(read.columns) == [
        *("frame", "face_id", "timestamp", "confidence", "success"),
        *(f"AU{unit}_p" for unit in units),
        *(f"AU{unit}_c" for unit in units),
    ]
    assert not [name for name in read.columns if name.endswith("_r")]
    header = (tmp_path / "pair.csv").read_text().splitlines()[0]
    assert header.startswith("frame, face_id, timestamp, confidence, success, AU01_p, ")


def test_rows_are_the_tables(read: pd.DataFrame, output: Path) -> None:
    rows = frame_rows(open_output(str(output)), "day 1/pair").sort_values(["frame", "face"]).reset_index(drop=True)
    assert len(read) == 2 * FRAMES
    assert read["frame"].tolist() == rows["frame"].tolist()
    assert read["face_id"].tolist() == rows["face"].tolist()
    np.testing.assert_allclose(read["timestamp"], rows["time"], atol=1e-6)
    absent = rows["au_source"] == "absent"
    assert ((read["success"] == 0) == absent).all()
    for name, limit in (("AU1", 0.3), ("AU12", 0.6)):
        np.testing.assert_allclose(read[f"{unit_name(name)}_p"], rows[name], atol=1e-6)
        expected = (rows[name] >= np.float32(limit)).astype(float).where(~absent)
        np.testing.assert_array_equal(read[f"{unit_name(name)}_c"], expected)


def test_confidence_is_the_stretchs_score(read: pd.DataFrame) -> None:
    for row in read.itertuples():
        expected = 0.0 if 41 <= row.frame <= 60 else 0.95 if row.frame <= 40 else 0.99
        assert row.confidence == pytest.approx(expected)


def test_without_the_blank_the_names_are_the_same(read: pd.DataFrame, tmp_path: Path) -> None:
    plain = pd.read_csv(tmp_path / "pair.csv")
    plain.columns = plain.columns.str.strip()
    assert plain["success"].tolist() == read["success"].tolist()
    assert [name for name in plain.columns if re.fullmatch(r"AU\d\d_c", name)] == list(read.columns)[-12:]


def test_units_of_several_tasks() -> None:
    assert units_task([task_named("mtl"), task_named("au")]).name == "au"
    assert units_task([task_named("va"), task_named("mtl")]).name == "mtl"
    with pytest.raises(EmobeamError, match="no action units"):
        units_task([task_named("va")])
    with pytest.raises(ValueError, match="valence"):
        unit_name("valence")
