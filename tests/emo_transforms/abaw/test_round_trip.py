"""What is written is valid, and reads back equal: submissions of every task and edition, labels of every layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, read_labels
from emobeam.emo_transforms.abaw.submissions.reading import read_submission
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, write_submission
from emobeam.schemas.row_keys import format_key
from emobeam.schemas.tasks import TASKS, Task
from tests.emo_transforms.abaw.examples import label_files, outputs_of
from tests.emo_transforms.abaw.invented import FORMS, videos

IDS = [f"{task.name}-{edition}" for task, edition in FORMS]


@pytest.mark.parametrize(("task", "edition"), FORMS, ids=IDS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_submissions(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, task: Task, edition: int) -> None:
    folder = tmp_path_factory.mktemp("out")
    form = task.forms_of(edition)[0]
    wanted = data.draw(videos(task, marked=False, dense=form.key.per_video or form.dense))
    tables = {(video.name, ""): FramePredictions(video.frames, outputs_of(task, video.values)) for video in wanted}
    template = ""
    if not form.key.per_video and data.draw(st.booleans()):
        wanted = data.draw(st.permutations(wanted))  # the template's order, which isn't that of names
        template = str(folder / "template.txt")
        Path(template).write_text("".join(f"{key},\n" for key in keys(task, wanted)), encoding="utf-8")
    decimals = data.draw(st.sampled_from([6, None]))
    report = write_submission(
        task, edition, str(folder / "sub"),
        predictions=lambda *at: tables.get(at), tables=tables, template=template, decimals=decimals,
    )  # fmt: skip
    assert report.exact == report.rows == sum(len(video.frames) for video in wanted)

    checked = validate(report.destination, task, edition, template)
    assert (checked.errors, checked.warnings) == ([], [])
    assert checked.rows == report.rows * len(task.forms_of(edition))

    found = list(read_submission(report.destination, task, edition))
    assert [name for name, _, _ in found] == [video.name for video in wanted]
    for (_, frames, values), video in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(frames, video.frames)
        assert (frames.dtype, values.dtype) == (np.int32, np.float32)
        np.testing.assert_allclose(values, video.values, rtol=0, atol=0 if decimals is None else 5.1e-7)


def keys(task: Task, wanted: Sequence[VideoLabels]) -> list[str]:
    if task.scope == "clip":
        return [video.name for video in wanted]
    return [format_key(task, video.name, frame) for video in wanted for frame in video.frames.tolist()]


LAYOUTS = [task for task in TASKS.values() if task.name != "lsd"]


@pytest.mark.parametrize("task", LAYOUTS, ids=[task.name for task in LAYOUTS])
@settings(deadline=None, max_examples=15)
@given(
    data=st.data(),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
    tail=st.sampled_from(["", "\n", "\n \n"]),
)
def test_labels(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, task: Task, newline: str, mark: str, tail: str
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    wanted = data.draw(videos(task, marked=True, dense=task.labels.kind == "rows"))
    place, extension = folder, ".csv" if task.labels.kind == "numbered" else ".txt"
    if task.labels.kind in ("rows", "numbered"):
        place = folder.joinpath(*task.labels.folders[:1], task.labels.partitions[0][1][0])
    place.mkdir(parents=True, exist_ok=True)
    names = {"bah-frames": "annotation.yml"}
    uri = folder
    for name, text in label_files(task, wanted).items():
        file = place / (f"{name}{extension}" if name else names.get(task.labels.kind, "table.csv"))
        file.write_bytes((text + tail).replace("\n", newline).encode(mark))
        uri = folder if name or task.labels.kind == "bah-frames" else file
    found = list(read_labels(str(uri), task, warn=pytest.fail))
    assert [video.name for video in found] == [video.name for video in wanted]
    for video, expected in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(video.frames, expected.frames)
        np.testing.assert_array_equal(video.values, expected.values)
        np.testing.assert_array_equal(video.valid, expected.valid)
        assert (video.frames.dtype, video.values.dtype, video.valid.dtype) == (np.int32, np.float32, np.bool_)
        assert video.valid.shape == (len(video.frames), len(task.groups))
