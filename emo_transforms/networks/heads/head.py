"""A head that runs: config, network and digest of its weights together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.config import HeadConfig, activation_groups

State = tuple[Tensor, ...]
"""What a streaming head remembers of the frames before."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head ready to run.

    Attributes:
        weights_sha256: digest of the tensors of ``module`` as they were when the head was made or loaded.
    """

    config: HeadConfig
    module: HeadModule
    weights_sha256: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the maps and vectors it reads."""
        return self.module.inputs

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps it reads, finest first."""
        return self.module.maps

    @property
    def frame_window(self) -> int:
        """Sampled frames that it sees at once; 1: no value depends on another frame."""
        return self.config.window

    @property
    def streams(self) -> bool:
        """Whether :meth:`run_stream` is there."""
        return self.module.streams

    @property
    def one_by_one(self) -> bool:
        """It takes many windows in a call."""
        return False

    def run(self, columns: Mapping[str, NDArray[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
        """Results of a batch of windows.

        Args:
            columns: by name, maps ``[B, T, C, H, W]`` and vectors ``[B, T, L]``, float16 or float32.
            device: ``cpu`` or ``cuda``; the weights are moved there.

        Returns:
            Frame scope: activated values ``[B, T, K]``. Clip scope: window vectors ``[B, D]`` for :meth:`pool`.
        """
        module = self.module.to(device).eval()
        with reproducible():
            batch = self._batch(columns, device)
            if self.config.scope == "clip":
                return _numpy(module.vectors(batch))
            return _numpy(activate(module(batch), self.config.activation))

    def run_stream(
        self, columns: Mapping[str, NDArray[Any]], state: State | None, *, device: str = "cpu"
    ) -> tuple[NDArray[np.float32], State]:
        """Activated values ``[B, T, K]`` of windows that go on where others ended.

        Args:
            columns: as for :meth:`run`.
            state: what the call for the frames before returned; None at the start.
        """
        module = self.module.to(device).eval()
        with reproducible():
            logits, state = module.stream(self._batch(columns, device), state)
            return _numpy(activate(logits, self.config.activation)), state

    def pool(self, vectors: NDArray[np.float32], valid: NDArray[Any]) -> NDArray[np.float32]:
        """Activated values ``[K]`` of a video, clip scope only.

        Args:
            vectors: ``[N, D]``, one per window, from :meth:`run`.
            valid: ``[N]`` number of real frames in each window.
        """
        module = self.module.eval()
        device = next(module.parameters()).device
        with reproducible():
            logits = module.pool(torch.from_numpy(vectors).to(device), torch.from_numpy(valid).to(device))
            return _numpy(activate(logits, self.config.activation))

    def _batch(self, columns: Mapping[str, NDArray[Any]], device: str) -> dict[str, Tensor]:
        batch = {name: torch.from_numpy(columns[name]).to(device) for name in self.inputs}
        return {name: values if name in self.maps else values.float() for name, values in batch.items()}


def activate(logits: Tensor, activation: str) -> Tensor:
    """Logits ``[..., K]`` to values: tanh and clip in [-1, 1], sigmoid and softmax (over its group) in [0, 1].

    Args:
        activation: as in :class:`HeadConfig`.

    Raises:
        EmobeamError: unknown activation.
    """
    groups = activation_groups(activation, int(logits.shape[-1]))
    parts = torch.split(logits, [length for _, length in groups], dim=-1)
    return torch.cat([_activated(part, name) for part, (name, _) in zip(parts, groups, strict=True)], dim=-1)


def _activated(logits: Tensor, name: str) -> Tensor:
    match name:
        case "softmax":
            return logits.softmax(dim=-1)
        case "tanh":
            return logits.tanh()
        case "sigmoid":
            return logits.sigmoid()
        case "clip":
            return logits.clamp(-1.0, 1.0)
    return logits


@contextmanager
def reproducible() -> Iterator[None]:
    """Inference whose bits depend on nothing but the input, on one kind of machine.

    On the CPU, matrix products split their work by the number of threads, and their last bits follow (measured
    with 1 to 16 threads); so kernels run on one thread, and workers give the parallelism. On CUDA, TF32 would
    cost three digits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(threads)


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
