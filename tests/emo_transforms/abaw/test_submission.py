from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_transforms.abaw.submission import FramePredictions, SubmissionReport, write_submission
from schemas.records import EmobeamError, UsageError
from schemas.tasks import TASKS, Task
from tests.emo_transforms.abaw.examples import (
    AU_HEADER,
    CLIPS,
    EMI_HEADER,
    SHARED,
    VA_HEADER,
    bah_keys,
    image_keys,
    write_lines,
)

VA, AU, EMI, AH = (TASKS[name] for name in ("va", "au", "emi", "ah"))
ROOT = Path(__file__).resolve().parents[3]
NAN = math.nan

Tables = dict[tuple[str, str], FramePredictions]


def table(frames: list[int], values: list[list[float]]) -> FramePredictions:
    return FramePredictions(np.array(frames, np.int32), np.array(values, np.float32))


def submit(
    task: Task, folder: Path, tables: Tables, template: str = "", thresholds: tuple[float, ...] = ()
) -> tuple[str, SubmissionReport]:
    destination = folder / "submission" / "predictions.txt"
    report = write_submission(
        task,
        8,
        str(destination),
        predictions=lambda video, subject: tables.get((video, subject)),
        tables=tables,
        template=template,
        thresholds=thresholds,
    )
    assert [path.name for path in destination.parent.iterdir()] == ["predictions.txt"]  # nothing temporary is left
    return destination.read_bytes().decode(), report


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
    assert report == SubmissionReport(rows=9, exact=2, nearest=2, neutral=5, videos_missing=["video45_1"])


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
    assert report == SubmissionReport(rows=3, exact=1, nearest=0, neutral=2, videos_missing=["17245"])


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
    assert report == SubmissionReport(rows=5, exact=4, nearest=1, neutral=0, videos_missing=[])


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
    assert report == SubmissionReport(rows=3, exact=1, nearest=1, neutral=1, videos_missing=[])
    text, _ = submit(AH, tmp_path, {("s/1/x", ""): table([1, 2], [[0.9], [0.1]])})
    assert text == "s/1/x.mp4/frame-0.jpg,1\ns/1/x.mp4/frame-1.jpg,0\n"
    text, _ = submit(EMI, tmp_path, {("00012", ""): table([0], [[0.25] * 6])})
    assert text == f"{EMI_HEADER}\n00012" + ",0.250000" * 6 + "\n"


def test_videos_without_a_table(tmp_path: Path) -> None:
    def predictions(video: str, subject: str) -> FramePredictions | None:
        return table([1], [[0.5, 0.5]]) if video == "a" else None

    destination = tmp_path / "p.txt"
    report = write_submission(VA, 8, str(destination), predictions=predictions, tables=[("a", ""), ("b", "")])
    assert destination.read_text() == f"{VA_HEADER}\na/00001.jpg,0.500000,0.500000\n"
    assert (report.rows, report.videos_missing) == (1, ["b"])


def test_failures_leave_no_file(tmp_path: Path) -> None:
    def broken(video: str, subject: str) -> FramePredictions | None:
        if video == "b":
            raise EmobeamError("b.parquet: damaged")
        return table([1], [[0.5, 0.5]])

    destination = tmp_path / "p.txt"
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
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize(
    ("task", "edition", "why"),
    [(AU, 3, "another form"), (VA, 3, "another form"), (AU, 9, "no such"), (AH, 10, "no such"), (EMI, 5, "no such")],
)
def test_editions_not_supported(tmp_path: Path, task: Task, edition: int, why: str) -> None:
    with pytest.raises(UsageError, match=rf"edition {edition}, which has {why}.*va: 5, 6, 8, 9, 10; au: 5, 6, 8, 10"):
        write_submission(task, edition, str(tmp_path / "p.txt"), predictions=lambda *_: None, tables=[("a", "")])


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


VALUES = st.one_of(st.floats(-6, 6, width=32), st.sampled_from([NAN, math.inf, -5.0, -1.0, -0.0, 1e-30]))


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(list(TASKS.values())))
def test_every_row_is_filled_and_in_range(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, task: Task
) -> None:
    folder = tmp_path_factory.mktemp("submission")
    outputs, clip = len(task.outputs), task.scope == "clip"
    numbers = st.just([0]) if clip else st.lists(st.integers(1, 40), unique=True, max_size=12).map(sorted)
    row = st.one_of(st.just([NAN] * outputs), st.lists(VALUES, min_size=outputs, max_size=outputs))
    tables: Tables = {}
    for video in data.draw(st.sets(st.sampled_from(["a.mp4", "b.mp4", "c.mp4"]))):
        frames = data.draw(numbers)
        values = data.draw(st.lists(row, min_size=len(frames), max_size=len(frames)))
        tables[video, ""] = FramePredictions(
            np.array(frames, np.int32), np.array(values, np.float32).reshape(len(frames), outputs)
        )
    frame = st.none() if clip else st.integers(1, 60)
    wanted = data.draw(
        st.lists(st.tuples(st.sampled_from(["a.mp4", "b.mp4", "c.mp4"]), frame), unique=True, min_size=1)
    )
    if clip:
        keys = [video for video, _ in wanted]
    elif task is AH:
        keys = [f"{video}/frame-{(number or 0) - 1}.jpg" for video, number in wanted]
    else:
        keys = [f"{video}/{number:05d}.jpg" for video, number in wanted]
    text, report = submit(task, folder, tables, write_lines(folder / "t.txt", keys, header=task.form.header))

    lines = text.split("\n")
    assert lines.pop() == ""
    if task.form.header:
        assert lines.pop(0) == task.form.header
    counts = {"exact": 0, "nearest": 0, "neutral": 0}
    for line, key, (video, number) in zip(lines, keys, wanted, strict=True):
        assert line.startswith(key + ",")
        fields = line[len(key) + 1 :].split(",")
        expected, origin = nearest_by_hand(task, tables.get((video, "")), number)
        counts[origin] += 1
        if task.kind == "binary":
            assert fields == [str(int(value >= 0.5)) for value in expected]
        else:
            assert all(re.fullmatch(r"-?\d\.\d{6}", field) and field != "-0.000000" for field in fields)
            clipped = [min(max(value, task.low), task.high) for value in expected]
            np.testing.assert_allclose([float(field) for field in fields], clipped, atol=6e-7, rtol=0)
    assert report == SubmissionReport(
        rows=len(keys), **counts, videos_missing=list(dict.fromkeys(v for v, _ in wanted if (v, "") not in tables))
    )


