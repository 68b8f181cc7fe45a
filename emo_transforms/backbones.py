"""Backbones: frozen networks that turn crops into multi-scale feature maps.

``mobilenetv4_conv_small`` at 224 px gives ``s8`` [64, 28, 28], ``s16`` [96, 14, 14] and ``s32`` [128, 7, 7].
``s32`` is the *input* of the backbone's last stage (``blocks.4``, a 1x1 convolution to 960 channels), which
belongs to the head: its output is 7.5 times larger and is the layer that trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from emo_transforms.storage import local_copy
from emo_transforms.weights import tensors_sha256
from schemas.config import BackboneConfig
from schemas.records import EmobeamError, UsageError

_SEED = 20250316
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone.

    Attributes:
        config: with ``weights_sha256`` filled in.
        network: timm's ``features_only`` model, in eval mode, on its device.
        map_shapes: ``(C, H, W)`` of every map it can give, by name (``s8``, ``s16``, ``s32``).
    """

    config: BackboneConfig
    network: nn.Module
    map_shapes: Mapping[str, tuple[int, int, int]]
    device: str = "cpu"


def load_backbone(config: BackboneConfig, device: str = "cpu") -> Backbone:
    """Builds a backbone and loads its weights.

    Args:
        config: ``weights`` is ``untrained`` (a seeded initialisation), ``timm`` (timm fetches its own
            default weights), or a timm checkpoint or safetensors file, local or any fsspec URI. A
            ``weights_sha256`` that is already set must be met.
        device: a torch device.

    Raises:
        UsageError: timm knows no such model, or it has no maps at strides 8, 16 and 32.
        EmobeamError: the weights can't be read, don't fit the model, or aren't those named by the digest.
    """
    network = _build(config)
    if config.weights not in ("untrained", "timm"):
        _load_weights(network, config.weights)
    network.eval().requires_grad_(False)
    digest = tensors_sha256(network.state_dict())
    if config.weights_sha256 and config.weights_sha256 != digest:
        raise EmobeamError(
            f"{config.weights}: these are not the weights of this run (sha256 {digest[:12]}, expected "
            f"{config.weights_sha256[:12]}); the same file must be readable by every worker"
        )
    shapes = _map_shapes(network, config.input_size)
    return Backbone(replace(config, weights_sha256=digest), network.to(device), shapes, device)


def describe_backbone(name: str, weights: str = "untrained", input_size: int = 224) -> Backbone:
    """Loads a backbone with the normalisation timm records for it."""
    try:
        cfg = timm.get_pretrained_cfg(name)
    except RuntimeError:
        cfg = None
    config = BackboneConfig(name=name, weights=weights, input_size=input_size)
    if cfg is not None:
        config = replace(config, mean=_rgb(cfg.mean), std=_rgb(cfg.std))
    return load_backbone(config)


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def embed(backbone: Backbone, crops: Sequence[NDArray[np.uint8]], maps: Sequence[str], batch: int) -> dict[str, Any]:
    """Feature maps of crops.

    The network always sees ``batch`` crops, the last call being padded with zeros: results of one crop then
    don't depend on its neighbours. Nor do they on the number of threads from 16 crops up (measured; in smaller
    batches oneDNN divides the work of one picture, and sums in another order).

    Args:
        crops: RGB, uint8 [input_size, input_size, 3].
        maps: names among ``s8``, ``s16``, ``s32``.

    Returns:
        One float32 array [len(crops), C, H, W] per name.
    """
    size = backbone.config.input_size
    mean = torch.tensor(backbone.config.mean, device=backbone.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.config.std, device=backbone.device).view(1, 3, 1, 1)
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in maps}
    with torch.inference_mode():
        for start in range(0, len(crops), batch):
            chunk = crops[start : start + batch]
            pixels = np.zeros((batch, size, size, 3), np.uint8)
            pixels[: len(chunk)] = chunk
            pictures = torch.from_numpy(pixels).to(backbone.device).permute(0, 3, 1, 2).float().div_(255)
            found = feature_maps(backbone.network, (pictures - mean) / std)
            for name in maps:
                parts[name].append(found[name][: len(chunk)].cpu().numpy())
    return {
        name: np.concatenate(arrays) if arrays else np.zeros((0, *backbone.map_shapes[name]), np.float32)
        for name, arrays in parts.items()
    }


