"""What a feature cache offers to heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from emobeam.schemas.tables import VECTORS


@dataclass(frozen=True)
class Offer:
    """What a cache offers to heads.

    Attributes:
        features_id: identity of its features.
        maps_id: that of its maps alone, whatever vectors lie beside them; ``""``: the same.
        map_shapes: ``(C, H, W)`` of each map.
        vectors: length of each vector (``embedding``, ``scores``).
        score_names: what the scores are of, where that is known.
        rate: sampled frames per second; 0 is the native rate.
        crop_style: how faces were cropped.
        backbone: its name.
        backbone_weights: where its weights came from.
    """

    features_id: str
    map_shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    vectors: Mapping[str, int] = field(default_factory=dict)
    score_names: tuple[str, ...] = ()
    rate: float = 6.0
    crop_style: str = "square"
    backbone: str = "mobilenetv4_conv_small"
    backbone_weights: str = "untrained"
    maps_id: str = ""

    def features_of(self, inputs: Collection[str]) -> str:
        """Identity of the features among these: which vectors a cache holds beside its maps changes no map."""
        return self.features_id if set(inputs) & set(VECTORS) else self.maps_id or self.features_id
