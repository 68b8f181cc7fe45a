"""A temporal convolutional network over pooled features: long windows at a small cost, causal if asked for.

Maps are reduced to mean and standard deviation over their places, so that a frame is one vector; a linear layer and
blocks of dilated depthwise-separable convolutions in time follow (temporal convolutional networks: Bai, Kolter and
Koltun, 2018). A causal network can go on where it ended (:meth:`Tcn.stream`), so its values don't depend on how a video
is cut into windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emobeam.emo_transforms.networks.heads.architectures.frame import FrameFeatures


class TemporalBlock(nn.Module):
    """Layer norm, depthwise convolution in time, GELU, pointwise layer; added to its input.

    Args:
        dim: channels.
        kernel: taps; odd if not causal.
        dilation: frames between taps.
        causal: taps lie on the frame and before it, else around it.
    """

    def __init__(self, dim: int, *, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.causal = causal
        self.norm = nn.LayerNorm(dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, dilation=dilation, groups=dim)
        self.pointwise = nn.Linear(dim, dim)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """One block.

        Args:
            x: ``[B, T, dim]``.
            past: ``[B, dim, reach]``, what the call for the frames before returned; None where nothing was before.

        Returns:
            ``[B, T, dim]``, and the past of the frames that follow.
        """
        normed = self.norm(x).transpose(1, 2)
        if not self.causal:
            padded = functional.pad(normed, (self.reach // 2, self.reach // 2))
        elif past is None:
            padded = functional.pad(normed, (self.reach, 0))
        else:
            padded = torch.cat([past, normed], dim=-1)
        mixed = functional.gelu(self.depthwise(padded)).transpose(1, 2)
        return x + self.pointwise(mixed), padded[..., padded.shape[-1] - self.reach :]


class Tcn(FrameFeatures):
    """Features of each frame, a linear layer, temporal blocks, the output layer.

    Args:
        inputs, map_shapes, vector_lengths, final_channels: see :class:`FrameFeatures`.
        outputs: number of outputs, K.
        dim: width of the blocks.
        kernel: taps of a convolution.
        dilations: of the blocks.
        causal: no value depends on later frames.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        outputs: int,
        *,
        map_shapes: Mapping[str, Sequence[int]],
        vector_lengths: Mapping[str, int],
        final_channels: int = 0,
        dim: int = 256,
        kernel: int = 3,
        dilations: Sequence[int] = (1, 2, 4, 8),
        causal: bool = True,
        hidden: int = 0,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(
            inputs,
            map_shapes=map_shapes,
            vector_lengths=vector_lengths,
            final_channels=final_channels,
            pooling=("mean", "std"),
        )
        self.streams = causal
        self.embed = nn.Linear(self.width, dim)
        self.blocks = nn.ModuleList(
            [TemporalBlock(dim, kernel=kernel, dilation=dilation, causal=causal) for dilation in dilations]
        )
        self.norm = nn.LayerNorm(dim)
        self.add_output(dim, outputs, hidden=hidden, dropout=dropout)

    @property
    def receptive_field(self) -> int:
        """Frames that a value depends on, its own among them."""
        return 1 + sum(block.reach for block in self._blocks)

    @property
    def _blocks(self) -> list[TemporalBlock]:
        return [block for block in self.blocks if isinstance(block, TemporalBlock)]

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, T, K]``; T may be any number of frames."""
        return self._run(batch, None)[0]

    def stream(
        self, batch: Mapping[str, Tensor], state: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits of windows that go on where others ended; see :meth:`HeadModule.stream`. Causal networks only."""
        if not self.streams:
            return super().stream(batch, state)
        return self._run(batch, state)

    def _run(self, batch: Mapping[str, Tensor], state: Sequence[Tensor] | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        x = self.embed(self.features(batch))
        pasts = []
        for index, block in enumerate(self.blocks):
            x, past = block(x, None if state is None else state[index])
            pasts.append(past)
        return self.read_out(self.norm(x)), tuple(pasts)
