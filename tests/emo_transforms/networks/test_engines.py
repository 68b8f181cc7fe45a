from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emobeam.emo_transforms.networks import engines
from emobeam.emo_transforms.networks.engines import ENGINES, check_engine, compile_model, in_batches, resolve_engine
from emobeam.schemas.records import UsageError

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine one with or without OpenVINO, with what its CPU is good at."""
    find = importlib.util.find_spec

    def become(*, openvino: bool, abilities: tuple[str, ...] = ("FP32",)) -> None:
        def found(name: str, package: str | None = None) -> Any:
            if name == "openvino":
                return object() if openvino else None
            return find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", found)
        monkeypatch.setattr(engines, "has_bfloat16", lambda: None)
        monkeypatch.setattr(engines, "_capabilities", lambda: abilities)

    return become


@pytest.mark.parametrize(
    ("name", "device", "openvino", "abilities", "wanted"),
    [
        ("auto", "cpu", True, ("FP32", "BF16"), "openvino-bf16"),
        ("auto", "cpu", True, ("FP32", "INT8"), "openvino-f32"),
        ("auto", "cpu", False, (), "torch"),
        ("auto", "cuda", True, ("FP32", "BF16"), "torch"),
        ("auto", "cuda:1", False, (), "torch"),
        ("openvino", "cpu", True, ("FP32", "BF16"), "openvino-bf16"),
        ("openvino", "cpu", True, ("FP32",), "openvino-f32"),
        ("openvino-f32", "cpu", True, ("FP32", "BF16"), "openvino-f32"),
        ("openvino-bf16", "cpu", True, ("FP32", "BF16"), "openvino-bf16"),
        ("torch", "cpu", True, ("FP32", "BF16"), "torch"),
        ("torch", "cpu", False, (), "torch"),
        ("torch", "cuda", True, ("FP32",), "torch"),
    ],
)
def test_the_engine_that_a_run_gets(
    machine: Machine, name: str, device: str, openvino: bool, abilities: tuple[str, ...], wanted: str
) -> None:
    machine(openvino=openvino, abilities=abilities)
    assert resolve_engine(name, device) == wanted
    check_engine(wanted)


@pytest.mark.parametrize("name", ["openvino", "openvino-f32", "openvino-bf16"])
@pytest.mark.parametrize("openvino", [True, False])
def test_openvino_and_a_gpu_exclude_each_other(machine: Machine, name: str, openvino: bool) -> None:
    machine(openvino=openvino, abilities=("FP32", "BF16"))
    with pytest.raises(UsageError, match=rf"--engine {name}: .*CPU.*--device cuda.*--engine torch"):
        resolve_engine(name, "cuda")


@pytest.mark.parametrize("name", ["openvino", "openvino-f32", "openvino-bf16"])
def test_where_openvino_is_missing_the_launcher_names_the_extra(machine: Machine, name: str) -> None:
    machine(openvino=False)
    with pytest.raises(UsageError, match=rf"--engine {name}: .*pip install 'emobeam\[openvino\]'"):
        resolve_engine(name, "cpu")


@pytest.mark.parametrize("name", ["openvino-f32", "openvino-bf16"])
def test_a_worker_without_openvino_says_so(machine: Machine, name: str) -> None:
    machine(openvino=False)
    with pytest.raises(UsageError, match=f"{name}.*isn't installed on this worker"):
        check_engine(name)


def test_a_worker_without_bfloat16_says_so(machine: Machine) -> None:
    machine(openvino=True, abilities=("FP32", "INT8"))
    check_engine("openvino-f32")
    with pytest.raises(UsageError, match=r"openvino-bf16.*no bfloat16"):
        check_engine("openvino-bf16")


@pytest.mark.parametrize("name", ["auto", "openvino", "tensorrt", ""])
def test_workers_are_given_concrete_engines_only(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown engine.*torch, openvino-f32, openvino-bf16"):
        check_engine(name)


def test_what_this_machine_resolves_to_runs_here() -> None:
    for name in ("auto", "torch"):
        engine = resolve_engine(name, "cpu")
        assert engine in ENGINES
        check_engine(engine)


@given(count=st.integers(0, 17), batch=st.integers(1, 6), edge=st.integers(1, 3))
def test_batches_have_one_size_and_each_sample_its_own_output(count: int, batch: int, edge: int) -> None:
    values = np.arange(count * edge * 2, dtype=np.float32).reshape(count, edge, 2) + 1
    seen: list[NDArray[np.float32]] = []
    output = np.empty((batch, 2), np.float32)

    def network(samples: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.append(samples.copy())
        output[:] = samples.sum(axis=1)  # one buffer for all calls, as engines have it
        return [output, np.full((batch, 1), np.nan, np.float32)]

    found = in_batches(network, values, batch, (2,))
    assert (found.shape, found.dtype) == ((count, 2), np.dtype(np.float32))
    np.testing.assert_array_equal(found, values.sum(axis=1))
    assert {samples.shape for samples in seen} <= {(batch, edge, 2)}
    given_samples = np.concatenate([np.empty((0, edge, 2), np.float32), *seen])
    np.testing.assert_array_equal(given_samples[:count], values)
    assert (given_samples[count:] == 0).all()
    assert len(given_samples) - count < batch


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-5), ("bf16", 2e-2)])
def test_a_compiled_model_computes_what_it_says(precision: str, tolerance: float) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 16)).astype(np.float32) / 8
    source = ops.parameter([4, 64], np.float32)
    product = ops.matmul(source, ops.constant(weight), False, False)
    run = compile_model(openvino.Model([product, ops.relu(product)], [source], "two"), precision)
    for _ in range(2):
        values = rng.normal(size=(4, 64)).astype(np.float32)
        whole, positive = run(values)
        np.testing.assert_allclose(whole, values @ weight, rtol=0, atol=tolerance)
        np.testing.assert_allclose(positive, np.maximum(values @ weight, 0), rtol=0, atol=tolerance)
        assert whole.dtype == positive.dtype == np.float32
