"""Backbones: frozen networks that turn crops into multi-scale maps, embeddings and class scores.

By name: timm's MobileNetV4 family gives maps (and embedding and scores where its classifier is loaded); any other timm
classifier, ``mobilefacenet`` and ``ddamfn`` give an embedding and scores.
"""

from __future__ import annotations

from emo_transforms.backbones.loading import (
    Backbone,
    check_outputs,
    describe_backbone,
    embed,
    load_backbone,
    outputs_of,
)
from emo_transforms.backbones.maps import MAPS, feature_maps, final_layer_state, gives_maps
from emo_transforms.backbones.vectors import Source, default_weights, named, source_of
from emo_transforms.shards import VECTORS

__all__ = [
    "MAPS",
    "VECTORS",
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
