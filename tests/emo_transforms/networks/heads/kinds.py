"""Heads of every architecture on small inputs, and numbers to feed them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.tasks import TASKS

SHAPES = {"s8": (2, 8, 8), "s16": (3, 4, 4), "s32": (4, 2, 2)}
LENGTHS = {"embedding": 7, "scores": 10}
EIGHT = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
OFFER = Offer("f00d", SHAPES, LENGTHS, (*EIGHT, "valence", "arousal"), backbone_weights="w.safetensors")

KINDS: dict[str, dict[str, Any]] = {
    "tam": {"final_channels": 6},
    "tam of frames": {"final_channels": 6, "form": "frame", "time_patch": 2},
    "tcn of maps": {"architecture": "tcn", "final_channels": 6, "window": 8, "dim": 12},
    "tcn that looks ahead": {"architecture": "tcn", "causal": False, "kernel": 5, "window": 8, "dim": 12},
    "tcn of an embedding": {"architecture": "tcn", "inputs": ("embedding",), "window": 8, "dim": 12},
    "frame of an embedding": {"architecture": "frame"},
    "frame of a map": {"architecture": "frame", "inputs": ("s32",), "final_channels": 6},
    "frame of all": {"architecture": "frame", "inputs": ("s8", "s32", "embedding", "scores"), "hidden": 0},
}


def make(kind: str, task: str = "mtl", **more: Any) -> Head:
    return new_head(TASKS[task], OFFER, **{**KINDS[kind], **more})


def arrays(batch: int, window: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    maps = {name: rng.normal(size=(batch, window, *shape)).astype(np.float16) for name, shape in SHAPES.items()}
    return maps | {name: rng.normal(size=(batch, window, n)).astype(np.float32) for name, n in LENGTHS.items()}


def tensors(batch: int, window: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).float() for name, array in arrays(batch, window, seed).items()}


def shaken(module: torch.nn.Module) -> Any:
    """Statistics of a fresh batch norm are 0 and 1, which would hide a mix-up; so are the weights of layer norms."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if "norm" in name and values.is_floating_point():
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return module.eval()


# --- against plain code -----------------------------------------------------------------------------------


def numbers(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: values.detach().double().numpy() for name, values in module.state_dict().items()}
