"""MobileFaceNet: a small face network of depthwise blocks (Chen, Liu, Gao & Han 2018, arXiv 1804.07573).

HSEmotion's ``mbf_va_mtl`` puts a linear layer of ten scores on the 512-number embedding of the wide variant (every
bottleneck output twice as wide as in the paper, 2.06 M weights, 438 M multiply-adds at 112 px). Weights are found by
name in checkpoints of two families:

* ``features.layers.N.layers.M...`` with ``fc``: InsightFace's naming below a ``Sequential`` of ``features`` and ``fc``,
  which is what HSEmotion pickled; without ``features.`` in front it is InsightFace's face-recognition network.
* ``conv1.conv.weight``, ``conv2_dw``, ``conv_23``, ``conv_3.model.0`` ... ``conv_6_sep``, ``conv_6_dw`` or
  ``output_layer``: the naming of face.evoLVe and its descendants.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

INPUT_SIZE = 112
EMBEDDING = 512
_EXPANDED = (128, 256, 512, 256)
"""Channels inside the bottlenecks of the 28, 14 and first 7 px stages, and of the last blocks."""

_PARTS = {
    "conv1": "layers.0",
    "conv2_dw": "layers.1",
    "conv_23": "layers.2",
    "conv_3": "layers.3",
    "conv_34": "layers.4",
    "conv_4": "layers.5",
    "conv_45": "layers.6",
    "conv_5": "layers.7",
    "conv_6_sep": "conv_sep",
    "conv_6_dw": "features.layers.0",
    "linear": "features.layers.2",
    "bn": "features.layers.3",
}
_STEPS = {"conv": "0", "conv_dw": "1", "project": "2"}
_LAYERS = {"conv": "0", "bn": "1", "prelu": "2"}


class MobileFaceNet(nn.Module):
    """112 px face crops, mean and std 0.5, to an embedding and class scores.

    ``forward`` takes [N, 3, 112, 112] and gives (embedding [N, 512], scores [N, K]); with ``scores=0`` the scores are
    [N, 0].

    Args:
        scores: length K of the scores, 10 for ``mbf_va_mtl``.
        width: 2 for InsightFace's and HSEmotion's variant, 1 for the widths of the paper.
    """

    def __init__(self, scores: int = 10, width: int = 2) -> None:
        super().__init__()
        self.features = _Trunk(width)
        self.fc = nn.Linear(EMBEDDING, scores) if scores else None

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding and scores, see above."""
        embedding = self.features(pictures)
        scores = embedding.new_zeros(len(embedding), 0) if self.fc is None else self.fc(embedding)
        return embedding, scores

    def published_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a checkpoint under the names used here; names of neither family stay as they are."""
        if any(name.startswith("conv_sep.") for name in state):  # InsightFace's own file: nothing in front
            return {name if name.startswith("fc.") else f"features.{name}": tensor for name, tensor in state.items()}
        if any("conv_6_sep." in name for name in state):
            return {_evolved_name(name): tensor for name, tensor in state.items()}
        return dict(state)


class _Trunk(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        narrow, wide = 64 * width, 128 * width
        first, second, third, last = _EXPANDED
        self.layers = nn.ModuleList(
            [
                _Conv(3, narrow, 3, stride=2),
                _Conv(narrow, narrow, 3, groups=64),  # truly depthwise at width 1 alone, as published
                _Bottleneck(narrow, narrow, first, stride=2),
                _Stage(narrow, first, 4),
                _Bottleneck(narrow, wide, second, stride=2),
                _Stage(wide, second, 6),
                _Bottleneck(wide, wide, third, stride=2),
                _Stage(wide, last, 2),
            ]
        )
        self.conv_sep = _Conv(wide, 512, 1)
        self.features = _GlobalDepthwise()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        embedding: Tensor = self.features(self.conv_sep(x))
        return embedding


class _Conv(nn.Module):
    """Convolution and normalisation, with a PReLU unless ``linear``."""

    def __init__(
        self, ins: int, outs: int, kernel: int, *, stride: int = 1, groups: int = 1, linear: bool = False, pad: int = -1
    ) -> None:
        super().__init__()
        padding = kernel // 2 if pad < 0 else pad
        conv = nn.Conv2d(ins, outs, kernel, stride, padding, groups=groups, bias=False)
        parts: list[nn.Module] = [conv, nn.BatchNorm2d(outs)]
        self.layers = nn.Sequential(*parts) if linear else nn.Sequential(*parts, nn.PReLU(outs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Bottleneck(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection."""

    def __init__(self, ins: int, outs: int, expanded: int, *, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.Sequential(
            _Conv(ins, expanded, 1),
            _Conv(expanded, expanded, 3, stride=stride, groups=expanded),
            _Conv(expanded, outs, 1, linear=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class _Stage(nn.Module):
    def __init__(self, channels: int, expanded: int, count: int) -> None:
        super().__init__()
        blocks = (_Bottleneck(channels, channels, expanded, residual=True) for _ in range(count))
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _GlobalDepthwise(nn.Module):
    """A 7x7 weight per channel in place of average pooling, then a linear layer: the paper's GDConv."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Conv(512, 512, INPUT_SIZE // 16, groups=512, linear=True, pad=0),
            nn.Flatten(),
            nn.Linear(512, EMBEDDING, bias=False),
            nn.BatchNorm1d(EMBEDDING),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def _evolved_name(name: str) -> str:
    """``conv_3.model.1.conv_dw.bn.weight`` as ``features.layers.3.layers.1.layers.1.layers.1.weight``."""
    part, *rest = name.removeprefix("features.").removeprefix("output_layer.").split(".")
    if part not in _PARTS or not rest:
        return name
    own = ["features", _PARTS[part]]
    if rest[0] == "model" and len(rest) > 2:
        own += ["layers", rest[1]]
        rest = rest[2:]
    if rest[0] in _STEPS and len(rest) == 3:
        own += ["layers", _STEPS[rest.pop(0)]]
    if rest[0] in _LAYERS and len(rest) == 2:
        own += ["layers", _LAYERS[rest.pop(0)]]
    return ".".join([*own, *rest])
