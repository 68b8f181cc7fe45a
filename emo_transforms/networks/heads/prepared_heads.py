"""Heads on OpenVINO, from what was prepared of them; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.engines import Network, compile_model, read_model
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_to_json
from emobeam.emo_transforms.networks.heads.folder import read_head
from emobeam.emo_transforms.networks.heads.running import activated, statistics_of
from emobeam.emo_transforms.networks.prepared.ensuring import Tell, ensure, on_stderr
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.schemas.tables import VECTORS

_DECIDES = (
    "architecture",
    "scope",
    "form",
    "inputs",
    "map_shapes",
    "vector_lengths",
    "window",
    "time_patch",
    "dim",
    "final_channels",
    "hidden",
    "kernel",
    "dilations",
    "causal",
    "statistics",
)
"""What of a description decides which network it is; with the number of outputs and the tensors."""

UNKNOWN_LOGIT = -1e4
"""As in :mod:`.architectures.frame`: of a class that the backbone doesn't know."""

State = tuple[NDArray[np.float32], ...]


def head_key(config: HeadConfig, weights_sha256: str) -> Key:
    """Which network a head is; without a digest that of its seed."""
    identity = {name: getattr(config, name) for name in _DECIDES}
    seed = {} if weights_sha256 else {"seed": config.seed}
    return Key("head", {**identity, "outputs": len(config.outputs), **seed, "weights_sha256": weights_sha256})


def load_prepared_head(folder: str, tell: Tell = on_stderr) -> PreparedHead | ReadyRun:
    """A head's folder (local path or any fsspec URI); its network is loaded when it first runs.

    Raises:
        EmobeamError: see :func:`.heads.files.load_head`.
    """
    config, digest = read_head(folder)
    if config.architecture == "ready":
        return ReadyRun(config, digest)
    return _prepared(config, digest, {"make": "head", "folder": folder}, tell)


def seeded_prepared_head(config: HeadConfig, tell: Tell = on_stderr) -> PreparedHead:
    """The head of a description with random weights of its seed."""
    return _prepared(config, "", {"make": "fresh-head", "config": config_to_json(config)}, tell)


def _prepared(config: HeadConfig, digest: str, recipe: Mapping[str, Any], tell: Tell) -> PreparedHead:
    key = head_key(config, digest)
    facts = ensure(key, recipe, f"head {config.name}", tell).facts
    return PreparedHead(config, str(facts["weights_sha256"]), key, recipe, facts)


@dataclass(frozen=True, eq=False)
class PreparedHead:
    """A head on OpenVINO; see :class:`.heads.running.RunningHead`.

    Attributes:
        key, recipe: where its network is found, and how it is made.
        facts: what is known of it.
    """

    config: HeadConfig
    weights_sha256: str
    key: Key
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    one_by_one: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the maps and vectors it reads."""
        return tuple(self.facts["inputs"])

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps it reads, finest first."""
        return tuple(name for name in self.inputs if name not in VECTORS)

    @property
    def frame_window(self) -> int:
        """Sampled frames that it sees at once."""
        return self.config.window

    @property
    def streams(self) -> bool:
        """Whether :meth:`run_stream` is there."""
        return bool(self.facts["streams"])

    @cached_property
    def _networks(self) -> dict[str, Network]:
        files = ensure(self.key, self.recipe, f"head {self.config.name}").files
        names = sorted({name.partition(".")[0] for name in files})
        return {name: compile_model(read_model(files[f"{name}.xml"], files[f"{name}.bin"]), "f32") for name in names}

    def run(self, columns: Mapping[str, NDArray[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
        """Results of a batch of windows."""
        count = len(columns[self.inputs[0]])
        windows = [{name: columns[name][index : index + 1] for name in self.inputs} for index in range(count)]
        if self.config.scope == "clip":
            return np.concatenate([self._networks["vectors"](*window.values())[0].copy() for window in windows])
        if self.streams:
            return np.concatenate([self.run_stream(window, None)[0] for window in windows])
        return np.concatenate([self._values(self._networks["logits"](*window.values())[0]) for window in windows])

    def run_stream(
        self, columns: Mapping[str, NDArray[Any]], state: State | None, *, device: str = "cpu"
    ) -> tuple[NDArray[np.float32], State]:
        """Activated values ``[1, T, K]`` of a window that goes on where another ended."""
        pasts: tuple[Any, ...] = (0.0,) * len(self.config.dilations) if state is None else state
        found = self._networks["logits"](*(columns[name] for name in self.inputs), *pasts)
        return self._values(found[0]), tuple(past.copy() for past in found[1:])

    def pool(self, vectors: NDArray[np.float32], valid: NDArray[Any]) -> NDArray[np.float32]:
        """Activated values ``[K]`` of a video."""
        statistics = statistics_of(vectors, valid, self.config.statistics)
        values: NDArray[np.float32] = self._values(self._networks["read_out"](statistics[None])[0])[0]
        return values

    def _values(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return activated(logits, self.config.activation)


@dataclass(frozen=True, eq=False)
class ReadyRun:
    """A backbone's own scores as values of a task: no network at all; see :class:`.heads.running.RunningHead`."""

    config: HeadConfig
    weights_sha256: str
    inputs: tuple[str, ...] = ("scores",)
    maps: tuple[str, ...] = ()
    frame_window: int = 1
    streams: bool = False
    one_by_one: bool = False

    def run(self, columns: Mapping[str, NDArray[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
        """Activated values ``[B, T, K]`` from scores ``[B, T, L]``."""
        scores = np.asarray(columns["scores"], np.float32)
        unknown = np.full_like(scores[..., :1], UNKNOWN_LOGIT)
        places = [index if index >= 0 else scores.shape[-1] for index in self.config.indices]
        return activated(np.concatenate([scores, unknown], axis=-1)[..., places], self.config.activation)

    def run_stream(
        self, columns: Mapping[str, NDArray[Any]], state: Any, *, device: str = "cpu"
    ) -> tuple[NDArray[np.float32], Any]:
        """It has no past."""
        raise NotImplementedError("a ready head needs no stream")

    def pool(self, vectors: NDArray[np.float32], valid: NDArray[Any]) -> NDArray[np.float32]:
        """It has no clips."""
        raise NotImplementedError("a ready head has values of frames")
