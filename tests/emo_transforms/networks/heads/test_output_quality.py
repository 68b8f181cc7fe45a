"""Marks of outputs, and what everything that reads tables makes of an output without values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emobeam.emo_transforms.abaw.decisions import with_neutral
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.model_card import model_card
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.heads.output_quality import Marks, joined, marks_in, marks_of
from emobeam.emo_transforms.prediction.postprocessing import weighted_mean
from emobeam.emo_transforms.results.studies.event_rules import make_rules, trace_events
from emobeam.emo_transforms.results.studies.face_series import Trace
from emobeam.schemas.tasks import TASKS

NAN = np.nan


@dataclass(frozen=True)
class Said:
    unknown: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("a", "b", "c")


def test_marks_of_an_average() -> None:
    assert not marks_of([])
    assert marks_of([Said(("a",), ("b",))]) == Marks(("a",), ("b",))
    assert marks_of([Said(("a", "b")), Said(("b",), ("c",))]) == Marks(("b",), ("c",))


def test_marks_of_several_tables() -> None:
    assert joined([], "abc") == Marks()
    # What one table knows nothing of has gaps over all of them.
    assert joined([Marks(("a",)), Marks(("a", "b"))], "abc") == Marks(("a",), ("b",))
    assert marks_in({}) == Marks()
    assert marks_in(Marks(("a",), ("b",)).to_json()) == Marks(("a",), ("b",))


def test_what_is_said() -> None:
    marks = Marks(("AU23",), ("AU6", "AU15"))
    assert (marks.of("AU23"), marks.of("AU6"), marks.of("AU1")) == ("unknown", "experimental", "")
    unknown, experimental = marks.notes("au")
    assert "AU23" in unknown
    assert "neutral in submissions" in unknown
    assert "AU6, AU15 experimental" in experimental
    assert (marks.note("AU1"), bool(marks.note("AU23"))) == ("", True)


def test_averages_take_it_from_those_that_know_it() -> None:
    one, other = np.full((2, 3), 0.75, np.float32), np.full((2, 3), 0.25, np.float32)
    one[1] = NAN
    knows = np.array([[True, False, False], [True, True, False]])
    mean = weighted_mean([one, other], knows=knows)
    np.testing.assert_allclose(mean, [[0.5, 0.25, 0.5], [0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(weighted_mean([one, other], knows=np.ones((2, 3), bool)), weighted_mean([one, other]))


def test_what_is_unknown_gets_the_neutral_value_where_there_is_a_row() -> None:
    task = TASKS["va"]
    table = np.array([[0.5, NAN], [NAN, NAN]], np.float32)
    filled = with_neutral(task, table, ("arousal",))
    np.testing.assert_array_equal(filled, np.array([[0.5, task.neutral[1]], [NAN, NAN]], np.float32))
    np.testing.assert_array_equal(with_neutral(task, table, ()), table)


def test_a_class_that_nobody_knows_never_wins() -> None:
    task = TASKS["expr"]
    scores = np.full((4, len(task.outputs)), 0.1, np.float32)
    scores[:, task.outputs.index("Fear")] = 0.2
    scores[:, task.outputs.index("Neutral")] = NAN  # whose neutral value is 1
    filled = with_neutral(task, scores, ("Neutral",))
    assert (filled.argmax(axis=1) == task.outputs.index("Fear")).all()
    clock = np.arange(4) / 25
    frames = np.arange(1, 5, dtype=np.int32)
    trace = Trace("v", "", 0, frames, clock, clock + 0.04, scores, np.ones(4, bool), 0.0, 0.16)
    rules = make_rules(task, np.full(len(task.outputs), 0.5, np.float32), min_duration=0.0, merge_gap=0.0)
    assert [rule.unit for rule, _ in trace_events(trace, scores, rules)] == ["Fear"]


def test_the_model_card_of_a_head_says_it() -> None:
    offer = Offer("f00d", {"s32": (8, 7, 7)})
    head = new_head(TASKS["au"], offer, final_channels=6, dim=8, unknown=("AU23",), experimental=("AU6",))
    card = model_card(head.config)
    assert "AU23 unknown" in card
    assert "AU6 experimental" in card
