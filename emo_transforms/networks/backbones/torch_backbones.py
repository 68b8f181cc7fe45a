"""Backbones on torch: built, loaded and run over crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.description import Backbone, Run, check_digest, described
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import feature_maps, maps_and_vectors, trunk
from emobeam.emo_transforms.networks.backbones.published.onnx_module import OnnxNetwork
from emobeam.emo_transforms.networks.backbones.sources import (
    SEED,
    UNTRAINED_SCORES,
    Source,
    classifier,
    source_of,
    timm_classes,
)
from emobeam.emo_transforms.networks.backbones.timm_vectors import scores_length
from emobeam.emo_transforms.networks.checkpoints.reading import HEAD_NAMES, load_into, read_checkpoint
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.config import BackboneConfig
from emobeam.schemas.records import UsageError
from emobeam.schemas.tables import VECTORS

Forward = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class TorchBackbone(Backbone):
    """A backbone on torch, whose network is at hand: to train it, to take its layers, to prepare it.

    Attributes:
        network: in eval mode, on its device.
        forward: outputs by name of normalised pictures [N, 3, S, S]; calls ``network``.
    """

    network: Any
    forward: Forward
    device: str = "cpu"


def load_torch_backbone(config: BackboneConfig, device: str = "cpu") -> TorchBackbone:
    """Builds a backbone and loads its weights; see :func:`.backbones.loading.load_backbone`."""
    return _load(config, device, source_of(config.name, config.weights), None)


def build_backbone(
    name: str, weights: str = "untrained", input_size: int = 0, store: Sequence[str] = ("maps",), device: str = "cpu"
) -> TorchBackbone:
    """Loads a backbone with all that is recorded for it; see :func:`.backbones.loading.describe_backbone`."""
    source = source_of(name, weights)
    if source.fixed and input_size not in (0, source.input_size):
        raise UsageError(
            f"--backbone {name} takes pictures of {source.input_size} px only, not --input-size {input_size}"
        )
    vectors = bool(set(VECTORS) & set(store)) or not source.gives_maps
    if source.is_onnx:
        return _describe_onnx(source, input_size, device)
    state = read_checkpoint(source.uri) if source.uri and vectors else None
    config = BackboneConfig(
        name=source.name,
        weights=source.weights,
        input_size=input_size or source.input_size,
        mean=source.mean,
        std=source.std,
        vectors=vectors,
        classes=_classes(source, state) if vectors else 0,
    )
    config = _with_names(config, source)
    # A network without its classifier still gives the embedding; one that ends with the maps doesn't.
    embeds = state is not None and any(name.endswith("conv_head.weight") for name in state)
    if source.gives_maps and state is not None and not config.classes and not embeds:
        raise UsageError(
            f"--store {','.join(store)}: {weights} holds the maps' part of {name} alone, without a classifier; "
            "embedding and scores need a whole one (--store maps works)"
        )
    return _load(config, device, source, state)


def _describe_onnx(source: Source, input_size: int, device: str) -> TorchBackbone:
    network = OnnxNetwork(source.uri)
    if network.input_size and input_size not in (0, network.input_size):
        raise UsageError(
            f"{source.weights} takes pictures of {network.input_size} px only, not --input-size {input_size}"
        )
    config = BackboneConfig(
        name=source.name,
        weights=source.weights,
        input_size=input_size or network.input_size or source.input_size,
        mean=source.mean,
        std=source.std,
        vectors=True,
        classes=network.scores_length,
    )
    return _loaded(_with_names(config, source), device, source, network)


def _with_names(config: BackboneConfig, source: Source) -> BackboneConfig:
    fitting = config.vectors and len(source.score_names) == config.classes
    return replace(config, score_names=source.score_names) if fitting else config


def _classes(source: Source, state: Mapping[str, Tensor] | None) -> int:
    if state is not None:
        return scores_length(state)
    return timm_classes(source) if source.pretrained else UNTRAINED_SCORES


def _load(config: BackboneConfig, device: str, source: Source, state: Mapping[str, Tensor] | None) -> TorchBackbone:
    if config.vectors:
        network = classifier(source, config.classes)
    else:
        network = trunk(source.name, SEED, tag=source.tag, pretrained=source.pretrained)
    if source.uri and not source.is_onnx:
        state = state if state is not None else read_checkpoint(source.uri)
        load_into(network, state, source.uri, extra=() if config.vectors else (HEAD_NAMES,))
    return _loaded(config, device, source, network)


def _loaded(config: BackboneConfig, device: str, source: Source, network: nn.Module) -> TorchBackbone:
    network.eval().requires_grad_(False)
    digest = tensors_sha256(network.state_dict())
    check_digest(config, digest)
    config = replace(config, weights_sha256=digest)
    forward = _forward(network.to(device), maps=source.gives_maps, vectors=config.vectors)
    run = _torch_run(forward, config, device)
    found = run(np.zeros((1, config.input_size, config.input_size, 3), np.uint8))
    known = described(config, {name: values.shape[1:] for name, values in found.items()})
    lengths = known.embedding, known.scores
    return TorchBackbone(config, known.map_shapes, *lengths, run=run, network=network, forward=forward, device=device)


def _torch_run(forward: Forward, config: BackboneConfig, device: str) -> Run:
    mean = torch.tensor(config.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=device).view(1, 3, 1, 1)

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            pictures = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
            found = forward((pictures - mean) / std)
            return {name: values.cpu().numpy() for name, values in found.items() if values.shape[1]}

    return run


def _forward(network: nn.Module, *, maps: bool, vectors: bool) -> Forward:
    if maps:
        return partial(maps_and_vectors if vectors else feature_maps, network)

    def both(pictures: Tensor) -> dict[str, Tensor]:
        return dict(zip(VECTORS, network(pictures), strict=True))

    return both
