"""People over their sessions: whose an event is, baselines, figures, and what costs only its own video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.results.studies.baseline import BaselineConfig
from emobeam.emo_transforms.results.studies.study import StudyConfig, open_study
from emobeam.emo_transforms.results.studies.summaries import summarise as summarise_
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.results.studies.asked import events_of, row_of, summarise
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

NAN = float("nan")


def test_an_event_is_one_persons(tmp_path: Path) -> None:
    clock = np.arange(250) / 25
    smile = steps(250, [(25, 225)])
    person = [0] * 100 + [1] * 150
    output = write_output(tmp_path, {"v": (clock, [Face({"AU12": smile}, person=person)])})
    (faces,) = open_study(output, StudyConfig()).traces()
    found = [(faces[0].person_at(e.onset_frame), e.onset, e.offset, e.cut) for _, e in faces[0].events]
    assert found == [("v#0", 1.0, 4.0, "end"), ("v#1", 4.0, 9.0, "start")]
    rows = summarise(open_study(output, StudyConfig()), "person")
    first, second = (row_of(rows, "AU12", person=name) for name in ("v#0", "v#1"))
    assert (first["seen"], first["events"], first["mean_duration"]) == (pytest.approx(4), 1, pytest.approx(3))
    assert (second["seen"], second["events"], second["mean_duration"]) == (pytest.approx(6), 1, pytest.approx(5))
    # No gap is bridged between two people; one person under two numbers is one.
    gap = steps(250, [(25, 99), (101, 225)])
    output = write_output(tmp_path / "gap", {"v": (clock, [Face({"AU12": gap}, person=person)])})
    assert [event[3:] for event in events_of(output, merge_gap=0.2)] == [(1.0, 3.96), (4.04, 9.0)]
    names = tmp_path / "persons.csv"
    names.write_text("video,person,number\nv,Ann,0\nv,Ann,1\n")
    assert [event[3:] for event in events_of(output, merge_gap=0.2, persons=str(names))] == [(1.0, 9.0)]


def test_expressions_of_two_people_are_apart(tmp_path: Path) -> None:
    happy = steps(20, [(0, 20)])
    output = write_output(
        tmp_path, {"v": (np.arange(20) / 10, [Face({"Happiness": happy}, person=[0] * 12 + [1] * 8)])}, "expr"
    )
    assert [event[3:] for event in events_of(output, task="expr")] == [(0.0, 1.2), (1.2, 2.0)]


def test_only_changes_nothing_about_the_videos_kept(tmp_path: Path) -> None:
    clock = np.arange(10) / 10
    output = write_output(
        tmp_path,
        {name: (clock, [Face({"AU4": [level] * 10})]) for name, level in (("one", 0.1), ("two", 0.5), ("six", 0.3))},
    )
    names = tmp_path / "persons.csv"
    names.write_text("video,person\none,Ann\ntwo,Ann\nsix,Ben\n")
    config = StudyConfig(persons=str(names), baseline=BaselineConfig("median"))
    whole = {faces[0].trace.video: faces[0].values[:, 2].tolist() for faces in open_study(output, config).traces()}
    study = open_study(output, replace(config, only="one"))
    assert study.warnings == open_study(output, config).warnings
    ((one,),) = list(study.traces())
    assert one.values[:, 2].tolist() == whole["one"]
    assert study.baselines.level["Ann"][2] == pytest.approx(0.3)
    assert "Ben" not in study.baselines.level  # whose videos weren't read
    part = next((tmp_path / "predictions/au").glob("two*"))
    part.write_bytes(part.read_bytes()[:300])
    (told,) = [text for text in open_study(output, replace(config, only="one")).warnings if "made without" in text]
    assert "two" in told


def test_a_damaged_table_costs_its_own_video(tmp_path: Path) -> None:
    clock = np.arange(10) / 10
    output = write_output(tmp_path, {name: (clock, [Face({"AU1": steps(10, [(2, 7)])})]) for name in ("a", "b")})
    part = next((tmp_path / "predictions/au").glob("a-*"))
    part.write_bytes(part.read_bytes()[:-20])
    study = open_study(output, StudyConfig())
    assert [faces[0].trace.video for faces in study.traces()] == ["b"]
    assert list(study.failed) == ["a"]
    assert open_study(output, StudyConfig(only="b")).failed == {}
    with pytest.raises(EmobeamError, match="emobeam predict"):
        open_study(output, StudyConfig(only="a"))


def test_rows_come_as_soon_as_nothing_more_can_change_them(tmp_path: Path) -> None:
    clock = np.arange(10) / 10
    face = Face({"AU1": steps(10, [(2, 7)])})
    output = write_output(tmp_path, {name: (clock, [face]) for name in ("a", "b", "c", "d")})
    names = tmp_path / "persons.csv"
    names.write_text("video,person\na,Ann\nc,Ann\nb,Ben\n")
    read: list[str] = []
    for by, expected in (("video", [{"a"}, {"b"}, {"c"}, {"d"}]), ("person", [set(), {"Ann"}, {"Ben"}, {"d#0"}])):
        study = open_study(output, StudyConfig(persons=str(names)))
        read.clear()
        study.progress = lambda video, fine: read.append(video)
        found = []
        for count, rows in enumerate(summarise_(study, by), start=1):  # type: ignore[arg-type]
            assert len(read) == count
            found.append({str(row[by]) for row in rows})
        assert found == expected
    assert read == ["a", "c", "b", "d"]  # Ann's sessions stand together


def test_people_by_stretch_number_and_name(tmp_path: Path) -> None:
    clock = np.arange(10) / 10
    output = write_output(
        tmp_path,
        {"a": (clock, [Face({"AU1": [0.1] * 4 + [NAN] * 2 + [0.2] * 4}, person=[0] * 5 + [3] * 5)])},
    )
    (faces,) = open_study(output, StudyConfig()).traces()
    assert [faces[0].persons[index] for index in faces[0].person] == ["a#0"] * 5 + ["a#3"] * 5
    names = tmp_path / "persons.csv"
    names.write_text("Video,Person,Number\na,Ben,3\n")
    (faces,) = open_study(output, StudyConfig(persons=str(names))).traces()
    assert faces[0].persons == ["a#0", "Ben"]
    names.write_text("video,person\na,Ann\nnowhere,Bob\n")
    study = open_study(output, StudyConfig(persons=str(names)))
    (faces,) = study.traces()
    assert faces[0].persons == ["Ann"]
    assert any("nowhere" in text for text in study.warnings)
    assert any("not one person" in text for text in study.warnings)


def test_sessions_of_a_person_pool_and_nobody_counts_twice(tmp_path: Path) -> None:
    clock = np.arange(10) / 10
    smile = Face({"AU12": steps(10, [(0, 5)])}, subject="left")
    output = write_output(
        tmp_path,
        {
            "one": (clock, [Face({"AU12": steps(10, [(0, 5)])}), smile]),
            "two": (clock, [Face({"AU12": steps(10, [])})]),
        },
    )
    names = tmp_path / "persons.csv"
    names.write_text("video,subject,person\none,,Ann\none,left,Ann\ntwo,,Ann\n")
    rows = summarise(open_study(output, StudyConfig(persons=str(names))), "person")
    row = row_of(rows, "AU12", person="Ann")
    assert (row["videos"], row["rows"], row["events"]) == (2, 20, 1)
    assert (row["seen"], row["active"]) == (pytest.approx(2.0), pytest.approx(0.25))
    apart = summarise(open_study(output, StudyConfig()), "person")
    assert sorted({row["person"] for row in apart}) == ["one#0", "two#0"]
