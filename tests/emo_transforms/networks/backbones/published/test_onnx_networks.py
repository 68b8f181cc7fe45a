from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.published.ddamfn import Ddamfn
from emobeam.emo_transforms.networks.backbones.published.mobilefacenet import MobileFaceNet
from emobeam.emo_transforms.networks.backbones.published.onnx_module import OnnxNetwork
from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.nets import lively, pictures, settled

onnx = pytest.importorskip("onnx", reason="needs emobeam[onnx]")
pytest.importorskip("onnxruntime", reason="needs emobeam[onnx]")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's older exporter warns of itself


class ScoresAlone(nn.Module):
    """What publishers export: one output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x)[1]
        return scores


class Small(nn.Module):
    def __init__(self, after: Callable[[Tensor], Tensor] | None = None, *, bias: bool = True) -> None:
        super().__init__()
        self.conv, self.fc, self.after = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6, 4, bias=bias), after

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.conv(x).relu().mean((2, 3))
        scores = self.fc(embedding)
        return embedding, self.after(scores) if self.after else scores


def export(network: nn.Module, size: int, path: Path, *, opset: int = 11, fixed: int = 0) -> str:
    axes = None if fixed else {"input": {0: "batch"}, "output": {0: "batch"}}
    torch.onnx.export(
        ScoresAlone(network).eval(),
        (pictures(fixed or 1, size),),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes=axes,
    )
    return str(path)


@cache
def small() -> Small:
    network = lively(Small())
    assert isinstance(network, Small)
    return network


NETWORKS: list[tuple[Callable[[], nn.Module], int, int]] = [
    (lambda: TimmVectors("tf_efficientnet_b0", 8), 64, 11),
    (lambda: MobileFaceNet(10), 112, 11),
    (lambda: Ddamfn(8), 112, 13),
    (lambda: TimmVectors("mobilevitv2_150", 10), 64, 13),
]


@pytest.mark.parametrize(
    ("make", "size", "opset"),
    [*NETWORKS[:2], *(pytest.param(*each, marks=pytest.mark.thorough) for each in NETWORKS[2:])],
    ids=["efficientnet", "mobilefacenet", "ddamfn", "mobilevit"],
)
def test_outputs_are_those_of_the_source(make: Callable[[], nn.Module], size: int, opset: int, tmp_path: Path) -> None:
    network = settled(make(), size)
    loaded = OnnxNetwork(export(network, size, tmp_path / "w.onnx", opset=opset))
    x = pictures(3, size, seed=5)
    with torch.inference_mode():
        embedding, scores = network(x)
        found = loaded(x)
    assert 0.01 < float((embedding[0] - embedding[1]).std()) < 100
    for mine, theirs in zip(found, (embedding, scores), strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())
    assert (loaded.embedding_length, loaded.scores_length) == (embedding.shape[1], scores.shape[1])
    assert loaded.input_size == size


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_a_fixed_batch_is_filled_up(count: int, tmp_path: Path) -> None:
    loaded = OnnxNetwork(export(small(), 16, tmp_path / "w.onnx", fixed=4))
    x = pictures(count, 16) if count else torch.zeros(0, 3, 16, 16)
    with torch.inference_mode():
        embedding, scores = loaded(x)
        torch.testing.assert_close(scores, small()(x)[1])
    assert embedding.shape == (count, 6)


@pytest.mark.parametrize("after", [lambda x: x.softmax(1), torch.tanh])
@pytest.mark.parametrize("bias", [True, False])
def test_the_embedding_is_found_behind_what_follows_it(after: Any, bias: bool, tmp_path: Path) -> None:
    network = lively(Small(after, bias=bias))
    loaded = OnnxNetwork(export(network, 16, tmp_path / "w.onnx", opset=13))
    x = pictures(2, 16)
    with torch.inference_mode():
        for mine, theirs in zip(loaded(x), network(x), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_identity_is_of_the_numbers(tmp_path: Path) -> None:
    one = OnnxNetwork(export(small(), 16, tmp_path / "one.onnx"))
    again = OnnxNetwork(export(small(), 16, tmp_path / "again.onnx"))
    other = OnnxNetwork(export(lively(Small(), seed=3), 16, tmp_path / "other.onnx"))
    assert any(torch.equal(tensor, small().fc.weight) for tensor in one.state_dict().values())
    assert tensors_sha256(one.state_dict()) == tensors_sha256(again.state_dict())
    assert tensors_sha256(one.state_dict()) != tensors_sha256(other.state_dict())


class Twice(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x * 2


def flat(path: Path) -> None:
    export(Twice(), 16, path)


def two_inputs(path: Path) -> None:
    model = onnx.load(export(small(), 16, path))
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [1, 3, 2, 2]))
    onnx.save(model, str(path))


def huge_pictures(path: Path) -> None:
    model = onnx.load(export(small(), 16, path))
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 2**40
    onnx.save(model, str(path))


def huge_numbers(path: Path) -> None:
    model = onnx.load(export(small(), 16, path))
    model.graph.initializer[0].dims[0] = 2**40
    onnx.save(model, str(path))


def not_square(path: Path) -> None:
    torch.onnx.export(ScoresAlone(small()), (torch.zeros(1, 3, 16, 20),), str(path), dynamo=False)


def text(path: Path) -> None:
    path.write_text("<html>moved</html>")


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (flat, "ends in Mul, not in one linear layer"),
        (two_inputs, "one input .*mask"),
        (not_square, r"\[1, 3, 16, 20\]"),
        (huge_pictures, "pictures have at most 1024 px"),
        (huge_numbers, "a tensor in it isn't what it says"),
        (text, "not an ONNX file"),
        (nothing, "no such file"),
    ],
)
def test_files_that_do_not_do_are_named(harm: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    harm(tmp_path / "w.onnx")
    with pytest.raises(EmobeamError, match=rf"w\.onnx: .*{words}"):
        OnnxNetwork(str(tmp_path / "w.onnx"))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmobeamError, match=r"pip install 'emobeam\[onnx\]'"):
        OnnxNetwork(str(tmp_path / "w.onnx"))


def test_threads_and_batches_change_nothing(tmp_path: Path) -> None:
    loaded = OnnxNetwork(export(lively(TimmVectors("tf_efficientnet_b0", 8)), 64, tmp_path / "w.onnx"))
    x = pictures(5, 64)
    whole = loaded(x)[0].numpy()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.array_equal(loaded(x)[0].numpy(), whole)
    finally:
        torch.set_num_threads(before)
