"""The commands of studies: events, summarise, agree; what they write, say and end with."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.results.studies.baseline import BaselineConfig
from emobeam.emo_transforms.results.studies.events import find_events
from emobeam.emo_transforms.results.studies.study import StudyConfig
from emobeam.pipelines.cli import main
from emobeam.pipelines.console import Ui
from emobeam.pipelines.results.events import run_events
from emobeam.pipelines.results.summarise import run_summarise
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output
from tests.pipelines.conftest import Run

NAN = float("nan")


def emobeam(*args: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return int(end.value.code or 0)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two sessions of a pair: Ann on the left, Ben on the right."""
    clock = np.arange(600) / 25
    random = np.random.default_rng(0)

    def face(side: str, spans: list[tuple[int, int]]) -> Face:
        smile = steps(600, spans) + random.uniform(-0.02, 0.02, 600).astype(np.float32)
        talk = steps(600, [(100, 160), (400, 420)])
        smile[580:] = talk[580:] = NAN
        return Face({"AU12": smile, "AU25": talk}, subject=side, every=4, person=("left", "right").index(side))

    videos = {
        "s1/pair": (clock, [face("left", [(50, 100), (300, 350)]), face("right", [(60, 110)])]),
        "s2/pair": (clock, [face("left", [(200, 300)]), face("right", [(500, 560)])]),
    }
    (tmp_path / "out").mkdir()
    write_output(tmp_path / "out", videos)
    return tmp_path


