"""What every head's network offers, whatever its architecture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.heads.architectures.pooling import statistics_of
from emobeam.schemas.records import EmobeamError


class FinalLayer(nn.Module):
    """The backbone's last layer: 1x1 convolution, batch norm, ReLU (``blocks.4`` of timm's MobileNetV4-small).

    The cache holds the input of this layer, so that the layer can train with the head.
    """

    def __init__(self, channels: int = 128, final_channels: int = 960) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, final_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(final_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """``[B, channels, H, W]``, float32 or float16, to ``[B, final_channels, H, W]``, values >= 0.

        The result lies in memory with its channels last: so pieces of it are moved fastest.
        """
        maps = maps.to(self.conv.weight.dtype).contiguous(memory_format=torch.channels_last)
        return torch.relu(self.norm(self.conv(maps)))

    def over_time(self, maps: Tensor) -> Tensor:
        """``[B, T, channels, H, W]`` to ``[B, T, final_channels, H, W]``."""
        batch, frames = maps.shape[:2]
        after: Tensor = self(maps.flatten(0, 1))
        return after.view(batch, frames, *after.shape[1:])

    def load_timm(self, state: Mapping[str, Tensor]) -> None:
        """Copies the tensors of timm's layer, ``backbone.blocks[4].state_dict()``.

        Raises:
            EmobeamError: these are not the tensors of one convolution with batch norm of the right size.
        """
        renamed = {name.removeprefix("0.").replace("bn1.", "norm."): value for name, value in state.items()}
        try:
            self.load_state_dict(renamed)
        except RuntimeError as error:
            raise EmobeamError(f"the backbone's final layer doesn't fit the head's: {error}") from error


class HeadModule(nn.Module):
    """Base of the networks that turn windows of a cache's columns into logits.

    A batch is a mapping from the names in ``inputs`` to tensors: ``[B, T, C, H, W]`` float32 or float16 for maps
    (``s8``, ``s16``, ``s32``), ``[B, T, L]`` float32 for vectors (``embedding``, ``scores``).

    Heads of frame scope have :meth:`forward`; heads of clip scope have :meth:`vectors` for windows and
    :meth:`pool` for what the windows of a video make together.

    Attributes:
        inputs: names of what it reads.
        scope: ``frame`` or ``clip``.
        final: the backbone's last layer, where it belongs to the head.
        dropout: of what enters the output layers.
        hidden: layer before the output layer, with a ReLU after it.
        output: the output layer; None where a head has no weights.
        statistics: what :meth:`pool` takes over the windows of a video.
        streams: :meth:`stream` is there, so that windows can go on where the ones before them ended.
    """

    final: FinalLayer | None
    dropout: nn.Module
    hidden: nn.Linear | None
    output: nn.Linear | None

    def __init__(self) -> None:
        super().__init__()
        self.inputs: tuple[str, ...] = ()
        self.scope = "frame"
        self.statistics: tuple[str, ...] = ("mean", "std")
        self.streams = False
        self.final = None
        self.hidden = None
        self.output = None

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps among ``inputs``."""
        return tuple(name for name in self.inputs if name not in ("embedding", "scores"))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, T, K]`` of each frame of each window; heads of frame scope."""
        raise NotImplementedError(f"{type(self).__name__} of scope {self.scope} has no values of frames")

    def vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """One vector ``[B, D]`` for each window; heads of clip scope."""
        raise NotImplementedError(f"{type(self).__name__} of scope {self.scope} has no vectors of windows")

    def pool(self, vectors: Tensor, valid: Tensor) -> Tensor:
        """Logits of whole videos; heads of clip scope.

        Args:
            vectors: ``[..., N, D]``, one per window, from :meth:`vectors`.
            valid: ``[..., N]``, the number of real frames of each window, by which it weighs; 0 masks it.

        Returns:
            ``[..., K]``.
        """
        return self.read_out(statistics_of(vectors, valid, self.statistics))

    def stream(
        self, batch: Mapping[str, Tensor], state: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits of windows that go on where others ended.

        Args:
            batch: windows as for :meth:`forward`, of any length.
            state: what the call for the frames before returned; None at the start.

        Returns:
            Logits ``[B, T, K]`` and the state for the frames that follow.
        """
        raise NotImplementedError(f"{type(self).__name__} needs whole windows")

    def add_output(self, width: int, outputs: int, *, hidden: int, dropout: float) -> None:
        """Makes the output layers, from ``width`` features; ``hidden`` 0 leaves the layer between out."""
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(width, hidden) if hidden else None
        self.output = nn.Linear(hidden or width, outputs)

    def read_out(self, features: Tensor) -> Tensor:
        """``[..., D]`` to logits ``[..., K]``."""
        if self.output is None:
            raise NotImplementedError(f"{type(self).__name__} has no output layer")
        features = self.dropout(features)
        if self.hidden is not None:
            features = self.hidden(features).relu()
        logits: Tensor = self.output(features)
        return logits
