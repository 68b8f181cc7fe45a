"""Which of the things that a run needs are places that workers must see."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emobeam.pipelines.stages.extract import _places


def request(weights: str) -> Any:
    config = SimpleNamespace(backbone=SimpleNamespace(weights=weights))
    return SimpleNamespace(dataset=SimpleNamespace(config=config), videos=[])


@pytest.mark.parametrize("weights", ["untrained", "timm", "timm:e2400_r224_in1k", "timm/mobilenetv4_conv_small"])
def test_names_of_weights_are_no_files(weights: str) -> None:
    assert _places(request(weights)) == []


def test_files_of_weights_are_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for weights in ("gs://lab-affect/b.safetensors", "/opt/weights/b.safetensors"):
        assert _places(request(weights)) == [weights]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.onnx").write_bytes(b"x")
    assert _places(request("sub/b.onnx")) == ["sub/b.onnx"]
