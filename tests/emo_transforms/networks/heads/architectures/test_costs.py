from __future__ import annotations

import pytest
import timm
import torch

from emobeam.emo_transforms.networks.heads.architectures.costs import describe, macs_of
from emobeam.emo_transforms.networks.heads.architectures.registry import build
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.tasks import TASKS

OFFER = Offer("f00d", {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}, {"embedding": 1280, "scores": 10})


@pytest.fixture(scope="module")
def backbone() -> tuple[int, int]:
    """Weights and multiplications per frame of the backbone, its final layer among them."""
    network = timm.create_model("mobilenetv4_conv_small", features_only=True).eval()
    return sum(p.numel() for p in network.parameters()), macs_of(network, torch.zeros(1, 3, 224, 224))


def test_the_backbone(backbone: tuple[int, int]) -> None:
    assert (round(backbone[0] / 1e6, 3), round(backbone[1] / 1e6, 1)) == (1.262, 183.5)


@pytest.mark.parametrize(
    ("window", "levels", "millions", "macs", "per_frame"),
    [
        (8, 1, 2.459, 1590, 198.8),
        (8, 2, 3.066, 1655, 206.9),
        (8, 3, 4.328, 1784, 223.0),
        (16, 3, 5.021, 3686, 230.4),
        (32, 3, 7.790, 7844, 245.1),
    ],
)
def test_sizes_of_the_published_model(
    backbone: tuple[int, int], window: int, levels: int, millions: float, macs: int, per_frame: float
) -> None:
    cost = describe(new_head(TASKS["au"], OFFER, levels=levels, window=window).config)
    assert round((backbone[0] + cost.parameters) / 1e6, 3) == millions
    total = window * backbone[1] + cost.macs
    assert round(total / 1e6) == macs
    assert round(total / window / 1e6, 1) == per_frame
    assert set(cost.tokens.values()) == {49 * window // 4}
    assert len(cost.tokens) == levels
    assert (cost.final_parameters, cost.final_macs) == (124_800, window * 128 * 960 * 49)


def test_levels_have_the_published_sizes() -> None:
    module = new_head(TASKS["au"], OFFER).module
    sizes = {name: sum(p.numel() for p in mixer.parameters()) for name, mixer in module.mixers.items()}  # type: ignore[operator]
    assert {name: round(size / 1e6, 3) for name, size in sizes.items()} == {"s8": 1.259, "s16": 0.604, "s32": 1.194}


def test_the_tcn_is_small() -> None:
    """0.85 M weights, 0.84 M multiplications a frame."""
    cost = describe(new_head(TASKS["au"], OFFER, architecture="tcn").config)
    assert 0.84e6 < cost.parameters < 0.855e6
    assert cost.macs_per_frame == 2 * 1120 * 256 + 4 * (3 * 256 + 256 * 256) + 256 * 12
    assert round(cost.macs_per_frame / 1e6, 2) == 0.84


def test_feed_forward_heads() -> None:
    frame = describe(new_head(TASKS["expr"], OFFER, architecture="frame").config)
    assert (frame.parameters, frame.macs) == (1281 * 128 + 129 * 8, 1280 * 128 + 128 * 8)
    assert (frame.final_parameters, frame.final_macs, frame.tokens) == (0, 0, {})
    clip = describe(new_head(TASKS["emi"], OFFER, architecture="clip-statistics").config)
    assert (clip.parameters, clip.macs) == (41 * 64 + 65 * 6, 40 * 64 + 64 * 6)


def test_counting_needs_no_memory_and_leaves_no_hooks() -> None:
    config = new_head(TASKS["au"], OFFER, architecture="frame").config
    module = build(config)
    assert macs_of(module, {"embedding": torch.zeros(2, 3, 1280)}) == 6 * describe(config).macs
    assert not any(layer._forward_hooks for layer in module.modules())
    big = new_head(TASKS["au"], OFFER, architecture="tcn", inputs=("embedding",), window=4096).config
    assert describe(big).macs > 4e8
