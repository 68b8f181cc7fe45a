"""MTCNN's networks on torch. Imported where that engine is asked for, and only there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emobeam.emo_transforms.faces.detection.mtcnn_layers import Layer, Net
from emobeam.emo_transforms.networks.engines import Network


def on_torch(net: Net, device: str) -> Network:
    """A network that takes batches of pictures [n, edge, edge, 3], see ``.faces.detection.mtcnn_networks``.

    Args:
        device: of torch.
    """
    layers = [_tensors(layer, device) for layer in net.convolutions]
    dense = _tensors(net.dense, device) if net.dense else None
    head = _tensors(net.head, device)

    def run(values: NDArray[Any]) -> list[NDArray[np.float32]]:
        with torch.inference_mode(), one_thread(), torch.backends.cudnn.flags(allow_tf32=False):
            # [n, H, W, 3] in memory is what torch calls channels last, its faster layout.
            x = torch.from_numpy(values).to(device).permute(0, 3, 1, 2)
            for weight, bias, slope, pool in layers:
                x = functional.prelu(functional.conv2d(x, weight, bias), slope)
                if pool:
                    x = functional.max_pool2d(x, pool, 2, ceil_mode=True)
            if dense is None:
                return [functional.conv2d(x, head[0], head[1]).permute(0, 2, 3, 1).cpu().numpy()]
            x = x.permute(0, 3, 2, 1).flatten(1)
            x = functional.prelu(functional.linear(x, dense[0], dense[1]), dense[2])
            return [functional.linear(x, head[0], head[1]).cpu().numpy()]

    return run


def _tensors(layer: Layer, device: str) -> tuple[Tensor, Tensor, Tensor, int]:
    weight = torch.from_numpy(layer.weight).to(device)
    if weight.ndim == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    slope = torch.zeros(1) if layer.slope is None else torch.from_numpy(layer.slope)
    return weight, torch.from_numpy(layer.bias).to(device), slope.to(device), layer.pool


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: the last bits follow the number of threads; workers give the parallelism."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
