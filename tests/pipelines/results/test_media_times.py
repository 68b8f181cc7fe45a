"""Times that leave for a player and come back, of a video whose first frame is late on the media's own clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.results.studies.agreement.human_coding import read_human
from emobeam.emo_transforms.results.studies.study import StudyConfig
from emobeam.pipelines.console import make_ui
from emobeam.pipelines.results.agree import run_agree
from emobeam.pipelines.results.events import run_events
from emobeam.pipelines.results.export import ExportRequest, run_export
from emobeam.pipelines.results.summarise import run_summarise
from emobeam.schemas.tables import VIDEOS
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

LATE = 13 / 30
"""A sum with it isn't exact."""

SMILES = [(50, 100), (300, 350)]


@pytest.fixture
def late(tmp_path: Path) -> str:
    output = write_output(tmp_path / "out", {"late": (np.arange(600) / 30, [Face({"AU12": steps(600, SMILES)})])})
    counts = dict.fromkeys(("segments", "segments_done", "frames", "sampled", "lost", "with_face", "rows"), 0)
    row = {"video": "late", "outcome": "ok", "offset": LATE} | counts
    pq.write_table(pa.Table.from_pylist([row], VIDEOS), f"{output}/videos.parquet")
    return output


def smiles(output: str, segments: Path) -> pd.DataFrame:
    table = run_summarise(output, by="segment", segments=str(segments)).table.to_pandas()
    return table[table.unit == "AU12"]


def test_events_come_back_as_segments_exactly(late: str, tmp_path: Path) -> None:
    events = run_events(late, destination=str(tmp_path / "events.csv")).table.to_pandas()
    assert events["media_offset"].tolist() == [LATE, LATE]
    read = pd.read_csv(tmp_path / "events.csv").rename(columns={"onset": "start", "offset": "end", "unit": "label"})
    read.to_csv(tmp_path / "segments.csv", index=False)
    found = smiles(late, tmp_path / "segments.csv")
    # Every frame of an event, and no other.
    assert found["mean"].tolist() == [pytest.approx(0.9, abs=1e-6)] * 2
    assert found["rows"].tolist() == [50, 50]
    assert found["events"].tolist() == [1, 1]
    assert found["start"].tolist() == pytest.approx([50 / 30 + LATE, 10 + LATE])


def test_segments_keep_the_times_they_were_given_and_come_back(late: str, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text(f"video,start,end\nlate,{50 / 30 + LATE:.9f},{100 / 30 + LATE:.9f}\n")
    first = smiles(late, given)
    assert first["start"].tolist() == [round(50 / 30 + LATE, 9)]
    assert first["mean"].tolist() == [pytest.approx(0.9, abs=1e-6)]
    assert (first["events"].tolist(), first["rows"].tolist()) == ([1], [50])
    first[["video", "start", "end"]].to_csv(tmp_path / "again.csv", index=False)
    pd.testing.assert_frame_equal(
        smiles(late, tmp_path / "again.csv")[["start", "end", "mean", "rows"]], first[["start", "end", "mean", "rows"]]
    )


@pytest.mark.parametrize("form", ["events", "elan", "player", "frames by time", "program by time"])
def test_the_program_agrees_with_itself_whatever_clock_its_values_come_on(late: str, tmp_path: Path, form: str) -> None:
    human = tmp_path / "human.csv"
    clock = np.arange(600) / 30
    if form == "events":
        run_events(late, destination=str(human))
    elif form == "elan":
        human = tmp_path / "eaf"
        run_export(ExportRequest(late, str(human), format="elan"), make_ui(quiet=True))
    elif form == "player":
        rows = [f"late,AU12,{first / 30 + LATE:.3f},{last / 30 + LATE:.3f}" for first, last in SMILES]
        human.write_text("\n".join(["video,unit,onset,offset", *rows]))
    else:
        values = pd.DataFrame({"video": "late", "time": np.round(clock + LATE, 6), "AU12": steps(600, SMILES)})
        if form.startswith("program"):
            values = values.assign(time=clock, media_offset=LATE)
        values.to_csv(human, index=False)
    found = run_agree(late, str(human), StudyConfig(min_duration=0.0, merge_gap=0.0)).summary
    unit = next(row for row in found["units"] if row["unit"] == "AU12")
    assert unit["kappa"] == pytest.approx(1)
    assert unit["f1"] == pytest.approx(1)
    assert (unit["missed"], unit["extra"]) == (0, 0)
    assert unit["onset_lag"] == pytest.approx(0, abs=1.1e-3)


def test_samples_by_frame_are_not_moved(tmp_path: Path) -> None:
    file = tmp_path / "late.csv"
    file.write_text("frame,AU12\n1,0\n2,1\n")
    (track,) = read_human(str(file), ["AU12"]).tracks
    assert track.later(5.0) is track
