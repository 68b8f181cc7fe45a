"""Loading a backbone and running it over crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.mobilenet_maps import MAPS, feature_maps, maps_and_vectors, trunk
from emobeam.emo_transforms.networks.backbones.openvino_run import compiled_run
from emobeam.emo_transforms.networks.backbones.published.onnx_networks import OnnxNetwork
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
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import VECTORS

Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""Takes crops, RGB uint8 [B, S, S, 3]; gives float32 [B, ...] by output."""


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone.

    Attributes:
        config: with ``weights_sha256`` filled in.
        network: in eval mode, on its device.
        map_shapes: ``(C, H, W)`` of every map it can give, by name (``s8``, ``s16``, ``s32``); none for most.
        run: all outputs of a batch of crops; engines differ in nothing else.
        embedding, scores: lengths of these vectors, 0 where it has none.
    """

    config: BackboneConfig
    network: Any
    map_shapes: Mapping[str, tuple[int, int, int]]
    run: Run
    device: str = "cpu"
    embedding: int = 0
    scores: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every output of one crop: maps, ``embedding``, ``scores``."""
        vectors = {name: (getattr(self, name),) for name in VECTORS if getattr(self, name)}
        return {**self.map_shapes, **vectors}


def load_backbone(config: BackboneConfig, device: str = "cpu", engine: str = "torch") -> Backbone:
    """Builds a backbone and loads its weights.

    Args:
        config: ``weights`` is ``untrained`` (a seeded initialisation), ``timm`` or ``timm:TAG`` (timm fetches its own
            weights), or a checkpoint, local or any fsspec URI (see ``checkpoints``). A ``weights_sha256`` that is
            already set must be met. Without ``vectors`` the network has maps alone.
        device: a torch device.
        engine: a concrete one, see ``emobeam.emo_transforms.networks.engines``.

    Raises:
        UsageError: there is no such network, or it has no maps at strides 8, 16 and 32 where they are wanted.
        EmobeamError: the weights can't be read, don't fit the network, or aren't those named by the digest.
    """
    return _load(config, device, source_of(config.name, config.weights), None, engine)


def describe_backbone(
    name: str, weights: str = "untrained", input_size: int = 0, store: Sequence[str] = ("maps",), device: str = "cpu"
) -> Backbone:
    """Loads a backbone with all that is recorded for it: normalisation, size of its input, names of its scores.

    Args:
        input_size: edge in px; 0 takes what the weights were made for.
        store: what is wanted of it; the classifier is loaded for ``embedding`` and ``scores``, and where the network
            has nothing else.

    Raises:
        UsageError: as :func:`load_backbone`, or the network takes pictures of one other size only, or what is
            wanted is not to be had of these weights.
        EmobeamError: as :func:`load_backbone`.
    """
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


def _describe_onnx(source: Source, input_size: int, device: str) -> Backbone:
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


def outputs_of(backbone: Backbone) -> tuple[str, ...]:
    """What a cache stores of a backbone where nobody says otherwise: its maps, else its vectors."""
    if backbone.map_shapes:
        return ("maps",)
    return tuple(name for name in VECTORS if name in backbone.shapes)


def check_outputs(backbone: Backbone, store: Sequence[str]) -> None:
    """Checks that a backbone gives what is to be stored.

    Raises:
        UsageError: it doesn't; the message says what it gives.
    """
    given = [*(["maps"] if backbone.map_shapes else []), *(name for name in VECTORS if name in backbone.shapes)]
    for name in store:
        if name != "crops" and name not in given:
            raise UsageError(
                f"--store {name}: {backbone.config.name} with weights {backbone.config.weights} gives no {name}, "
                f"only {' and '.join(given)}; use --store {','.join(given)}"
            )


