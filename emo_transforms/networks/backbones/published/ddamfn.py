"""DDAMFN: mixed depthwise kernels with coordinate attention, and attention heads that look along both axes.

Zhang, Zhang, Zhang, Wang & Song 2023, "A Dual-Direction Attention Mixed Feature Network for Facial Expression
Recognition", Electronics 12(17):3595; coordinate attention: Hou, Zhou & Feng 2021 (arXiv 2103.02907); mixed depthwise
kernels: Tan & Le 2019 (arXiv 1907.09595). Layers are named as in the checkpoints the authors distribute
(``model_state_dict`` of ``affecnet8_epoch25_acc0.6469.pth`` and its siblings): ``features.0`` to ``features.8``,
``cat_head0``, ``cat_head1``, ``Linear``, ``fc``. Tensors that the authors' network holds but never uses are known by
name (``unused_names``); anything else that doesn't fit is refused. The names follow the published definition of the
network; no file of the authors was at hand to check them against.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_SIZE = 112
EMBEDDING = 512
_MAP = INPUT_SIZE // 16


class Ddamfn(nn.Module):
    """112 px face crops, ImageNet normalisation, to an embedding and class scores.

    ``forward`` takes [N, 3, 112, 112] and gives (embedding [N, 512], scores [N, K]). The embedding is the vector that
    the authors' final linear layer sees.

    Args:
        scores: length K of the scores: 8 or 7 expressions, 10 where valence and arousal follow.
        heads: attention heads; the published networks have 2.
    """

    unused_names = (
        r"features\..*\.conv_dw\.(bn|prelu)\..*",
        r"cat_head\d+\.CoordAtt\.Linear\..*",
        r"bn\..*",
    )
    """Patterns of tensors in published checkpoints that take no part in the forward pass."""

    def __init__(self, scores: int = 8, heads: int = 2) -> None:
        super().__init__()
        stem: list[nn.Module] = [_Conv(3, 64, 3, stride=2), _Conv(64, 64, 3, groups=64)]
        mixed: list[nn.Module] = [
            _Mixed(64, 64, {3: 64, 5: 32, 7: 32}, stride=2),
            _Stage(9, 64, {3: 96, 5: 32}),
            _Mixed(64, 128, {3: 128, 5: 64, 7: 64}, stride=2),
            _Stage(16, 128, {3: 192, 5: 64}),
            _Mixed(128, 256, {3: 256, 5: 256, 7: 256, 9: 256}, stride=2),
            _Stage(6, 256, {3: 172, 5: 170, 7: 170}),
        ]
        self.features = nn.Sequential(*stem, *mixed, _Conv(256, EMBEDDING, 1))
        self.head_names = [f"cat_head{index}" for index in range(heads)]
        for name in self.head_names:
            self.add_module(name, _Head())
        self.Linear = _Normed(EMBEDDING, EMBEDDING, _MAP, groups=EMBEDDING)
        self.fc = nn.Linear(EMBEDDING, scores) if scores else None

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures ``[N, 3, 112, 112]`` to the embedding ``[N, 512]`` and scores ``[N, K]``."""
        x = self.features(pictures)
        attention = torch.stack([self.get_submodule(name)(x) for name in self.head_names]).amax(dim=0)
        embedding = self.Linear(x * attention).flatten(1)
        scores = embedding.new_zeros(len(embedding), 0) if self.fc is None else self.fc(embedding)
        return embedding, scores


class _Normed(nn.Module):
    """Convolution and normalisation. ``kernel`` without ``pad``: no padding."""

    def __init__(
        self, ins: int, outs: int, kernel: int | tuple[int, int], *, stride: int = 1, groups: int = 1, pad: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, pad, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class _Conv(_Normed):
    """The same with a PReLU, padded to keep the size at stride 1."""

    def __init__(self, ins: int, outs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(ins, outs, kernel, stride=stride, groups=groups, pad=kernel // 2)
        self.prelu = nn.PReLU(outs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(super().forward(x))
        return out


class _MixedDepthwise(nn.Module):
    """Depthwise convolutions whose kernels differ by group of channels, without normalisation (as published)."""

    def __init__(self, split: dict[int, int], stride: int) -> None:
        super().__init__()
        self.channels = list(split.values())
        self.mixed_depthwise_conv = nn.ModuleList(
            nn.Conv2d(count, count, kernel, stride, kernel // 2, groups=count, bias=False)
            for kernel, count in split.items()
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split_with_sizes(self.channels, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.mixed_depthwise_conv, parts, strict=True)], dim=1)


class _Gates(nn.Module):
    """What both kinds of coordinate attention share: descriptors of rows and columns to one gate each, in 0 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.conv1 = nn.Conv2d(channels, middle, 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, channels, 1)
        self.conv3 = nn.Conv2d(middle, channels, 1)

    def gates(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Rows [N, C, H, 1] and columns [N, C, 1, W] to gates [N, C, H, W]."""
        both = torch.cat([rows, columns.transpose(2, 3)], dim=2)
        mixed = functional.hardswish(self.bn1(self.conv1(both)))
        of_rows, of_columns = mixed.split_with_sizes([rows.shape[2], columns.shape[3]], dim=2)
        gates: Tensor = self.conv3(of_columns.transpose(2, 3)).sigmoid() * self.conv2(of_rows).sigmoid()
        return gates


class _CoordinateAttention(_Gates):
    """Gates from the means along both axes."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))


class _LearntCoordinateAttention(_Gates):
    """Gates alone, from learnt weightings along both axes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.Linear_h = _Normed(channels, channels, (1, _MAP), groups=channels)
        self.Linear_w = _Normed(channels, channels, (_MAP, 1), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.gates(self.Linear_h(x), self.Linear_w(x))


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.CoordAtt = _LearntCoordinateAttention(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = self.CoordAtt(x)
        return gates


class _Mixed(nn.Module):
    """Bottleneck: 1x1 expansion, mixed depthwise convolution, coordinate attention, linear 1x1 projection."""

    def __init__(self, ins: int, outs: int, split: dict[int, int], *, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        expanded = sum(split.values())
        self.residual = residual
        self.conv = _Conv(ins, expanded, 1)
        self.conv_dw = _MixedDepthwise(split, stride)
        self.CA = _CoordinateAttention(expanded)
        self.project = _Normed(expanded, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.CA(self.conv_dw(self.conv(x))))
        return x + out if self.residual else out


class _Stage(nn.Module):
    def __init__(self, count: int, channels: int, split: dict[int, int]) -> None:
        super().__init__()
        blocks: Sequence[nn.Module] = [_Mixed(channels, channels, split, residual=True) for _ in range(count)]
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out
