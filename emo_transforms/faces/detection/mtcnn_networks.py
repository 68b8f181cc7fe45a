"""The three networks of MTCNN (Zhang et al., 2016) with the weights of facenet-pytorch 2.6.0, on any engine.

Every network sees pictures of one size in batches of one size, so its results depend on nothing but the picture:
P-Net, which is convolutional, runs over tiles of 42x42 px, 16x16 places at a time. Inputs are float32 [n, edge, edge,
3] in 0 to 255; the first output is a logit (face against none), further ones are as in facenet-pytorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.detection.mtcnn_layers import TILE_PLACES, Layer, Net, shipped_nets
from emobeam.emo_transforms.networks.engines import check_engine, compile_model, in_batches, openvino_module


class MtcnnNetworks:
    """P-Net, R-Net and O-Net on one engine.

    Args:
        engine: see ``emobeam.emo_transforms.networks.engines``.
        device: for torch.
        batches: tiles and crops per call of the three networks; by default what keeps the device busy.

    Raises:
        EmobeamError: the package's weights are missing or damaged.
        UsageError: the engine is missing.
    """

    def __init__(self, engine: str = "torch", device: str = "cpu", batches: tuple[int, int, int] | None = None) -> None:
        check_engine(engine)
        # A GPU wants thousands of pictures at once; a core is fastest with what its cache holds.
        self._batches = batches or ((16, 16, 4) if device == "cpu" else (256, 1024, 256))
        nets = shipped_nets()
        if engine == "torch":
            from emobeam.emo_transforms.faces.detection.mtcnn_torch import on_torch  # whose import takes seconds

            self._networks = [on_torch(net, device) for net in nets]
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


def _openvino_model(net: Net, batch: int, edge: int) -> Any:
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


def _convolution(ops: Any, x: Any, layer: Layer) -> Any:
    x = ops.convolution(x, ops.constant(layer.weight), [1, 1], [0, 0], [0, 0], [1, 1])
    return ops.add(x, ops.constant(layer.bias.reshape(1, -1, 1, 1)))


def _dense(ops: Any, x: Any, layer: Layer) -> Any:
    return ops.add(ops.matmul(x, ops.constant(layer.weight), False, True), ops.constant(layer.bias.reshape(1, -1)))
