"""Traces, people, baselines, rules and summaries of output folders with known values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.results.studies.baseline import BaselineConfig
from emobeam.emo_transforms.results.studies.event_rules import active_frames, make_rules
from emobeam.emo_transforms.results.studies.spans import overlap, read_spans, settle
from emobeam.emo_transforms.results.studies.study import StudyConfig, open_study
from emobeam.emo_transforms.results.studies.tables import EVENTS, SUMMARIES, table_of, write_table
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.studies.asked import events_of, row_of, summarise
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

AU = TASKS["au"]
HALF = np.full(12, 0.5, np.float32)
NAN = float("nan")


def test_events_of_several_videos_and_faces(tmp_path: Path) -> None:
    clock = np.arange(20) / 10
    output = write_output(
        tmp_path,
        {
            "b/talk": (clock, [Face({"AU12": steps(20, [(5, 10)])})]),
            "a": (
                clock,
                [Face({"AU1": steps(20, [(0, 4)])}), Face({"AU1": steps(6, [(2, 6)])}, face=1, first_frame=5)],
            ),
        },
    )
    assert events_of(output) == [
        ("a", 0, "AU1", 0.0, 0.4),
        ("a", 1, "AU1", 0.6, 1.0),  # the face leaves, and the video goes on
        ("b/talk", 0, "AU12", 0.5, 1.0),
    ]
    assert events_of(output, only="talk") == [("b/talk", 0, "AU12", 0.5, 1.0)]


def test_the_heads_threshold_holds_unless_one_is_named(tmp_path: Path) -> None:
    output = write_output(
        tmp_path, {"a": (np.arange(10) / 10, [Face({"AU12": steps(10, [(2, 6)], high=0.6)})])}, thresholds=[0.7] * 12
    )
    assert events_of(output) == []
    assert events_of(output, thresholds=("AU12=0.55",)) == [("a", 0, "AU12", 0.2, 0.6)]
    assert events_of(output, thresholds=("0.55", "au12=0.8")) == []


def test_unknown_thresholds_are_told(tmp_path: Path) -> None:
    output = write_output(tmp_path, {"a": ([0.0, 0.1], [Face({"AU1": [0.1, 0.2]})])}, thresholds=[0.7] * 12)
    assert open_study(output, StudyConfig()).warnings == []
    (tmp_path / "run.json").write_text('{"heads": {"va": []}}')
    assert any("0.5 is used" in text for text in open_study(output, StudyConfig()).warnings)
    assert open_study(output, StudyConfig(thresholds=("0.7",))).warnings == []


def test_expressions_and_values(tmp_path: Path) -> None:
    happy = steps(10, [(4, 10)])
    output = write_output(
        tmp_path / "expr", {"a": (np.arange(10) / 10, [Face({"Happiness": happy, "Neutral": 1 - happy})])}, "expr"
    )
    assert events_of(output, task="expr") == [("a", 0, "Neutral", 0.0, 0.4), ("a", 0, "Happiness", 0.4, 1.0)]
    valence = steps(10, [(6, 9)], low=-0.4, high=0.4)
    output = write_output(tmp_path / "va", {"a": (np.arange(10) / 10, [Face({"valence": valence})])}, "va")
    assert events_of(output, task="va") == []
    config = StudyConfig(task="va", thresholds=("valence=0.3", "valence=-0.3"), min_duration=0, merge_gap=0)
    study = open_study(output, config)
    found = [(rule.direction, event.onset, event.peak) for faces in study.traces() for rule, event in faces[0].events]
    assert [(d, round(o, 6), round(p, 6)) for d, o, p in found] == [
        ("above", 0.6, 0.4),
        ("below", 0.0, -0.4),
        ("below", 0.9, -0.4),
    ]


@pytest.mark.parametrize(
    ("on", "off", "message"),
    [
        (["AU99=0.5"], [], "no output AU99"),
        (["much"], [], "NAME=NUMBER"),
        (["AU12=nan"], [], "NAME=NUMBER"),
        (["AU12=0.5"], ["AU12=0.6"], "can't end beyond"),
    ],
)
def test_thresholds_without_sense_are_refused(on: list[str], off: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_rules(AU, HALF, on, off)


def test_thresholds_of_other_kinds_are_refused() -> None:
    with pytest.raises(UsageError, match="where it wins"):
        make_rules(TASKS["expr"], np.full(8, 0.5, np.float32), ["Happiness=0.5"])
    with pytest.raises(UsageError, match="no yes-or-no outputs"):
        make_rules(TASKS["va"], np.full(2, 0.5, np.float32), ["0.5"])
    with pytest.raises(UsageError, match="name its --threshold"):
        make_rules(TASKS["va"], np.full(2, 0.5, np.float32), [], ["valence=0.1"])
    with pytest.raises(UsageError, match="standard deviations"):
        make_rules(AU, HALF, ["AU12=2"], standardised=True)
    assert make_rules(AU, HALF, ["2"], ["1"], standardised=True).rules[0].off == 1.0


def test_what_cannot_be_a_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such folder"):
        open_study(str(tmp_path / "none"), StudyConfig())
    with pytest.raises(EmobeamError, match="no predictions of a frame-level task"):
        open_study(str(tmp_path), StudyConfig())
    output = write_output(tmp_path, {"a": ([0.0, 0.1], [Face({"AU1": [0.1, 0.2]})])})
    with pytest.raises(EmobeamError, match="it holds au"):
        open_study(output, StudyConfig(task="va"))
    with pytest.raises(UsageError, match="no course in time"):
        open_study(output, StudyConfig(task="emi"))
    with pytest.raises(UsageError, match="called b"):
        open_study(output, StudyConfig(only="b"))


def test_folders_of_crops_need_a_rate(tmp_path: Path) -> None:
    output = write_output(tmp_path, {"a": (np.arange(10), [Face({"AU1": steps(10, [(2, 7)])})])}, timed=False)
    study = open_study(output, StudyConfig())
    assert list(study.traces()) == []
    assert "--fps" in study.failed["a"]
    assert events_of(output, fps=10.0) == [("a", 0, "AU1", 0.2, 0.7)]


def test_the_first_head_with_thresholds_decides(tmp_path: Path) -> None:
    smile = steps(10, [(2, 6)], high=0.6)
    output = write_output(tmp_path, {"a": (np.arange(10) / 10, [Face({"AU12": smile})])})
    heads = [{"name": "a", "weights": "a", "thresholds": []}, {"name": "b", "weights": "b", "thresholds": [0.7] * 12}]
    (tmp_path / "run.json").write_text(json.dumps({"heads": {"au": heads}}))
    assert events_of(output) == []


def test_frames_in_events(tmp_path: Path) -> None:
    output = write_output(tmp_path, {"a": (np.arange(10) / 10, [Face({"AU1": steps(10, [(2, 5), (8, 10)])})])})
    (faces,) = open_study(output, StudyConfig()).traces()
    found = active_frames(faces[0].trace, [event for _, event in faces[0].events])
    assert found.tolist() == (faces[0].values[:, 0] > 0.5).tolist()


def test_a_persons_median_is_taken_over_all_sessions(tmp_path: Path) -> None:
    clock = np.cumsum([0.1, 0.1, 0.3, 0.1, 0.1])
    output = write_output(
        tmp_path,
        {
            "one": (clock, [Face({"AU4": [0.5, 0.5, 0.6, 0.5, NAN]})]),
            "two": (clock, [Face({"AU4": [0.6, 0.6, 0.9, 0.6, 0.6]})]),
            "other": (clock, [Face({"AU4": [0.2] * 5})]),
        },
    )
    names = tmp_path / "persons.csv"
    names.write_text("video,person\none,Ann\ntwo,Ann\n")
    config = StudyConfig(persons=str(names), baseline=BaselineConfig("median"))
    study = open_study(output, config)
    # Ann: 0.5 for 0.1 + 0.3 + 0.1 s, 0.6 for 0.1 s, then 0.1 + 0.3 + 0.1 + 0.1 s of 0.6, 0.9 for 0.1 s: half of 1.3 s.
    assert study.baselines.level["Ann"][2] == pytest.approx(0.6)
    assert study.baselines.level["other#0"][2] == pytest.approx(0.2)
    values = {faces[0].trace.video: faces[0].values[:, 2] for faces in study.traces()}
    assert values["two"] == pytest.approx([0, 0, 0.3, 0, 0], abs=1e-6)
    assert np.isnan(values["one"][-1])
    low = open_study(output, replace(config, baseline=BaselineConfig("quantile", quantile=0.1)))
    assert low.baselines.level["Ann"][2] == pytest.approx(0.5)


def test_neutral_stretches_and_robust_spread(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.uniform(0.2, 0.4, 100).astype(np.float32)
    values[50:] += 0.4
    output = write_output(tmp_path, {"a": (np.arange(100) / 10, [Face({"AU4": values})])})
    neutral = tmp_path / "neutral.csv"
    neutral.write_text("video;start;end\na;0;5\n")
    baseline = BaselineConfig("median", scale="standardise", segments=str(neutral))
    study = open_study(output, StudyConfig(baseline=baseline, thresholds=("2",)))
    own = values[:50].astype(float)
    level = np.median(own)
    spread = 1.4826 * np.median(np.abs(own - level))
    (faces,) = study.traces()
    assert faces[0].values[:, 2] == pytest.approx((values - level) / spread, rel=1e-5)
    assert np.isnan(faces[0].values[:, 0]).all()  # never changed: no spread, no value
    assert [(rule.unit, round(event.onset, 6)) for rule, event in faces[0].events] == [("AU4", 5.0)]
    assert study.settings()["baseline"] == "median, standardised, neutral stretches"
    nowhere = tmp_path / "late.csv"
    nowhere.write_text("video,start,end\na,50,60\n")
    study = open_study(output, StudyConfig(baseline=BaselineConfig("median", segments=str(nowhere))))
    assert any("left without values" in text for text in study.warnings)
    (faces,) = study.traces()
    assert np.isnan(faces[0].values).all()


def test_expressions_keep_their_values_under_a_baseline(tmp_path: Path) -> None:
    happy = steps(10, [(4, 10)])
    output = write_output(
        tmp_path, {"a": (np.arange(10) / 10, [Face({"Happiness": happy, "Neutral": 1 - happy})])}, "expr"
    )
    assert events_of(output, task="expr", baseline=BaselineConfig("median")) == events_of(output, task="expr")


@given(st.data())
@settings(deadline=None, max_examples=20)
def test_a_summary_against_a_loop(data: st.DataObject) -> None:
    import tempfile

    count = data.draw(st.integers(2, 25))
    values = data.draw(st.lists(st.sampled_from([0.1, 0.4, 0.6, 0.9, NAN]), min_size=count, max_size=count))
    clock = np.cumsum(data.draw(st.lists(st.sampled_from([0.04, 0.2, 0.5]), min_size=count, max_size=count)))
    with tempfile.TemporaryDirectory() as folder:
        output = write_output(Path(folder), {"a": (clock, [Face({"AU12": values})])})
        study = open_study(output, StudyConfig(min_duration=0.0, merge_gap=0.0))
        row = row_of(summarise(study, "video"), "AU12")
    gaps = np.diff(clock)
    shown = [*gaps.tolist(), float(np.median(gaps))]
    seen = total = weighted = active = 0.0
    events, before = 0, False
    for value, seconds in zip(np.float32(values).tolist(), shown, strict=True):
        total += seconds
        now = value == value and value >= 0.5
        events += now and not before
        before = now
        if value == value:
            seen += seconds
            weighted += value * seconds
            active += seconds * now
    assert row["total"] == pytest.approx(total)
    assert row["seen"] == pytest.approx(seen)
    assert row["coverage"] == pytest.approx(seen / total)
    if not seen:
        assert np.isnan(row["mean"])  # type: ignore[arg-type]
        assert row["active"] is None
        return
    assert row["mean"] == pytest.approx(weighted / seen)
    assert row["active"] == pytest.approx(active / seen, abs=1e-9)
    assert row["events"] == events
    assert row["events_per_minute"] == pytest.approx(60 * events / seen)


def test_absent_time_is_missing_not_zero(tmp_path: Path) -> None:
    values = [0.8] * 5 + [NAN] * 15
    output = write_output(tmp_path, {"a": (np.arange(20) / 10, [Face({"AU12": values})])})
    row = row_of(summarise(open_study(output, StudyConfig()), "video"), "AU12")
    assert (row["mean"], row["active"], row["coverage"]) == (pytest.approx(0.8), 1.0, pytest.approx(0.25))
    assert (row["events"], row["events_cut"], row["rows"]) == (1, 1, 5)


def test_segments_cut_frames_where_they_begin_and_end(tmp_path: Path) -> None:
    output = write_output(tmp_path, {"a": ([0.0, 1.0, 2.0, 3.0], [Face({"AU12": [0.2, 0.8, 0.8, 0.2]})])})
    file = tmp_path / "segments.csv"
    file.write_text("video,start,end,label\na,0.5,1.5,first\na.mp4,1.5,6,second\n")
    study = open_study(output, StudyConfig())
    rows = summarise(study, "segment", settle(read_spans(str(file), "--segments"), study.source.parts))
    first, second = (row_of(rows, "AU12", segment=name) for name in ("first", "second"))
    assert (first["mean"], first["active"], first["events"]) == (pytest.approx(0.5), pytest.approx(0.5), 1)
    assert (second["seen"], second["total"], second["events"]) == (pytest.approx(2.5), pytest.approx(2.5), 0)
    assert second["mean"] == pytest.approx((0.5 * 0.8 + 0.8 + 0.2) / 2.5)


def test_speech_splits_the_time(tmp_path: Path) -> None:
    values = steps(20, [(2, 6), (12, 16)])
    output = write_output(tmp_path, {"a": (np.arange(20) / 10, [Face({"AU25": values})])})
    file = tmp_path / "speech.csv"
    file.write_text("video,start,end\na,0.15,0.9\na,0.5,1.0\n")
    study = open_study(output, StudyConfig(speech=str(file)))
    shares = [each.speech_share(event) for (each,) in study.traces() for _, event in each.events]
    assert shares == pytest.approx([1.0, 0.0])
    rows = summarise(study, "video")
    every, spoken, silent = (row_of(rows, "AU25", condition=name) for name in ("all", "speech", "no speech"))
    assert "speech" in str(every["note"])
    assert (every["events"], spoken["events"], silent["events"]) == (2, 1, 1)
    assert (spoken["total"], silent["total"]) == (pytest.approx(0.85), pytest.approx(1.15))
    assert spoken["active"] == pytest.approx(0.4 / 0.85)
    assert silent["active"] == pytest.approx(0.4 / 1.15)
    assert row_of(rows, "AU12", condition="all")["note"] == ""


def test_untrained_values_are_marked(tmp_path: Path) -> None:
    output = write_output(tmp_path, {"a": ([0.0, 0.1], [Face({"AU1": [0.1, 0.2]})])}, weights="untrained")
    study = open_study(output, StudyConfig())
    assert any("untrained" in text for text in study.warnings)
    assert all("mean nothing" in str(row["note"]) for row in summarise(study, "video"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,start\na,1\n", "no column end"),
        ("video,start,end\na,1,x\n", "line 2: end 'x' is no number"),
        ("video,start,end\na,2,1\n", "before it starts"),
        ("video,start,end,face\na,1,2,zero\n", "face 'zero'"),
    ],
)
def test_stretches_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_spans(str(file), "--segments")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6))
def test_overlap_counts_time_once(pairs: list[tuple[int, int]]) -> None:
    intervals = [(float(min(pair)), float(max(pair))) for pair in pairs if pair[0] != pair[1]]
    starts, ends = np.arange(20.0), np.arange(1.0, 21.0)
    expected = [any(a <= second < b for a, b in intervals) for second in range(20)]
    assert overlap(starts, ends, intervals).tolist() == [float(value) for value in expected]


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_tables_are_read_back(tmp_path: Path, extension: str) -> None:
    import pandas as pd

    uri = str(tmp_path / f"t.{extension}")
    row = dict.fromkeys(SUMMARIES.names) | {
        "by": "video",
        "video": 'a,"b"',
        "condition": "all",
        "task": "au",
        "unit": "AU1",
        "direction": "above",
        "mean": NAN,
        "median": 0.123456789,
        "seen": 1.0,
        "total": 1.0,
        "rows": 3,
        "videos": 1,
        "baseline": "none",
        "note": "",
    }
    files = write_table(uri, table_of([row], SUMMARIES), {"task": "au"})
    assert files == [uri, f"{uri}.json"]
    read = pd.read_csv(uri) if extension == "csv" else pd.read_parquet(uri)
    assert list(read.columns) == SUMMARIES.names
    assert read["video"][0] == 'a,"b"'
    assert read["median"][0] == pytest.approx(0.123456789, abs=1e-6)
    assert pd.isna(read["mean"][0])
    if extension == "parquet":
        assert pq.read_schema(uri).metadata[b"emobeam"] == b'{"task": "au"}'
    with pytest.raises(UsageError, match="name a"):
        write_table(str(tmp_path / "t.txt"), pa.Table.from_pylist([], EVENTS), {})
