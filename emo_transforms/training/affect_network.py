"""The network that is pretrained: any timm classifier with an output per class, and two more for valence and arousal.

Its file is what both timm and ``--backbone-weights`` read: a safetensors file with timm's own names of tensors, and in
its metadata the architecture, the classes, the input size and the normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from emo_transforms.backbones.checkpoints import read_checkpoint
from emo_transforms.backbones.notes import NOTE_KEY, NetworkInfo, read_info
from emo_transforms.storage import write_bytes
from schemas.records import EmobeamError, UsageError

_PREFIXES = ("", "module.", "backbone.", "model.", "network.")


def make_network(
    backbone: str, start: str, outputs: Sequence[str], *, input_size: int, dropout: float, drop_path: float, seed: int
) -> tuple[nn.Module, NetworkInfo]:
    """A network to be trained.

    Args:
        backbone: a model of timm, with or without a tag.
        start: ``untrained`` (seeded), ``timm`` (the weights timm knows for the name) or a file of weights.

    Raises:
        UsageError: timm knows no such model.
        EmobeamError: it can't be built, or the weights don't fit it.
    """
    if not timm.is_model(backbone.split(".")[0]):
        close = ", ".join(timm.list_models(f"*{backbone.split('_')[0]}*")[:5]) or "mobilenetv4_conv_small"
        raise UsageError(f"--backbone {backbone}: timm has no such model; for example {close}")
    rates: dict[str, Any] = {"drop_rate": dropout, **({"drop_path_rate": drop_path} if drop_path else {})}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network: Any = timm.create_model(backbone, pretrained=start == "timm", num_classes=len(outputs), **rates)
            layer = network.get_classifier()
            if isinstance(layer, nn.Linear):
                # timm draws it by the number of classes; with few of them the first logits would be far too large.
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
    except Exception as error:  # timm raises whatever its hub client raises
        raise EmobeamError(
            f"--backbone {backbone} --start {start}: timm can't build it ({error}); without network name a local file"
        ) from error
    if start not in ("untrained", "timm"):
        start_from(network, read_checkpoint(start), start)
    known = read_info(start) if start not in ("untrained", "timm") else None
    mean, std = (known.mean, known.std) if known else (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    return network, NetworkInfo(backbone.split(".")[0], tuple(outputs), input_size, tuple(mean), tuple(std))


def start_from(network: Any, state: Mapping[str, Tensor], name: str) -> None:
    """Copies weights into a network; its output layer stays as it is where the file's is another one.

    Raises:
        EmobeamError: tensors of the network are missing, or have other shapes.
    """
    own = network.state_dict()
    layer = network.get_classifier()
    last = {key for key, value in network.named_parameters() if any(value is mine for mine in layer.parameters())}
    prefix = max(_PREFIXES, key=lambda text: sum(f"{text}{key}" in state for key in own))
    found = {key: state[f"{prefix}{key}"] for key in own if f"{prefix}{key}" in state}
    missing = [key for key in own if key not in found and key not in last and not key.endswith("num_batches_tracked")]
    # A file of feature maps alone ends before what comes after pooling; that part starts untrained then.
    optional = ("conv_head.", "norm_head.", "head.", "bn2.")
    missing = [key for key in missing if not key.startswith(optional)]
    wrong = [key for key in found if found[key].shape != own[key].shape and key not in last]
    if missing or wrong:
        what = (
            f"{len(missing)} tensors are missing (first: {missing[0]})" if missing else f"{wrong[0]} has another shape"
        )
        raise EmobeamError(f"--start {name}: these are not weights of {type(network).__name__} as named: {what}")
    fitting = {key: value for key, value in found.items() if value.shape == own[key].shape}
    if any(not torch.isfinite(value).all() for value in fitting.values() if value.is_floating_point()):
        raise EmobeamError(f"--start {name}: holds NaN or infinite weights")
    network.load_state_dict(fitting, strict=False)


def write_network(uri: str, state: Mapping[str, Tensor], info: NetworkInfo) -> None:
    """Writes the weights of a network; timm loads the file strictly with ``num_classes=len(info.outputs)``."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = {NOTE_KEY: json.dumps(asdict(info), sort_keys=True)}  # of several keys the order in the file would vary
    write_bytes(uri, save(tensors, metadata))
