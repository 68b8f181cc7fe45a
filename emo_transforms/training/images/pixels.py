"""Pictures on the device: normalisation, and augmentation of a whole batch at once, every picture by itself.

Random numbers are torch's own on the CPU, whatever the device, so that a seed means the same on both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class FrameAugmentation:
    """What happens to each picture, in this order; the defaults change nothing.

    Attributes:
        flip: probability of mirroring.
        brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x.
        erase: probability that a rectangle is blackened.
        erase_area: smallest and largest share of the picture that it covers.
        blur: smallest and largest standard deviation in px of a 3x3 Gaussian; none where both are 0.
    """

    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.1, 0.1)
    blur: tuple[float, float] = (0.0, 0.0)


AUTHORS = FrameAugmentation(0.5, 0.5, 0.25, 0.25, 0.5, (0.1, 0.1), (0.1, 1.0))
"""As the published code of "Lightweight Models for Emotional Analysis in Video" has it: each frame by itself, so that
the frames of one clip are mirrored and coloured differently."""


def to_float(pictures: Tensor, device: str) -> Tensor:
    """uint8 ``[..., H, W, 3]`` to float32 ``[..., 3, H, W]`` in [0, 1] on the device."""
    return pictures.to(device, non_blocking=True).movedim(-1, -3).float().div_(255)


def normalise(pictures: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``[..., 3, H, W]`` in [0, 1] less the mean, by the standard deviation, per RGB channel."""
    shape = (3, 1, 1)
    centre = torch.tensor(mean, device=pictures.device).view(shape)
    return (pictures - centre) / torch.tensor(std, device=pictures.device).view(shape)


def augment(pictures: Tensor, how: FrameAugmentation) -> Tensor:
    """Augments float32 ``[N, 3, H, W]`` in [0, 1]; the result is in [0, 1] as well."""
    count, device = len(pictures), pictures.device
    if how.flip:
        mirrored = (torch.rand(count) < how.flip).to(device).view(-1, 1, 1, 1)
        pictures = torch.where(mirrored, pictures.flip(-1), pictures)
    if how.brightness:
        pictures = (pictures * _factors(count, how.brightness, device)).clamp(0, 1)
    if how.contrast:
        grey = _grey(pictures).mean(dim=(1, 2, 3), keepdim=True)
        pictures = _blend(pictures, grey, _factors(count, how.contrast, device))
    if how.saturation:
        pictures = _blend(pictures, _grey(pictures), _factors(count, how.saturation, device))
    if how.erase:
        pictures = erase(pictures, how.erase, how.erase_area)
    if how.blur[1]:
        pictures = _blurred(pictures, how.blur)
    return pictures


def erase(pictures: Tensor, probability: float, area: tuple[float, float], fill: Sequence[float] = (0, 0, 0)) -> Tensor:
    """Fills a rectangle of some pictures with one colour (random erasing, Zhong et al. 2020).

    Args:
        pictures: ``[N, 3, H, W]``.
        area: smallest and largest share of the picture; the ratio of edges is between 0.3 and 3.3.
        fill: RGB in [0, 1].
    """
    count, _, height, width = pictures.shape
    hit, share, ratio, down, right = torch.rand(5, count).unbind()
    size = (area[0] + share * (area[1] - area[0])) * height * width
    shape = torch.exp(math.log(0.3) + ratio * (math.log(3.3) - math.log(0.3)))
    tall = (size * shape).sqrt().round().clamp(1, height)
    wide = (size / shape).sqrt().round().clamp(1, width)
    top, left = (down * (height - tall + 1)).floor(), (right * (width - wide + 1)).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    inside_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    mask = inside_rows[:, :, None] & inside_columns[:, None, :] & (hit < probability)[:, None, None]
    colour = torch.tensor(fill, dtype=pictures.dtype, device=pictures.device).view(1, 3, 1, 1)
    return torch.where(mask.unsqueeze(1).to(pictures.device), colour, pictures)


def _factors(count: int, spread: float, device: torch.device) -> Tensor:
    return (1 - spread + 2 * spread * torch.rand(count)).to(device).view(-1, 1, 1, 1)


def _grey(pictures: Tensor) -> Tensor:
    weights = torch.tensor(_GREY, device=pictures.device).view(1, 3, 1, 1)
    return (pictures * weights).sum(dim=1, keepdim=True)


def _blend(pictures: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (other + (pictures - other) * factor).clamp(0, 1)


def _blurred(pictures: Tensor, spread: tuple[float, float]) -> Tensor:
    """A 3x3 Gaussian with a width of its own for each picture; edges are mirrored."""
    width = spread[0] + torch.rand(len(pictures)) * (spread[1] - spread[0])
    side = torch.exp(-0.5 / width.square()).to(pictures.device).view(-1, 1, 1, 1)
    total = 1 + 2 * side
    padded = torch.nn.functional.pad(pictures, (1, 1, 1, 1), mode="reflect")
    lines = (padded[:, :, 1:-1] + side * (padded[:, :, :-2] + padded[:, :, 2:])) / total
    return (lines[..., 1:-1] + side * (lines[..., :-2] + lines[..., 2:])) / total
