"""The three networks of MTCNN (Zhang et al., 2016) with the weights of facenet-pytorch 2.6.0, on any engine.

Every network sees pictures of one size in batches of one size, so its results depend on nothing but the picture:
P-Net, which is convolutional, runs over tiles of 42x42 px, 16x16 places at a time. Inputs are float32 [n, edge, edge,
3] in 0 to 255; the first output is a logit (face against none), further ones are as in facenet-pytorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from emobeam.emo_transforms.networks.engines import Network, check_engine, compile_model, in_batches, openvino_module
from emobeam.schemas.records import EmobeamError

TILE_PLACES = 16
TILE_STEP = 2 * TILE_PLACES
TILE_EDGE = TILE_STEP + 10
"""A tile of P-Net: 16x16 places, 2 px apart, each seeing 12x12 px."""

_MEAN, _SCALE = 127.5, 0.0078125


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution or dense layer with the slopes of its PReLU and the edge of the max-pool behind it (0: none)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    slope: NDArray[np.float32] | None = None
    pool: int = 0


@dataclass(frozen=True, eq=False)
class _Net:
    edge: int
    convolutions: tuple[_Layer, ...]
    dense: _Layer | None
    head: _Layer


class MtcnnNetworks:
    """P-Net, R-Net and O-Net on one engine.

    Args:
        engine: see ``emobeam.emo_transforms.networks.engines``.
        device: for torch.
        batches: tiles and crops per call of the three networks; by default what keeps the device busy.

    Raises:
        EmobeamError: facenet-pytorch is missing.
        UsageError: the engine is missing.
    """

    def __init__(self, engine: str = "torch", device: str = "cpu", batches: tuple[int, int, int] | None = None) -> None:
        check_engine(engine)
        # A GPU wants thousands of pictures at once; a core is fastest with what its cache holds.
        self._batches = batches or ((16, 16, 4) if device == "cpu" else (256, 1024, 256))
        nets = (_pnet(), _rnet(), _onet())
        if engine == "torch":
            self._networks = [_on_torch(net, device) for net in nets]
        else:
            precision = engine.removeprefix("openvino-")
            shapes = [(batch, net.edge) for batch, net in zip(self._batches, nets, strict=True)]
            self._networks = [
                compile_model(_openvino_model(net, *shape), precision) for net, shape in zip(nets, shapes, strict=True)
            ]

    def propose(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """P-Net on tiles [n, 42, 42, 3]: [n, 16, 16, 5], logit and shifts of the four edges."""
        return in_batches(self._networks[0], tiles, self._batches[0], (TILE_PLACES, TILE_PLACES, 5))

    def refine(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """R-Net on crops [n, 24, 24, 3]: [n, 5], logit and shifts of the four edges."""
        return in_batches(self._networks[1], crops, self._batches[1], (5,))

    def output(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """O-Net on crops [n, 48, 48, 3]: [n, 15], logit, shifts, x of the five landmarks, then their y."""
        return in_batches(self._networks[2], crops, self._batches[2], (15,))


def _pnet() -> _Net:
    state = _state("PNet")
    layers = (_layer(state, 1, pool=2, first=True), _layer(state, 2), _layer(state, 3))
    return _Net(TILE_EDGE, layers, None, _head(state, "conv4", ("1", "2")))


def _rnet() -> _Net:
    state = _state("RNet")
    layers = (_layer(state, 1, pool=3, first=True), _layer(state, 2, pool=3), _layer(state, 3))
    return _Net(24, layers, _layer(state, 4, kind="dense"), _head(state, "dense5", ("1", "2")))


def _onet() -> _Net:
    state = _state("ONet")
    layers = (
        _layer(state, 1, pool=3, first=True),
        _layer(state, 2, pool=3),
        _layer(state, 3, pool=2),
        _layer(state, 4),
    )
    return _Net(48, layers, _layer(state, 5, kind="dense"), _head(state, "dense6", ("1", "2", "3")))


def _state(name: str) -> dict[str, NDArray[np.float32]]:
    try:
        from facenet_pytorch.models import mtcnn
    except ImportError as error:
        raise EmobeamError(
            "MTCNN needs facenet-pytorch, whose own pins contradict apache-beam's; "
            "install it past them: pip install --no-deps facenet-pytorch==2.6.0"
        ) from error
    return {key: value.numpy() for key, value in getattr(mtcnn, name)().state_dict().items()}


def _layer(
    state: dict[str, NDArray[np.float32]], number: int, *, kind: str = "conv", pool: int = 0, first: bool = False
) -> _Layer:
    weight, bias = state[f"{kind}{number}.weight"], state[f"{kind}{number}.bias"]
    if first:  # pictures come as they are; their normalisation is linear, so it moves into the first layer
        bias = bias - _MEAN * _SCALE * weight.sum(axis=(1, 2, 3))
        weight = weight * np.float32(_SCALE)
    if kind == "dense" and weight.ndim == 2:
        return _Layer(weight, bias, state[f"prelu{number}.weight"])
    return _Layer(weight, bias.astype(np.float32), state[f"prelu{number}.weight"], pool)


def _head(state: dict[str, NDArray[np.float32]], name: str, parts: Sequence[str]) -> _Layer:
    """The output layers as one; of the two classes only the difference of their logits matters."""
    weights = [state[f"{name}_{part}.weight"] for part in parts]
    biases = [state[f"{name}_{part}.bias"] for part in parts]
    weights[0], biases[0] = weights[0][1:] - weights[0][:1], biases[0][1:] - biases[0][:1]
    return _Layer(np.concatenate(weights), np.concatenate(biases))


def _on_torch(net: _Net, device: str) -> Network:
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


def _tensors(layer: _Layer, device: str) -> tuple[Tensor, Tensor, Tensor, int]:
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


def _openvino_model(net: _Net, batch: int, edge: int) -> Any:
    openvino = openvino_module()
    ops = openvino.opset13
    source = ops.parameter([batch, edge, edge, 3], np.float32)
    x = ops.transpose(source, ops.constant([0, 3, 1, 2]))
    for layer in net.convolutions:
        x = ops.prelu(_convolution(ops, x, layer), ops.constant(layer.slope))
        if layer.pool:
            edges = [layer.pool, layer.pool]
            x = ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], edges, "ceil").output(0)
    if net.dense is None:
        x = ops.transpose(_convolution(ops, x, net.head), ops.constant([0, 2, 3, 1]))
    else:
        x = ops.reshape(ops.transpose(x, ops.constant([0, 3, 2, 1])), ops.constant([batch, -1]), False)
        x = ops.prelu(_dense(ops, x, net.dense), ops.constant(net.dense.slope))
        x = _dense(ops, x, net.head)
    return openvino.Model([x], [source], "mtcnn")


def _convolution(ops: Any, x: Any, layer: _Layer) -> Any:
    x = ops.convolution(x, ops.constant(layer.weight), [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.add(x, ops.constant(layer.bias.reshape(1, -1, 1, 1)))


def _dense(ops: Any, x: Any, layer: _Layer) -> Any:
    return ops.add(ops.matmul(x, ops.constant(layer.weight), False, True), ops.constant(layer.bias.reshape(1, -1)))
