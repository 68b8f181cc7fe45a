from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from emobeam.emo_transforms.networks.backbones.published.ddamfn import Ddamfn
from emobeam.emo_transforms.networks.checkpoints.reading import load_into
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.nets import lively, pictures, settled

Tensors = dict[str, Tensor]


def reference(state: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    """The network as the paper draws it, from the tensors of a checkpoint; kernels are read off their shapes."""

    def norm(x: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (state[f"{name}.{part}"] for part in parts)
        return F.batch_norm(x, mean, var, weight, bias)

    def conv(x: Tensor, name: str, stride: int = 1, pad: int = 0) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        x = norm(F.conv2d(x, weight, stride=stride, padding=pad, groups=x.shape[1] // weight.shape[1]), f"{name}.bn")
        return F.prelu(x, state[f"{name}.prelu.weight"]) if f"{name}.prelu.weight" in state else x

    def plain(x: Tensor, name: str) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def gates(rows: Tensor, columns: Tensor, name: str) -> Tensor:
        def gate(values: Tensor, last: str) -> Tensor:
            middle = norm(plain(values, f"{name}.conv1"), f"{name}.bn1")
            return plain(middle * (middle + 3).clamp(0, 6) / 6, f"{name}.{last}").sigmoid()

        return gate(rows, "conv2") * gate(columns, "conv3")  # everything between is per position

    def block(x: Tensor, name: str, stride: int) -> Tensor:
        out, parts, start = conv(x, f"{name}.conv"), [], 0
        for index in range(4):
            weight = state.get(f"{name}.conv_dw.mixed_depthwise_conv.{index}.weight")
            if weight is not None:
                part = out[:, start : start + len(weight)]
                parts.append(F.conv2d(part, weight, None, stride, weight.shape[2] // 2, groups=len(weight)))
                start += len(weight)
        out = torch.cat(parts, 1)
        out = out * gates(out.mean(3, keepdim=True), out.mean(2, keepdim=True), f"{name}.CA")
        out = conv(out, f"{name}.project")
        return out if stride == 2 else x + out

    x = conv(x, "features.0", 2, 1)
    x = conv(x, "features.1", 1, 1)
    for place, count in ((2, 0), (3, 9), (4, 0), (5, 16), (6, 0), (7, 6)):
        if not count:
            x = block(x, f"features.{place}", 2)
        for index in range(count):
            x = block(x, f"features.{place}.model.{index}", 1)
    x = conv(x, "features.8")
    heads = []
    for index in range(2):
        name = f"cat_head{index}.CoordAtt"
        heads.append(gates(conv(x, f"{name}.Linear_h"), conv(x, f"{name}.Linear_w"), name))
    embedding = conv(x * torch.maximum(*heads), "Linear").flatten(1)
    return embedding, embedding @ state["fc.weight"].T + state["fc.bias"]


def published(network: Ddamfn) -> Tensors:
    """A state dict with the tensors that the authors' network holds and never uses."""
    state = dict(network.state_dict())
    for place, channels in (("features.2", 128), ("features.3.model.0", 128)):
        for part in ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "prelu.weight"):
            state[f"{place}.conv_dw.{part}"] = torch.ones(channels)
        state[f"{place}.conv_dw.bn.num_batches_tracked"] = torch.tensor(3)
    for head in ("cat_head0", "cat_head1"):
        state[f"{head}.CoordAtt.Linear.conv.weight"] = torch.ones(512, 1, 7, 7)
        state[f"{head}.CoordAtt.Linear.bn.weight"] = torch.ones(512)
    state["bn.weight"] = torch.ones(8)
    return state


def test_it_is_the_network_the_names_say() -> None:
    network = settled(Ddamfn(8), 112)
    x = pictures(2, 112)
    with torch.inference_mode():
        embedding, scores = network(x)
        expected = reference(network.state_dict(), x)
    assert embedding.shape == (2, 512)
    assert scores.shape == (2, 8)
    assert 0.1 < (embedding[0] - embedding[1]).std() < 10
    torch.testing.assert_close(embedding, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, expected[1], rtol=1e-4, atol=1e-4)


def test_it_has_the_published_size() -> None:
    assert sum(weight.numel() for weight in Ddamfn(8).parameters()) == pytest.approx(4.11e6, rel=0.002)


def test_published_checkpoints_load_with_what_they_hold_in_vain() -> None:
    source, fresh = lively(Ddamfn(8)), Ddamfn(8).eval()
    assert isinstance(source, Ddamfn)
    load_into(fresh, {f"module.{name}": tensor for name, tensor in published(source).items()}, "ddam.pth")
    x = pictures(1, 112)
    with torch.inference_mode():
        assert torch.equal(fresh(x)[1], source(x)[1])


def test_anything_else_is_refused() -> None:
    network = Ddamfn(8)
    state = published(network)
    state["features.2.conv_dw.extra.weight"] = torch.ones(3)
    with pytest.raises(EmobeamError, match=r"ddam\.pth.*features\.2\.conv_dw\.extra\.weight"):
        load_into(network, state, "ddam.pth")
