"""Backbones on OpenVINO, from what was prepared of them: the numbers of the network compiled from torch, to the bit."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.backbones.description import (
    Backbone,
    BackboneDescription,
    Run,
    check_digest,
    described,
    gives_maps,
)
from emobeam.emo_transforms.networks.backbones.published.fetching import fetched
from emobeam.emo_transforms.networks.backbones.published.onnx_networks import OnnxSession
from emobeam.emo_transforms.networks.backbones.timm_names import check_timm_name
from emobeam.emo_transforms.networks.backbones.weight_names import CATALOGUED, by_file_name
from emobeam.emo_transforms.networks.engines import compile_model, read_model
from emobeam.emo_transforms.networks.prepared.ensuring import Tell, ensure, find, on_stderr
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.prepared.store import Entry
from emobeam.emo_transforms.networks.shipped import Shipped, is_shipped, shipped_as
from emobeam.emo_transforms.networks.weights_digest import arrays_sha256
from emobeam.emo_transforms.storage import file_sha256
from emobeam.schemas.config import BackboneConfig, to_json
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import VECTORS

NETWORK = "network"
"""Name of the files of the network in an entry, without extension."""


def load_prepared(config: BackboneConfig, tell: Tell = on_stderr) -> Backbone:
    """A backbone that is ready to run; see :func:`.backbones.loading.load_backbone`."""
    if not config.weights_sha256:
        store = VECTORS if config.vectors else ("maps",)
        found = prepared_description(config.name, config.weights, config.input_size, store, tell)
        config = replace(config, weights_sha256=found.config.weights_sha256)
    if is_onnx(config.weights):
        return _load_onnx(config)
    entry = ensure_backbone(config, tell)
    found = described(config, entry.facts["shapes"])
    return Backbone(config, found.map_shapes, found.embedding, found.scores, run=prepared_run(entry, config))


def ensure_backbone(config: BackboneConfig, tell: Tell = on_stderr) -> Entry:
    """What was prepared of a backbone, which is prepared where it isn't yet.

    Args:
        config: with the digest of the weights, which says which they are wherever they lie.
    """
    recipe = {"make": "backbone", "config": to_json(config)}
    return ensure(backbone_key(config), recipe, _told(config.name, config.weights), tell)


def backbone_key(config: BackboneConfig) -> Key:
    """Which network a resolved config means."""
    names = ("name", "weights_sha256", "input_size", "mean", "std", "vectors", "classes")
    return Key("backbone", {name: getattr(config, name) for name in names})


def prepared_run(entry: Entry, config: BackboneConfig) -> Run:
    """What runs an entry on crops, one at a time, which a core's cache can hold."""
    network = compile_model(read_model(entry.files[f"{NETWORK}.xml"], entry.files[f"{NETWORK}.bin"]), "f32")
    shapes: Mapping[str, Sequence[int]] = entry.facts["shapes"]

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found = {name: np.empty((len(pixels), *shape), np.float32) for name, shape in shapes.items()}
        for index in range(len(pixels)):
            for values, output in zip(found.values(), network(pixels[index : index + 1]), strict=True):
                values[index] = output[0]
        return found

    return run


def prepared_description(
    name: str, weights: str, input_size: int, store: Sequence[str], tell: Tell = on_stderr
) -> BackboneDescription:
    """See :func:`.backbones.loading.describe_backbone`."""
    vectors = bool(set(VECTORS) & set(store)) or not gives_maps(name)
    ours = shipped_as(weights) if is_shipped(weights) else None
    if ours is not None and ours.description and not vectors and name == ours.architecture:
        found = description_from(ours.description)
        if input_size in (0, found.config.input_size):
            return found
    identity = {"name": name, "input_size": input_size, "vectors": vectors, **_identity(weights, ours)}
    recipe = {"make": "description", "name": name, "weights": weights, "input_size": input_size, "store": list(store)}
    key = Key("description", identity)
    if find(key) is None and weights not in CATALOGUED and ours is None:
        check_timm_name(CATALOGUED[name].architecture if name in CATALOGUED else name, weights)
    entry = ensure(key, recipe, _told(name, weights), tell)
    found = description_from(entry.facts)
    return replace(found, config=replace(found.config, weights=ours.name if ours else weights))


def description_from(data: Mapping[str, Any]) -> BackboneDescription:
    """The inverse of :func:`description_data`."""
    return described(backbone_config_from(data["config"]), data["shapes"])


def backbone_config_from(data: Mapping[str, Any]) -> BackboneConfig:
    """The inverse of :func:`emobeam.schemas.config.to_json`."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return BackboneConfig(**values)


def description_data(description: BackboneDescription) -> dict[str, Any]:
    """A description as plain JSON data."""
    shapes = {name: list(shape) for name, shape in description.shapes.items()}
    return {"config": to_json(description.config), "shapes": shapes}


def is_onnx(weights: str) -> bool:
    """Whether weights are an ONNX file, which has a runtime of its own."""
    return weights.lower().endswith(".onnx")


def _load_onnx(config: BackboneConfig) -> Backbone:
    """The numbers of :func:`.torch_backbones.load_torch_backbone`, to the bit."""
    session = OnnxSession(str(fetched(config.weights) or config.weights))
    check_digest(config, arrays_sha256(session.numbers))
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (config.mean, config.std))

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        pictures = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        found = session.run((pictures - mean) / std)
        return {name: values for name, values in zip(VECTORS, found, strict=True) if values.shape[1]}

    return Backbone(config, {}, session.embedding_length, session.scores_length, run=run)


def _identity(weights: str, ours: Shipped | None) -> dict[str, str]:
    """What weights are by their content, where they are a file, and what its name says of it."""
    if ours is not None:
        return {"weights": ours.name, "sha256": ours.backbone.sha256}
    if weights == "untrained" or weights.partition(":")[0] == "timm":
        return {"weights": weights}
    if fetched(weights) is None and weights in CATALOGUED:
        return {"weights": weights}  # is about to be refused, by whoever knows how to get it
    known = by_file_name(weights)
    base = posixpath.basename(weights.replace(os.sep, "/"))
    try:
        digest = file_sha256(weights_file(weights))
    except EmobeamError as error:
        gone = isinstance(error.__cause__, FileNotFoundError)
        raise EmobeamError(f"--backbone-weights {weights}: no such file" if gone else str(error)) from error
    return {"weights": known.name if known else os.path.splitext(base)[1].lower(), "sha256": digest}


def weights_file(weights: str) -> str:
    """The file that weights are read from, where they are one."""
    return str(shipped_as(weights).backbone.path) if is_shipped(weights) else str(fetched(weights) or weights)


def _told(name: str, weights: str) -> str:
    return f"backbone {name} ({weights})"
