"""Rows of submissions: every one filled, in range, and as many as a large template asks for."""

from __future__ import annotations

import math
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.abaw.submissions.row_formats import format_rows
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, OnlyNeutralRows
from emobeam.schemas.tasks import Task
from tests.emo_transforms.abaw.examples import image_keys, write_lines
from tests.emo_transforms.abaw.submitting import AH, AHV, AU, EMI, NAN, VA, Tables, counts, submit

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("decimals", [2, 3, 4, 5, 6])
def test_probabilities_sum_to_exactly_one(decimals: int) -> None:
    """All texts there are with so many digits (every seventh of a million), and random scores."""
    steps = np.arange(0, 10**decimals + 1, 7 if decimals == 6 else 1) / 10**decimals
    scores = np.concatenate([steps, np.random.default_rng(decimals).random(1000)]).astype(np.float32)[:, None]
    form = AHV.forms_of(10)[1]
    for row in format_rows(AHV, form, scores, np.float32([0.5]), decimals):
        first, second, _ = row.split(",")
        assert float(first) + float(second) == 1.0
        assert len(first) == len(second) == decimals + 2


VALUES = st.one_of(st.floats(-6, 6, width=32), st.sampled_from([NAN, math.inf, -5.0, -1.0, -0.0, 1e-30]))


@given(st.data(), st.sampled_from([VA, AU, EMI, AH]))
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
    template = write_lines(folder / "t.txt", keys, header=task.form.header)
    if all(nearest_by_hand(task, tables.get((v, "")), number)[1] == "neutral" for v, number in wanted):
        with pytest.raises(OnlyNeutralRows):
            submit(task, folder, tables, template)
        return
    text, report = submit(task, folder, tables, template)

    lines = text.split("\n")
    assert lines.pop() == ""
    if task.form.header:
        assert lines.pop(0) == task.form.header
    origins = {"exact": 0, "nearest": 0, "neutral": 0}
    for line, key, (video, number) in zip(lines, keys, wanted, strict=True):
        assert line.startswith(key + ",")
        fields = line[len(key) + 1 :].split(",")
        expected, origin = nearest_by_hand(task, tables.get((video, "")), number)
        origins[origin] += 1
        if task.kind == "binary":
            assert fields == [str(int(value >= 0.5)) for value in expected]
        else:
            assert all(re.fullmatch(r"-?\d\.\d{6}", field) and field != "-0.000000" for field in fields)
            (group,) = task.groups
            clipped = [min(max(value, group.low), group.high) for value in expected]
            np.testing.assert_allclose([float(field) for field in fields], clipped, atol=6e-7, rtol=0)
    lacking = list(dict.fromkeys(v for v, _ in wanted if (v, "") not in tables))
    assert counts(report) == (len(keys), origins["exact"], origins["nearest"], origins["neutral"], lacking)


def nearest_by_hand(task: Task, known: FramePredictions | None, number: int | None) -> tuple[list[float], str]:
    rows = [] if known is None else list(zip(known.frames.tolist(), known.values.tolist(), strict=True))
    rows = [(frame, values) for frame, values in rows if all(map(math.isfinite, values))]
    if not rows:
        return list(task.neutral), "neutral"
    frame, values = min(rows, key=lambda row: (abs(row[0] - (number or 0)), row[0]))
    return values, "exact" if number in (frame, None) else "nearest"


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
import pathlib, re, resource, sys
import numpy as np
from emobeam.emo_transforms.abaw.decisions import compound_from_expressions
from emobeam.emo_transforms.abaw.submissions.row_formats import format_rows
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, write_submission
from emobeam.schemas.tasks import task_named

task, videos = task_named(sys.argv[1]), int(sys.argv[2])

def predictions(video, subject):
    values = np.random.default_rng(len(video)).random((4990, len(task.outputs)), np.float32)
    values[::10] = np.nan
    return FramePredictions(np.arange(1, 4991, dtype=np.int32), values)

tables = [(f"batch1/{i}-30-1920x1080", "") for i in range(videos)]
report = write_submission(task, 8, sys.argv[4], predictions=predictions, tables=tables, template=sys.argv[3])
# Linux starts a process with its parent's ru_maxrss; VmHWM is its own.
status = pathlib.Path("/proc/self/status")
own = re.search(r"VmHWM:\\s*(\\d+)", status.read_text()) if status.exists() else None
peak = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(report.rows, report.exact, report.nearest, report.neutral, peak)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", script, task.name, str(videos), template, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows, exact, nearest, neutral, peak = map(int, result.stdout.split())
    assert (rows, exact, nearest, neutral) == (videos * 5000, videos * 4491, videos * 509, 0)
    with open(tmp_path / "predictions.txt") as file:
        assert sum(1 for _ in file) == rows + 1
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < seconds
    assert peak * (1 if sys.platform == "darwin" else 1024) < 500e6
