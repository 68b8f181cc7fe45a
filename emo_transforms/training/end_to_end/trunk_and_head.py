"""A backbone's trunk and a head as one network, from crops to logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from emobeam.emo_transforms.networks.backbones.mobilenet_maps import feature_maps
from emobeam.emo_transforms.networks.heads.architectures.module import FinalLayer, HeadModule
from emobeam.schemas.records import UsageError

FREEZES = ("stem", "all_but_final", "none")
"""What of the backbone keeps its weights and statistics: the published code's choice, the paper's words, nothing."""


class EndToEnd(nn.Module):
    """Crops to logits.

    Args:
        trunk: timm's ``features_only`` MobileNetV4; its final stage isn't used, ``head.final`` takes its place.
        head: reads the trunk's maps.
        freeze: one of :data:`FREEZES`.
    """

    def __init__(self, trunk: Any, head: HeadModule, freeze: str = "stem") -> None:
        super().__init__()
        if freeze not in FREEZES:
            raise UsageError(f"--freeze {freeze}: choose one of {', '.join(FREEZES)}")
        self.trunk, self.head, self._freeze = trunk, head, freeze
        self.requires_grad_(True)
        list(trunk.blocks)[-1].requires_grad_(False)
        for part in self._frozen():
            part.requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalised pictures ``[B, T, 3, S, S]`` to logits ``[B, T, K]``."""
        windows = pictures.shape[:2]
        maps = feature_maps(self.trunk, pictures.flatten(0, 1))
        found = {name: maps[name].reshape(*windows, *maps[name].shape[1:]) for name in self.head.inputs}
        logits: Tensor = self.head(found)
        return logits

    def train(self, mode: bool = True) -> EndToEnd:
        """As usual, but what is frozen keeps its batch norms' statistics."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def backbone_state(self) -> dict[str, Tensor]:
        """Tensors of the whole backbone, the trained final layer in its place."""
        state = {name: value.detach().cpu() for name, value in self.trunk.state_dict().items()}
        if self.head.final is not None:
            last = f"blocks.{len(list(self.trunk.blocks)) - 1}."
            state |= {last + name: value for name, value in timm_final_layer(self.head.final).items()}
        return state

    def _frozen(self) -> list[nn.Module]:
        if self._freeze == "none":
            return []
        return [self.trunk] if self._freeze == "all_but_final" else [self.trunk.conv_stem, self.trunk.bn1]


def timm_final_layer(layer: FinalLayer) -> dict[str, Tensor]:
    """The inverse of ``FinalLayer.load_timm``: tensors by timm's names within the stage."""
    renamed = {name.replace("norm.", "bn1."): value for name, value in layer.state_dict().items()}
    return {f"0.{name}": value.detach().cpu() for name, value in renamed.items()}
