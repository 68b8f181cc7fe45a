"""The job ``models prepare``: networks made ready for OpenVINO before a run needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.networks.backbones import describe_backbone, named
from emobeam.emo_transforms.networks.backbones.prepared_backbones import backbone_key, ensure_backbone, is_onnx
from emobeam.emo_transforms.networks.engines import resolve_engine
from emobeam.emo_transforms.networks.heads.prepared_heads import PreparedHead, load_prepared_head
from emobeam.emo_transforms.networks.prepared.ensuring import found_in
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.shipped import SHIPPED, is_shipped, shipped
from emobeam.pipelines.console import Ui
from emobeam.schemas.records import EmobeamError


def prepare_models(
    *,
    backbone: str = "",
    weights: str = "",
    input_size: int = 0,
    store: Sequence[str] = (),
    heads: Sequence[str] = (),
    ui: Ui,
) -> list[dict[str, Any]]:
    """Prepares a backbone and heads, those that come with emobeam where nothing is named.

    Args:
        backbone, weights, input_size, store: as for extract.
        heads: folders or URIs; ``shipped`` for those that come with emobeam.

    Returns:
        For each network what it is and where it lies; plain JSON data.

    Raises:
        UsageError: no such network, or OpenVINO isn't installed.
        EmobeamError: the weights can't be used, or no folder keeps what is prepared.
    """
    engine = resolve_engine("openvino", "cpu")
    done = []

    def note(what: str, key: Key) -> None:
        place = found_in(key)
        if place is None:
            raise EmobeamError(f"{what}: no folder keeps it; name one that can be written to by EMOBEAM_PREPARED")
        done.append({"network": what, "place": str(place)})

    if backbone or weights or not heads:
        name, named_weights = named(backbone, weights)
        config = describe_backbone(name, named_weights, input_size, store or ("maps",), engine, ui.say).config
        told = f"backbone {name} ({named_weights})"
        if is_onnx(config.weights):
            ui.say(f"{told}: ONNX Runtime runs it as it is; nothing to prepare")
        else:
            ensure_backbone(config, ui.say)
            note(told, backbone_key(config))
    for folder in _folders(heads, weights):
        head = load_prepared_head(str(folder), ui.say)
        if isinstance(head, PreparedHead):
            note(f"head {head.config.name} ({head.config.task})", head.key)
    return done


def _folders(heads: Sequence[str], weights: str) -> list[str | Path]:
    """Of the heads that are named; of those that come with the backbone, where that alone is."""
    ours = [head.folder for head in shipped().heads.values()]
    if not heads:
        return [*ours] if not weights or is_shipped(weights) else []
    found: list[str | Path] = []
    for head in heads:
        found += ours if head == SHIPPED else [head]
    return found
