"""What tables say of single outputs reaches those who read them from Python, or submit them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import emobeam as eb
from emobeam.emo_transforms.prediction.prediction_tables import part_uri, write_part
from emobeam.pipelines.challenge.submit import run_submit, submission_data, submission_text
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.exports.made import clip_table, frame_table, put
from tests.pipelines.runs import Told

MARKS = {"unknown": ["AU23"], "experimental": ["AU6", "AU15"]}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos; one has a face that other weights judged, and they are surer of themselves."""
    folder = tmp_path_factory.mktemp("out")
    put(folder, "au", "a", frame_table("au", "a"), heads=[["units", "lab-au-1", "0123456789abcdef"]], **MARKS)
    other = {"unknown": ["AU23"], "experimental": ["AU6"]}
    put(folder, "au", "b", frame_table("au", "b"), heads=[["units", "lab-au-2", "f" * 64]], **other)
    put(folder, "mtl", "a", frame_table("mtl", "a"), unknown=["AU24"])
    put(folder, "va", "a", frame_table("va", "a"))
    return folder


def test_a_frame_tells_its_marks_and_weights(output: Path) -> None:
    au = eb.load_predictions(output, task="au")
    weights = ["lab-au-1 (sha256 0123456789ab)", "lab-au-2 (sha256 ffffffffffff)"]
    assert au.attrs == {**MARKS, "weights": weights}
    assert json.loads(json.dumps(au.attrs)) == au.attrs
    assert au.head().attrs == au.attrs
    assert eb.load_predictions(output, task="va").attrs == {
        "unknown": [],
        "experimental": [],
        "weights": ["mine (sha256 0)"],
    }
    for form in ("polars", "arrow"):
        assert len(eb.load_predictions(output, task="au", as_=form)) == len(au)


def test_tasks_side_by_side_name_the_columns(output: Path) -> None:
    beside = eb.load_predictions(output)
    assert beside.attrs["unknown"] == ["au.AU23", "mtl.AU24"]
    assert beside.attrs["experimental"] == ["au.AU6", "au.AU15"]
    assert {*beside.attrs["unknown"], *beside.attrs["experimental"]} <= set(beside.columns)
    names = ["lab-au-1 (sha256 0123456789ab)", "lab-au-2 (sha256 ffffffffffff)", "mine (sha256 0)"]
    assert sorted(beside.attrs["weights"]) == names, "each once"


def test_clips_are_marked_too(tmp_path: Path) -> None:
    first = TASKS["emi"].outputs[0]
    footer = {"video": "a", "task": "emi", "subjects": [""], "faces": [], "heads": [["h", "mine", ""]]}
    table = clip_table("emi", "a")
    write_part(part_uri(str(tmp_path), "emi", "a"), table, footer | {"experimental": [first]})
    for task in (None, "emi"):
        found = eb.load_predictions(tmp_path, task=task)
        assert found.attrs == {"unknown": [], "experimental": [first], "weights": ["mine"]}


def test_a_submission_names_what_is_experimental(output: Path, tmp_path: Path) -> None:
    report = run_submit(str(output), TASKS["au"], 8, ui=Told())
    assert (report.unknown, report.experimental) == (["AU23"], ["AU6", "AU15"])
    assert submission_data(report)["experimental"] == ["AU6", "AU15"]
    told = submission_text(report)
    assert "; AU23: unknown to the head, the neutral value in every row; AU6, AU15: experimental: not known" in told
    put(tmp_path, "va", "a", frame_table("va", "a"))
    assert submission_text(run_submit(str(tmp_path), TASKS["va"], 8, ui=Told())).endswith("neutral)")


def test_notes_on_an_output_come_once_a_session(tmp_path: Path) -> None:
    """The same two lines came with every study command of a notebook."""
    footer = {"unknown": ["AU23"], "experimental": ["AU4"]}
    for name in ("one", "two"):
        put(tmp_path / name, "au", "a", frame_table("au", "a"), **footer)
    jobs = (eb.events, eb.summarise, eb.events)
    told = []
    for name in ("one", "two"):
        for job in jobs:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                found = job(tmp_path / name)
            told.append(sum("AU23 unknown" in str(each.message) for each in heard))
            assert any("AU23 unknown" in text for text in found.summary["warnings"])
    assert told == [1, 0, 0, 1, 0, 0]
