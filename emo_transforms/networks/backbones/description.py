"""What a backbone is and gives, whichever engine runs it; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.schemas.config import BackboneConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import VECTORS

MAPS = ("s8", "s16", "s32")
"""The maps heads read, finest first."""

Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""Takes crops, RGB uint8 [B, S, S, 3]; gives float32 [B, ...] by output."""


def gives_maps(name: str) -> bool:
    """Whether a network of this name has the maps heads need."""
    return name.startswith("mobilenetv4_")


@dataclass(frozen=True)
class BackboneDescription:
    """What is known of a backbone without running it.

    Attributes:
        config: with ``weights_sha256`` filled in.
        map_shapes: ``(C, H, W)`` of every map it can give, by name (``s8``, ``s16``, ``s32``); none for most.
        embedding, scores: lengths of these vectors, 0 where it has none.
    """

    config: BackboneConfig
    map_shapes: Mapping[str, tuple[int, int, int]]
    embedding: int = 0
    scores: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every output of one crop: maps, ``embedding``, ``scores``."""
        vectors = {name: (getattr(self, name),) for name in VECTORS if getattr(self, name)}
        return {**self.map_shapes, **vectors}


@dataclass(frozen=True, kw_only=True)
class Backbone(BackboneDescription):
    """A backbone that is ready to run.

    Attributes:
        run: all outputs of a batch of crops; engines differ in nothing else.
    """

    run: Run


def described(config: BackboneConfig, shapes: Mapping[str, Sequence[int]]) -> BackboneDescription:
    """A description by the shapes of all outputs of one crop.

    Raises:
        UsageError: a network of maps lacks some that heads need.
    """
    maps = {name: (shapes[name][0], shapes[name][1], shapes[name][2]) for name in MAPS if name in shapes}
    if maps and len(maps) < len(MAPS):
        raise UsageError(f"the backbone gives maps {', '.join(maps)}; heads need {', '.join(MAPS)}")
    lengths = [shapes[name][0] if name in shapes else 0 for name in VECTORS]
    return BackboneDescription(config, maps, *lengths)


def check_digest(config: BackboneConfig, digest: str) -> None:
    """Raises EmobeamError where weights are others than those that a config names by their digest."""
    if config.weights_sha256 and config.weights_sha256 != digest:
        raise EmobeamError(
            f"{config.weights}: these are not the weights of this run (sha256 {digest[:12]}, expected "
            f"{config.weights_sha256[:12]}); the same file must be readable by every worker"
        )


def outputs_of(backbone: BackboneDescription) -> tuple[str, ...]:
    """What a cache stores of a backbone where nobody says otherwise: its maps, else its vectors."""
    if backbone.map_shapes:
        return ("maps",)
    return tuple(name for name in VECTORS if name in backbone.shapes)


def check_outputs(backbone: BackboneDescription, store: Sequence[str]) -> None:
    """Checks that a backbone gives what is to be stored.

    Raises:
        UsageError: it doesn't; the message says what it gives.
    """
    given = [*(["maps"] if backbone.map_shapes else []), *(name for name in VECTORS if name in backbone.shapes)]
    for name in store:
        if name != "crops" and name not in given:
            raise UsageError(
                f"--store {name}: {backbone.config.name} with weights {backbone.config.weights} gives no {name}, "
                f"only {' and '.join(given)}: {_instead(name, given)}"
            )


def _instead(name: str, given: Sequence[str]) -> str:
    others = f"--store {','.join(given)} is what it can do"
    kind = {"scores": "a classifier gives scores", "maps": "a MobileNetV4 gives maps"}.get(name)
    return f"{kind} (emobeam models lists published ones, for --backbone-weights); {others}" if kind else others


def embed(backbone: Backbone, crops: Sequence[NDArray[np.uint8]], wanted: Sequence[str], batch: int) -> dict[str, Any]:
    """Maps, embeddings and scores of crops.

    The network always sees ``batch`` crops, the last call being padded with zeros: results of one crop then
    don't depend on its neighbours. Nor do they on the number of threads from 16 crops up (measured; in smaller
    batches oneDNN divides the work of one picture, and sums in another order).

    Args:
        crops: RGB, uint8 [input_size, input_size, 3].
        wanted: names among ``s8``, ``s16``, ``s32``, ``embedding``, ``scores``.

    Returns:
        One float32 array per name: maps [len(crops), C, H, W], vectors [len(crops), D].
    """
    size = backbone.config.input_size
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in wanted}
    for start in range(0, len(crops), batch):
        chunk = crops[start : start + batch]
        pixels = np.zeros((batch, size, size, 3), np.uint8)
        pixels[: len(chunk)] = chunk
        found = backbone.run(pixels)
        for name in wanted:
            parts[name].append(found[name][: len(chunk)])
    return {
        name: np.concatenate(arrays) if arrays else np.zeros((0, *backbone.shapes[name]), np.float32)
        for name, arrays in parts.items()
    }
