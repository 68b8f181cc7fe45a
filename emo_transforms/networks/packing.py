"""Trained weights made small, to be handed on: a backbone and heads in float16, with a note of what they are.

The backbone is packed first. Features are then extracted with the packed file and heads are trained on those, so that
head and backbone agree to the bit; the heads are only rounded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor

from emobeam.emo_transforms.networks.backbones.description import BackboneDescription, gives_maps
from emobeam.emo_transforms.networks.backbones.prepared_backbones import description_data
from emobeam.emo_transforms.networks.backbones.torch_backbones import build_backbone
from emobeam.emo_transforms.networks.checkpoints.reading import HEAD_NAMES, fit_names, read_checkpoint
from emobeam.emo_transforms.networks.checkpoints.trained_on import trained_on
from emobeam.emo_transforms.networks.checkpoints.weight_notes import NOTE_KEY, NetworkInfo, read_info
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.folder import WEIGHTS_FILE as HEAD_TENSORS
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.shipped import (
    BACKBONE_FILE,
    HEADS_FOLDER,
    WEIGHTS_FILE,
    WEIGHTS_VERSION,
    Shipped,
    read_shipped,
)
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.storage import file_sha256, write_bytes, write_json
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError, UsageError


def pack_backbone(weights: str, folder: Path, name: str, architecture: str = "") -> Shipped:
    """Writes ``backbone.safetensors`` and ``weights.json``: timm's names of tensors, no classifier, float16.

    ``timm.create_model(architecture, num_classes=0)`` loads the file strictly. Heads that the folder held go, since
    they were made for another backbone. Whom it was trained on is noted as ``trained_on`` of ``backbone`` in
    ``weights.json`` where ``pretrain.json`` beside the checkpoint says so, for whoever measures it.

    Args:
        weights: a checkpoint of one of timm's networks, such as ``emobeam pretrain`` writes.
        folder: local.
        name: what outputs will call these weights where they come with emobeam: ``emobeam-au-1``.
        architecture: timm's name; ``""``: what the file says of itself.

    Raises:
        UsageError: nobody says which network it is, or timm has no such one.
        EmobeamError: the weights can't be read, don't fit, or a number lies outside float16.
    """
    info = read_info(weights)
    network_name = architecture or (info.architecture if info else "")
    if not network_name or not timm.is_model(network_name):
        raise UsageError(
            f"--backbone {weights}: it is not known to be a network of timm ({network_name or 'it says nothing'}); "
            "say which one by --architecture"
        )
    network = timm.create_model(network_name, pretrained=False, num_classes=0)
    state = fit_names(network, read_checkpoint(weights), weights, extra=(HEAD_NAMES,))
    own = network.state_dict()  # a file without num_batches_tracked loads as well, but not strictly
    people = trained_on(weights)
    tensors = _halves({key: state.get(key, own[key]) for key in own}, weights)
    plain = BackboneConfig()
    noted = NetworkInfo(
        network_name,
        (),
        info.input_size if info else plain.input_size,
        tuple(info.mean if info else plain.mean),
        tuple(info.std if info else plain.std),
    )
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS_FILE).exists():
        shutil.rmtree(folder / HEADS_FOLDER, ignore_errors=True)
    target = folder / BACKBONE_FILE
    write_bytes(str(target), save(tensors, {NOTE_KEY: json.dumps(asdict(noted), sort_keys=True)}))
    described = described_as(network_name, str(target))
    made = described.config
    data = {
        "schema_version": WEIGHTS_VERSION,
        "name": name,
        "backbone": {
            "architecture": network_name,
            "features_id": ExtractConfig(backbone=made).features_id,
            "description": description_data(replace(described, config=replace(made, weights=name))),
            **_described(target, folder, made.weights_sha256),
            **({} if people is None else {"trained_on": people}),
        },
        "heads": {},
    }
    write_json(str(folder / WEIGHTS_FILE), data)
    return read_shipped(folder)


def described_as(architecture: str, weights: str) -> BackboneDescription:
    """What is recorded of a backbone's maps (of its vectors, where it has no maps) at the size it was made for."""
    store = ("maps",) if gives_maps(architecture) else ("embedding",)
    built = build_backbone(architecture, weights, store=store)
    return BackboneDescription(built.config, built.map_shapes, built.embedding, built.scores)


def pack_head(head: str, folder: Path) -> Shipped:
    """Writes a trained head beside the backbone of a folder, rounded to float16, as ``heads/<task>``.

    The folder's name stands in it for the weights, and paths of the machine it was trained on are left out.

    Args:
        head: folder or URI.
        folder: of :func:`pack_backbone`.

    Raises:
        EmobeamError: head or folder can't be read, the head was made for other features, or a number lies outside
            float16.
        UsageError: the head is untrained.
    """
    there = read_shipped(folder)
    made = load_head(head)
    if made.config.weights == "untrained":
        raise UsageError(f"--head {head}: is untrained")
    if made.config.features_id != there.features_id:
        raise EmobeamError(
            f"--head {head}: was made for features {made.config.features_id}, those of {there.backbone.path} are "
            f"{there.features_id}; extract with --backbone-weights {there.backbone.path}, and train the head on that"
        )
    config = replace(
        made.config,
        name=there.name,
        weights=there.name,
        provenance=_portable({key: value for key, value in made.config.provenance.items() if key != "backbone"}),
    )
    target = folder / HEADS_FOLDER / config.task
    small = rounded(replace(made, config=config), head)
    save_head(small, str(target), dtype=torch.float16)
    data = parsed((folder / WEIGHTS_FILE).read_text("utf-8"))
    tensors = _described(target / HEAD_TENSORS, folder, small.weights_sha256)
    data["heads"] = {**data["heads"], config.task: {"features_id": config.features_id, **tensors}}
    write_json(str(folder / WEIGHTS_FILE), data)
    return read_shipped(folder)


def rounded(head: Head, name: str = "the head") -> Head:
    """The head with every number rounded to float16, held as float32: what its packed file gives when it is loaded."""
    halves = _halves(head.module.state_dict(), name)
    state = {key: value.float() if value.is_floating_point() else value for key, value in halves.items()}
    head.module.load_state_dict(state)
    return Head(head.config, head.module, tensors_sha256(state))


def _halves(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    found = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in tensors.items()
    }
    lost = [key for key, value in found.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if lost:
        raise EmobeamError(f"{name}: {lost[0]} holds numbers outside the range of float16; train with weight decay")
    return found


def _described(file: Path, folder: Path, digest: str) -> dict[str, Any]:
    place = file.relative_to(folder).as_posix()
    return {
        "file": place,
        "bytes": file.stat().st_size,
        "sha256": file_sha256(str(file)),
        "weights_sha256": digest,
    }


def _portable(value: Any) -> Any:
    """Plain JSON data with only the last part of every absolute path of this machine."""
    if isinstance(value, Mapping):
        return {key: _portable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(inner) for inner in value]
    return os.path.basename(value.rstrip("/")) if isinstance(value, str) and os.path.isabs(value) else value
