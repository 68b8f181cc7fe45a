"""Layers of MTCNN's three networks with the weights of facenet-pytorch 2.6.0, ready for any engine.

The weights are a file of this package, ``mtcnn.safetensors`` (MIT, see ``mtcnn-LICENSE.txt``), number for number what
facenet-pytorch's wheel holds (``python -m tests.emo_transforms.faces.detection.mtcnn_file`` makes it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from emobeam.schemas.records import EmobeamError

WEIGHTS_FILE = "mtcnn.safetensors"

WEIGHTS_SHA256 = "8ce4e09285bef67e7b3a0651dc465e55f8a63fc2729dbdfc407d82ab5e0270e4"
"""Of the file. Other weights find other faces: they come with another ``STAGE1_REVISION``."""

TILE_PLACES = 16
TILE_STEP = 2 * TILE_PLACES
TILE_EDGE = TILE_STEP + 10
"""A tile of P-Net: 16x16 places, 2 px apart, each seeing 12x12 px."""

_MEAN, _SCALE = 127.5, 0.0078125

State = Mapping[str, NDArray[np.float32]]
"""Weights of one network by the names that facenet-pytorch gives them, ``conv1.weight`` and so on."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or dense layer with the slopes of its PReLU and the edge of the max-pool behind it (0: none)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    slope: NDArray[np.float32] | None = None
    pool: int = 0


@dataclass(frozen=True, eq=False)
class Net:
    """One of the three networks, for pictures of ``edge`` px: convolutions, a dense layer or none, output layers."""

    edge: int
    convolutions: tuple[Layer, ...]
    dense: Layer | None
    head: Layer


def shipped_nets() -> tuple[Net, Net, Net]:
    """P-Net, R-Net and O-Net of the package; see :func:`shipped_weights` for what it raises."""
    weights = shipped_weights()
    return _pnet(weights["pnet"]), _rnet(weights["rnet"]), _onet(weights["onet"])


@lru_cache(maxsize=1)
def shipped_weights() -> dict[str, State]:
    """The weights of the package, of ``pnet``, ``rnet`` and ``onet``.

    Raises:
        EmobeamError: their file is missing or damaged.
    """
    file = files("emobeam.emo_transforms.faces.detection") / WEIGHTS_FILE
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256:
            raise ValueError("its digest is another")
        tensors = load(content)
    except (OSError, SafetensorError, ValueError) as error:
        raise EmobeamError(f"{file}: missing or damaged ({error}); install emobeam anew") from error
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, value in tensors.items():
        net, _, name = key.partition(".")
        found.setdefault(net, {})[name] = value.copy()  # torch takes no arrays that can't be written
    return dict(found)


def _pnet(state: State) -> Net:
    layers = (_layer(state, 1, pool=2, first=True), _layer(state, 2), _layer(state, 3))
    return Net(TILE_EDGE, layers, None, _head(state, "conv4", ("1", "2")))


def _rnet(state: State) -> Net:
    layers = (_layer(state, 1, pool=3, first=True), _layer(state, 2, pool=3), _layer(state, 3))
    return Net(24, layers, _layer(state, 4, kind="dense"), _head(state, "dense5", ("1", "2")))


def _onet(state: State) -> Net:
    layers = (
        _layer(state, 1, pool=3, first=True),
        _layer(state, 2, pool=3),
        _layer(state, 3, pool=2),
        _layer(state, 4),
    )
    return Net(48, layers, _layer(state, 5, kind="dense"), _head(state, "dense6", ("1", "2", "3")))


def _layer(state: State, number: int, *, kind: str = "conv", pool: int = 0, first: bool = False) -> Layer:
    weight, bias = state[f"{kind}{number}.weight"], state[f"{kind}{number}.bias"]
    if first:  # pictures come as they are; their normalisation is linear, so it moves into the first layer
        bias = bias - _MEAN * _SCALE * weight.sum(axis=(1, 2, 3))
        weight = weight * np.float32(_SCALE)
    if kind == "dense" and weight.ndim == 2:
        return Layer(weight, bias, state[f"prelu{number}.weight"])
    return Layer(weight, bias.astype(np.float32), state[f"prelu{number}.weight"], pool)


def _head(state: State, name: str, parts: Sequence[str]) -> Layer:
    """The output layers as one; of the two classes only the difference of their logits matters."""
    weights = [state[f"{name}_{part}.weight"] for part in parts]
    biases = [state[f"{name}_{part}.bias"] for part in parts]
    weights[0], biases[0] = weights[0][1:] - weights[0][:1], biases[0][1:] - biases[0][:1]
    return Layer(np.concatenate(weights), np.concatenate(biases))
