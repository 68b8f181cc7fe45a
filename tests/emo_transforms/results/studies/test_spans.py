"""Tables and stretches that users bring."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pympi.Elan import Eaf

from emobeam.emo_transforms.results.exports.tables import write_csv
from emobeam.emo_transforms.results.studies.spans import Span, number_in, read_spans, read_table
from emobeam.emo_transforms.results.studies.tables import table_of, write_file
from emobeam.schemas.records import EmobeamError, UsageError


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "tasks.csv"
    lines = ("Video,Start,End,Label", "a,0:4,2:75,phase 1:5", "b,:5,12,")
    file.write_text("\n".join(lines).replace(",", delimiter).replace(":", ","))
    assert read_spans(str(file), "--segments") == [Span("a", 0.4, 2.75, "phase 1,5"), Span("b", 0.5, 12.0)]


def test_decimal_commas_of_outputs_but_not_of_numbers_of_frames(tmp_path: Path) -> None:
    file = tmp_path / "coder.csv"
    file.write_text("video;frame;valence\na;1,000;-0,25\n")
    (row,) = read_table(str(file), "--human", ())
    assert number_in(row, "valence", str(file), "--human") == -0.25
    with pytest.raises(UsageError, match=r"line 2: frame '1,000' is no number: write it with a decimal point"):
        number_in(row, "frame", str(file), "--human")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start,end\na,0,4,2,75\n", r"line 2: 5 cells under 3 columns; .*semicolons"),
        ('video,start,end\na,"0,4",2\n', r"start '0,4' is no number: write it with a decimal point"),
        ("video;start;end\na;1.000,5;2000\n", r"start '1\.000,5' is no number"),
    ],
)
def test_other_commas_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_spans(str(file), "--segments")


def test_empty_cells_beyond_the_header_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "tasks.csv"
    file.write_text("video,start,end\na,1,2,,\n")
    assert read_spans(str(file), "--segments") == [Span("a", 1.0, 2.0)]


def test_stretches_of_media_that_begin_later(tmp_path: Path) -> None:
    eaf = Eaf()
    eaf.add_linked_file("file:///v/talk.mp4", mimetype="video/mp4", time_origin=1500)
    eaf.add_linked_file("file:///v/room.mp4", mimetype="video/mp4", time_origin=0)
    eaf.add_tier("speech")
    eaf.add_annotation("speech", 1000, 2000, "hello")
    for name in ("talk", "other"):
        eaf.to_file(str(tmp_path / f"{name}.eaf"))
    assert read_spans(str(tmp_path / "talk.eaf"), "--speech", tier="speech") == [Span("talk", 2.5, 3.5, "hello")]
    with pytest.raises(EmobeamError, match="begin at different times"):
        read_spans(str(tmp_path / "other.eaf"), "--speech", tier="speech")


def test_texts_are_no_formulas_in_tables(tmp_path: Path) -> None:
    """Neither to a spreadsheet nor, what was spelt for it, to emobeam."""
    names = ["=cmd|' /C calc'!A0", "+1", "-talk", "@sum", "'quoted", "plain"]
    rows = [{"video": name, "on": -0.5, "peak": 1.0} for name in names]
    schema = pa.schema([("video", pa.string()), ("on", pa.float64()), ("peak", pa.float32())])
    write_file(str(tmp_path / "t.csv"), table_of(rows, schema), {})
    with open(tmp_path / "t.csv", newline="") as file:
        cells = [row["video"] for row in csv.DictReader(file)]
    assert cells == ["'=cmd|' /C calc'!A0", "'+1", "'-talk", "'@sum", "'quoted", "plain"]
    read = read_table(str(tmp_path / "t.csv"), "--spans", ("video",))
    assert [(row["video"], row["on"]) for row in read] == [(name, "-0.5") for name in names], "numbers stay numbers"

    write_csv(pd.DataFrame({"video": names, "AU12": np.float32(-0.5)}), tmp_path / "x.csv")
    assert pd.read_csv(tmp_path / "x.csv", quotechar='"')["video"].tolist() == cells
    assert pd.read_csv(tmp_path / "x.csv")["AU12"].tolist() == [-0.5] * len(names)