def nearest_by_hand(task: Task, known: FramePredictions | None, number: int | None) -> tuple[list[float], str]:
    rows = [] if known is None else list(zip(known.frames.tolist(), known.values.tolist(), strict=True))
    rows = [(frame, values) for frame, values in rows if all(map(math.isfinite, values))]
    if not rows:
        return list(task.neutral), "neutral"
    frame, values = min(rows, key=lambda row: (abs(row[0] - (number or 0)), row[0]))
    return values, "exact" if number in (frame, None) else "nearest"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared example files are not beside the repository")
@pytest.mark.parametrize(
    ("task", "file"),
    [
        (VA, "VA_5th-to-10th/predictions.txt"),
        (AU, "AU_5th-to-10th/predictions.txt"),
        (EMI, "EMI_6th-8th-10th/predictions.csv"),
        (AH, "AH_8th_frame-level/trial-1.txt"),
    ],
)
def test_shared_submissions_are_reproduced(tmp_path: Path, task: Task, file: str) -> None:
    """An example submission, taken apart here with plain string methods, serves as template and as predictions."""
    lines = (SHARED / "submissions" / file).read_text().splitlines()
    rows = [line.rsplit(",", len(task.outputs)) for line in lines if line != task.form.header]
    scores: dict[str, dict[int, list[float]]] = {}
    for key, *fields in rows:
        video, _, image = key.rpartition("/") if task.scope == "frame" else (key, "", "0.jpg")
        number = int(image.removeprefix("frame-").removesuffix(".jpg")) + (task is AH)
        scores.setdefault(video, {})[number] = [float(field) for field in fields]
    tables = {(video, ""): table(list(known), list(known.values())) for video, known in scores.items()}
    text, report = submit(task, tmp_path, tables, str(SHARED / "submissions" / file))
    expected = [
        ",".join([key, *(f"{float(f):.6f}" if task.kind == "value" else f for f in fields)]) for key, *fields in rows
    ]
    assert text.splitlines() == ([task.form.header] if task.form.header else []) + expected
    assert report.exact == report.rows == len(rows)


@pytest.mark.parametrize(
    ("videos", "seconds"), [pytest.param(4, 10, id="20k"), pytest.param(200, 60, id="1M", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("task", [VA, AU], ids=["va", "au"])
def test_large_templates_stream(tmp_path: Path, task: Task, videos: int, seconds: float) -> None:
    """5000 frames a video; a fresh process writes the file and tells its peak memory."""
    template = write_lines(
        tmp_path / "t.txt",
        image_keys({f"{i}-30-1920x1080": 5000 for i in range(videos)}),
        header=task.form.header,
        tail=",",
    )
    script = """
import resource, sys
import numpy as np
from emo_transforms.abaw.submission import FramePredictions, write_submission
from schemas.tasks import task_named

task, videos = task_named(sys.argv[1]), int(sys.argv[2])

def predictions(video, subject):
    values = np.random.default_rng(len(video)).random((4990, len(task.outputs)), np.float32)
    values[::10] = np.nan
    return FramePredictions(np.arange(1, 4991, dtype=np.int32), values)

tables = [(f"batch1/{i}-30-1920x1080", "") for i in range(videos)]
report = write_submission(task, 8, sys.argv[4], predictions=predictions, tables=tables, template=sys.argv[3])
print(report.rows, report.exact, report.nearest, report.neutral, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    start = time.perf_counter()
    command = [sys.executable, "-c", script, task.name, str(videos), template, str(tmp_path / "p.txt")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    took = time.perf_counter() - start
    rows, exact, nearest, neutral, peak = map(int, result.stdout.split())
    assert (rows, exact, nearest, neutral) == (videos * 5000, videos * 4491, videos * 509, 0)
    with open(tmp_path / "p.txt") as file:
        assert sum(1 for _ in file) == rows + 1
    assert took < seconds
    assert peak * (1 if sys.platform == "darwin" else 1024) < 500e6
