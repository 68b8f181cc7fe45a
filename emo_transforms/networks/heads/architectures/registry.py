"""The architectures of heads behind one seam: the name in a config, what builds it, one interface for all.

A new architecture is a subclass of :class:`.architectures.module.HeadModule`, an entry of ``ARCHITECTURES`` here
and its name in ``emobeam.emo_transforms.networks.heads.config``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from emobeam.emo_transforms.networks.heads.architectures.clip import ClipStatistics
from emobeam.emo_transforms.networks.heads.architectures.frame import FrameHead, ReadyHead
from emobeam.emo_transforms.networks.heads.architectures.module import HeadModule
from emobeam.emo_transforms.networks.heads.architectures.tam import Tam
from emobeam.emo_transforms.networks.heads.architectures.tcn import Tcn
from emobeam.emo_transforms.networks.heads.config import HeadConfig

__all__ = ["ARCHITECTURES", "HeadModule", "build"]


def build(config: HeadConfig) -> HeadModule:
    """The module of a config, initialised by torch's current random state.

    Raises:
        EmobeamError: sizes that don't go together.
    """
    return ARCHITECTURES[config.architecture](config)


def _tam(config: HeadConfig) -> HeadModule:
    return Tam(
        config.map_shapes,
        len(config.outputs),
        scope=config.scope,
        form=config.form,
        window=config.window,
        time_patch=config.time_patch,
        dim=config.dim,
        final_channels=config.final_channels,
        hidden=config.hidden,
        dropout=config.dropout,
        statistics=config.statistics,
    )


def _tcn(config: HeadConfig) -> HeadModule:
    return Tcn(
        config.inputs,
        len(config.outputs),
        map_shapes=config.map_shapes,
        vector_lengths=config.vector_lengths,
        final_channels=config.final_channels,
        dim=config.dim,
        kernel=config.kernel,
        dilations=config.dilations,
        causal=config.causal,
        hidden=config.hidden,
        dropout=config.dropout,
    )


def _frame(config: HeadConfig) -> HeadModule:
    return FrameHead(
        config.inputs,
        len(config.outputs),
        map_shapes=config.map_shapes,
        vector_lengths=config.vector_lengths,
        final_channels=config.final_channels,
        hidden=config.hidden,
        dropout=config.dropout,
    )


def _clip_statistics(config: HeadConfig) -> HeadModule:
    return ClipStatistics(
        config.inputs,
        len(config.outputs),
        map_shapes=config.map_shapes,
        vector_lengths=config.vector_lengths,
        final_channels=config.final_channels,
        statistics=config.statistics,
        hidden=config.hidden,
        dropout=config.dropout,
    )


def _ready(config: HeadConfig) -> HeadModule:
    return ReadyHead(config.indices)


ARCHITECTURES: Mapping[str, Callable[[HeadConfig], HeadModule]] = MappingProxyType(
    {"tam": _tam, "tcn": _tcn, "frame": _frame, "clip-statistics": _clip_statistics, "ready": _ready}
)
"""What builds each architecture."""
