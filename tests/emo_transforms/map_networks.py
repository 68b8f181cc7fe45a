"""A backbone of maps, untrained and with lively weights, and crops for it."""

from __future__ import annotations

from functools import cache

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones import Backbone, load_backbone
from emobeam.schemas.config import BackboneConfig

NAME = "mobilenetv4_conv_small"


@cache
def untrained() -> Backbone:
    return load_backbone(BackboneConfig())


@cache
def lively() -> Backbone:
    """A backbone whose normalisation layers have weights, and statistics of pictures."""
    backbone = load_backbone(BackboneConfig())
    backbone.network.load_state_dict(lively_state())
    return backbone


@cache
def lively_model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model: nn.Module = timm.create_model(NAME, features_only=True, pretrained=False)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
                module.momentum = None  # the mean over all batches
    with torch.no_grad():
        model.train()(normalised(crops(8, seed=9)))
    return model.eval()


def lively_state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in lively_model().state_dict().items()}


def crops(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Parts of a photograph, 224 px."""
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(seed)
    places = rng.integers(0, photograph.shape[0] - 224, (count, 2)).tolist()
    return [np.ascontiguousarray(photograph[y : y + 224, x : x + 224]) for y, x in places]


def normalised(pictures: list[NDArray[np.uint8]]) -> Tensor:
    config = BackboneConfig()
    scaled = (np.stack(pictures) / 255 - config.mean) / config.std
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))
