"""The report, the picture, the agreement of detectors, and the settings that benchmarks measure."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.benchmarks import report
from tests.benchmarks.agreement import Agreement, Found, agree, match, overlaps, pairs_of, total
from tests.benchmarks.figures import Figure, Goal, Section, to_json
from tests.benchmarks.growth import once_per_run
from tests.benchmarks.measure import Unavailable, stage1_settings
from tests.benchmarks.picture import bars, shares

BOX = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30))


def found(*rows: tuple[float, float, float, float, float]) -> Found:
    """Faces as left, top, right, bottom, score."""
    values = np.array(rows, np.float32).reshape(-1, 5)
    return Found(values[:, :4], values[:, 4])


# --- agreement ------------------------------------------------------------------------------------------


@given(BOX, BOX)
def test_overlap_by_counting_pixels(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    masks = []
    for left, top, width, height in (a, b):
        mask = np.zeros((64, 64), bool)
        mask[top : top + height, left : left + width] = True
        masks.append(mask)
    boxes = [np.array([[x, y, x + w, y + h]], np.float32) for x, y, w, h in (a, b)]
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert overlaps(boxes[0], boxes[1])[0, 0] == pytest.approx(expected)


@given(st.lists(BOX, max_size=4), st.lists(BOX, max_size=4))
def test_matching_is_the_best_of_all(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> None:
    theirs, ours = (found(*((x, y, x + w, y + h, 1.0) for x, y, w, h in boxes)) for boxes in (first, second))
    table = overlaps(theirs.boxes, ours.boxes)
    if len(first) > len(second):
        table = table.T
    table = np.where(table >= 0.5, table, 0)
    best = max(
        (
            sum(table[i, j] for i, j in enumerate(order))
            for order in permutations(range(table.shape[1]), table.shape[0])
        ),
        default=0.0,
    )
    assert sum(overlap for _, _, overlap in match(theirs, ours)) == pytest.approx(best)


def test_found_extra_and_unknown() -> None:
    theirs = found((0, 0, 10, 10, 0.99), (20, 20, 40, 40, 0.95), (50, 50, 60, 60, 0.75))
    ours = found((0, 0, 10, 9, 0.98), (20, 20, 40, 40, 0.8), (50, 50, 60, 60, 0.92), (80, 80, 99, 99, 0.97))
    agreement = agree(theirs, ours)
    # The second is lost below 0.9; the third is known to the reference at 0.75 only; the fourth is not known at all.
    assert agreement == Agreement(1, theirs=2, ours=3, found=1, extra=2, unknown=1, overlap=pytest.approx(0.9))
    assert agreement.mean_overlap == pytest.approx(0.9)


def test_frames_add_up() -> None:
    face, nobody = found((0, 0, 10, 10, 1.0)), found()
    everything = total(pairs_of([face, nobody, face], [face, face, nobody]))
    assert everything == Agreement(3, theirs=2, ours=2, found=1, extra=1, unknown=1, overlap=1.0)
    assert np.isnan(total([]).mean_overlap)


# --- report and picture ---------------------------------------------------------------------------------


@pytest.fixture
def bench() -> dict[str, Any]:
    sections = [
        Section(
            "stage1",
            (
                Figure("a", "stage 1 | exact", "plain script", "x", 5.5, 5.1, 5.9, goal=Goal(at_least=5), note="note"),
                Figure("b", "stage 1, short cuts", "plain script", "x", 9.0, goal=Goal(at_least=10)),
                Figure("c", "for information", "", "ms", 1.5),
            ),
            {"plain script, 360p": {"decode": 5.0, "detect": 45.0}, "exact, 360p": {"decode": 5.0, "embed": 4.0}},
            skipped=("something",),
        ),
        Section("beam_cost", steps={"Beam": {"Beam": 1.0}}),
    ]
    facts = {"date": "2026-01-01 00:00 UTC", "cores": 2, "cpu": "a CPU", "memory_gb": 8, "load": 0.1, "system": "Linux",
             "python": "3.11", "libraries": {"torch": "2"}}  # fmt: skip
    return {"machine": facts, "commit": "abc", "quick": False, "seconds": 60.0, "failed": ["growth"],
            "sections": [to_json(section) for section in sections]}  # fmt: skip


def test_the_table_tells_all(bench: dict[str, Any]) -> None:
    text = report.render(bench)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        "| what | against | measured | goal | met |",
        "| stage 1 \\| exact | plain script | 5.50x (5.10 to 5.90) | at least 5x | yes |",
        "| stage 1, short cuts | plain script | 9.00x | at least 10x | **no** |",
        "| for information | - | 1.50 ms | - |  |",
    ]
    assert "a CPU" in text
    assert "torch 2" in text
    assert "* stage 1 | exact: note" in text
    assert "Not measured: something; growth: failed." in text
    assert "for information" not in report.render(bench, goals_only=True)
    assert report.verdict(report.sections_of(bench)) == (1, 2)


def test_beam_is_part_of_what_runs_in_beam(bench: dict[str, Any]) -> None:
    everything = bars(report.sections_of(bench))
    assert everything["exact, 360p"] == {"decode": 5.0, "embed": 4.0, "Beam": 1.0}
    assert everything["plain script, 360p"] == {"decode": 5.0, "detect": 45.0}
    parts = shares(everything["exact, 360p"])
    assert parts == pytest.approx({"decode": 0.5, "embed": 0.4, "Beam": 0.1})
    assert list(parts) == ["decode", "embed", "Beam"]


def test_the_command_prints_and_draws(
    bench: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    report.main([str(tmp_path / "bench.json"), "--picture", str(tmp_path / "bench.png")])
    assert capsys.readouterr().out.startswith("2026-01-01")
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.width > 600
        assert len(set(picture.convert("RGB").resize((200, 100)).tobytes())) > 20


# --- growth ---------------------------------------------------------------------------------------------


@given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.05, 0.9))
def test_what_a_run_costs_once(once: float, rate: float, share: float) -> None:
    sizes = [1.0, 1.0, 10.0, 100.0]
    seconds = [once + rate * size for size in sizes]
    assert once_per_run(once + rate * share, share, sizes, seconds) == pytest.approx(once, abs=1e-6)


# --- settings -------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_command_line() -> None:
    config = stage1_settings(engine="torch", fps=3, segment_seconds=20).config
    assert (config.engine, config.sampling.fps, config.sampling.segment_seconds) == ("torch", 3.0, 20.0)
    assert config.backbone.weights_sha256


def test_there_is_no_such_engine() -> None:
    with pytest.raises(Unavailable, match="abacus"):
        stage1_settings(engine="abacus")
