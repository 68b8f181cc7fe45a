"""Small networks that give vectors, and crops for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones import Backbone, describe_backbone
from emobeam.schemas.config import BackboneConfig

SMALL = "mobilenetv3_small_050"
"""A timm classifier that is quick on a CPU; embedding 1024."""
MAPS = "mobilenetv4_conv_small_050"
HALF = (0.5, 0.5, 0.5)


def crops(count: int, size: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Parts of a photograph."""
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(seed)
    places = rng.integers(0, photograph.shape[0] - size, (count, 2)).tolist()
    return [np.ascontiguousarray(photograph[y : y + size, x : x + size]) for y, x in places]


def normalised(config: BackboneConfig, pictures: list[NDArray[np.uint8]]) -> Tensor:
    scaled = (np.stack(pictures) / 255 - config.mean) / config.std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


def close(found: NDArray[np.float32], wanted: Tensor) -> None:
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-4 * float(wanted.abs().max()))


@cache
def lively(name: str, size: int, *store: str) -> Backbone:
    """A backbone whose normalisation layers have statistics of pictures, so that values are neither 0 nor huge."""
    backbone = describe_backbone(name, "untrained", size, store)
    with torch.no_grad():
        for module in backbone.network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                module.momentum = None
        backbone.network.train()(normalised(backbone.config, crops(8, size, seed=9))) if not backbone.map_shapes else (
            backbone.network.network.train()(normalised(backbone.config, crops(8, size, seed=9)))
        )
    backbone.network.eval()
    return backbone
