from __future__ import annotations

import pickle

import pytest

from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import TASKS, Task, task_named

EDITIONS = {
    "va": (3, 5, 6, 8, 9, 10),
    "expr": (3, 5, 6, 8, 10),
    "au": (3, 5, 6, 8, 10),
    "mtl": (3, 4, 7, 11),
    "ce": (6, 7, 8, 9),
    "emi": (6, 8, 10),
    "ah": (8,),
    "ah-video": (10, 11),
    "vd": (9, 10),
    "lsd": (4,),
}


def test_outputs_are_the_organisers() -> None:
    assert task_named("va").outputs == ("valence", "arousal")
    assert " ".join(task_named("expr").outputs) == "Neutral Anger Disgust Fear Happiness Sadness Surprise Other"
    assert " ".join(task_named("au").outputs) == "AU1 AU2 AU4 AU6 AU7 AU10 AU12 AU15 AU23 AU24 AU25 AU26"
    assert task_named("mtl").outputs == tuple(name for task in ("va", "expr", "au") for name in TASKS[task].outputs)
    assert task_named("emi").outputs[3] == "Empathic Pain"
    assert task_named("ah").outputs == task_named("ah-video").outputs == ("AH",)


def test_label_columns() -> None:
    assert {name: len(task.label_columns) for name, task in TASKS.items()} == {
        "va": 2, "expr": 1, "au": 12, "mtl": 15, "ce": 1, "emi": 6, "ah": 1, "ah-video": 1, "vd": 1, "lsd": 1,
    }  # fmt: skip
    assert task_named("mtl").label_columns[:4] == ("valence", "arousal", "expression", "AU1")
    assert [group.name for group in task_named("mtl").groups] == ["va", "expression", "au"]


def test_headers_are_verbatim() -> None:
    assert {(name, form.editions[0]): form.header for name, task in TASKS.items() for form in task.forms} == {
        ("va", 5): "image_location,valence,arousal",
        ("va", 3): "valence,arousal",
        ("expr", 5): "image_location,Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
        ("expr", 3): "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
        ("au", 5): "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
        ("au", 3): "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
        ("mtl", 3): "image,valence,arousal,expression,aus",
        ("ce", 6): (
            "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
            "Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
        ),
        ("emi", 6): "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
        ("ah", 8): None,
        ("ah-video", 10): None,
        ("vd", 9): "Frame_Number,Predicted_Label",
        ("lsd", 4): "image,expression",
    }


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_entries_are_consistent(task: Task) -> None:
    assert TASKS[task.name] is task
    assert len(task.neutral) == len(task.outputs) == len(set(task.outputs))
    assert len(task.neutral_labels) == len(task.label_columns)
    assert task.editions == EDITIONS[task.name]
    for group in task.groups:
        low, high = group.label_range
        assert all(group.low <= value <= group.high for value in group.neutral)
        assert all(low <= value <= high for value in group.neutral_labels)
        assert group.invalid is None or group.invalid < group.low
        if group.kind == "binary":
            assert set(group.neutral) <= {0.0, 1.0}
        if group.kind == "class":
            assert sum(group.neutral) == pytest.approx(1)
    for form in task.forms:
        assert (form.key.kind == "clip") == (task.scope == "clip")
        assert form.key.per_video == ("{name}" in form.file)
    assert all(name in TASKS[task.source].outputs for pair in task.compounds for name in pair)
    assert len(task.compounds) in (0, len(task.outputs))
    # Tasks travel to workers.
    assert pickle.loads(pickle.dumps(task)) == task


def test_compounds_are_what_their_names_say() -> None:
    stems = {"Fear": "Fear", "Happiness": "Happ", "Sadness": "Sad", "Disgust": "Disgust", "Anger": "Ang"}
    for name, pair in zip(TASKS["ce"].outputs, TASKS["ce"].compounds, strict=True):
        assert all(
            part.startswith(stems.get(basic, "Surpris")) for part, basic in zip(name.split("_"), pair, strict=True)
        )


def test_forms_of_editions() -> None:
    assert [form.file for form in task_named("va").forms_of(8)] == ["predictions.txt"]
    assert [form.file for form in task_named("va").forms_of(3)] == ["predictions/{name}.txt"]
    assert [form.probabilities for form in task_named("ah-video").forms_of(11)] == [False, True]
    with pytest.raises(UsageError, match=r"edition 10 has no task ah; it is in editions 8$"):
        task_named("ah").forms_of(10)


def test_activations() -> None:
    assert task_named("mtl").activation == "tanh:2,softmax:8,sigmoid:12"
    assert (task_named("va").activation, task_named("ce").activation) == ("tanh", "softmax")
    assert (task_named("mtl").kind, task_named("vd").kind, task_named("lsd").kind) == ("mixed", "binary", "class")


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'gaze'.*va, expr, au, mtl"):
        task_named("gaze")