def feature_maps(network: Any, pictures: Tensor) -> dict[str, Tensor]:
    """Maps of normalised pictures [N, 3, S, S], by stride: the last one before the final stage."""
    x = network.act1(network.bn1(network.conv_stem(pictures)))
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


def final_layer_state(network: Any) -> dict[str, Tensor]:
    """Tensors of the backbone's final stage (timm's ``blocks.N``), which a head starts from."""
    return dict(list(network.blocks)[-1].state_dict())


def _build(config: BackboneConfig) -> nn.Module:
    if not timm.is_model(config.name):
        close = timm.list_models(f"*{config.name.split('_')[0]}*conv_small*")[:5]
        raise UsageError(f"--backbone {config.name}: timm has no such model; for example {', '.join(close)}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(_SEED)  # torch.manual_seed would seed the GPUs as well
            network = timm.create_model(config.name, features_only=True, pretrained=config.weights == "timm")
    except Exception as error:  # timm raises whatever its hub client raises
        raise EmobeamError(
            f"--backbone {config.name} --backbone-weights {config.weights}: timm can't build it ({error}); "
            "without network name a local checkpoint"
        ) from error
    if not all(hasattr(network, part) for part in ("conv_stem", "bn1", "act1", "blocks")):
        raise UsageError(f"--backbone {config.name}: only timm's MobileNetV4 family gives the maps heads need")
    return network


def _map_shapes(network: nn.Module, size: int) -> dict[str, tuple[int, int, int]]:
    with torch.inference_mode():
        found = feature_maps(network, torch.zeros(1, 3, size, size))
    shapes = {name: tuple(x.shape[1:]) for name, x in found.items() if name in ("s8", "s16", "s32")}
    if len(shapes) < 3:
        raise UsageError(f"the backbone gives maps {', '.join(found)}; heads need s8, s16 and s32")
    return {name: (shape[0], shape[1], shape[2]) for name, shape in shapes.items()}


def _load_weights(network: nn.Module, uri: str) -> None:
    state = _read_state(uri)
    own = network.state_dict()
    prefixes = ("", "module.", "backbone.", "model.", "network.")
    fitting = max(prefixes, key=lambda p: sum(f"{p}{name}" in state for name in own))
    missing = [name for name in own if f"{fitting}{name}" not in state and not name.endswith("num_batches_tracked")]
    if missing:
        raise EmobeamError(
            f"{uri}: {len(missing)} of {len(own)} tensors of the backbone are not in it (first: {missing[0]}; the "
            f"file has {next(iter(state), 'none')} ...); is it a checkpoint of this model?"
        )
    fresh = {name: state[f"{fitting}{name}"] for name in own if f"{fitting}{name}" in state}
    wrong = [name for name, tensor in fresh.items() if tensor.shape != own[name].shape]
    if wrong:
        theirs, ours = tuple(fresh[wrong[0]].shape), tuple(own[wrong[0]].shape)
        raise EmobeamError(f"{uri}: {wrong[0]} has shape {theirs}, the backbone needs {ours}; is it another model's?")
    if any(not torch.isfinite(tensor).all() for tensor in fresh.values() if tensor.is_floating_point()):
        raise EmobeamError(f"{uri}: holds NaN or infinite weights")
    network.load_state_dict(fresh, strict=False)


def _read_state(uri: str) -> dict[str, Tensor]:
    try:
        with local_copy(uri) as path:
            if path.endswith(".safetensors"):
                return load_file(path)
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EmobeamError(f"--backbone-weights {uri}: no such file") from error
    except Exception as error:  # every reader has its own exceptions; the file is what they have in common
        raise EmobeamError(
            f"--backbone-weights {uri}: neither a safetensors file nor a checkpoint of plain tensors "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'})"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise EmobeamError(f"--backbone-weights {uri}: holds no dictionary of tensors")
    return loaded
