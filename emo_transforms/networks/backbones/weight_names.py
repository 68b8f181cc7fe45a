"""Which network and weights are meant where one of them is named alone; nothing is built to know it."""

from __future__ import annotations

import os
import posixpath

from emobeam.emo_transforms.networks.backbones.published.catalogue import CATALOGUE, Entry
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_note
from emobeam.emo_transforms.networks.shipped import UNTRAINED, is_shipped, shipped, shipped_as
from emobeam.schemas.config import BackboneConfig

CATALOGUED = {entry.name: entry for entry in CATALOGUE}
_BY_FILE = {name: entry for entry in CATALOGUE for name in (entry.file_name, entry.published_as) if name}


def named(name: str, weights: str) -> tuple[str, str]:
    """Network and weights that are meant where one of them is named alone.

    Args:
        name: ``""`` takes the network of the weights: what the catalogue or the file itself says, ``onnx`` for ONNX
            files, else ``mobilenetv4_conv_small``. A name of the catalogue stands for its weights as well; beside a
            file it stays as it is, since it says what the file was made for (see :func:`.sources.source_of`).
        weights: ``""`` takes those of the name: what comes with emobeam for ``mobilenetv4_conv_small``, what was
            fetched for a name of the catalogue, ``untrained`` for any other network.

    Raises:
        EmobeamError: weights of another version of emobeam, or this installation lacks its own.
    """
    if name in CATALOGUED and weights in ("", UNTRAINED):
        return CATALOGUED[name].architecture, weights or name
    weights = weights or default_weights(name)
    if is_shipped(weights):
        found = shipped_as(weights)
        return name or found.architecture, found.name
    if name:
        return name, weights
    if noted := read_note(weights).get("architecture"):
        return str(noted), weights
    if (entry := entry_of(weights)) is not None:
        return entry.architecture, weights
    return "onnx" if weights.lower().endswith(".onnx") else BackboneConfig().name, weights


def default_weights(name: str) -> str:
    """The weights of a network where nobody names any: those that come with emobeam, else ``untrained``."""
    return shipped().name if name in ("", shipped().architecture) else UNTRAINED


def entry_of(weights: str) -> Entry | None:
    """What the catalogue knows of weights by their name, or by the name of their file."""
    return CATALOGUED.get(weights) or by_file_name(weights)


def by_file_name(weights: str) -> Entry | None:
    """What the catalogue knows of a file by its name alone."""
    return _BY_FILE.get(posixpath.basename(weights.replace(os.sep, "/")))
