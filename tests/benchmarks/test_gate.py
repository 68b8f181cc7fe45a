from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.faces.detection.gate import HOPELESS, shipped_gate
from tests.benchmarks import gate
from tests.benchmarks.gate import Side, collages, fit, worth
from tests.clips import astronaut, nobody

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "training" / "london"


@pytest.fixture(scope="module")
def side() -> Side:
    return Side([np.asarray(astronaut())], [nobody(number, (640, 480)) for number in range(3)])


def test_collages_are_the_same_every_time_and_differ(side: Side) -> None:
    first, second = list(collages(side, 2, 5)), list(collages(side, 2, 5))
    for one, two in zip(first, second, strict=True):
        assert one.shape == (360, 640, 3)
        np.testing.assert_array_equal(one, two)
    assert (first[0] != first[1]).any()
    assert next(collages(side, 1, 5, 216)).shape == (216, 384, 3)


def test_a_fitted_gate_opens_what_it_was_shown_and_little_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces here are places whose four shifts point inward; the logit says nothing."""
    monkeypatch.setattr(gate, "_STEPS", 400)
    rng = np.random.default_rng(0)
    answers = rng.normal(0, 1, (4000, 5)).astype(np.float32)
    answers[:, 0] = HOPELESS + 1
    wanted = (answers[:, 1] > 0.5).astype(np.float32)
    made = fit(np.tile(answers, 4), wanted)
    opened = np.array([made.open(np.tile(one, (1, 1, 1)))[0, 0] for one in answers[:400]])
    assert opened[wanted[:400] == 1].mean() == 1
    assert opened[wanted[:400] == 0].mean() < 0.5


def test_worth_counts_faces_and_tiles(side: Side) -> None:
    result = worth(list(collages(side, 3, 7)), shipped_gate(), (2.0, -50.0))
    assert list(result) == ["2", "-50"]
    careful, closed = result.values()
    assert careful["faces"] == closed["faces"] > 3
    assert careful["found"] > 80
    assert careful["found"] >= closed["found"]
    assert 0 < closed["tiles"] < careful["tiles"] < 100


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not there")
def test_the_command_shows_the_shipped_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = gate.WEIGHTS.read_bytes()
    target = tmp_path / "worth.json"
    gate.main(["--photographs", str(PHOTOGRAPHS), "--held-out", "1", "--json", str(target)])
    assert "caution 2: faces" in capsys.readouterr().out
    assert set(json.loads(target.read_text())["2"]) == {"faces", "found", "overlap", "tiles"}
    assert gate.WEIGHTS.read_bytes() == before
