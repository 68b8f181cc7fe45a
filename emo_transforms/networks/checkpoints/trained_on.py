"""Whom a backbone was trained on: groups of people, as ``emobeam pretrain`` and ``models pack`` note them.

Groups are ``<collection>/<person>``, see :func:`emobeam.emo_transforms.inputs.people_folders.collection_of`.
"""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms.networks.checkpoints.reading import read_checkpoint
from emobeam.emo_transforms.networks.shipped import WEIGHTS_FILE, is_shipped, shipped_as
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.storage import exists, file_sha256, join, read_json
from emobeam.schemas.records import EmobeamError

PRETRAIN_FILE = "pretrain.json"
"""What ``emobeam pretrain`` writes beside its weights."""


def trained_on(weights: str) -> list[str] | None:
    """The groups that a file of weights was trained on, those that it started from included; sorted.

    ``pretrain.json`` or ``weights.json`` beside the file says so, and counts only where its digest is that of the
    file.

    Args:
        weights: a file, or ``shipped``.

    Returns:
        None where nobody says it: no such note, other weights, labelled images, a run of an older version.

    Raises:
        EmobeamError: the note is damaged, or the weights can't be read.
    """
    if is_shipped(weights):
        weights = str(shipped_as(weights).backbone.path)
    folder, _, name = weights.rpartition("/")
    for note, read in ((PRETRAIN_FILE, _pretrained), (WEIGHTS_FILE, _packed)):
        uri = join(folder, note) if folder else note
        if not exists(uri):
            continue
        try:
            groups = read(read_json(uri), weights, name)
        except (KeyError, TypeError, AttributeError) as error:
            raise EmobeamError(
                f"{uri}: damaged (no {error}); it says whom {weights} was trained on; remove it, or write it again"
            ) from error
        if groups is not None:
            return groups
    return None


def _pretrained(data: Any, weights: str, name: str) -> list[str] | None:
    groups = data["data"]["train"].get("groups")
    if groups is None or data["weights"]["sha256"] != tensors_sha256(read_checkpoint(weights)):
        return None
    return sorted({*map(str, groups), *map(str, data["data"].get("start", {}).get("groups", ()))})


def _packed(data: Any, weights: str, name: str) -> list[str] | None:
    groups = data["backbone"].get("trained_on")
    if groups is None or data["backbone"]["file"] != name or data["backbone"]["sha256"] != file_sha256(weights):
        return None
    return sorted(map(str, groups))
