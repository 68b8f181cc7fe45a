"""The MobileNetV4 family of timm: multi-scale maps and, where its classifier is loaded, embedding and scores.

``mobilenetv4_conv_small`` at 224 px gives ``s8`` [64, 28, 28], ``s16`` [96, 14, 14] and ``s32`` [128, 7, 7].
``s32`` is the *input* of the backbone's last stage (``blocks.4``, a 1x1 convolution to 960 channels), which
belongs to the head: its output is 7.5 times larger and is the layer that trains.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn

from emobeam.schemas.records import EmobeamError, UsageError


def trunk(name: str, seed: int, *, tag: str = "", pretrained: bool = False) -> nn.Module:
    """timm's ``features_only`` network, all that maps need.

    Args:
        seed: of the initialisation; torch's own generator is left as it was.
        tag: which of timm's weights, ``""`` for its default.

    Raises:
        UsageError: the network has no maps.
        EmobeamError: timm can't build it or fetch its weights.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
            network: nn.Module = timm.create_model(
                f"{name}.{tag}" if tag else name, features_only=True, pretrained=pretrained
            )
    except Exception as error:  # timm raises whatever its hub client raises
        raise EmobeamError(
            f"--backbone {name} --backbone-weights timm{':' if tag else ''}{tag}: timm can't build it ({error}); "
            "without network name a local checkpoint"
        ) from error
    if not all(hasattr(network, part) for part in ("conv_stem", "bn1", "act1", "blocks")):
        raise UsageError(f"--backbone {name}: only timm's MobileNetV4 family gives the maps heads need")
    return network


def feature_maps(network: Any, pictures: Tensor) -> dict[str, Tensor]:
    """Maps of normalised pictures [N, 3, S, S], by stride: the last one before the final stage.

    Args:
        network: timm's MobileNetV4, as a classifier or ``features_only``.
    """
    network = _timm(network)
    x = network.bn1(network.conv_stem(pictures))
    if hasattr(network, "act1"):  # in the classifier it is a part of bn1
        x = network.act1(x)
    found: dict[str, Tensor] = {}
    stride = 2
    size = x.shape[-1]
    for stage in list(network.blocks)[:-1]:
        x = stage(x)
        while size > x.shape[-1]:
            size = -(-size // 2)
            stride *= 2
        found[f"s{stride}"] = x
    return found


def maps_and_vectors(network: Any, pictures: Tensor) -> dict[str, Tensor]:
    """Maps of normalised pictures, embedding [N, D] and scores [N, K], in one pass through timm's classifier."""
    network = _timm(network)
    found = feature_maps(network, pictures)
    last = list(found.values())[-1]
    embedding = network.forward_head(list(network.blocks)[-1](last), pre_logits=True)
    head = network.get_classifier()
    if isinstance(head, nn.Linear):
        found["scores"] = head(embedding)
    found["embedding"] = embedding
    return found


def final_layer_state(network: Any) -> dict[str, Tensor]:
    """Tensors of the backbone's final stage (timm's ``blocks.N``), which a head starts from."""
    return dict(list(_timm(network).blocks)[-1].state_dict())


def _timm(network: Any) -> Any:
    return getattr(network, "network", network)
