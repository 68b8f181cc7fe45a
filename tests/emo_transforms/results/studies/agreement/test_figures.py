"""Human coding read from files and compared with outputs of known values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pympi.Elan import Eaf
from sklearn.metrics import cohen_kappa_score, f1_score

from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig
from emobeam.emo_transforms.results.studies.agreement.figures import (
    Agreement,
    compare,
    pair_rows,
    unit_rows,
    video_rows,
)
from emobeam.emo_transforms.results.studies.agreement.human_coding import Who, name_parser, read_human
from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig
from emobeam.emo_transforms.results.studies.spans import Span, settle
from emobeam.emo_transforms.results.studies.study import Study, StudyConfig, open_study
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

AU = TASKS["au"].outputs
EXPRESSIONS = TASKS["expr"].outputs
NAN = float("nan")


def compared(
    output: str, human: Path, config: AgreeConfig | None = None, *, tier_map: str = "", style: str = "", **study: object
) -> tuple[Study, Agreement]:
    opened = open_study(output, StudyConfig(**study))  # type: ignore[arg-type]
    coding = read_human(
        str(human), opened.source.task.outputs, groups={"expr": EXPRESSIONS}, tier_map=tier_map, style=style
    )
    return opened, compare(opened, coding, config or AgreeConfig())


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("AU12", Who("AU12")),
        ("AU 12", Who("AU12")),
        ("au_12", Who("AU12")),
        ("AU01", Who("AU1")),
        ("AU12_face0", Who("AU12", None, 0)),
        ("AU12 (face 1)", Who("AU12", None, 1)),
        ("AU12@left", Who("AU12", "left")),
        ("au-12 - Right", Who("AU12", "right")),
        ("AU12_left_face1", Who("AU12", "left", 1)),
        ("AU12_Ann_face0", Who("AU12", "Ann", 0)),
        ("AU 1 2", Who("AU12")),
        ("AU45", None),
        ("smile", None),
        ("", None),
    ],
)
def test_names_of_tiers(name: str, who: Who | None) -> None:
    assert name_parser(AU, subjects=["", "Ann"])(name) == who


def test_names_of_expressions() -> None:
    parse = name_parser(TASKS["expr"].outputs)
    assert parse("happiness_right") == Who("Happiness", "right")
    assert name_parser(TASKS["ce"].outputs)("Happily Surprised") == Who("Happily_Surprised")


def test_frames_and_events_of_one_video(tmp_path: Path) -> None:
    program = steps(100, [(10, 30), (50, 60), (80, 90)])
    output = write_output(tmp_path / "out", {"a/talk": (np.arange(100) / 10, [Face({"AU12": program})])})
    file = tmp_path / "coder.csv"
    file.write_text("video,unit,onset,offset,value\ntalk,AU12,1.5,3.0,B\ntalk,AU 12,5.0,6.2,C\ntalk,AU12,7,7.5,A\n")
    study, found = compared(output, file)
    human = np.zeros(100, int)
    human[15:30] = human[50:62] = human[70:75] = 1
    said = (program > 0.5).astype(int)
    (row,) = unit_rows(study, found.comparisons, AgreeConfig(block=1.0))
    assert row["kappa"] == pytest.approx(cohen_kappa_score(human, said))
    assert row["f1"] == pytest.approx(f1_score(human, said))
    assert row["kappa_low"] <= row["kappa"] <= row["kappa_high"]
    assert (row["moments"], row["not_seen"], row["not_coded"]) == (100, 0, 0)
    assert (row["matched"], row["missed"], row["extra"]) == (2, 1, 1)
    assert row["onset_lag"] == pytest.approx(np.median([-0.5, 0.0]))
    assert row["offset_lag"] == pytest.approx(np.median([0.0, -0.2]))
    assert (row["interval_over"], row["interval_units"]) == ("blocks of 1 s", 10)
    assert [pair["outcome"] for pair in pair_rows(found.comparisons)] == ["matched", "matched", "missed", "extra"]


def test_a_video_summary_is_that_of_the_video_alone(tmp_path: Path) -> None:
    clock = np.arange(50) / 10
    one, two = steps(50, [(0, 20)]), steps(50, [(30, 50)])
    output = write_output(tmp_path / "out", {"a": (clock, [Face({"AU4": one})]), "b": (clock, [Face({"AU4": two})])})
    file = tmp_path / "frames.csv"
    lines = [f"{video},{frame},{int(frame <= 25)}" for video in "ab" for frame in range(1, 51)]
    file.write_text("\n".join(["video,frame,AU04", *lines]))
    study, found = compared(output, file)
    coder = (np.arange(50) < 25).astype(int)
    rows = {row["video"]: row for row in video_rows(study, found.comparisons, AgreeConfig())}
    for video, values in (("a", one), ("b", two)):
        assert rows[video]["kappa"] == pytest.approx(cohen_kappa_score(coder, values > 0.5))
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    both = np.concatenate([one, two]) > 0.5
    assert row["kappa"] == pytest.approx(cohen_kappa_score(np.tile(coder, 2), both))


def test_people_are_drawn_where_there_are_enough(tmp_path: Path) -> None:
    clock = np.arange(50) / 10
    random = np.random.default_rng(0)
    videos = {f"v{i}": (clock, [Face({"AU4": random.choice([0.1, 0.9], 50)})]) for i in range(6)}
    output = write_output(tmp_path / "out", videos)
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset\n" + "".join(f"v{i},AU4,1,3\n" for i in range(6)))
    study, found = compared(output, file)
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["interval_over"], row["interval_units"]) == ("videos", 6)
    names = tmp_path / "persons.csv"
    names.write_text("video,person\n" + "".join(f"v{i},P{i % 5}\n" for i in range(6)))
    study, found = compared(output, file, persons=str(names))
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["interval_over"], row["interval_units"], row["persons"]) == ("persons", 5, 5)


def test_what_was_not_seen_or_not_coded_is_no_disagreement(tmp_path: Path) -> None:
    program = steps(100, [(60, 70), (90, 95)])
    program[:30] = NAN
    output = write_output(tmp_path / "out", {"a": (np.arange(100) / 10, [Face({"AU12": program})])})
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset,value\na,AU12,0.5,2,\na,AU12,6,7,\na,AU12,8.5,10,?\na,AU12,4,5,0\n")
    study, found = compared(output, file)
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["moments"], row["not_seen"], row["not_coded"]) == (55, 30, 15)
    assert (row["kappa"], row["matched"], row["missed"], row["extra"]) == (1.0, 1, 0, 0)
    assert (row["human_events_not_seen"], row["program_events_not_coded"]) == (1, 1)


def test_only_what_coders_looked_at_counts(tmp_path: Path) -> None:
    program = steps(100, [(60, 70)])
    output = write_output(tmp_path / "out", {"a": (np.arange(100) / 10, [Face({"AU12": program})])})
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset\na,AU12,1,2\n")
    study = open_study(output, StudyConfig())
    coding = read_human(str(file), AU)
    found = compare(study, coding, AgreeConfig(), settle([Span("a", 0.0, 3.0)], ["a"]))
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["moments"], row["not_coded"], row["missed"], row["extra"]) == (30, 70, 1, 0)


def test_sampled_frames_or_a_grid(tmp_path: Path) -> None:
    output = write_output(
        tmp_path / "out", {"a": (np.arange(100) / 25, [Face({"AU12": steps(100, [(50, 100)])}, every=5)])}
    )
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset\na,AU12,2,4\n")
    for config, count in ((AgreeConfig(), 20), (AgreeConfig(grid=10), 40), (AgreeConfig(grid=25), 100)):
        study, found = compared(output, file, config)
        (row,) = unit_rows(study, found.comparisons, config)
        assert (row["moments"], row["kappa"]) == (count, 1.0)


def test_continuous_traces(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    clock = np.arange(200) / 10
    program = np.tanh(random.normal(size=200)).astype(np.float32)
    coder = np.round(np.clip(5 + 4 * (program + random.normal(scale=0.3, size=200)), 1, 9))
    output = write_output(tmp_path / "out", {"a": (clock, [Face({"valence": program})])}, "va")
    file = tmp_path / "human.csv"
    cells = ["" if index % 20 == 0 else str(value) for index, value in enumerate(coder)]
    file.write_text(
        "video,time,Valence,mood\n" + "".join(f"a,{t:.3f},{c},1\n" for t, c in zip(clock, cells, strict=True))
    )
    config = AgreeConfig(human_range=(1.0, 9.0), block=2.0)
    study, found = compared(output, file, config, task="va")
    (row,) = unit_rows(study, found.comparisons, config)
    rated = np.array([bool(cell) for cell in cells])
    mapped = (coder[rated] - 1) / 8 * 2 - 1
    table = np.stack([mapped, program[rated]], axis=1)
    rows = 2 * table.mean(axis=1).var(ddof=1)
    error = ((table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()) ** 2).sum() / (
        len(table) - 1
    )
    assert row["icc3_1"] == pytest.approx((rows - error) / (rows + error), rel=1e-5)
    assert (row["moments"], row["not_coded"]) == (190, 10)
    assert row["icc3_1_low"] < row["icc3_1"] < row["icc3_1_high"]
    assert any("mood" in text for text in found.unmatched)


def test_elan_folders(tmp_path: Path) -> None:
    clock = np.arange(50) / 10
    output = write_output(
        tmp_path / "out",
        {
            "talk": (
                clock,
                [Face({"AU12": steps(50, [(10, 20)])}), Face({"AU12": steps(50, [(30, 40)])}, face=1)],
            ),
            "clip": (clock, [Face({"AU6": steps(50, [(10, 20)])})]),
        },
    )
    folder = tmp_path / "coding"
    folder.mkdir()
    eaf = Eaf()
    for tier, start, end in (("AU 12", 1000, 2000), ("AU12_face1", 3000, 4000), ("notes", 0, 100), ("AU06", 0, 1)):
        eaf.add_tier(tier)
        if tier != "AU06":
            eaf.add_annotation(tier, start, end)
    eaf.to_file(str(folder / "talk.eaf"))
    eaf = Eaf()
    eaf.add_linked_file("file:///videos/clip.mp4", mimetype="video/mp4")
    eaf.add_tier("cheeks")
    eaf.add_annotation("cheeks", 1000, 2000)
    eaf.add_tier("units")
    eaf.add_annotation("units", 1000, 2000, "AU6")
    eaf.to_file(str(folder / "coder-2.eaf"))
    mapping = tmp_path / "map.csv"
    mapping.write_text("tier,unit\ncheeks,AU6\nunits,\n")
    study, found = compared(output, folder, tier_map=str(mapping))
    kappas = {(c.video, c.face, c.unit): unit_rows(study, [c], AgreeConfig())[0]["kappa"] for c in found.comparisons}
    assert kappas == {
        ("talk", 0, "AU12"): 1.0,
        ("talk", 1, "AU12"): 1.0,
        ("talk", 0, "AU6"): pytest.approx(NAN, nan_ok=True),
        ("clip", 0, "AU6"): 1.0,
    }
    assert [text for text in found.unmatched if "notes" in text]
    mapping.write_text("tier,unit\ncheeks,\nunits,*\n")
    _, found = compared(output, folder, tier_map=str(mapping))
    assert ("clip", "AU6") in {(c.video, c.unit) for c in found.comparisons}


def test_a_tier_of_expressions_is_about_all_of_them(tmp_path: Path) -> None:
    happy = steps(50, [(10, 40)])
    output = write_output(
        tmp_path / "out", {"a": (np.arange(50) / 10, [Face({"Happiness": happy, "Neutral": 1 - happy})])}, "expr"
    )
    eaf = Eaf()
    eaf.add_tier("expr_face0")
    eaf.add_annotation("expr_face0", 0, 1000, "Neutral")
    eaf.add_annotation("expr_face0", 1000, 4000, "happiness")
    eaf.add_annotation("expr_face0", 4000, 5000, "puzzled")
    eaf.to_file(str(tmp_path / "a.eaf"))
    study, found = compared(output, tmp_path / "a.eaf", task="expr")
    kappas = {row["unit"]: row["kappa"] for row in unit_rows(study, found.comparisons, AgreeConfig())}
    assert list(kappas) == list(EXPRESSIONS)
    assert kappas["Happiness"] == 1.0
    # Somebody who saw a puzzled face has not said that it was not neutral.
    assert kappas["Neutral"] == 1.0
    assert {(len(each.times), each.not_coded) for each in found.comparisons} == {(40, 10)}
    assert any("puzzled" in text for text in found.unmatched)


def test_too_few_blocks_give_no_interval(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", {"a": (np.arange(100) / 10, [Face({"AU1": steps(100, [(0, 50)])})])})
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset\na,AU1,1,5\n")
    study, found = compared(output, file)
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["interval_over"], row["interval_units"]) == ("blocks of 10 s", 1)
    assert "kappa_low" not in row


def test_what_does_not_match_is_told(tmp_path: Path) -> None:
    clock = np.arange(20) / 10
    left, right = (Face({"AU1": steps(20, [(0, 9)])}, subject=side) for side in ("left", "right"))
    output = write_output(
        tmp_path / "out",
        {"pair": (clock, [left, right]), "solo": (clock, [Face({"AU1": steps(20, [])})])},
    )
    file = tmp_path / "human.csv"
    file.write_text(
        "video,unit,onset,offset,subject,face\npair,AU1,0,1,,\nelsewhere,AU1,0,1,,\npair,AU1,0,1,left,\n"
        "pair,AU1,0,1,left,4\npair_right,AU1,0,1,,\nsolo,AU45,0,1,,\n"
    )
    _, found = compared(output, file)
    assert [(c.video, c.subject) for c in found.comparisons] == [("pair", "left"), ("pair", "right")]
    told = "\n".join(found.unmatched)
    for text in ("AU45", "several people", "elsewhere: coded", "face 4", "solo"):
        assert text in told


def test_twice_coded_counts_once(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", {"a": (np.arange(20) / 10, [Face({"AU1": steps(20, [(0, 10)])})])})
    folder = tmp_path / "coders"
    folder.mkdir()
    (folder / "1.csv").write_text("video,unit,onset,offset\na,AU1,0,1\n")
    (folder / "2.csv").write_text("video,unit,onset,offset\na,AU1,1,2\n")
    study, found = compared(output, folder)
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert row["kappa"] == 1.0
    assert any("twice" in text for text in found.unmatched)


def test_expressions_by_onset(tmp_path: Path) -> None:
    happy = steps(50, [(10, 40)])
    output = write_output(
        tmp_path / "out", {"a": (np.arange(50) / 10, [Face({"Happiness": happy, "Neutral": 1 - happy})])}, "expr"
    )
    file = tmp_path / "human.csv"
    file.write_text("video,unit,onset,offset\na,happiness,1.4,1.9\n")
    config = AgreeConfig(match=MatchConfig(by="onset", tolerance=0.5))
    study, found = compared(output, file, config, task="expr")
    (row,) = unit_rows(study, found.comparisons, config)
    assert (row["matched"], row["onset_lag"], row["offset_lag"]) == (1, pytest.approx(-0.4), pytest.approx(2.1))
    study, found = compared(output, file, task="expr")
    (row,) = unit_rows(study, found.comparisons, AgreeConfig())
    assert (row["matched"], row["missed"], row["extra"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,unit,onset,offset\na,AU1,2,1\n", "before it starts"),
        ("video,unit,onset,offset\na,AU1,x,1\n", "line 2: onset 'x'"),
        ("video,AU1\na,1\n", "needs video, unit, onset"),
        ("video,frame,AU1\na,1,1\na,1,0\n", "two rows of one frame"),
        ("video,unit,onset,offset\na,AU99,1,2\n", "nothing in it is about"),
        ("", "nothing in it is about"),
    ],
)
def test_coding_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "human.csv"
    file.write_text(text)
    with pytest.raises(EmobeamError, match=message):
        read_human(str(file), AU)


def test_places_without_coding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such file or folder"):
        read_human(str(tmp_path / "none"), AU)
    with pytest.raises(EmobeamError, match=r"holds no \.eaf"):
        read_human(str(tmp_path), AU, style="elan")
    mapping = tmp_path / "map.csv"
    mapping.write_text("tier,unit\nsmile,AU99\n")
    with pytest.raises(UsageError, match="no output is called AU99"):
        read_human(str(mapping), AU, tier_map=str(mapping))