def _load(
    config: BackboneConfig, device: str, source: Source, state: Mapping[str, Tensor] | None, engine: str = "torch"
) -> Backbone:
    if config.vectors:
        network = classifier(source, config.classes)
    else:
        network = trunk(source.name, SEED, tag=source.tag, pretrained=source.pretrained)
    if source.uri and not source.is_onnx:
        state = state if state is not None else read_checkpoint(source.uri)
        load_into(network, state, source.uri, extra=() if config.vectors else (HEAD_NAMES,))
    return _loaded(config, device, source, network, engine)


def _loaded(config: BackboneConfig, device: str, source: Source, network: nn.Module, engine: str = "torch") -> Backbone:
    network.eval().requires_grad_(False)
    digest = tensors_sha256(network.state_dict())
    if config.weights_sha256 and config.weights_sha256 != digest:
        raise EmobeamError(
            f"{config.weights}: these are not the weights of this run (sha256 {digest[:12]}, expected "
            f"{config.weights_sha256[:12]}); the same file must be readable by every worker"
        )
    config = replace(config, weights_sha256=digest)
    run = _run(network.to(device), config, device, engine, source)
    found = run(np.zeros((1, config.input_size, config.input_size, 3), np.uint8))
    shapes = {name: values.shape[1:] for name, values in found.items()}
    maps = {name: (shapes[name][0], shapes[name][1], shapes[name][2]) for name in MAPS if name in shapes}
    if source.gives_maps and len(maps) < len(MAPS):
        raise UsageError(f"the backbone gives maps {', '.join(maps)}; heads need {', '.join(MAPS)}")
    lengths = [shapes[name][0] if name in shapes else 0 for name in VECTORS]
    return Backbone(config, network, maps, run, device, *lengths)


def _run(network: nn.Module, config: BackboneConfig, device: str, engine: str, source: Source) -> Run:
    forward = _forward(network, maps=source.gives_maps, vectors=config.vectors)
    # A network that comes as ONNX has a runtime of its own.
    if engine == "torch" or source.is_onnx:
        return _torch_run(forward, config, device)
    return compiled_run(network, forward, config)


def _torch_run(forward: Callable[[Tensor], dict[str, Tensor]], config: BackboneConfig, device: str) -> Run:
    mean = torch.tensor(config.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(config.std, device=device).view(1, 3, 1, 1)

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            pictures = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div_(255)
            found = forward((pictures - mean) / std)
            return {name: values.cpu().numpy() for name, values in found.items() if values.shape[1]}

    return run


def _forward(network: nn.Module, *, maps: bool, vectors: bool) -> Callable[[Tensor], dict[str, Tensor]]:
    if maps:
        return partial(maps_and_vectors if vectors else feature_maps, network)

    def both(pictures: Tensor) -> dict[str, Tensor]:
        return dict(zip(VECTORS, network(pictures), strict=True))

    return both


def embed(backbone: Backbone, crops: Sequence[NDArray[np.uint8]], wanted: Sequence[str], batch: int) -> dict[str, Any]:
    """Maps, embeddings and scores of crops.

    The network always sees ``batch`` crops, the last call being padded with zeros: results of one crop then
    don't depend on its neighbours. Nor do they on the number of threads from 16 crops up (measured; in smaller
    batches oneDNN divides the work of one picture, and sums in another order).

    Args:
        crops: RGB, uint8 [input_size, input_size, 3].
        wanted: names among ``s8``, ``s16``, ``s32``, ``embedding``, ``scores``.

    Returns:
        One float32 array per name: maps [len(crops), C, H, W], vectors [len(crops), D].
    """
    size = backbone.config.input_size
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    for start in range(0, len(crops), batch):
        chunk = crops[start : start + batch]
        pixels = np.zeros((batch, size, size, 3), np.uint8)
        pixels[: len(chunk)] = chunk
        found = backbone.run(pixels)
        for name in wanted:
            parts[name].append(found[name][: len(chunk)])
    return {
        name: np.concatenate(arrays) if arrays else np.zeros((0, *backbone.shapes[name]), np.float32)
        for name, arrays in parts.items()
    }
