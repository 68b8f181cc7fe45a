"""Heads that look at one frame at a time: linear, with one hidden layer, or a backbone's own scores.

Small feed-forward heads on embeddings or class scores are those of the HSEmotion family (Savchenko, ABAW3 to 8):
for expressions and action units a dense layer of 128 with ReLU on the embedding, for valence and arousal a single
layer on the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from emobeam.emo_transforms.networks.heads.architectures.module import FinalLayer, HeadModule
from emobeam.emo_transforms.networks.heads.architectures.pooling import pooled_map

UNKNOWN_LOGIT = -1e4
"""Of a class that the backbone doesn't know: softmax and sigmoid make it 0."""


class FrameFeatures(HeadModule):
    """Base of heads that begin with one vector a frame: vectors as they are, maps pooled over their places.

    Args:
        inputs: names of what is read, in the order in which their parts stand side by side.
        map_shapes: ``(C, H, W)`` of the maps among them.
        vector_lengths: of the vectors among them.
        final_channels: channels of ``s32`` after the final layer; 0 leaves the layer out.
        pooling: ``mean``, or ``mean`` and ``std``, over the places of maps.

    Attributes:
        width: length of a frame's vector.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        map_shapes: Mapping[str, Sequence[int]],
        vector_lengths: Mapping[str, int],
        final_channels: int = 0,
        pooling: Sequence[str] = ("mean",),
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.pooling = tuple(pooling)
        channels = {name: map_shapes[name][0] for name in inputs if name in map_shapes}
        if "s32" in channels and final_channels:
            self.final = FinalLayer(channels["s32"], final_channels)
            channels["s32"] = final_channels
        lengths = {**{name: len(self.pooling) * n for name, n in channels.items()}, **vector_lengths}
        self.width = sum(lengths[name] for name in inputs)

    def features(self, batch: Mapping[str, Tensor]) -> Tensor:
        """``[B, T, width]`` from ``[B, T, C, H, W]`` maps and ``[B, T, L]`` vectors."""
        parts = [self._pooled(name, batch[name]) if name in self.maps else batch[name] for name in self.inputs]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _pooled(self, name: str, maps: Tensor) -> Tensor:
        if name == "s32" and self.final is not None:
            maps = self.final.over_time(maps)
        return pooled_map(maps.float(), self.pooling)


class FrameHead(FrameFeatures):
    """Each frame by itself: its features, optionally a hidden layer with ReLU, the output layer."""

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: int,
        *,
        map_shapes: Mapping[str, Sequence[int]],
        vector_lengths: Mapping[str, int],
        final_channels: int = 0,
        hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(inputs, map_shapes=map_shapes, vector_lengths=vector_lengths, final_channels=final_channels)
        self.add_output(self.width, outputs, hidden=hidden, dropout=dropout)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, T, K]``."""
        return self.read_out(self.features(batch))


class ReadyHead(HeadModule):
    """A selection of the backbone's own scores; it has no weights.

    Args:
        indices: which score each output is; -1 stands for a class the backbone doesn't know.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__()
        self.inputs = ("scores",)
        self.indices = tuple(indices)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, T, K]`` from ``[B, T, L]``."""
        scores = batch["scores"]
        unknown = torch.full_like(scores[..., 0], UNKNOWN_LOGIT)
        return torch.stack([unknown if index < 0 else scores[..., index] for index in self.indices], dim=-1)
