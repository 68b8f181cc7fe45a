"""What runs the networks: torch, or OpenVINO where it is installed.

A run names one engine, resolved by the launcher and part of ``cache_id``; a worker that lacks it says so. Engines
agree within a tolerance that the tests hold.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.cpu_features import has_bfloat16
from emobeam.emo_transforms.storage.leftovers import scratch_folder
from emobeam.schemas.records import UsageError

ENGINES = ("torch", "openvino-f32", "openvino-bf16")
"""As a cache records them. With ``openvino-bf16`` the detector's networks compute in bfloat16, the backbone's never."""

Network = Callable[..., list[NDArray[np.float32]]]
"""A network ready to run: an array for each input, its outputs out. They are only valid until the next call."""


def resolve_engine(name: str, device: str) -> str:
    """The concrete engine behind ``auto`` or ``openvino`` on this machine.

    Args:
        name: ``auto``, ``torch``, ``openvino`` or one of :data:`ENGINES`.
        device: OpenVINO is used on the CPU alone.

    Raises:
        UsageError: the engine isn't installed, or doesn't run on the device.
    """
    if name == "torch" or (name == "auto" and (device != "cpu" or not _installed())):
        return "torch"
    if device != "cpu":
        raise UsageError(f"--engine {name}: OpenVINO runs on the CPU; with --device {device} take --engine torch")
    if not _installed():
        raise UsageError(f"--engine {name}: OpenVINO isn't installed; pip install 'emobeam[openvino]'")
    if name in ("auto", "openvino"):
        return "openvino-bf16" if _has_bfloat16() else "openvino-f32"
    return name


def head_engine(name: str, device: str) -> str:
    """The concrete engine of heads: as :func:`resolve_engine`, but with OpenVINO they always compute in float32."""
    engine = resolve_engine(name, device)
    return engine if engine == "torch" else "openvino-f32"


def check_engine(name: str) -> None:
    """Raises UsageError where this machine lacks the engine a run was planned with."""
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}; there are {', '.join(ENGINES)}")
    if name != "torch" and not _installed():
        raise UsageError(f"this run uses the engine {name}, but OpenVINO isn't installed on this worker")
    if name == "openvino-bf16" and not _has_bfloat16():
        raise UsageError(
            "this run uses the engine openvino-bf16, but this worker's CPU has no bfloat16; --engine torch"
        )


def compile_model(model: Any, precision: str) -> Network:
    """An OpenVINO model whose shapes are fixed, on one thread of the CPU.

    Args:
        precision: ``f32`` or ``bf16``.
    """
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        # Pinned threads of several workers would all sit on the same core.
        "ENABLE_CPU_PINNING": False,
    }
    compiled = _core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    given = [request.get_input_tensor(index).data for index in range(len(compiled.inputs))]
    found = [request.get_output_tensor(index).data for index in range(len(compiled.outputs))]

    def run(*values: NDArray[Any]) -> list[NDArray[np.float32]]:
        # Handing over an array would cost more than a small network.
        for place, array in zip(given, values, strict=True):
            place[:] = array
        request.infer()
        return found

    return run


def read_model(xml: bytes, weights: bytes) -> Any:
    """An OpenVINO model from the two files that :func:`written_model` gives.

    Raises:
        RuntimeError: these are none.
    """
    model = _core().read_model(xml, weights)
    for operation in model.get_ops():
        # The mark isn't written down, and without it a division becomes a product, whose last bits are others.
        if operation.get_type_name() == "Divide":
            operation.get_rt_info()["nonconvertable_divide_0"] = True
    return model


def written_model(model: Any) -> tuple[bytes, bytes]:
    """A model as OpenVINO writes it: its description in XML, and its numbers, all as they are."""
    with scratch_folder("model") as folder:
        openvino_module().serialize(model, str(folder / "model.xml"), str(folder / "model.bin"))
        return (folder / "model.xml").read_bytes(), (folder / "model.bin").read_bytes()


def in_batches(network: Network, values: NDArray[Any], batch: int, width: Sequence[int]) -> NDArray[np.float32]:
    """The first output of a network, run on batches of one fixed size, the last one padded with zeros.

    Args:
        values: [n, ...], one entry per sample.
        width: shape of the output of one sample.
    """
    found = np.empty((len(values), *width), np.float32)
    for start in range(0, len(values), batch):
        chunk = values[start : start + batch]
        count = len(chunk)
        if count < batch:
            chunk = np.concatenate([chunk, np.zeros((batch - count, *chunk.shape[1:]), chunk.dtype)])
        found[start : start + count] = network(chunk)[0][:count]
    return found


def _has_bfloat16() -> bool:
    """By the CPU's flags, which costs nothing, or by asking OpenVINO."""
    known = has_bfloat16()
    return "BF16" in _capabilities() if known is None else known


def _installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


@lru_cache(maxsize=1)
def openvino_module() -> Any:
    """The package ``openvino``, imported so that it stays on this machine.

    As it comes, its import starts a process that reports it to an analytics service; without the package that does so
    it falls back to a stub of its own.
    """
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks what can't be imported
    import openvino

    return openvino


@lru_cache(maxsize=1)
def _core() -> Any:
    return openvino_module().Core()


@lru_cache(maxsize=1)
def _capabilities() -> tuple[str, ...]:
    return tuple(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
