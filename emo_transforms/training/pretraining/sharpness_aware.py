"""Sharpness-aware minimisation (Foret et al., ICLR 2021): a step by the gradient at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.training.pretraining.batch_norms import frozen_statistics

_TINY = 1e-12


def sam_step(network: nn.Module, optimiser: torch.optim.Optimizer, loss_of: Callable[[], Tensor], rho: float) -> Tensor:
    """One step: gradient at ``w + rho g / |g|``, applied at ``w``.

    Running statistics of batch norms are those of the first pass. Twice the cost of a plain step.

    Args:
        loss_of: computes the loss of the batch; called twice.
        rho: radius of the neighbourhood, in the norm over all parameters together.

    Returns:
        The loss at ``w``.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"] if p.requires_grad]
    optimiser.zero_grad(set_to_none=True)
    loss = loss_of()
    loss.backward()  # type: ignore[no-untyped-call]
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        scale = rho / (_norm(p.grad for p in parameters if p.grad is not None) + _TINY)
        for p in parameters:
            if p.grad is not None:
                p.add_(p.grad * scale)
    optimiser.zero_grad(set_to_none=True)
    with frozen_statistics(network):
        loss_of().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old)
    optimiser.step()
    return loss.detach()


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    return norm
