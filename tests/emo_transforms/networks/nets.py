"""Networks whose numbers are alive: normalisation layers with weights and statistics, as after training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fills a network with numbers that keep its outputs of the order of one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.ndim < 2:
            spread = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(spread + 0.6 if name.endswith("weight") else spread * 0.4 - 0.2)
        else:
            fan = tensor[0].numel()
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (1.6 / fan) ** 0.5)
    return network.eval()


def settled(network: nn.Module, size: int) -> nn.Module:
    """As :func:`lively`, with the statistics that its layers see: deep networks stay of the order of one."""
    lively(network)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        network.train()(pictures(4, size, seed=9))
    return network.eval()


def pictures(count: int, size: int, seed: int = 1) -> Tensor:
    """Normalised noise, [count, 3, size, size]."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
