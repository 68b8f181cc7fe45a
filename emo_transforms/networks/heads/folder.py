"""The folder of a head, read without torch, and held against a cache; ``files`` says what lies in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_from_json, map_shape
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.heads.running import RunningHead
from emobeam.emo_transforms.networks.weights_digest import arrays_sha256
from emobeam.emo_transforms.storage import join, read_bytes
from emobeam.schemas.records import EmobeamError

CONFIG_FILE = "head.json"
WEIGHTS_FILE = "head.safetensors"
BACKBONE_FILE = "backbone.safetensors"
CARD_FILE = "README.md"


def read_head(folder: str) -> tuple[HeadConfig, str]:
    """The description of a head and the digest of its tensors, as :func:`.heads.files.load_head` finds it.

    Whether tensors and description belong together is for whoever builds the network.

    Raises:
        EmobeamError: a file is missing or damaged, or the description makes no sense.
    """
    config_uri, weights_uri = join(str(folder), CONFIG_FILE), join(str(folder), WEIGHTS_FILE)
    try:
        config = config_from_json(read_file(config_uri))
    except EmobeamError as error:
        raise EmobeamError(f"{config_uri}: {error}") from error
    try:
        return config, arrays_sha256({name: _wide(array) for name, array in load(read_file(weights_uri)).items()})
    except SafetensorError as error:
        raise EmobeamError(f"{weights_uri}: damaged ({error}); copy the head again") from error
    except EmobeamError as error:
        raise EmobeamError(f"{weights_uri}: {error}") from error


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    """float16 numbers as float32, which is what heads compute in."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def check_head(head: RunningHead, offer: Offer) -> list[str]:
    """Whether a head may run on what a cache offers. What it reads decides; other columns don't matter.

    Returns:
        Warnings: what differs from the data the head was made for without forbidding its use.

    Raises:
        EmobeamError: other features, or maps or vectors that the cache lacks.
    """
    config, vectors = head.config, offer.vectors
    if config.features_id not in (offer.features_id, offer.features_of(head.inputs)):
        raise EmobeamError(
            f"head {config.name!r} was made for features {config.features_id}, the cache holds {offer.features_id}:"
            " another backbone, weights, input size or normalisation; extract again with the head's backbone,"
            " or take a head made for this cache" + _own_backbone(config)
        )
    if missing := [name for name in head.maps if name not in offer.map_shapes]:
        store = "" if offer.map_shapes else f"--store {','.join(['maps', *vectors])} "
        raise EmobeamError(
            f"head {config.name!r} reads the maps {','.join(head.maps)}, the cache lacks {','.join(missing)};"
            f" extract with {store}--maps {','.join(head.maps)}"
        )
    for name in head.maps:
        if map_shape(offer.map_shapes[name]) != config.map_shapes[name]:
            raise EmobeamError(
                f"head {config.name!r} reads map {name} of shape {config.map_shapes[name]},"
                f" the cache holds {map_shape(offer.map_shapes[name])}"
            )
    needed = config.vector_lengths
    if absent := [name for name in needed if not vectors.get(name)]:
        raise EmobeamError(
            f"head {config.name!r} reads {','.join(head.inputs)}, the cache lacks {','.join(absent)};"
            f" extract with --store {','.join([*(['maps'] if head.maps else []), *needed])}"
        )
    for name, length in needed.items():
        if vectors[name] != length:
            raise EmobeamError(f"head {config.name!r} reads {name} of length {length}, the cache holds {vectors[name]}")
    warnings = []
    if offer.rate != config.rate:
        warnings.append(f"head {config.name!r} was made for {_rate(config.rate)}, the cache holds {_rate(offer.rate)}")
    if offer.crop_style != config.crop_style:
        warnings.append(
            f"head {config.name!r} was made for {config.crop_style!r} crops, the cache holds {offer.crop_style!r} ones"
        )
    return warnings


def _own_backbone(config: HeadConfig) -> str:
    """What else to say of the backbone of a head, as far as it tells: one that was trained with it, or before."""
    about = config.provenance.get("backbone")
    if isinstance(about, dict):
        file = about.get("file", BACKBONE_FILE)
        return f"; this head brings its own backbone: extract with --backbone-weights HEAD/{file}"
    weights = config.provenance.get("backbone_weights")
    return f"; its backbone is --backbone {config.backbone} --backbone-weights {weights}" if weights else ""


def read_file(uri: str) -> bytes:
    """The bytes of a file of a head; EmobeamError where there is none."""
    try:
        return read_bytes(uri)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise EmobeamError(
            f"no such file; a head is a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, check its name"
        ) from error


def _rate(rate: float) -> str:
    return f"{rate:g} frames per second" if rate else "the native frame rate"
