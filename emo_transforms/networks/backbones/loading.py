"""Describing a backbone and loading it, on any engine; torch is imported where it is the engine."""

from __future__ import annotations

from collections.abc import Sequence

from emobeam.emo_transforms.networks.backbones.description import Backbone, BackboneDescription
from emobeam.emo_transforms.networks.backbones.prepared_backbones import load_prepared, prepared_description
from emobeam.emo_transforms.networks.prepared.ensuring import Tell, on_stderr
from emobeam.schemas.config import BackboneConfig


def load_backbone(
    config: BackboneConfig, device: str = "cpu", engine: str = "torch", tell: Tell = on_stderr
) -> Backbone:
    """A backbone that is ready to run.

    Args:
        config: ``weights`` is ``untrained`` (a seeded initialisation), ``timm`` or ``timm:TAG`` (timm fetches its own
            weights), or a checkpoint, local or any fsspec URI (see ``checkpoints``). A ``weights_sha256`` that is
            already set must be met. Without ``vectors`` the network has maps alone.
        device: a torch device.
        engine: a concrete one, see ``emobeam.emo_transforms.networks.engines``.
        tell: gets a line where the network has to be prepared first.

    Raises:
        UsageError: there is no such network, or it has no maps at strides 8, 16 and 32 where they are wanted.
        EmobeamError: the weights can't be read, don't fit the network, or aren't those named by the digest.
    """
    if engine != "torch":
        return load_prepared(config, tell)
    from emobeam.emo_transforms.networks.backbones.torch_backbones import load_torch_backbone

    return load_torch_backbone(config, device)


def describe_backbone(
    name: str,
    weights: str = "untrained",
    input_size: int = 0,
    store: Sequence[str] = ("maps",),
    engine: str = "torch",
    tell: Tell = on_stderr,
) -> BackboneDescription:
    """All that is recorded of a backbone: digest, normalisation, size of its input, names of its scores, shapes.

    Args:
        input_size: edge in px; 0 takes what the weights were made for.
        store: what is wanted of it; the classifier is loaded for ``embedding`` and ``scores``, and where the network
            has nothing else.
        engine, tell: see :func:`load_backbone`. The engine decides how all this is found out, not what it is.

    Raises:
        UsageError: as :func:`load_backbone`, or the network takes pictures of one other size only, or what is
            wanted is not to be had of these weights.
        EmobeamError: as :func:`load_backbone`.
    """
    if engine != "torch":
        return prepared_description(name, weights, input_size, store, tell)
    from emobeam.emo_transforms.networks.backbones.torch_backbones import build_backbone

    return build_backbone(name, weights, input_size, store)
