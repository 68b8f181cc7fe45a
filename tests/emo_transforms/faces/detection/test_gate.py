from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import ndimage
from torch.nn import functional

from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.faces.detection import gate
from emobeam.emo_transforms.faces.detection.gate import FACTOR, HOPELESS, UNSEEN, Gate, evidence, shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.schemas.config import STAGE1_REVISION, DetectorConfig
from emobeam.schemas.records import EmobeamError
from tests.clips import face, nobody

Answers = NDArray[np.float32]

NARROW = save({"hidden": np.zeros((2, 19), np.float32), **{name: np.zeros(n, np.float32) for name, n in
               (("hidden_bias", 2), ("output", 2), ("output_bias", 1))}})  # fmt: skip
"""A file of a gate that asks for less evidence than there is."""

maps = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(5)),
    elements=st.floats(-12, 6, width=32),
)


def some_answers(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Answers:
    return np.random.default_rng(seed).normal(-3, 3, (*size, 5)).astype(np.float32)


# --- evidence -----------------------------------------------------------------------------------------------


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


def by_torch(own: Gate, values: Answers) -> Answers:
    """What the output layer says of evidence, without its bias: the gate as it was when caches of revision 4 began."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            hidden = functional.linear(*(torch.from_numpy(one) for one in (values, own.hidden, own.hidden_bias)))
            return (functional.relu(hidden) @ torch.from_numpy(own.output)).numpy()
    finally:
        torch.set_num_threads(threads)


def decisions(own: Gate, frames: Iterable[Picture]) -> tuple[list[Answers], list[Answers]]:
    """P-Net's answers about frames, each map that the gate is asked about; and what torch says of the evidence."""

    class Asked(Gate):
        def open(self, answers: Answers) -> NDArray[np.bool_]:
            maps.append(answers)
            said.append(by_torch(own, evidence(answers)[0]))
            return super().open(answers)

    maps: list[Answers] = []
    said: list[Answers] = []
    asked = Asked(own.hidden, own.hidden_bias, own.output, own.output_bias)
    detector = MtcnnDetector(DetectorConfig(keep=0.0), MtcnnNetworks("torch"), asked)
    for frame in frames:
        detector.detect([frame])
    return maps, said


def test_decisions_about_frames_are_those_of_torch() -> None:
    """Else STAGE1_REVISION would have to change: caches go on in which torch decided."""
    crowd = [np.concatenate([face(7 * row + column, (96, 72)) for column in range(7)], axis=1) for row in range(5)]
    frames = [np.concatenate(crowd), face(1, (640, 360)), nobody(1, (640, 360))]
    maps, said = decisions(shipped_gate(), frames)
    looked = opened = 0
    for answers, score in zip(maps, said, strict=True):
        wanted = evidence(answers)[1]
        wanted[wanted] = score > -shipped_gate().output_bias[0]
        np.testing.assert_array_equal(shipped_gate().open(answers), wanted)
        looked, opened = looked + len(score), opened + int(wanted.sum())
    assert looked > 5_000
    assert 500 < opened < looked - 500


@given(answers=maps)
def test_scores_are_those_of_torch(answers: Answers) -> None:
    own = shipped_gate()
    values, _ = evidence(answers)
    found = gate._score(values, own.hidden, own.hidden_bias, own.output)
    np.testing.assert_allclose(found, by_torch(own, values), rtol=1e-5, atol=2e-4)


def test_a_score_is_the_same_to_the_bit_whatever_its_place_neighbours_and_memory() -> None:
    own = shipped_gate()
    values = evidence(some_answers(1, (50, 70)))[0]

    def score(some: Answers) -> Answers:
        return gate._score(some, own.hidden, own.hidden_bias, own.output)

    together = score(values)
    for start in (0, 1, 63, 64, 65, 1000):
        for count in (1, 2, 63, 64, 65, 129):
            np.testing.assert_array_equal(score(values[start : start + count].copy()), together[start : start + count])
    for shift in range(1, 16):  # in bytes
        room = np.empty(values.nbytes + shift, np.uint8)[shift:]
        if shift % 4 == 0:
            moved = room.view(np.float32).reshape(values.shape)
            moved[:] = values
            np.testing.assert_array_equal(score(moved), together)
    assert score(values[:0]).shape == (0,)


def test_sums_have_one_order() -> None:
    """That of the layers, one product after the other, each rounded: the same on every CPU."""
    own, values = shipped_gate(), evidence(some_answers(2, (12, 15)))[0]
    total = np.zeros(len(values), np.float32)
    for weights, bias, out in zip(own.hidden, own.hidden_bias, own.output, strict=True):
        unit = np.full(len(values), bias, np.float32)
        for k, weight in enumerate(weights):
            unit = unit + weight * values[:, k]
        total = total + np.maximum(unit, np.float32(0)) * out
    np.testing.assert_array_equal(gate._score(values, own.hidden, own.hidden_bias, own.output), total)


def test_layers_that_do_not_fit_are_refused() -> None:
    own = shipped_gate()
    for wrong in ({"hidden": own.hidden[:, :19]}, {"hidden_bias": own.hidden_bias[1:]}, {"output_bias": own.output}):
        with pytest.raises(ValueError, match="layers"):
            replace(own, **wrong)
    with pytest.raises(ValueError, match="float64"):
        replace(own, output=own.output.astype(np.float64))


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


@pytest.mark.parametrize("content", [None, b"", b"no tensors", save({"hidden": np.zeros((2, 20), np.float32)}), NARROW])
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
