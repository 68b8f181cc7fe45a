from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from emobeam.emo_transforms.networks.backbones.published.mobilefacenet import MobileFaceNet
from emobeam.emo_transforms.networks.checkpoints.reading import load_into
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.nets import lively, pictures

Tensors = dict[str, Tensor]


def norm(x: Tensor, state: Tensors, name: str) -> Tensor:
    mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias)


def reference(state: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    """The network step by step, from the tensors of a checkpoint as HSEmotion's names them."""

    def conv(x: Tensor, name: str, stride: int, groups: int, pad: int, *, linear: bool = False) -> Tensor:
        x = F.conv2d(x, state[f"{name}.layers.0.weight"], stride=stride, padding=pad, groups=groups)
        x = norm(x, state, f"{name}.layers.1")
        return x if linear else F.prelu(x, state[f"{name}.layers.2.weight"])

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        out = conv(x, f"{name}.layers.0", 1, 1, 0)
        out = conv(out, f"{name}.layers.1", stride, out.shape[1], 1)
        out = conv(out, f"{name}.layers.2", 1, 1, 0, linear=True)
        return out if stride == 2 else x + out

    x = conv(x, "features.layers.0", 2, 1, 1)
    x = conv(x, "features.layers.1", 1, 64, 1)
    for place, count in ((2, 0), (3, 4), (4, 0), (5, 6), (6, 0), (7, 2)):
        name = f"features.layers.{place}"
        if not count:
            x = block(x, name, 2)
        for index in range(count):
            x = block(x, f"{name}.layers.{index}", 1)
    x = conv(x, "features.conv_sep", 1, 1, 0)
    x = conv(x, "features.features.layers.0", 1, 512, 0, linear=True).flatten(1)
    x = norm(x @ state["features.features.layers.2.weight"].T, state, "features.features.layers.3")
    return x, x @ state["fc.weight"].T + state["fc.bias"]


def as_insightface(state: Tensors) -> Tensors:
    return {name.removeprefix("features."): tensor for name, tensor in state.items() if not name.startswith("fc.")}


def as_evolve(state: Tensors) -> Tensors:
    """Names of face.evoLVe and its descendants, written down from what its blocks are called."""
    parts = ["conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5"]
    inner = {"0": "conv", "1": "bn", "2": "prelu"}
    steps = {"0": "conv", "1": "conv_dw", "2": "project"}
    named: Tensors = {}
    for name, tensor in as_insightface(state).items():
        words = name.split(".")
        if words[0] == "conv_sep":
            new = ["conv_6_sep", inner[words[2]], words[3]]
        elif words[0] == "features":
            last = {"0": "conv_6_dw", "2": "linear", "3": "bn"}[words[2]]
            new = [last, inner[words[4]], words[5]] if last == "conv_6_dw" else [last, words[3]]
        elif words[1] in "01":
            new = [parts[int(words[1])], inner[words[3]], words[4]]
        elif words[1] in "246":
            new = [parts[int(words[1])], steps[words[3]], inner[words[5]], words[6]]
        else:
            new = [parts[int(words[1])], "model", words[3], steps[words[5]], inner[words[7]], words[8]]
        named[".".join(new)] = tensor
    return named


def as_evolve_with_output_layer(state: Tensors) -> Tensors:
    last = ("conv_6_dw.", "linear.", "bn.")
    return {f"output_layer.{n}" if n.startswith(last) else n: tensor for n, tensor in as_evolve(state).items()}


def test_it_is_the_network_the_names_say() -> None:
    network = lively(MobileFaceNet(10))
    x = pictures(2, 112)
    with torch.inference_mode():
        embedding, scores = network(x)
        expected = reference(network.state_dict(), x)
    assert embedding.shape == (2, 512)
    assert scores.shape == (2, 10)
    assert embedding.std() > 0.1
    torch.testing.assert_close(embedding, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, expected[1], rtol=1e-4, atol=1e-4)


def test_size_and_cost_are_the_published_ones() -> None:
    network = MobileFaceNet(10).eval()
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(2.06e6, rel=0.003)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(pictures(1, 112))
    assert counter.get_total_flops() / 2 == pytest.approx(438e6, rel=0.003)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("named", [as_insightface, as_evolve, as_evolve_with_output_layer])
def test_face_recognition_checkpoints_load(named: Callable[[Tensors], Tensors], width: int) -> None:
    source = lively(MobileFaceNet(0, width))
    fresh = MobileFaceNet(0, width).eval()
    load_into(fresh, named(source.state_dict()), "face.pth")
    x = pictures(1, 112)
    with torch.inference_mode():
        assert torch.equal(fresh(x)[0], source(x)[0])
        assert fresh(x)[1].shape == (1, 0)


def test_a_checkpoint_without_scores_is_not_taken_for_one_with_scores() -> None:
    state = as_insightface(lively(MobileFaceNet(0)).state_dict())
    with pytest.raises(EmobeamError, match=r"face\.pth.*first: fc\.weight"):
        load_into(MobileFaceNet(10), state, "face.pth")
