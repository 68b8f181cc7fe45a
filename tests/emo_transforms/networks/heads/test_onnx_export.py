from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emobeam.emo_transforms.networks.heads import onnx_export
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head, ready_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.heads.onnx_export import compare, export_head, head_model
from emobeam.emo_transforms.networks.shipped import shipped_head
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS

onnx = pytest.importorskip("onnx", reason="the extra onnx isn't installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx isn't installed")

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}
OFFER = Offer("f00d", SHAPES, {"embedding": 7, "scores": 3}, ("anger", "valence", "arousal"))

HEADS: dict[str, Any] = {
    "tam": lambda: new_head(TASKS["mtl"], OFFER, final_channels=6),
    "tam of frames": lambda: new_head(TASKS["va"], OFFER, final_channels=6, form="frame", time_patch=2),
    "tam of clips": lambda: new_head(TASKS["emi"], OFFER, final_channels=6),
    "tcn": lambda: new_head(TASKS["au"], OFFER, architecture="tcn", final_channels=6, window=12),
    "tcn that looks ahead": lambda: new_head(TASKS["au"], OFFER, architecture="tcn", causal=False, window=12),
    "frame": lambda: new_head(TASKS["expr"], OFFER, architecture="frame", inputs=("s32", "embedding")),
    "clip-statistics": lambda: new_head(TASKS["emi"], OFFER, architecture="clip-statistics", inputs=("embedding",)),
    "ready": lambda: ready_head(TASKS["va"], OFFER),
}


def run(path: Path, samples: dict[str, np.ndarray]) -> np.ndarray:
    values: np.ndarray = onnxruntime.InferenceSession(str(path)).run(None, samples)[0]
    return values


def column(name: str) -> str:
    return f"map_{name}" if name in SHAPES else name


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("count", [1, 5])
def test_the_file_gives_what_the_head_gives(kind: str, count: int, tmp_path: Path) -> None:
    made: Head = HEADS[kind]()
    path = tmp_path / "head.onnx"
    assert export_head(made, str(path)) <= 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["head.onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)

    rng = np.random.default_rng(7)
    shapes = {**SHAPES, "embedding": (7,), "scores": (3,)}
    window = made.config.window
    arrays = {name: rng.normal(size=(count, window, *shapes[name])).astype(np.float32) for name in made.inputs}
    samples = {column(name): array for name, array in arrays.items()}
    expected = made.run(arrays)
    if made.config.scope == "clip":
        samples["valid"] = np.arange(1, count + 1)
        expected = made.pool(expected, samples["valid"])
    assert {entry.name for entry in model.graph.input} == set(samples)
    np.testing.assert_allclose(run(path, samples), expected, rtol=0, atol=1e-5)


def test_the_file_tells_what_it_is(tmp_path: Path) -> None:
    made: Head = HEADS["tam"]()
    export_head(made, str(tmp_path / "head.onnx"))
    told = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "head.onnx").metadata_props}
    assert told["outputs"] == list(TASKS["mtl"].outputs)
    assert (told["emobeam"]["features_id"], told["emobeam"]["task"]) == ("f00d", "mtl")
    assert (told["unknown"], told["experimental"]) == ([], [])


def test_the_file_tells_what_nobody_taught_it(tmp_path: Path) -> None:
    ours = shipped_head("au")
    assert ours is not None
    export_head(load_head(str(ours.folder)), str(tmp_path / "head.onnx"))
    told = {entry.key: json.loads(entry.value) for entry in onnx.load(tmp_path / "head.onnx").metadata_props}
    assert told["unknown"] == ["AU23"]
    assert told["experimental"] == told["emobeam"]["experimental"] != []


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Head = HEADS["frame"]()
    model = onnx.load_from_string(head_model(made))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 1 and values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values + np.float32(1e-2), tensor.name))
    wrong = model.SerializeToString()
    assert compare(made, wrong) > 1e-4
    monkeypatch.setattr(onnx_export, "head_model", lambda _: wrong)
    with pytest.raises(EmobeamError, match=r"not written: ONNX Runtime gives values that differ"):
        export_head(made, str(tmp_path / "head.onnx"))
    assert not list(tmp_path.iterdir())


def test_training_mode_does_not_leak_into_the_file(tmp_path: Path) -> None:
    made: Head = HEADS["tam"]()
    made.module.train()
    assert export_head(made, str(tmp_path / "head.onnx")) <= 1e-5
    kinds = {node.op_type for node in onnx.load(tmp_path / "head.onnx").graph.node}
    assert not kinds & {"Dropout"}
    assert torch.get_num_threads() >= 1


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None)
    with pytest.raises(EmobeamError, match=r"needs the package onnx.*emobeam\[onnx\]"):
        export_head(HEADS["ready"](), str(tmp_path / "head.onnx"))
