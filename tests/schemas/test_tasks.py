from __future__ import annotations

import pickle

import pytest

from schemas.records import UsageError
from schemas.tasks import TASKS, Task, task_named


def test_outputs_are_the_organisers() -> None:
    assert task_named("va").outputs == ("valence", "arousal")
    assert " ".join(task_named("au").outputs) == "AU1 AU2 AU4 AU6 AU7 AU10 AU12 AU15 AU23 AU24 AU25 AU26"
    assert task_named("emi").outputs[3] == "Empathic Pain"
    assert task_named("ah").outputs == ("AH",)


def test_headers_are_verbatim() -> None:
    assert {name: task.form.header for name, task in TASKS.items()} == {
        "va": "image_location,valence,arousal",
        "au": "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
        "emi": "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
        "ah": None,
    }


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_entries_are_consistent(task: Task) -> None:
    assert TASKS[task.name] is task
    assert len(task.neutral) == len(task.outputs) == len(set(task.outputs))
    assert all(task.low <= value <= task.high for value in task.neutral)
    assert set(task.form.editions) <= set(task.editions)
    assert task.form.key.frames == (task.scope == "frame")
    if task.form.header is not None:
        assert tuple(task.form.header.split(",")[1:]) == task.outputs
    if task.invalid is not None:
        assert task.invalid < task.low
    if task.kind == "binary":
        assert set(task.neutral) <= {0.0, 1.0}
    # Tasks travel to workers.
    assert pickle.loads(pickle.dumps(task)) == task


def test_supported_editions() -> None:
    assert {name: task.form.editions for name, task in TASKS.items()} == {
        "va": (5, 6, 8, 9, 10),
        "au": (5, 6, 8, 10),
        "emi": (6, 8, 10),
        "ah": (8,),
    }


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'gaze'.*va, au, emi, ah"):
        task_named("gaze")
