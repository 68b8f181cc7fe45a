from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import ndimage

from emobeam.emo_transforms.faces.detection import gate
from emobeam.emo_transforms.faces.detection.gate import FACTOR, HOPELESS, UNSEEN, Gate, evidence, shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.schemas.config import STAGE1_REVISION, DetectorConfig
from emobeam.schemas.records import EmobeamError
from tests.clips import face

Answers = NDArray[np.float32]

maps = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(5)),
    elements=st.floats(-12, 6, width=32),
)


def some_answers(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Answers:
    return np.random.default_rng(seed).normal(-3, 3, (*size, 5)).astype(np.float32)


# --- evidence -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(answers=maps)
def test_evidence_is_what_scipy_finds_about_every_place(answers: Answers) -> None:
    values, likely = evidence(answers)
    means = [ndimage.uniform_filter(answers.astype(np.float64), (edge, edge, 1), mode="nearest") for edge in (3, 5)]
    most = ndimage.maximum_filter(answers, (3, 3, 1), mode="nearest")
    np.testing.assert_array_equal(likely, most[..., 0] > HOPELESS)
    wanted = np.concatenate([answers, means[0], most, means[1]], axis=2)[likely]
    assert values.dtype == np.float32
    assert values.shape == (likely.sum(), 20)
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-5)


def test_a_part_of_a_larger_map_is_taken_for_itself() -> None:
    whole = some_answers()
    part = whole[3:30, 5:50]
    for one, two in zip(evidence(part), evidence(part.copy()), strict=True):
        np.testing.assert_array_equal(one, two)


# --- the gate -----------------------------------------------------------------------------------------------


def by_hand(own: Gate, answers: Answers) -> NDArray[np.float64]:
    values, likely = evidence(answers)
    score = np.full(likely.shape, -np.inf)
    hidden = np.maximum(values.astype(np.float64) @ own.hidden.T.astype(np.float64) + own.hidden_bias, 0)
    score[likely] = hidden @ own.output + own.output_bias[0]
    return score


def test_it_opens_where_its_network_says_so() -> None:
    own, answers = shipped_gate(), some_answers()
    score = by_hand(own, answers)
    clear = np.abs(score) > 1e-3
    np.testing.assert_array_equal(own.open(answers)[clear], score[clear] > 0)
    assert 0 < own.open(answers).mean() < 1


def test_a_hopeless_place_opens_nothing_whatever_the_network_says() -> None:
    willing = replace(shipped_gate(), output_bias=np.array([np.inf], np.float32))
    answers = np.full((20, 20, 5), HOPELESS - 1, np.float32)
    answers[10, 10, 0] = HOPELESS + 1
    wanted = np.zeros((20, 20), bool)
    wanted[9:12, 9:12] = True
    np.testing.assert_array_equal(willing.open(answers), wanted)


def test_nothing_opens_where_nobody_looked() -> None:
    assert not shipped_gate().open(np.tile(UNSEEN, (12, 17, 1))).any()


def test_threads_change_nothing() -> None:
    answers, threads = some_answers(1, (200, 300)), torch.get_num_threads()
    try:
        found = []
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append(shipped_gate().open(answers))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*found)


def test_the_shipped_gate_is_small_and_whole() -> None:
    own = shipped_gate()
    width = len(own.output)
    assert own.hidden.shape == (width, 20)
    assert own.hidden_bias.shape == (width,)
    assert own.output_bias.shape == (1,)
    for weights in (own.hidden, own.hidden_bias, own.output, own.output_bias):
        assert weights.dtype == np.float32
        assert np.isfinite(weights).all()


def test_another_gate_comes_with_another_revision() -> None:
    """Else a cache would hold faces of two detectors under one identity."""
    found = hashlib.sha256(Path(gate.__file__).with_name("gate.safetensors").read_bytes()).hexdigest()
    assert (STAGE1_REVISION, found[:16]) == (4, "205e57e522b33a9e")


@pytest.mark.parametrize("content", [None, b"", b"no tensors", save({"hidden": np.zeros((2, 20), np.float32)})])
def test_a_damaged_file_is_named(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if content is not None:
        (tmp_path / "gate.safetensors").write_bytes(content)
    monkeypatch.setattr(gate, "files", lambda package: tmp_path)
    with pytest.raises(EmobeamError, match=r"gate\.safetensors: missing or damaged .*install emobeam anew"):
        shipped_gate.__wrapped__()


@pytest.mark.parametrize("factor", [FACTOR, 0.6])
def test_a_pyramid_of_other_steps_is_looked_at_everywhere(factor: float) -> None:
    class Asked(Gate):
        def open(self, answers: Answers) -> NDArray[np.bool_]:
            asked.append(answers.shape)
            return super().open(answers)

    asked: list[tuple[int, ...]] = []
    shipped = shipped_gate()
    counting = Asked(shipped.hidden, shipped.hidden_bias, shipped.output, shipped.output_bias)
    config = DetectorConfig(factor=factor, keep=0.0)
    frame = face(3, (160, 120))
    (found,) = MtcnnDetector(config, MtcnnNetworks("torch"), counting).detect([frame])
    (ungated,) = MtcnnDetector(config, MtcnnNetworks("torch"), None).detect([frame])
    assert bool(asked) is (factor == FACTOR)
    assert len(ungated) >= 1
    np.testing.assert_allclose(found.boxes, ungated.boxes, rtol=0, atol=1e-3)
