"""The temporal aggregation module: a 3D MLP-Mixer over a window of multi-scale feature maps.

The model of "Lightweight Models for Emotional Analysis in Video" (Nguyen, Nguyen, Huynh; ABAW8, 2025). Each level
(a feature map named by its stride: ``s8``, ``s16``, ``s32``) goes through one :class:`Mixer`; the level vectors are
concatenated and a linear layer gives the outputs. All levels are cut into the same grid of tokens, that of the
coarsest map (7x7 in space, a quarter of the window in time).

The mixer block is that of MLP-Mixer (Tolstikhin et al., 2021) with hidden widths of four times the *tokens* and half
the *channels*, as the published model has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from emobeam.emo_transforms.networks.heads.architectures.module import FinalLayer, HeadModule
from emobeam.emo_transforms.networks.heads.config import LEVELS
from emobeam.schemas.records import EmobeamError

__all__ = ["DROPOUT", "LEVELS", "FinalLayer", "Mixer", "Tam", "can_cut"]

DROPOUT = 0.3
"""Of the concatenated level vectors, before the output layer."""


class Mixer(nn.Module):
    """One level: cut into space-time patches, one mixer block, pooled.

    Tokens are ordered (h, w, t), t fastest; within a patch values are ordered (t, h, w, c), c fastest.

    Args:
        shape: ``(C, H, W)`` of the map.
        window: frames, T; a multiple of ``time_patch``.
        patch: edge of a patch in space; divides H and W.
        time_patch: frames of a patch.
        dim: width of a token.
    """

    def __init__(self, shape: Sequence[int], *, window: int, patch: int, time_patch: int, dim: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.patch = patch
        self.time_patch = time_patch
        self.steps = window // time_patch
        self.grid = (height // patch, width // patch)
        self.tokens = self.grid[0] * self.grid[1] * self.steps
        self.embed = nn.Linear(time_patch * patch * patch * channels, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.token_mix = _mlp(self.tokens, 4 * self.tokens)
        self.channel_norm = nn.LayerNorm(dim)
        self.channel_mix = _mlp(dim, dim // 2)
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, maps: Tensor, *, per_step: bool = False) -> Tensor:
        """One vector for the window, or one for each of its T / time_patch steps.

        Args:
            maps: ``[B, T, C, H, W]``.
            per_step: pool over space alone, so that the vectors stay tied to their frames.

        Returns:
            ``[B, dim]``, or ``[B, T / time_patch, dim]`` with ``per_step``.
        """
        x = self.embed(self._patches(maps))
        x = x + self.token_mix(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channel_mix(self.channel_norm(x))
        x = self.norm(x)
        if per_step:
            x = x.unflatten(1, (-1, self.steps))  # [B, h*w, t, dim]: t is the fastest axis of the tokens
        pooled: Tensor = self.project(x.mean(dim=1))
        return pooled

    def _patches(self, maps: Tensor) -> Tensor:
        """``[B, T, C, H, W]`` to ``[B, N, time_patch * patch * patch * C]``, in the precision of the weights."""
        batch, _, channels = maps.shape[:3]
        rows, columns = self.grid
        # A view keeps the strides, so that maps with their channels last are moved in long pieces.
        cut = maps.view(batch, self.steps, self.time_patch, channels, rows, self.patch, columns, self.patch)
        cut = cut.permute(0, 4, 6, 1, 2, 5, 7, 3)
        # Moving values costs more than converting them, and float16 ones are half as long.
        return cut.reshape(batch, self.tokens, -1).to(self.embed.weight.dtype)


class Tam(HeadModule):
    """Final layer, one mixer per level, output layer.

    Args:
        map_shapes: ``(C, H, W)`` of each map read, as the cache stores it; decides the levels (see ``LEVELS``).
        outputs: number of outputs, K.
        scope: ``frame`` (values for each frame of a window) or ``clip`` (one set of values for a whole video).
        form: ``clip`` (one vector per window, copied to its frames: the published model) or ``frame`` (one per
            ``time_patch`` frames).
        window: frames, T.
        time_patch: frames of a patch.
        dim: width of tokens and level vectors.
        final_channels: channels after the final layer; 0 leaves the layer out and takes ``s32`` as it is.
        hidden: width of a layer between the vectors and the output layer; 0 leaves it out.
        statistics: what heads of clip scope take over the windows of a video.

    Raises:
        EmobeamError: maps, window or form that don't go together.
    """

    def __init__(
        self,
        map_shapes: Mapping[str, Sequence[int]],
        outputs: int,
        *,
        scope: str = "frame",
        form: str = "clip",
        window: int = 8,
        time_patch: int = 4,
        dim: int = 256,
        final_channels: int = 960,
        hidden: int = 0,
        dropout: float = DROPOUT,
        statistics: Sequence[str] = ("mean", "std"),
    ) -> None:
        super().__init__()
        self.inputs = LEVELS.get(len(map_shapes), ())
        if set(self.inputs) != set(map_shapes):
            raise EmobeamError(
                f"a head reads the maps {' or '.join(','.join(level) for level in LEVELS.values())},"
                f" not {','.join(map_shapes) or 'none'}"
            )
        if window <= 0 or time_patch <= 0 or window % time_patch:
            raise EmobeamError(f"a window of {window} frames is not a multiple of a time patch of {time_patch}")
        if (scope, form) not in {("frame", "clip"), ("frame", "frame"), ("clip", "clip")}:
            raise EmobeamError(f"there is no head of scope {scope!r} with form {form!r}")
        self.scope = scope
        self.statistics = tuple(statistics)
        self.window = window
        self.per_step = form == "frame"
        self.repeat = time_patch if self.per_step else window
        self.dim = dim * len(self.inputs)
        channels = {name: shape[0] for name, shape in map_shapes.items()}
        self.final = FinalLayer(channels["s32"], final_channels) if final_channels else None
        if final_channels:
            channels["s32"] = final_channels
        self.mixers = nn.ModuleDict(
            {
                name: Mixer(
                    (channels[name], *map_shapes[name][1:]),
                    window=window,
                    patch=_patch(name, map_shapes),
                    time_patch=time_patch,
                    dim=dim,
                )
                for name in self.inputs
            }
        )
        width = self.dim * (len(self.statistics) if scope == "clip" else 1)
        self.add_output(width, outputs, hidden=hidden, dropout=dropout)

    def vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The concatenated level vectors of each window.

        Args:
            batch: ``[B, T, C, H, W]`` float32 or float16 by name.

        Returns:
            ``[B, D]`` with D = ``dim`` times the levels; for per-frame heads ``[B, T / time_patch, D]``.
        """
        levels = []
        for name in self.inputs:
            x = batch[name]
            if name == "s32" and self.final is not None:
                x = self.final.over_time(x)
            levels.append(self.mixers[name](x, per_step=self.per_step))
        return torch.cat(levels, dim=-1)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits of each frame of frame-scope heads: ``[B, T, C, H, W]`` by name to ``[B, T, K]``."""
        logits = self.read_out(self.vectors(batch))
        if not self.per_step:
            logits = logits.unsqueeze(1)
        return logits.repeat_interleave(self.repeat, dim=1)


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


def can_cut(names: Sequence[str], map_shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether a head can read these maps together: each can be cut into the grid of ``s32``."""
    try:
        for name in names:
            _patch(name, map_shapes)
    except EmobeamError:
        return False
    return True


def _patch(name: str, map_shapes: Mapping[str, Sequence[int]]) -> int:
    """Edge of a patch that reduces a map to the grid of ``s32``."""
    _, height, width = map_shapes[name]
    _, rows, columns = map_shapes["s32"]
    patch = int(height // rows)
    if patch == 0 or (height, width) != (rows * patch, columns * patch):
        raise EmobeamError(
            f"map {name} of {height}x{width} can't be cut into the {rows}x{columns} patches of map s32;"
            " use an input size that is a multiple of 32, or a head of one level"
        )
    return patch
