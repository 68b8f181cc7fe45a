"""What a head costs: weights, multiplications, tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.architectures.tam import Tam
from emobeam.emo_transforms.networks.heads.config import HeadConfig


@dataclass(frozen=True)
class Cost:
    """Sizes of a head. The backbone's final layer is counted apart: the backbone has it as well.

    Attributes:
        parameters: weights without those of the final layer.
        macs: multiply-accumulate operations of linear and convolutional layers for one window, final layer excepted.
        final_parameters, final_macs: of the final layer; 0 where the head has none.
        window: frames of a window.
        tokens: of each map that a mixer reads.
    """

    parameters: int
    macs: int
    final_parameters: int
    final_macs: int
    window: int
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def macs_per_frame(self) -> float:
        """Of windows side by side, final layer excepted."""
        return self.macs / self.window


def describe(config: HeadConfig) -> Cost:
    """The cost of a head, counted on a network without values: neither memory nor time is spent on it.

    What heads of clip scope do once for a whole video, whatever its length, is part of ``macs``.
    """
    with torch.device("meta"):
        module = build(config).eval()
        shapes: dict[str, tuple[int, ...]] = {
            **config.map_shapes,
            **{k: (n,) for k, n in config.vector_lengths.items()},
        }
        batch = {name: torch.zeros(1, config.window, *shapes[name]) for name in module.inputs}
        with torch.no_grad(), count_macs(module) as total:
            if config.scope == "clip":
                module.pool(module.vectors(batch), torch.ones(1))
            else:
                module(batch)
    parameters = sum(p.numel() for p in module.parameters())
    final_parameters = final_macs = 0
    if module.final is not None:
        final_parameters = sum(p.numel() for p in module.final.parameters())
        _, height, width = config.map_shapes["s32"]
        final_macs = module.final.conv.weight.numel() * height * width * config.window
    tokens = {}
    if isinstance(module, Tam):
        tokens = {name: int(getattr(mixer, "tokens")) for name, mixer in module.mixers.items()}  # noqa: B009
    return Cost(
        parameters - final_parameters, total[0] - final_macs, final_parameters, final_macs, config.window, tokens
    )


def macs_of(module: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulate operations of the linear and convolutional layers in one call of a module."""
    with torch.no_grad(), count_macs(module) as total:
        module(*inputs)
    return total[0]


@contextmanager
def count_macs(module: nn.Module) -> Iterator[list[int]]:
    """Counts while the module is called; the list's only element is the sum so far."""
    total = [0]

    def count(layer: Any, _: Any, output: Tensor) -> None:
        # Every output value is a sum over one slice of the weights.
        total[0] += output.numel() * math.prod(layer.weight.shape[1:])

    layers = [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        yield total
    finally:
        for handle in handles:
            handle.remove()
