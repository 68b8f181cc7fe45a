"""The identity of a set of weights, whatever file it came in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of tensors, in the order of names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        _take(digest, name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def arrays_sha256(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The same of arrays: equal where these hold what the tensors hold."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        _take(digest, name, array.dtype.name, list(arrays[name].shape))
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _take(digest: Any, name: str, kind: str, shape: list[int]) -> None:
    digest.update(f"{name}|{kind}|{shape}|".encode())
