"""The jobs ``submit`` and ``validate``: files that can't be meant are refused, others say what they lack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.submissions.templates import template_of
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.pipelines.challenge.submit import RefusedSubmission, keep_counts, run_submit
from emobeam.pipelines.cli import main
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.abaw.predictions import invent_scores, write_tables
from tests.pipelines.challenge.heads import record_heads, write_head
from tests.pipelines.runs import Told

AU, VA, EXPR = task_named("au"), task_named("va"), task_named("expr")


@pytest.fixture
def out(tmp_path: Path) -> str:
    """Predictions of three videos, the last in a folder of its own."""
    rng = np.random.default_rng(0)
    values = {(name, ""): invent_scores(AU, 60, rng) for name in ("a", "b", "cropped/x/c")}
    for scores in values.values():
        scores[:, 3] = 0.2
    return write_tables(tmp_path / "out", AU, values)


def template(folder: Path, *rows: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "t.txt").write_text("\n".join([str(AU.form.header), *(f"{row}," for row in rows)]) + "\n")
    return str(folder / "t.txt")


def test_a_template_that_matches_nothing_is_refused(out: str, tmp_path: Path) -> None:
    run_submit(out, AU, 8, ui=Told())
    file = Path(out, "submission/au/predictions.txt")
    before = file.read_bytes()
    with pytest.raises(RefusedSubmission) as refusal:
        run_submit(out, AU, 8, template=template(tmp_path, "other/00001.jpg", "x9/00001.jpg"), ui=Told())
    text = "it would be of 'other', 'x9', and predictions are of 'a', 'b': are these its videos?; what was there before"
    assert text in str(refusal.value)
    assert file.read_bytes() == before


def test_names_that_make_no_keys_cost_the_submission_alone(tmp_path: Path) -> None:
    """What predict catches, so that its tables, its record and the other tasks stay."""
    values = {("a, b", ""): invent_scores(AU, 5, np.random.default_rng(0))}
    out = write_tables(tmp_path / "out", AU, values)
    with pytest.raises(RefusedSubmission, match=r"'a, b' can't be a key.*what was there before stays as it was"):
        run_submit(out, AU, 8, ui=Told())
    assert not Path(out, "submission", "au", "predictions.txt").exists()


def test_mostly_neutral_rows_are_loud(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = write_head(tmp_path / "head", AU)
    record_heads(out, AU, head)
    rows = template(tmp_path, "a/00001.jpg", "x/00001.jpg", "x/00002.jpg")
    with pytest.raises(SystemExit) as end:
        main(["submit", out, "--task", "au", "--edition", "8", "--template", rows])
    assert end.value.code == 1
    said = capsys.readouterr()
    assert "3 rows (1 of their own frame, 0 of the nearest, 2 neutral)" in said.out
    assert "MOSTLY NEUTRAL: 2 of 3 rows say nothing" in said.err
    assert "1 name has no predictions and holds neutral values: x" in said.err
    kept = json.loads(Path(out, "run.json").read_text())["submissions"]
    assert {key: kept["au"][key] for key in ("rows", "exact", "nearest", "neutral")} == {
        "rows": 3, "exact": 1, "nearest": 0, "neutral": 2,
    }  # fmt: skip
    assert kept["va"] == {"rows": 3}  # of another run


@pytest.mark.parametrize(
    "content",
    ["{bad", "[]", '{"heads": {"au": "h"}}', '{"heads": {"au": ["h"]}}', '{"heads": [1]}', '{"submissions": [1]}'],
)
def test_a_run_record_of_another_form_costs_no_submission(out: str, content: str) -> None:
    """The command failed after it had replaced the submission, and said nothing of that."""
    ui, place = Told(), Path(out, "run.json")
    report = run_submit(out, AU, 8, ui=ui)
    place.write_text(content)
    keep_counts(out, AU, report, ui)
    assert any(f"{place}: not as emobeam predict writes it" in text for text in ui.warned)
    assert place.read_text() == content


def test_people_that_the_tables_do_not_tell_apart(out: str, tmp_path: Path) -> None:
    """Every row of them was neutral, where predict with the same template is right."""
    head = write_head(tmp_path / "head", AU)
    record_heads(out, AU, head)
    rows = template(tmp_path, "a_left/00001.jpg", "a_right/00001.jpg")
    way = f"emobeam predict cache --output {out} --head {head} --task au --edition 8 --template {rows} writes them"
    with pytest.raises(RefusedSubmission) as refusal:
        run_submit(out, AU, 8, template=rows, ui=Told())
    assert "2 names (a_left, a_right) ask for a person whose rows these tables don't tell apart; " in str(refusal.value)
    assert way in str(refusal.value)
    told = Told()
    run_submit(out, AU, 8, template=template(tmp_path, "a_left/00001.jpg", "b/00001.jpg", "b/00002.jpg"), ui=told)
    (text,) = told.warned
    assert text.endswith(way)


def test_what_a_scorer_reads_well_and_nobody_can_mean(out: str, tmp_path: Path) -> None:
    record_heads(out, AU, write_head(tmp_path / "head", AU, trained_on=("b",)))
    told = Told()
    report = run_submit(out, AU, 8, ui=told)
    constant = "AU6: one and the same value in every row"
    folder = "1 name with folders that no template of task au has, for example 'x/c'"
    trained = "1 of these 3 videos was trained on, for example b"
    for text in (constant, folder, trained):
        assert any(text in warned for warned in told.warned), text
    checked = validate(report.destination, AU, 8)
    assert checked.ok
    for text in (constant, folder, trained):
        assert any(text in str(finding) for finding in checked.warnings), text


def test_templates_of_several_tasks(tmp_path: Path) -> None:
    names = {}
    for task in (AU, VA, EXPR):
        names[task.name] = str(tmp_path / f"{task.name}.txt")
        Path(names[task.name]).write_text(f"{task.form.header}\na/00001.jpg,\n")
    for named in (list(names.values()), [str(tmp_path)]):
        assert {task.name: template_of(named, task, 8) for task in (AU, VA, EXPR)} == names
    assert template_of([names["va"]], AU, 8) == names["va"]  # whoever reads it says what is wrong
    assert template_of([], AU, 8) == ""
    with pytest.raises(EmobeamError, match=r"--template: none of .* is of task emi; name one file of it"):
        template_of(list(names.values()), task_named("emi"), 8)
    twice = tmp_path / "again.txt"
    twice.write_text(Path(names["au"]).read_text())
    with pytest.raises(EmobeamError, match=r"2 of .* are of task au; name one file of it"):
        template_of([str(tmp_path)], AU, 8)
