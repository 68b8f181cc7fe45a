"""The network that is pretrained: any timm classifier with an output per class, and two more for valence and arousal.

Its file is what both timm and ``--backbone-weights`` read: a safetensors file with timm's own names of tensors, and in
its metadata the architecture, the classes, the input size and the normalisation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

from emobeam.emo_transforms.networks.checkpoints.reading import HEAD_NAMES, fit_names, read_checkpoint
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NOTE_KEY, NetworkInfo, read_info
from emobeam.emo_transforms.networks.shipped import is_shipped, shipped_as
from emobeam.emo_transforms.storage import write_bytes
from emobeam.schemas.records import EmobeamError, UsageError

_BEHIND_MAPS = r"(conv_head|norm_head|head|bn2)\..*"
"""What comes after the last map: a file of feature maps alone ends before it."""


def make_network(
    backbone: str, start: str, outputs: Sequence[str], *, input_size: int, dropout: float, drop_path: float, seed: int
) -> tuple[nn.Module, NetworkInfo, tuple[str, ...]]:
    """A network to be trained, what is noted of it, and the tensors that a file of weights left untrained.

    Args:
        backbone: a model of timm, with or without a tag.
        start: ``untrained`` (seeded), ``timm`` (the weights timm knows for the name), ``shipped`` (or the name of what
            comes with emobeam) or a file of weights.

    Raises:
        UsageError: timm knows no such model, or emobeam comes with weights of another one.
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
    file = "" if start in ("untrained", "timm") else start
    if is_shipped(start):
        ours = shipped_as(start)
        if backbone.split(".")[0] != ours.architecture:
            raise UsageError(f"--start {start}: {ours.name} is a {ours.architecture}, not a {backbone}")
        file = str(ours.backbone.path)
    untrained = start_from(network, read_checkpoint(file), start) if file else ()
    known = read_info(file) if file else None
    mean, std = (known.mean, known.std) if known else (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    info = NetworkInfo(backbone.split(".")[0], tuple(outputs), input_size, tuple(mean), tuple(std))
    return network, info, untrained


def start_from(network: Any, state: Mapping[str, Tensor], name: str) -> tuple[str, ...]:
    """Copies weights into a network; its output layer stays as it is where the file's is another one.

    Returns:
        Names of tensors that stay as they are: of the output layer, and of what a file of feature maps alone lacks.

    Raises:
        EmobeamError: other tensors of the network are missing or have another shape, the file holds tensors that are
            none of the network's, or values that aren't finite.
    """
    layer = network.get_classifier()
    last = [key for key, value in network.named_parameters() if any(value is mine for mine in layer.parameters())]
    optional = (*map(re.escape, last), _BEHIND_MAPS)
    fitting = fit_names(network, state, f"--start {name}", extra=(HEAD_NAMES,), optional=optional)
    network.load_state_dict(fitting, strict=False)
    return tuple(key for key in network.state_dict() if key not in fitting and not key.endswith("num_batches_tracked"))


def write_network(uri: str, state: Mapping[str, Tensor], info: NetworkInfo) -> None:
    """Writes the weights of a network; timm loads the file strictly with ``num_classes=len(info.outputs)``."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    metadata = {NOTE_KEY: json.dumps(asdict(info), sort_keys=True)}  # of several keys the order in the file would vary
    write_bytes(uri, save(tensors, metadata))
