"""Coding with gaps, rounded times, people who share videos: what is compared, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pympi.Elan import Eaf

from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig
from emobeam.emo_transforms.results.studies.agreement.figures import compare
from emobeam.emo_transforms.results.studies.agreement.human_coding import HumanCoding, read_human
from emobeam.emo_transforms.results.studies.study import Study, StudyConfig, open_study
from emobeam.pipelines.results.agree import AgreeResult, run_agree
from emobeam.pipelines.results.events import run_events
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

EXPRESSIONS = TASKS["expr"].outputs
NAN = float("nan")


def one_video(tmp_path: Path, active: Sequence[tuple[int, int]], count: int = 500, fps: float = 25.0) -> str:
    return write_output(tmp_path / "out", {"v": (np.arange(count) / fps, [Face({"AU12": steps(count, active)})])})


def outcomes(result: AgreeResult) -> list[tuple[Any, ...]]:
    names = ("outcome", "human_onset", "human_offset", "program_onset", "program_offset")
    return [tuple(row[name] for name in names) for row in result.pairs.to_pylist()]


def written(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize("by", ["frame", "time"])
def test_codes_say_nothing_about_the_time_between_them(tmp_path: Path, by: str) -> None:
    output = one_video(tmp_path, [(25, 50), (200, 230), (405, 420)])
    coded = [*range(1, 126), *range(401, 451)]
    lines = [
        f"v,{frame if by == 'frame' else f'{(frame - 1) / 25:.2f}'},{int(101 <= frame <= 125 or frame >= 444)}"
        for frame in coded
    ]
    result = run_agree(output, written(tmp_path / "human.csv", f"video,{by},AU12", *lines))
    assert outcomes(result) == [
        ("extra", None, None, 1.0, 2.0),
        ("missed", pytest.approx(4.0), pytest.approx(5.0), None, None),
        ("not coded", None, None, 8.0, 9.2),
        ("extra", None, None, 16.2, 16.8),
        ("missed", pytest.approx(17.72), pytest.approx(18.0), None, None),
    ]
    (row,) = result.units.to_pylist()
    assert (row["moments"], row["not_coded"]) == (175, 325)


def test_every_fifth_frame_speaks_for_five(tmp_path: Path) -> None:
    output = one_video(tmp_path, [(100, 200), (300, 340)])
    lines = [f"v,{frame},{'?' if 250 < frame < 400 else int(100 < frame <= 200)}" for frame in range(1, 501, 5)]
    result = run_agree(output, written(tmp_path / "human.csv", "video,frame,AU12", *lines))
    assert [pair[0] for pair in outcomes(result)] == ["matched", "not coded"]
    (row,) = result.units.to_pylist()
    assert (row["kappa"], row["not_coded"], row["extra"], row["program_events_not_coded"]) == (1.0, 150, 0, 1)
    assert row["onset_lag"] == row["offset_lag"] == 0.0


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 30.0, 59.94])
def test_rounded_times_are_no_disagreement(tmp_path: Path, fps: float) -> None:
    active = [(first, first + 7) for first in range(5, 880, 20)]
    output = one_video(tmp_path, active, 900, fps)
    config = StudyConfig(min_duration=0.0, merge_gap=0.0)
    clock, on = np.arange(900) / fps, steps(900, active) > 0.5
    run_events(output, config, destination=str(tmp_path / "events.csv"))
    rows = [f"v,{time:.3f},{int(value)}" for time, value in zip(clock, on, strict=True)]
    spans = [f"v,AU12,{clock[first]:.3f},{clock[last]:.3f}" for first, last in active]
    files = [
        str(tmp_path / "events.csv"),
        written(tmp_path / "times.csv", "video,time,AU12", *rows),
        written(tmp_path / "spans.csv", "video,unit,onset,offset", *spans),
    ]
    for human in files:
        for grid in (0.0, fps, 12.5, 100.0):
            (row,) = run_agree(output, human, config, AgreeConfig(grid=grid)).units.to_pylist()
            assert (row["kappa"], row["event_f1"], row["not_coded"]) == (1.0, 1.0, 0)
            assert abs(row["onset_lag"]) < 1e-3


def test_what_was_seen_of_an_event_is_compared(tmp_path: Path) -> None:
    program = steps(500, [(175, 250)])
    program[:175] = NAN
    output = write_output(tmp_path / "out", {"v": (np.arange(500) / 25, [Face({"AU12": program})])})
    human = written(tmp_path / "human.csv", "video,unit,onset,offset", "v,AU12,0,10.2")
    result = run_agree(output, human)
    assert outcomes(result) == [("matched", 7.0, 10.2, 7.0, 10.0)]
    (row,) = result.units.to_pylist()
    assert (row["event_f1"], row["extra"], row["human_events_not_seen"]) == (1.0, 0, 0)
    assert (row["onset_lag"], row["offset_lag"]) == (None, pytest.approx(-0.2))


@pytest.mark.parametrize("start", [10, 11])
def test_what_was_coded_of_an_event_is_compared(tmp_path: Path, start: int) -> None:
    output = one_video(tmp_path, [(125, 375)], 750)
    human = written(tmp_path / "human.csv", "video,unit,onset,offset", f"v,AU12,{start},15")
    coded = written(tmp_path / "coded.csv", "video,start,end", f"v,{start},20")
    result = run_agree(output, human, coded=coded)
    assert outcomes(result) == [("matched", start, 15.0, start, 15.0)]
    (row,) = result.units.to_pylist()
    assert (row["kappa"], row["event_f1"], row["onset_lag"], row["offset_lag"]) == (1.0, 1.0, None, 0.0)


def test_an_event_across_a_change_of_person_is_one(tmp_path: Path) -> None:
    face = Face({"AU12": steps(250, [(25, 225)])}, person=[0] * 100 + [1] * 150)
    output = write_output(tmp_path / "out", {"v": (np.arange(250) / 25, [face])})
    human = written(tmp_path / "human.csv", "video,unit,onset,offset", "v,AU12,1,9.2")
    assert outcomes(run_agree(output, human)) == [("matched", 1.0, 9.2, 1.0, 9.0)]


def test_two_people_of_one_video_are_two(tmp_path: Path) -> None:
    clock, random = np.arange(250) / 25, np.random.default_rng(0)
    videos: dict[str, tuple[Any, Sequence[Face]]] = {}
    for index in range(10):
        traces = [np.where(random.random(250) < 0.5, 0.1, 0.9).astype(np.float32) for _ in range(2)]
        sides = [
            Face({"AU12": trace}, subject=side, person=number)
            for number, (side, trace) in enumerate(zip(("left", "right"), traces, strict=True))
        ]
        videos[f"v{index}"] = (clock, sides)
    output = write_output(tmp_path / "out", videos)
    # Those on the left are ten people, the one on the right is always the same.
    coded = [f"v{index},{side},AU12,1,3" for index in range(10) for side in ("left", "right")]
    human = written(tmp_path / "human.csv", "video,subject,unit,onset,offset", *coded)
    for right, count in (("experimenter", 11), ("Q{}", 20)):
        names = [f"v{index},left,P{index}\nv{index},right,{right.format(index)}" for index in range(10)]
        persons = written(tmp_path / "persons.csv", "video,subject,person", *names)
        (row,) = run_agree(output, human, StudyConfig(persons=persons)).units.to_pylist()
        assert (row["interval_over"], row["interval_units"], row["persons"]) == ("persons", count, count)
    (row,) = run_agree(output, human).units.to_pylist()
    assert (row["interval_over"], row["interval_units"]) == ("videos", 10)
    (row,) = run_agree(output, human, agree=AgreeConfig(min_units=15, block=5.0)).units.to_pylist()
    assert (row["interval_over"], row["interval_units"]) == ("blocks of 5 s", 20)


def expressions(tmp_path: Path, tier: str, annotations: Sequence[tuple[int, int, str]]) -> Path:
    eaf = Eaf()
    eaf.add_tier(tier)
    for annotation in annotations:
        eaf.add_annotation(tier, *annotation)
    eaf.to_file(str(tmp_path / "v.eaf"))
    return tmp_path / "v.eaf"


@pytest.mark.parametrize("word", ["?", "NA", "smile", ""])
def test_words_that_name_no_expression_are_no_coding(tmp_path: Path, word: str) -> None:
    neutral = np.where(np.arange(250) < 125, 0.9, 0.1)
    output = write_output(
        tmp_path / "out",
        {"v": (np.arange(250) / 25, [Face({"Neutral": neutral, "Happiness": 1 - neutral})])},
        "expr",
    )
    human = expressions(tmp_path, "expr", [(0, 5000, "Neutral"), (5000, 9000, word), (9000, 10000, "none")])
    result = run_agree(output, str(human), StudyConfig(task="expr"))
    rows = {row["unit"]: row for row in result.units.to_pylist()}
    assert list(rows) == list(EXPRESSIONS)
    assert {(row["moments"], row["not_coded"]) for row in rows.values()} == {(150, 100)}
    # The coder has said that none was shown in the last second.
    assert (rows["Happiness"]["human"], rows["Happiness"]["extra"]) == (0.0, 1)
    assert rows["Neutral"]["kappa"] == 1.0
    assert any("taken as not coded" in text for text in result.summary["unmatched"]) == (word in ("smile", ""))


def test_a_tier_of_several_units(tmp_path: Path) -> None:
    mapping = written(tmp_path / "map.csv", "tier,unit", "units,*")
    file = expressions(tmp_path, "units", [(0, 1000, "AU12"), (1000, 2000, "?"), (2000, 3000, "AU6")])
    coding = read_human(str(file), TASKS["au"].outputs, tier_map=mapping)
    found = {track.who.unit: (track.events, track.not_coded) for track in coding.tracks}
    assert found == {"AU12": (((0.0, 1.0),), ((1.0, 2.0),)), "AU6": (((2.0, 3.0),), ((1.0, 2.0),))}
    assert not any("'units'" in text for text in coding.unmatched)


def test_media_that_begin_later(tmp_path: Path) -> None:
    clock = np.arange(250) / 25
    names = {"front": (150, 200), "side": (25, 75)}
    output = write_output(
        tmp_path / "out", {name: (clock, [Face({"AU12": steps(250, [active])})]) for name, active in names.items()}
    )
    eaf = Eaf()
    eaf.add_linked_file("file:///v/front.mp4", mimetype="video/mp4", time_origin=5000)
    eaf.add_linked_file("file:///v/side.mp4", mimetype="video/mp4")
    eaf.add_tier("AU12")
    eaf.add_annotation("AU12", 1000, 3000)
    for name in ("front", "side", "session"):
        eaf.to_file(str(tmp_path / f"{name}.eaf"))
    for name in ("front", "side"):
        result = run_agree(output, str(tmp_path / f"{name}.eaf"))
        assert [(row["video"], row["kappa"]) for row in result.videos.to_pylist()] == [(name, 1.0)]
    # Named after neither, it is about the first medium.
    assert run_agree(output, str(tmp_path / "session.eaf")).videos["video"].to_pylist() == ["front"]
    (tmp_path / "one").mkdir()
    one = write_output(tmp_path / "one", {"session": (clock, [Face({"AU12": steps(250, [])})])})
    study = open_study(one, StudyConfig())
    found = compare(study, read_human(str(tmp_path / "session.eaf"), TASKS["au"].outputs), AgreeConfig())
    assert not found.comparisons
    assert any("begin at different times" in text for text in found.unmatched)


def test_only_coded_videos_are_read(tmp_path: Path) -> None:
    clock = np.arange(50) / 25
    names = ("x/a", "x/b", "y/b", "c")
    output = write_output(tmp_path / "out", {name: (clock, [Face({"AU12": steps(50, [(10, 30)])})]) for name in names})
    human = written(tmp_path / "human.csv", "video,unit,onset,offset", "a,AU12,1,2", "b,AU12,1,2", "d,AU12,1,2")
    study = open_study(output, StudyConfig())
    read: list[str] = []
    study.progress = lambda video, fine: read.append(video)
    watched: list[int] = []

    @contextmanager
    def watch(coded: Study) -> Iterator[None]:
        watched.append(len(coded.source.parts))
        yield

    coding: HumanCoding = read_human(human, TASKS["au"].outputs)
    found = compare(study, coding, AgreeConfig(), watch=watch)
    assert ([each.video for each in found.comparisons], read, watched) == (["x/a"], ["x/a"], [1])
    told = "\n".join(found.unmatched)
    for text in ("'b' may mean any of 2 videos", "d: coded", "3 predicted videos have no human coding"):
        assert text in told
