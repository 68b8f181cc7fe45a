from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.decisions import compound_from_expressions
from emobeam.emo_transforms.abaw.submissions.writing import (
    FramePredictions,
    ImpossibleKeys,
    OnlyNeutralRows,
    SubmissionReport,
    drop_submission,
    write_submission,
)
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import strange_folders
from emobeam.schemas.tasks import Task
from tests.emo_transforms.abaw.examples import (
    AU_HEADER,
    CLIPS,
    EMI_HEADER,
    VA_HEADER,
    bah_keys,
    image_keys,
    write_lines,
)
from tests.emo_transforms.abaw.submitting import AH, AHV, AU, CE, EMI, EXPR, MTL, NAN, VA, VD, counts, submit, table


def test_va_file_byte_for_byte(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.txt", image_keys(), header=VA_HEADER, tail=",", newline="\r\n", bom=True)
    tables = {
        ("batch1/14-30-1920x1080", ""): table([1, 2, 3], [[0.5, -0.25], [NAN, NAN], [-1e-9, 1.5]]),
        ("batch1/video49", "left"): table([1, 2, 3], [[NAN, 0.5], [NAN, NAN], [NAN, NAN]]),
    }
    text, report = submit(VA, tmp_path, tables, template)
    assert text == (
        "image_location,valence,arousal\n"
        "14-30-1920x1080/00001.jpg,0.500000,-0.250000\n"
        "14-30-1920x1080/00002.jpg,0.500000,-0.250000\n"  # as near to 3, the earlier wins
        "14-30-1920x1080/00003.jpg,0.000000,1.000000\n"
        "14-30-1920x1080/00004.jpg,0.000000,1.000000\n"
        "video45_1/00001.jpg,0.000000,0.000000\n"  # no such video
        "video45_1/00002.jpg,0.000000,0.000000\n"
        "video49_left/00001.jpg,0.000000,0.000000\n"  # half a value is none
        "video49_left/00002.jpg,0.000000,0.000000\n"
        "video49_left/00003.jpg,0.000000,0.000000\n"
    )
    assert counts(report) == (9, 2, 2, 5, ["video45_1"])


def test_au_file_byte_for_byte(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.txt", ["v/00002.jpg", "v/00001.jpg"], header=AU_HEADER, tail=",1" * 12)
    scores = [[0.0, 0.49, 0.5, 0.51, 1.0, 0.2, 0.3, 0.7, 0.9, NAN, 0.1, 0.1], [0.7] * 12]
    scores[0][9] = 0.8
    text, report = submit(AU, tmp_path, {("v", ""): table([1, 2], scores)}, template)
    assert text == f"{AU_HEADER}\nv/00002.jpg,1,1,1,1,1,1,1,1,1,1,1,1\nv/00001.jpg,0,0,1,1,1,0,0,1,1,1,0,0\n"
    assert (report.exact, report.rows) == (2, 2)

    thresholds = (0.8, 0.8, 0.7, 0.5, 0.5, 0.5, 0.6, 0.8, 0.8, 0.8, 0.3, 0.7)
    text, _ = submit(AU, tmp_path, {("v", ""): table([1, 2], scores)}, template, thresholds)
    assert text == f"{AU_HEADER}\nv/00002.jpg,0,0,1,1,1,1,1,0,0,0,1,1\nv/00001.jpg,0,0,0,1,1,0,0,0,1,1,0,0\n"


def test_emi_file_byte_for_byte(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.csv", CLIPS, header=EMI_HEADER, tail=",")
    tables = {
        ("raw/00012", ""): table([0], [[0, 0.1, 1.0, 1.25, -0.25, 1 / 3]]),
        ("raw/12660", ""): table([0], [[NAN] * 6]),
        ("raw/99999", ""): table([0], [[0.5] * 6]),
    }
    text, report = submit(EMI, tmp_path, tables, template)
    assert text == (
        "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n"
        "12660,0.500000,0.500000,0.500000,0.500000,0.500000,0.500000\n"
        "00012,0.000000,0.100000,1.000000,1.000000,0.000000,0.333333\n"
        "17245,0.500000,0.500000,0.500000,0.500000,0.500000,0.500000\n"
    )
    assert counts(report) == (3, 1, 0, 2, ["17245"])


def test_ah_file_byte_for_byte(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.txt", bah_keys(), tail=",0")
    tables = {
        ("90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video", ""): table([1, 2, 3], [[0.9], [0.1], [0.5]]),
        ("x/90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video", ""): table([2], [[0.6]]),
    }
    text, report = submit(AH, tmp_path, tables, template)
    assert text == (
        "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4/frame-0.jpg,1\n"
        "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4/frame-1.jpg,0\n"
        "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4/frame-2.jpg,1\n"
        "90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video.mp4/frame-0.jpg,1\n"
        "90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video.mp4/frame-1.jpg,1\n"
    )
    assert counts(report) == (5, 4, 1, 0, [])


def test_expr_file_byte_for_byte(tmp_path: Path) -> None:
    header = EXPR.form.header or ""
    template = write_lines(tmp_path / "t.txt", ["v/00001.jpg", "v/00002.jpg", "w/00001.jpg"], header=header, tail=",")
    scores = [[0.1, 0.1, 0, 0.3, 0.1, 0.3, 0.1, 0], [0] * 7 + [1]]  # of two as high, the first
    text, report = submit(EXPR, tmp_path, {("v", ""): table([1, 2], scores)}, template)
    assert text == f"{header}\nv/00001.jpg,3\nv/00002.jpg,7\nw/00001.jpg,0\n"
    assert counts(report) == (3, 2, 0, 1, ["w"])


def test_mtl_file_byte_for_byte(tmp_path: Path) -> None:
    header = "image,valence,arousal,expression,aus"
    template = write_lines(tmp_path / "t.txt", ["v/00001.jpg", "v/00008.jpg", "w/00001.jpg"], header=header)
    row = [-0.5, 1.5, *([0.0] * 4 + [0.9] + [0.1] * 3), *([0.2, 0.6] * 6)]
    tables = {("v", ""): table([1, 8], [row, [0.0] * 22])}
    text, _ = submit(MTL, tmp_path, tables, template)
    assert text == (
        f"{header}\nv/00001.jpg,-0.500000,1.000000,4{',0,1' * 6}\n"
        f"v/00008.jpg,0.000000,0.000000,0{',0' * 12}\nw/00001.jpg,0.000000,0.000000,0{',0' * 12}\n"
    )
    for thresholds in ([0.7] * 12, [9.0] * 10 + [0.7] * 12):  # of the binary outputs, or of all
        text, _ = submit(MTL, tmp_path, tables, template, tuple(thresholds))
        assert text.splitlines()[1] == f"v/00001.jpg,-0.500000,1.000000,4{',0' * 12}"


def test_ce_file_byte_for_byte(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.txt", ["01/00001.jpg", "02/00001.jpg"], header=CE.form.header, tail=",")
    text, _ = submit(CE, tmp_path, {("01", ""): table([1], [[0, 0, 0, 0, 0, 0.5, 0.25]])}, template)
    assert text == f"{CE.form.header}\n01/00001.jpg,5\n02/00001.jpg,1\n"


def test_compound_expressions_from_basic_ones() -> None:
    values = np.random.default_rng(0).dirichlet(np.ones(8), 100).astype(np.float32)
    _, anger, disgust, fear, happiness, sadness, surprise, _ = values.astype(np.float64).T
    basics = (fear, happiness, sadness, disgust, anger)
    expected = [*((basic + surprise) / 2 for basic in basics), (sadness + fear) / 2, (sadness + anger) / 2]
    np.testing.assert_allclose(compound_from_expressions(values), np.stack(expected, 1), atol=1e-6)
    assert compound_from_expressions(values[:0]).shape == (0, 7)


def test_ah_video_files_byte_for_byte(tmp_path: Path) -> None:
    names = [f"Videos/{n}/Visite_1/{n}_Question_1.mp4" for n in (90005, 90006, 90007)]
    template = write_lines(tmp_path / "t.txt", names)
    tables = {("90005/Visite_1/90005_Question_1", ""): table([0], [[0.7312]]), (names[1][:-4], ""): table([0], [[0.1]])}
    report = write_submission(
        AHV, 11, str(tmp_path), predictions=lambda *at: tables.get(at), tables=tables, template=template
    )
    assert (tmp_path / "no_probabilities/trial-1.txt").read_text() == "".join(
        f"{name},{label}\n" for name, label in zip(names, (1, 0, 0), strict=True)
    )
    assert (tmp_path / "with_probabilities/trial-1.txt").read_text() == (
        f"{names[0]},0.268800,0.731200,1\n{names[1]},0.900000,0.100000,0\n{names[2]},1.000000,0.000000,0\n"
    )
    assert report.destination == str(tmp_path)
    assert len(report.files) == 2
    assert counts(report) == (3, 2, 0, 1, [names[2]])
    own = {("90005/Visite_1/x", ""): table([0], [[0.5]])}
    write_submission(AHV, 10, str(tmp_path), predictions=lambda *at: own.get(at), tables=own)
    assert (tmp_path / "no_probabilities/trial-1.txt").read_text() == "Videos/90005/Visite_1/x.mp4,1\n"


def test_one_file_per_video(tmp_path: Path) -> None:
    tables = {
        ("batch1/a", ""): table([1, 2, 3], [[0.5, 0], [NAN, NAN], [0.25, -1]]),
        ("b", "left"): table([1, 2], [[NAN, NAN]] * 2),
    }
    folder = tmp_path / "predictions"
    folder.mkdir()
    (folder / "old.txt").write_text("of an earlier run")

    def write(task: Task, edition: int, template: str = "") -> SubmissionReport:
        return write_submission(
            task, edition, str(tmp_path), predictions=lambda *at: tables.get(at), tables=tables, template=template
        )

    report = write(VA, 3)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a.txt": "valence,arousal\n0.500000,0.000000\n0.500000,0.000000\n0.250000,-1.000000\n",
        "b_left.txt": "valence,arousal\n0.000000,0.000000\n0.000000,0.000000\n",
    }
    assert report.destination == str(folder)
    assert counts(report) == (5, 2, 1, 2, [])

    names = write_lines(tmp_path / "names.txt", ["a", "c"])
    assert counts(write(VA, 3, names)) == (3, 2, 1, 0, ["c"])
    assert [path.name for path in folder.iterdir()] == ["a.txt"]

    examples = tmp_path / "examples"
    examples.mkdir()
    for name, rows in (("a", 4), ("c", 2)):
        write_lines(examples / f"{name}.txt", ["0,0"] * rows, header="valence,arousal")
    assert counts(write(VA, 3, str(examples))) == (6, 2, 2, 2, ["c"])
    assert (folder / "a.txt").read_text().splitlines()[4] == "0.250000,-1.000000"

    tables = {("x/9002", ""): table([1, 2], [[0.25], [0.75]])}
    write(VD, 9)
    assert (folder / "9002.csv").read_text() == "Frame_Number,Predicted_Label\n1,0\n2,1\n"
    with pytest.raises(EmobeamError, match="no predictions of task vd"):
        write_submission(VD, 9, str(tmp_path), predictions=lambda *_: None, tables=[("a", "")])


def test_a_video_that_lost_its_predictions_has_no_file(tmp_path: Path) -> None:
    """Neither where a list of names still wants it; what stood there were the values of an earlier run."""
    tables = {("a", ""): table([1, 2], [[0.25], [0.75]]), ("b", ""): table([1], [[0.75]])}
    names = write_lines(tmp_path / "names.txt", ["a", "b"])

    def write() -> SubmissionReport:
        return write_submission(
            VD, 9, str(tmp_path / "vd"), predictions=lambda *at: tables.get(at), tables=tables, template=names
        )

    assert write().videos_missing == []
    folder = tmp_path / "vd" / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "b.csv"]
    del tables["b", ""]
    assert write().videos_missing == ["b"]
    assert [path.name for path in folder.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("task", "edition", "value", "wanted"),
    [
        (VA, 8, [0.5, 0.5], f"{VA_HEADER}\nx/00001.jpg,\nx/00002.jpg,\n"),
        (AHV, 11, [0.5], "Videos/s/1/x.mp4\n"),
        (VA, 3, [0.5, 0.5], "valence,arousal\n0,0\n0,0\n"),
    ],
)
def test_a_submission_that_says_nothing_is_refused(
    tmp_path: Path, task: Task, edition: int, value: list[float], wanted: str
) -> None:
    """A template of other videos, or videos in which nobody was seen; what an earlier run wrote stays to the bit."""
    tables = {("a", ""): table([1], [value])}

    def write(template: str = "") -> SubmissionReport:
        return write_submission(
            task,
            edition,
            str(tmp_path / "out"),
            predictions=lambda *at: tables.get(at),
            tables=tables,
            template=template,
        )

    assert not write().mostly_neutral
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert before
    (tmp_path / "wanted").mkdir()
    (tmp_path / "wanted" / "x.txt").write_text(wanted)
    with pytest.raises(OnlyNeutralRows, match="not written, no row would have a value") as refusal:
        write(str(tmp_path / "wanted" if edition == 3 else tmp_path / "wanted" / "x.txt"))
    assert refusal.value.report.videos_missing
    tables["a", ""] = table([1], [[NAN] * len(value)])
    with pytest.raises(OnlyNeutralRows):
        write()
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("task", "edition", "value"), [(VA, 3, [0.5, 0.5]), (VA, 8, [0.5, 0.5]), (VD, 9, [0.5])])
def test_a_submission_goes_as_a_whole(tmp_path: Path, task: Task, edition: int, value: list[float]) -> None:
    tables = {("a", ""): table([1], [value])}
    write_submission(task, edition, str(tmp_path), predictions=lambda *at: tables.get(at), tables=tables)
    mine = tmp_path / "predictions" / "notes.md"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("somebody's own")
    for _ in range(2):
        drop_submission(task, edition, str(tmp_path))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_people_that_the_tables_do_not_tell_apart(tmp_path: Path) -> None:
    keys = ["v_right/00001.jpg", "v_left/00001.jpg", "u/00001.jpg", "u/00002.jpg", "x/00001.jpg"]
    template = write_lines(tmp_path / "t.txt", keys, header=VA_HEADER, tail=",")
    _, report = submit(VA, tmp_path, {("v", ""): table([1], [[0.5, 0]]), ("u", ""): table([1], [[0.1, 0]])}, template)
    assert (report.unasked, report.videos_missing) == (["v_right", "v_left"], ["v_right", "v_left", "x"])
    assert (report.names, report.neutral, report.mostly_neutral) == (["u"], 3, True)


def test_columns_that_never_change(tmp_path: Path) -> None:
    values = np.full((120, 12), 0.2)
    values[7, 2] = 0.9
    mixed = FramePredictions(np.arange(1, 121, dtype=np.int32), values.astype(np.float32), unknown=("AU23",))
    _, report = submit(AU, tmp_path, {("v", ""): mixed})
    assert report.constant == [name for name in AU.outputs if name not in ("AU4", "AU23")]
    few = FramePredictions(mixed.frames[:50], mixed.values[:50])
    assert submit(AU, tmp_path, {("v", ""): few})[1].constant == []


@pytest.mark.parametrize("video", ["a,b", "a\nb", "a\tb", "a\x1b[31mb", "a\u2028b", "a\u2029b"])
def test_ids_that_would_break_rows(tmp_path: Path, video: str) -> None:
    for task, value in ((VA, [0.5, 0]), (EMI, [0.5] * 6)):
        with pytest.raises(EmobeamError, match="can't be a key: a comma or a line break in it would break rows"):
            submit(task, tmp_path, {(video, ""): table([1], [value])})
    assert not list(tmp_path.rglob("*.txt"))


@pytest.mark.parametrize("video", ["a\u00a0b", "a\u3000b", "a\u200cb", "a b"])
def test_ids_that_only_look_odd_are_keys(tmp_path: Path, video: str) -> None:
    text, _ = submit(VA, tmp_path, {(video, ""): table([1], [[0.5, 0]])})
    assert text.split("\n")[1].startswith(f"{video}/00001.jpg,0.5")


def test_a_template_of_files_asks_nothing_of_other_videos(tmp_path: Path) -> None:
    tables = {("clip", ""): table([1], [[0.5, 0]]), ("x/a,b", ""): table([1], [[0.1, 0]])}
    names = tmp_path / "names.txt"
    names.write_text("clip\n")

    def write(template: str) -> SubmissionReport:
        folder = str(tmp_path / "out")
        return write_submission(VA, 3, folder, predictions=lambda *at: tables.get(at), tables=tables, template=template)

    assert [Path(file).name for file in write(str(names)).files] == ["clip.txt"]
    with pytest.raises(ImpossibleKeys, match="or give a template"):
        write("")


def test_known_folders_are_no_part_of_a_key(tmp_path: Path) -> None:
    ids = ["cropped_aligned/10-25-1280x720", "Test_Data/raw/video7", "mine/video8"]
    text, report = submit(VA, tmp_path, {(name, ""): table([1], [[0.5, 0]]) for name in ids})
    assert [line.partition(",")[0] for line in text.splitlines()[1:]] == [
        "10-25-1280x720/00001.jpg", "mine/video8/00001.jpg", "video7/00001.jpg",
    ]  # fmt: skip
    assert "1 name with folders that no template of task va has, for example 'mine/video8'" in strange_folders(
        VA, report.names
    )


def test_two_people_of_one_video(tmp_path: Path) -> None:
    keys = ["v_right/00001.jpg", "v_left/00001.jpg", "v/00001.jpg"]
    template = write_lines(tmp_path / "t.txt", keys, header=VA_HEADER, tail=",")
    tables = {("v", "left"): table([1], [[-0.5, 0]]), ("v", "right"): table([1], [[0.5, 0]])}
    text, report = submit(VA, tmp_path, tables, template)
    assert text.splitlines()[1:] == [
        "v_right/00001.jpg,0.500000,0.000000",
        "v_left/00001.jpg,-0.500000,0.000000",
        "v/00001.jpg,0.000000,0.000000",
    ]
    assert report.videos_missing == ["v"]


def test_keys_stay_as_the_template_spells_them(tmp_path: Path) -> None:
    template = write_lines(tmp_path / "t.txt", ["v/1.jpg", "v/000002.jpg"], tail=",")
    text, _ = submit(VA, tmp_path, {("v", ""): table([1, 2], [[0.25, 0], [0.5, 0]])}, template)
    assert text == f"{VA_HEADER}\nv/1.jpg,0.250000,0.000000\nv/000002.jpg,0.500000,0.000000\n"


def test_without_template(tmp_path: Path) -> None:
    tables = {
        ("b/z", ""): table([1, 2], [[0.5, 0], [NAN, NAN]]),
        ("b/a", "left"): table([1], [[NAN, NAN]]),
    }
    text, report = submit(VA, tmp_path, tables)
    assert text == (
        f"{VA_HEADER}\nb/a_left/00001.jpg,0.000000,0.000000\n"
        "b/z/00001.jpg,0.500000,0.000000\nb/z/00002.jpg,0.500000,0.000000\n"
    )
    assert counts(report) == (3, 1, 1, 1, [])
    text, _ = submit(AH, tmp_path, {("s/1/x", ""): table([1, 2], [[0.9], [0.1]])})
    assert text == "s/1/x.mp4/frame-0.jpg,1\ns/1/x.mp4/frame-1.jpg,0\n"
    text, _ = submit(EMI, tmp_path / "emi", {("00012", ""): table([0], [[0.25] * 6])})
    assert text == f"{EMI_HEADER}\n00012" + ",0.250000" * 6 + "\n"


def test_videos_without_a_table(tmp_path: Path) -> None:
    def predictions(video: str, subject: str) -> FramePredictions | None:
        return table([1], [[0.5, 0.5]]) if video == "a" else None

    destination = tmp_path / "predictions.txt"
    report = write_submission(VA, 8, str(tmp_path), predictions=predictions, tables=[("a", ""), ("b", "")])
    assert destination.read_text() == f"{VA_HEADER}\na/00001.jpg,0.500000,0.500000\n"
    assert (report.rows, report.videos_missing) == (1, ["b"])


def test_failures_leave_no_file(tmp_path: Path) -> None:
    def broken(video: str, subject: str) -> FramePredictions | None:
        if video == "b":
            raise EmobeamError("b.parquet: damaged")
        return table([1], [[0.5, 0.5]])

    destination = tmp_path / "submission"
    with pytest.raises(EmobeamError, match="damaged"):
        write_submission(VA, 8, str(destination), predictions=broken, tables=[("a", ""), ("b", "")])
    with pytest.raises(EmobeamError, match="no predictions of task va"):
        write_submission(VA, 8, str(destination), predictions=broken, tables=[])
    with pytest.raises(EmobeamError, match=r"'a_left'.*give a template"):
        write_submission(VA, 8, str(destination), predictions=broken, tables=[("a", "left"), ("a_left", "")])
    template = write_lines(tmp_path / "t.txt", ["c/00001.jpg"], header=VA_HEADER)
    with pytest.raises(EmobeamError, match="'c' may mean any of 2 videos: x/c, y/c"):
        write_submission(
            VA, 8, str(destination), predictions=broken, tables=[("x/c", ""), ("y/c", "")], template=template
        )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["submission", "t.txt"]


@pytest.mark.parametrize(("task", "edition"), [(AU, 9), (AH, 10), (EMI, 5), (MTL, 8), (CE, 10)])
def test_editions_not_supported(tmp_path: Path, task: Task, edition: int) -> None:
    with pytest.raises(UsageError, match=rf"edition {edition} has no task {task.name}; .*{task.editions[0]}"):
        write_submission(task, edition, str(tmp_path), predictions=lambda *_: None, tables=[("a", "")])


@pytest.mark.parametrize(
    ("task", "thresholds", "message"),
    [(AU, (0.5,), "12 outputs, got 1"), (VA, (0.5, 0.5), "leave the thresholds out"), (AH, (NAN,), "between 0 and 1")],
)
def test_thresholds_that_do_not_fit(tmp_path: Path, task: Task, thresholds: tuple[float, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        submit(task, tmp_path, {("a", ""): table([1], [[0.5] * len(task.outputs)])}, thresholds=thresholds)


@pytest.mark.parametrize(
    ("task", "known"),
    [(VA, table([1], [[0.5]])), (VA, table([2, 1], [[0, 0]] * 2)), (EMI, table([1, 2], [[0.5] * 6] * 2))],
)
def test_tables_that_do_not_fit(tmp_path: Path, task: Task, known: FramePredictions) -> None:
    with pytest.raises(ValueError, match=rf"^{task.name}: "):
        submit(task, tmp_path, {("a", ""): known})
