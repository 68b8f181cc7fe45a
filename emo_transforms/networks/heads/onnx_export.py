"""Heads as ONNX files, for programs without torch; every export is run and compared before it is written.

The graph has one float32 input for each column it reads, named as in the cache (``map_s8``, ``embedding`` ...), with
a dynamic first axis, and one output, ``values``, after the activation:

* frame scope: inputs ``[windows, T, ...]``, values ``[windows, T, K]``.
* clip scope: all windows of one video ``[windows, T, ...]`` and ``valid`` int64 ``[windows]``, the number of real
  frames in each; values ``[K]``.

The file's metadata hold ``head.json`` under ``emobeam`` and the names of the outputs under ``outputs``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_to_json
from emobeam.emo_transforms.networks.heads.head import Head, activate, reproducible
from emobeam.emo_transforms.storage import write_bytes
from emobeam.emo_transforms.storage.leftovers import scratch_folder
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import column_of

OPSET = 17
TOLERANCE = 1e-5
"""How far ONNX Runtime may be from torch, as a share of the range of the values (at least 1)."""

_BATCHES = (1, 3, 8)


class _FrameGraph(nn.Module):
    def __init__(self, module: HeadModule, config: HeadConfig) -> None:
        super().__init__()
        self.module, self.config = module, config

    def forward(self, *columns: Tensor) -> Tensor:
        batch = dict(zip(self.config.inputs, columns, strict=True))
        return activate(self.module(batch), self.config.activation)


class _ClipGraph(_FrameGraph):
    def forward(self, *columns: Tensor) -> Tensor:
        batch = dict(zip(self.config.inputs, columns[:-1], strict=True))
        logits = self.module.pool(self.module.vectors(batch), columns[-1])
        return activate(logits, self.config.activation)


def export_head(head: Head, uri: str) -> float:
    """Writes a head as an ONNX file.

    Args:
        uri: local path or any fsspec URI; an existing file is replaced.

    Returns:
        The largest difference found between ONNX Runtime and torch, as a share of the range of the values.

    Raises:
        EmobeamError: onnx or onnxruntime isn't installed, or the export gives other values than torch.
    """
    model = head_model(head)
    difference = compare(head, model)
    if not difference <= TOLERANCE:
        raise EmobeamError(
            f"{uri}: not written: ONNX Runtime gives values that differ from torch's by {difference:.1e} of their "
            f"range, more than {TOLERANCE:.0e}; another version of onnxruntime may help"
        )
    write_bytes(uri, model)
    return difference


def head_model(head: Head) -> bytes:
    """The ONNX model of a head, not compared with anything yet.

    Raises:
        EmobeamError: the package onnx isn't installed.
    """
    onnx = _package("onnx")
    config = head.config
    graph = (_ClipGraph if config.scope == "clip" else _FrameGraph)(head.module, config).cpu()
    graph.eval()  # the exporter puts back the mode of the outermost module
    names = [column_of(name) for name in config.inputs] + (["valid"] if config.scope == "clip" else [])
    output_axes = {} if config.scope == "clip" else {"values": {0: "windows"}}
    with scratch_folder("onnx") as folder, reproducible(), warnings.catch_warnings():
        path = folder / "head.onnx"
        warnings.simplefilter("ignore")  # the exporter that needs no further package says that it is the older one
        torch.onnx.export(
            graph,
            tuple(torch.from_numpy(values) for values in _samples(config, 2).values()),
            path,
            input_names=names,
            output_names=["values"],
            dynamic_axes={**{name: {0: "windows"} for name in names}, **output_axes},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    model.producer_name = "emobeam"
    lists = {"outputs": config.outputs, "unknown": config.unknown, "experimental": config.experimental}
    texts = {"emobeam": config_to_json(config)} | {key: json.dumps(list(names)) for key, names in lists.items()}
    for key, text in texts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, text
    data: bytes = model.SerializeToString()
    return data


def compare(head: Head, model: bytes) -> float:
    """Largest difference between ONNX Runtime and torch over batches of several sizes, as a share of the range.

    Raises:
        EmobeamError: the package onnxruntime isn't installed.
    """
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in _BATCHES:
        samples = _samples(head.config, count)
        wanted = _by_torch(head, samples)
        (found,) = session.run(None, {entry.name: samples[entry.name] for entry in session.get_inputs()})
        if found.shape != wanted.shape:
            return float("inf")
        scale = max(1.0, float(np.ptp(wanted)))
        worst = max(worst, float(np.abs(found - wanted).max()) / scale)
    return worst


def _by_torch(head: Head, samples: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    values = head.run({name: samples[column_of(name)] for name in head.inputs})
    return head.pool(values, samples["valid"]) if head.config.scope == "clip" else values


def _samples(config: HeadConfig, count: int) -> dict[str, NDArray[Any]]:
    """Windows of random values by the names of the graph's inputs."""
    rng = np.random.default_rng(count)
    shapes: dict[str, tuple[int, ...]] = {**config.map_shapes, **{k: (n,) for k, n in config.vector_lengths.items()}}
    samples: dict[str, NDArray[Any]] = {
        column_of(name): rng.normal(size=(count, config.window, *shapes[name])).astype(np.float32)
        for name in config.inputs
    }
    if config.scope == "clip":
        samples["valid"] = np.full(count, config.window, np.int64)
        samples["valid"][-1] = max(1, config.window // 2)
    return samples


def _package(name: str) -> Any:
    if find_spec(name) is None:
        raise EmobeamError(f"exporting a head needs the package {name}; install it with pip install emobeam[onnx]")
    return import_module(name)
