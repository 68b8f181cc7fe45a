"""Backbones: frozen networks that turn crops into multi-scale maps, embeddings and class scores.

By name: timm's MobileNetV4 family gives maps (and embedding and scores where its classifier is loaded); any other timm
classifier, ``mobilefacenet`` and ``ddamfn`` give an embedding and scores.
"""

from __future__ import annotations

from emobeam.emo_transforms.networks.backbones.description import (
    MAPS,
    Backbone,
    BackboneDescription,
    check_outputs,
    embed,
    gives_maps,
    outputs_of,
)
from emobeam.emo_transforms.networks.backbones.loading import describe_backbone, load_backbone
from emobeam.emo_transforms.networks.backbones.weight_names import default_weights, named

__all__ = [
    "MAPS",
    "Backbone",
    "BackboneDescription",
    "check_outputs",
    "default_weights",
    "describe_backbone",
    "embed",
    "gives_maps",
    "load_backbone",
    "named",
    "outputs_of",
]
