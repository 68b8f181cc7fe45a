"""Statistics over the windows or frames of a video."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_VARIANCE = 1e-12
"""A standard deviation is at least the root of it, which keeps its gradient finite where all vectors are equal."""


def statistics_of(vectors: Tensor, weights: Tensor, names: Sequence[str]) -> Tensor:
    """Statistics over the second-last axis, side by side in the order of ``names``.

    Args:
        vectors: ``[..., N, D]``.
        weights: ``[..., N]`` >= 0, at least one of them positive; 0 masks a vector.
        names: of ``mean`` and ``std`` (weighted, the latter of the population), ``min`` and ``max``.

    Returns:
        ``[..., len(names) * D]``.
    """
    found: dict[str, Tensor] = {}
    if {"mean", "std"} & set(names):
        found["mean"], found["std"] = mean_and_std(vectors, weights).chunk(2, dim=-1)
    if {"min", "max"} & set(names):
        masked = (weights == 0).unsqueeze(-1)
        found["min"] = vectors.masked_fill(masked, math.inf).amin(dim=-2)
        found["max"] = vectors.masked_fill(masked, -math.inf).amax(dim=-2)
    return torch.cat([found[name] for name in names], dim=-1)


def mean_and_std(vectors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and population standard deviation over the second-last axis, side by side.

    ``[..., N, D]`` and weights ``[..., N]`` >= 0 to ``[..., 2 D]``. A standard deviation is at least 1e-6, which
    keeps its gradient finite where all vectors are equal.
    """
    share = (weights / weights.sum(dim=-1, keepdim=True)).to(vectors.dtype).unsqueeze(-1)
    mean = (share * vectors).sum(dim=-2, keepdim=True)
    variance = (share * (vectors - mean).square()).sum(dim=-2)
    return torch.cat([mean.squeeze(-2), variance.clamp_min(SMALLEST_VARIANCE).sqrt()], dim=-1)


def pooled_map(maps: Tensor, names: Sequence[str]) -> Tensor:
    """Mean and, if named, population standard deviation over the places of maps.

    Args:
        maps: ``[..., C, H, W]``.
        names: ``mean``, ``std`` or both.

    Returns:
        ``[..., len(names) * C]``.
    """
    mean = maps.mean(dim=(-2, -1), keepdim=True)
    parts = []
    for name in names:
        if name == "mean":
            parts.append(mean.flatten(-3))
        else:  # written out: torch's own variance takes ten times as long on the CPU
            variance = (maps - mean).square().mean(dim=(-2, -1))
            parts.append(variance.clamp_min(SMALLEST_VARIANCE).sqrt())
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
