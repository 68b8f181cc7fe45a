"""The weights that come with emobeam: a backbone and heads, as files of this package. Reads them, loads no network.

``weights.json`` names them (:class:`Shipped`); ``README.md`` is their model card, ``split.json`` says who and what was
kept for testing. ``emobeam models pack`` writes such a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError

SHIPPED, UNTRAINED = "shipped", "untrained"
"""What users write for these weights, and for seeded random ones, where a file or folder may stand."""

WEIGHTS_FILE, BACKBONE_FILE, HEADS_FOLDER = "weights.json", "backbone.safetensors", "heads"
WEIGHTS_VERSION = 1
"""Version of the layout of such a folder."""

_OURS = re.compile(r"emobeam-[a-z]+-\d+")


@dataclass(frozen=True)
class ShippedFile:
    """A file of weights.

    Attributes:
        bytes: its size.
        sha256: of the file as it is.
        weights_sha256: of its tensors as float32, which outputs say (see ``.networks.weights_digest``).
    """

    path: Path
    bytes: int
    sha256: str
    weights_sha256: str


@dataclass(frozen=True)
class ShippedHead:
    """A head: its folder, the features it was made for, and its file of tensors."""

    folder: Path
    features_id: str
    tensors: ShippedFile


@dataclass(frozen=True)
class Shipped:
    """Weights that belong together.

    Attributes:
        name: with a version, such as ``emobeam-au-1``; outputs say it.
        architecture: timm's name of the backbone.
        features_id: identity of the features that the backbone's maps are, see ``emobeam.schemas.config``.
        heads: by task.
        description: of the backbone's maps, plain JSON data (``.backbones.prepared_backbones.description_data``); empty
            in folders that older versions packed.
    """

    name: str
    architecture: str
    features_id: str
    backbone: ShippedFile
    heads: Mapping[str, ShippedHead]
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all tensors together."""
        return self.backbone.bytes + sum(head.tensors.bytes for head in self.heads.values())


@cache
def shipped() -> Shipped:
    """What this installation came with; see :func:`read_shipped` for what it raises."""
    return read_shipped(Path(str(resources.files(__name__))))


def read_shipped(folder: Path) -> Shipped:
    """Reads ``weights.json`` of a folder.

    Raises:
        EmobeamError: it is missing or damaged, or a file it names isn't there.
    """
    place = folder / WEIGHTS_FILE
    try:
        data = parsed(place.read_text("utf-8"))
        if data["schema_version"] != WEIGHTS_VERSION:
            raise ValueError(f"schema_version is {data['schema_version']}")
        backbone = data["backbone"]
        found = Shipped(
            str(data["name"]),
            str(backbone["architecture"]),
            str(backbone["features_id"]),
            _file(folder, backbone),
            MappingProxyType({str(task): _head(folder, head) for task, head in data["heads"].items()}),
            MappingProxyType(dict(backbone.get("description", {}))),
        )
    except FileNotFoundError as error:
        raise EmobeamError(f"{place}: missing; the weights are a part of emobeam, install it again") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmobeamError(f"{place}: damaged ({error}); install emobeam again") from error
    for file in (found.backbone, *(head.tensors for head in found.heads.values())):
        if not file.path.is_file():
            raise EmobeamError(f"{file.path}: missing; the weights are a part of emobeam, install it again")
    return found


def _file(folder: Path, data: Mapping[str, Any]) -> ShippedFile:
    place = folder / str(data["file"])
    return ShippedFile(place, int(data["bytes"]), str(data["sha256"]), str(data["weights_sha256"]))


def _head(folder: Path, data: Mapping[str, Any]) -> ShippedHead:
    tensors = _file(folder, data)
    return ShippedHead(tensors.path.parent, str(data["features_id"]), tensors)


def is_shipped(weights: str) -> bool:
    """Whether weights are meant that come, or came, with emobeam: ``shipped``, or a name such as ``emobeam-au-1``."""
    return weights == SHIPPED or _OURS.fullmatch(weights) is not None


def shipped_as(weights: str) -> Shipped:
    """The weights of a name for which :func:`is_shipped` holds.

    Raises:
        EmobeamError: they came with another version of emobeam.
    """
    found = shipped()
    if weights not in (SHIPPED, found.name):
        raise EmobeamError(
            f"{weights}: weights of another version of emobeam; this one comes with {found.name}. Install that one, or "
            "extract again, into another folder"
        )
    return found


def shipped_head(task: str) -> ShippedHead | None:
    """The head of a task, None where none comes with emobeam."""
    return shipped().heads.get(task)


def told_weights(weights: str, sha256: str) -> str:
    """Weights as people are told of them: ``emobeam-au-1 (sha256 0123456789ab)``."""
    return f"{weights} (sha256 {sha256[:12]})" if sha256 else weights
