"""A feature cache as a folder: the names of its parts, and ``dataset.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.stored_form import MOST_NUMBERS
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.schemas.config import SCHEMA_VERSION, ExtractConfig, digest_of, extract_config_from_json, to_json
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import MESH, VECTORS


@dataclass(frozen=True)
class Dataset:
    """What ``dataset.json`` says.

    Attributes:
        map_shapes: shape (C, H, W) of every stored map.
        embedding, scores: lengths of these vectors; 0 where they aren't stored.
        mesh: the columns of a face's mesh that are stored, see ``emobeam.schemas.tables.MESH``.
    """

    config: ExtractConfig
    map_shapes: Mapping[str, tuple[int, int, int]]
    embedding: int = 0
    scores: int = 0
    mesh: tuple[str, ...] = ()

    @property
    def offer(self) -> Offer:
        """What it offers to heads."""
        lengths, backbone = {"embedding": self.embedding, "scores": self.scores}, self.config.backbone
        return Offer(
            features_id=self.config.features_id,
            map_shapes=dict(self.map_shapes),
            vectors={name: length for name, length in lengths.items() if length},
            score_names=backbone.score_names,
            rate=self.config.sampling.fps,
            crop_style=self.config.crop_style,
            backbone=backbone.name,
            backbone_weights=backbone.weights,
            maps_id=digest_of(replace(backbone, vectors=False, classes=0, score_names=()).identity()),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``dataset.json``."""
        backbone = self.config.backbone
        return {
            "schema_version": SCHEMA_VERSION,
            "features_id": self.config.features_id,
            "cache_id": self.config.cache_id,
            "config": to_json(self.config),
            "map_shapes": {name: list(shape) for name, shape in self.map_shapes.items()},
            "embedding": self.embedding,
            "scores": self.scores,
            "mesh": list(self.mesh),
            "score_names": list(backbone.score_names) if self.scores else [],
            "models": {
                "backbone": {"id": backbone.name, "weights": backbone.weights, "sha256": backbone.weights_sha256},
                "detector": {"id": self.config.detector.name},
            },
        }


def shard_uri(features: str, shard: str) -> str:
    """Where a shard lies."""
    return storage.join(features, "shards", f"{shard}.parquet")


def read_dataset(features: str) -> Dataset:
    """Reads ``dataset.json``.

    Raises:
        EmobeamError: there is none, it is of another version, or it is damaged.
    """
    uri = storage.join(features, "dataset.json")
    try:
        data = storage.read_json(uri)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EmobeamError(
            f"{features}: not a feature cache (no dataset.json); make one with emobeam extract"
        ) from error
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else None
        raise EmobeamError(f"{uri}: schema version {found}; this emobeam reads version {SCHEMA_VERSION}")
    try:
        config = extract_config_from_json(data["config"])
        # JSON is written with sorted keys; the order from fine to coarse is that of the config.
        stored = [(name, data["map_shapes"][name]) for name in config.maps if name in data["map_shapes"]]
        shapes = {name: (shape[0], shape[1], shape[2]) for name, shape in stored}
        lengths = int(data.get("embedding", 0)), int(data.get("scores", 0))
        if not all(0 < number <= MOST_NUMBERS for shape in shapes.values() for number in (*shape, math.prod(shape))):
            raise ValueError(f"maps of {data['map_shapes']}")
        if not all(0 <= length <= MOST_NUMBERS for length in lengths):
            raise ValueError(f"vectors of {lengths} numbers")
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise EmobeamError(f"{uri}: damaged or of another emobeam ({error})") from error
    mesh = tuple(name for name in MESH if name in (data.get("mesh") or ()))
    return Dataset(config, shapes, *lengths, mesh)


def open_dataset(features: str, dataset: Dataset) -> None:
    """Writes ``dataset.json``, or checks that the one there was made the same way.

    Raises:
        UsageError: the cache was made with other settings; the message lists them.
    """
    if not storage.exists(storage.join(features, "dataset.json")):
        storage.write_json(storage.join(features, "dataset.json"), dataset.to_json())
        return
    there = read_dataset(features).config
    ours = dataset.config
    if there.features_id != ours.features_id:
        differing = _differences(there.backbone.identity(), ours.backbone.identity())
        raise UsageError(
            f"{features}: holds features {there.features_id}, this run makes {ours.features_id} ({differing}); "
            "choose another output"
        )
    # Its own record counts: computed anew, the identity would be that of today's code.
    if storage.read_json(storage.join(features, "dataset.json")).get("cache_id") != ours.cache_id:
        differing = _differences(there.identity(), ours.identity()) or "by another revision of emobeam's stage 1"
        raise UsageError(f"{features}: was made with other settings ({differing}); choose another output")


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = _flat(there), _flat(now)
    return "; ".join(
        f"{key}: {old.get(key)} there, {new.get(key)} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def outputs_in(config: ExtractConfig) -> tuple[str, ...]:
    """What the backbone is asked for: names of maps, ``embedding``, ``scores``."""
    maps = config.maps if "maps" in config.store else ()
    return (*maps, *(name for name in VECTORS if name in config.store))
