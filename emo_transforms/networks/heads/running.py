"""What runs a head, whichever engine it is on, and how logits become values without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.heads.config import HeadConfig, activation_groups


class RunningHead(Protocol):
    """A head ready to run."""

    @property
    def config(self) -> HeadConfig:
        """Its description."""

    @property
    def weights_sha256(self) -> str:
        """Digest of its tensors."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the maps and vectors it reads."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps it reads, finest first."""

    @property
    def frame_window(self) -> int:
        """Sampled frames that it sees at once; 1: no value depends on another frame."""

    @property
    def streams(self) -> bool:
        """Whether :meth:`run_stream` is there."""

    @property
    def one_by_one(self) -> bool:
        """Windows are run one at a time, so there is nothing to gain from many in a call."""

    def run(self, columns: Mapping[str, NDArray[Any]], *, device: str = "cpu") -> NDArray[np.float32]:
        """Results of a batch of windows.

        Args:
            columns: by name, maps ``[B, T, C, H, W]`` and vectors ``[B, T, L]``, float16 or float32.
            device: ``cpu`` or ``cuda``.

        Returns:
            Frame scope: activated values ``[B, T, K]``. Clip scope: window vectors ``[B, D]`` for :meth:`pool`.
        """

    def run_stream(
        self, columns: Mapping[str, NDArray[Any]], state: Any, *, device: str = "cpu"
    ) -> tuple[NDArray[np.float32], Any]:
        """Activated values ``[B, T, K]`` of windows that go on where others ended.

        Args:
            columns: as for :meth:`run`.
            state: what the call for the frames before returned; None at the start.
        """

    def pool(self, vectors: NDArray[np.float32], valid: NDArray[Any]) -> NDArray[np.float32]:
        """Activated values ``[K]`` of a video, clip scope only.

        Args:
            vectors: ``[N, D]``, one per window, from :meth:`run`.
            valid: ``[N]`` number of real frames in each window.
        """


def activated(logits: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    """Logits ``[..., K]`` to values, as :func:`.heads.head.activate` of torch; computed in double precision.

    Raises:
        EmobeamError: unknown activation.
    """
    values = np.empty(logits.shape, np.float32)
    start = 0
    for name, length in activation_groups(activation, logits.shape[-1]):
        values[..., start : start + length] = _activated(logits[..., start : start + length], name)
        start += length
    return values


def _activated(logits: NDArray[np.float32], name: str) -> NDArray[Any]:
    wide = logits.astype(np.float64)
    match name:
        case "softmax":
            shares = np.exp(wide - wide.max(axis=-1, keepdims=True))
            return np.asarray(shares / shares.sum(axis=-1, keepdims=True))
        case "tanh":
            return np.tanh(wide)
        case "sigmoid":
            return np.asarray(0.5 * (1 + np.tanh(0.5 * wide)))  # no exponential that is too large
        case "clip":
            return np.clip(logits, -1.0, 1.0)
    return logits


SMALLEST_VARIANCE = 1e-12
"""As in :mod:`.architectures.pooling`: a standard deviation is at least its root."""


def statistics_of(vectors: NDArray[np.float32], valid: NDArray[Any], names: Sequence[str]) -> NDArray[np.float32]:
    """Statistics over windows ``[N, D]``, side by side in the order of ``names``; see :mod:`.architectures.pooling`.

    Args:
        valid: ``[N]`` >= 0, by which the windows weigh; 0 masks one.

    Returns:
        ``[len(names) * D]``, computed in double precision.
    """
    share = (valid / valid.sum())[:, None]
    wide = vectors.astype(np.float64)
    mean = (share * wide).sum(axis=0)
    found = {
        "mean": mean,
        "std": np.sqrt(np.maximum((share * (wide - mean) ** 2).sum(axis=0), SMALLEST_VARIANCE)),
        "min": wide[valid > 0].min(axis=0),
        "max": wide[valid > 0].max(axis=0),
    }
    return np.concatenate([found[name] for name in names]).astype(np.float32)
