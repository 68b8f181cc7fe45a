"""Backbones: frozen networks that turn crops into multi-scale maps, embeddings and class scores.

By name: timm's MobileNetV4 family gives maps (and embedding and scores where its classifier is loaded); any other timm
classifier, ``mobilefacenet`` and ``ddamfn`` give an embedding and scores.
"""

from __future__ import annotations

from emobeam.emo_transforms.networks.backbones.loading import (
    Backbone,
    check_outputs,
    describe_backbone,
    embed,
    load_backbone,
    outputs_of,
)
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import MAPS, feature_maps, final_layer_state, gives_maps
from emobeam.emo_transforms.networks.backbones.sources import Source, default_weights, named, source_of

__all__ = [
    "MAPS",
    "Backbone",
    "Source",
    "check_outputs",
    "default_weights",
    "describe_backbone",
    "embed",
    "feature_maps",
    "final_layer_state",
    "gives_maps",
    "load_backbone",
    "named",
    "outputs_of",
    "source_of",
]
