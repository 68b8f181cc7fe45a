"""Batch norms of a network: keeping their running statistics as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Every batch norm of torch; those of timm are kinds of these. (What they share in torch is private.)"""


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batches of the block are normalised by their own statistics and leave no trace in the running ones."""
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if n.num_batches_tracked is None else n.num_batches_tracked.clone() for n in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)


def freeze_norms(network: nn.Module) -> None:
    """From here on batches are normalised by the running statistics, which stay as they are."""
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.eval()