def test_events_hold_what_the_tables_hold(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = emobeam("events", study / "out", "--threshold", "0.6", "--off", "AU12=0.4", "--output", study / "e.parquet")
    assert code == 0
    assert "events in 2 videos" in capsys.readouterr().out
    table = pd.read_parquet(study / "e.parquet")
    rows = pd.concat(pd.read_parquet(part) for part in (study / "out/predictions/au").glob("*.parquet"))
    for (video, subject), mine in rows.groupby(["video", "subject"]):
        expected = find_events(mine["time"], mine["AU12"], on=0.6, off=0.4, min_duration=0.2, merge_gap=0.2)
        found = table[(table.video == video) & (table.subject == subject) & (table.unit == "AU12")]
        assert found["onset"].tolist() == [event.onset for event in expected]
        assert found["peak"].tolist() == [event.peak for event in expected]
    settings = json.loads((study / "e.parquet.json").read_text())
    assert settings["thresholds"]["AU12"] == ">= 0.6 until < 0.4"
    assert set(table[table.unit == "AU25"]["note"]) == {
        "speech parts the lips and drops the jaw: may be speaking, not expression"
    }


def test_a_summary_per_person_pools_sessions(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = study / "people.csv"
    people.write_text("video,person\ns1/pair_left,Ann\ns2/pair_left,Ann\ns1/pair_right,Ben\ns2/pair_right,Ben\n")
    speech = study / "speech.csv"
    speech.write_text("video,start,end,subject\ns1/pair,4,6.4,left\n")
    options = ("--by", "person", "--persons", people, "--speech", speech, "--output", study / "p.csv", "--json")
    assert emobeam("summarise", study / "out", *options) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["units"], said["rows"]) == (2, 2 * 3 * 12)
    table = pd.read_csv(study / "p.csv")
    ann = table[(table.person == "Ann") & (table.unit == "AU12") & (table.condition == "all")].iloc[0]
    assert (ann.events, ann.videos, ann.seen) == (3, 2, pytest.approx(2 * 580 / 25))
    assert ann.coverage == pytest.approx(580 / 600)
    assert ann.active == pytest.approx(200 / (2 * 580), abs=1e-6)
    assert ann.events_per_minute == pytest.approx(3 / (2 * 580 / 25 / 60))
    talking = table[(table.person == "Ann") & (table.unit == "AU25") & (table.condition == "speech")].iloc[0]
    assert (talking.events, talking.active) == (1, pytest.approx(1.0))


def test_segments_and_a_baseline(study: Path) -> None:
    segments = study / "segments.csv"
    segments.write_text("video,start,end,label\ns1/pair,0,8,calm\ns1/pair,8,20,play\n")
    options = ("--by", "segment", "--segments", segments, "--baseline", "median", "--threshold", "0.5")
    assert emobeam("summarise", study / "out", *options, "--output", study / "s.parquet") == 0
    table = pd.read_parquet(study / "s.parquet")
    assert set(table.segment) == {"calm", "play"}
    assert set(table.baseline) == {"median"}
    row = table[(table.segment == "play") & (table.subject == "right") & (table.unit == "AU12")].iloc[0]
    assert row["mean"] == pytest.approx(0, abs=0.02)
    assert emobeam("summarise", study / "out", "--by", "segment", "--output", study / "x.csv") == 2


def test_agreement_with_itself_through_elan(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emobeam("export", study / "out", "--format", "elan", "--output", study / "eaf") == 0
    capsys.readouterr()
    options = ("--human", study / "eaf", "--output", study / "agreement", "--block", "4", "--json")
    assert emobeam("agree", study / "out", *options) == 0
    said = json.loads(capsys.readouterr().out)
    units = {row["unit"]: row for row in said["units"]}
    assert units["AU12"]["kappa"] > 0.99  # ELAN has whole milliseconds
    assert (units["AU12"]["matched"], units["AU12"]["missed"], units["AU12"]["extra"]) == (5, 0, 0)
    assert units["AU12"]["onset_lag"] == pytest.approx(0, abs=1e-3)
    assert units["AU12"]["kappa_low"] > 0.98
    assert units["AU1"]["kappa"] is None
    table = pd.read_csv(study / "agreement/agreement.csv")
    assert table.set_index("unit").loc["AU12", "event_f1"] == 1.0
    pairs = pd.read_parquet(study / "agreement/events.parquet")
    assert set(pairs.outcome) == {"matched"}
    assert len(pd.read_parquet(study / "agreement/videos.parquet")) == 4 * 12


def test_what_is_not_compared_is_told_on_standard_error(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    human = study / "human.csv"
    human.write_text("video,unit,onset,offset\ns1/pair_left,AU12,2,4\nnowhere,AU12,1,2\ns1/pair_left,AU99,1,2\n")
    assert emobeam("agree", study / "out", "--human", human) == 0
    told = capsys.readouterr()
    for text in ("nowhere", "AU99", "s2/pair"):
        assert text in told.err
    assert "kappa" in told.out
    human.write_text("video,unit,onset,offset\nnowhere,AU12,1,2\n")
    assert emobeam("agree", study / "out", "--human", human) == 2
    assert "nothing could be compared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("events", "OUT", "--output", "x.txt"), "name a .csv or a .parquet file"),
        (("events", "OUT", "--off", "AU12=0.9", "--output", "x.csv"), "can't end beyond"),
        (("events", "OUT", "--baseline-scale", "standardise", "--output", "x.csv"), "need a --baseline"),
        (("summarise", "OUT", "--persons", "none.csv", "--output", "x.csv"), "no such file"),
        (("summarise", "OUT", "--task", "va", "--output", "x.csv"), "no predictions of task va"),
        (("agree", "OUT", "--human", "none"), "no such file or folder"),
        (("agree", "OUT", "--human", "none", "--human-range", "9", "1"), "not below"),
    ],
)
def test_mistakes_are_named(
    study: Path, args: tuple[str, ...], message: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    assert emobeam(*["out" if arg == "OUT" else arg for arg in args]) == 2
    assert message in capsys.readouterr().err
    assert not (study / "x.csv").exists()


def test_a_damaged_table_costs_its_own_video(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = next((study / "out/predictions/au").glob("s1*.parquet"))
    data = bytearray(part.read_bytes())
    data[100:2000] = bytes(1900)
    part.write_bytes(bytes(data))
    assert emobeam("events", study / "out", "--output", study / "e.csv") == 1
    assert "failed: s1/pair" in capsys.readouterr().err
    assert set(pd.read_csv(study / "e.csv").video) == {"s2/pair"}


@pytest.mark.parametrize("command", ["events", "summarise", "export"])
def test_a_truncated_table_costs_its_own_video(study: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    part = next((study / "out/predictions/au").glob("s1*.parquet"))
    part.write_bytes(part.read_bytes()[:-10])
    form = ("--format", "csv", "--output", study / "x") if command == "export" else ("--output", study / "x.csv")
    assert emobeam(command, study / "out", *form) == 1
    told = capsys.readouterr().err
    assert "s1/pair" in told
    assert "emobeam predict" in told
    if command == "export":
        assert [path.name for path in (study / "x").rglob("*.csv")] == ["pair_left.csv", "pair_right.csv"]
    else:
        assert set(pd.read_csv(study / "x.csv").video) == {"s2/pair"}
        assert list(json.loads((study / "x.csv.json").read_text())["failed"]) == ["s1/pair"]


@pytest.mark.parametrize("by", ["video", "person"])
def test_rows_that_are_kept_are_those_that_are_written(study: Path, by: Any) -> None:
    people = study / "people.csv"
    people.write_text("video,person\ns1/pair_left,Zoe\ns2/pair_left,Zoe\ns1/pair_right,Ben\ns2/pair_right,Al\n")
    config = StudyConfig(persons=str(people))
    kept = run_summarise(str(study / "out"), config, by=by, destination=str(study / "s.parquet"))
    gone = run_summarise(str(study / "out"), config, by=by, destination=str(study / "t.parquet"), keep=False)
    assert (study / "s.parquet").read_bytes() == (study / "t.parquet").read_bytes()
    assert kept.table.equals(pq.read_table(study / "s.parquet").cast(kept.table.schema))
    assert (len(gone.table), gone.summary["rows"], gone.summary["units"]) == (0, len(kept.table), kept.summary["units"])
    keys = ["person"] if by == "person" else ["video", "subject"]
    assert (units := kept.table.select(keys).to_pylist()) == sorted(units, key=lambda row: tuple(row.values()))
    found = run_events(str(study / "out"), config, destination=str(study / "e.parquet"))
    assert found.table.num_rows == found.summary["events"] > 0
    assert found.table.equals(pq.read_table(study / "e.parquet").cast(found.table.schema))
    assert len(run_events(str(study / "out"), config, keep=False).table) == 0


def test_many_tables_are_not_found_out_about_in_silence(tmp_path: Path) -> None:
    class Told:
        def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
            said.append((name, total))

        def event(self, event: str, data: object) -> None:
            counted[event] += 1

        def finish(self) -> None:
            counted["finish"] += 1

        def warn(self, text: str) -> None:
            warned.append(text)

        say = note = None

    warned: list[str] = []
    counted: Counter[str] = Counter()
    said: list[tuple[str, int]] = []
    clock = np.arange(5) / 10
    write_output(tmp_path, {f"v{i}": (clock, [Face({"AU1": steps(5, [(1, 4)])})]) for i in range(60)})
    run_events(str(tmp_path), StudyConfig(baseline=BaselineConfig("median")), ui=cast(Ui, Told()))
    assert said == [("tables", 60), ("baselines", 60), ("events", 60)]
    assert counted == {"frames": 180, "done": 180, "finish": 3}
    assert [text.partition(" apply")[0] for text in warned] == ["thresholds are the head's and"]


def test_a_real_run(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emobeam("events", reference.output, "--threshold", "0.4", "--output", tmp_path / "e.csv", "--quiet") == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "untrained" in told.err
    table = pd.read_csv(tmp_path / "e.csv")
    assert len(table)
    assert (table.offset > table.onset).all()
    assert (table.peak >= 0.4).all()
    assert emobeam("summarise", reference.output, "--output", tmp_path / "s.csv", "--quiet") == 0
    table = pd.read_csv(tmp_path / "s.csv")
    nobody = table[table.video == "nobody"]
    assert (nobody.coverage == 0).all()
    assert nobody["mean"].isna().all()
    talk = table[table.video == "talk"]
    assert (talk.coverage > 0.9).all()
