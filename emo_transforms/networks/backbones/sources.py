"""What is known of a backbone before it is built: size and normalisation of its input, and what its scores are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import timm
import torch
from torch import nn

from emobeam.emo_transforms.networks.backbones.description import gives_maps
from emobeam.emo_transforms.networks.backbones.published.catalogue import Entry
from emobeam.emo_transforms.networks.backbones.published.ddamfn import Ddamfn
from emobeam.emo_transforms.networks.backbones.published.fetching import fetched
from emobeam.emo_transforms.networks.backbones.published.mobilefacenet import MobileFaceNet
from emobeam.emo_transforms.networks.backbones.published.onnx_module import OnnxNetwork
from emobeam.emo_transforms.networks.backbones.timm_vectors import TimmVectors
from emobeam.emo_transforms.networks.backbones.weight_names import CATALOGUED, entry_of
from emobeam.emo_transforms.networks.checkpoints.weight_notes import read_info, read_note
from emobeam.emo_transforms.networks.shipped import is_shipped, shipped_as
from emobeam.schemas.config import BackboneConfig
from emobeam.schemas.records import EmobeamError, UsageError

SEED = 20250316
"""Of untrained backbones."""

UNTRAINED_SCORES = 8
"""Scores of an untrained classifier: as many as AffectNet has expressions."""

_IMAGENET = BackboneConfig()
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Source:
    """A network and the weights it is to have.

    Attributes:
        name: of the network, see :func:`source_of`.
        weights: as the user named them.
        uri: file to read the weights from, ``""`` where there is none.
        tag: which of timm's weights; ``""`` for timm's default.
        input_size: edge in px; ``fixed`` where no other will do.
        mean, std: per RGB channel, for values in [0, 1].
        score_names: what the scores are of, where that is known.
    """

    name: str
    weights: str
    uri: str = ""
    tag: str = ""
    input_size: int = 224
    fixed: bool = False
    mean: tuple[float, float, float] = _IMAGENET.mean
    std: tuple[float, float, float] = _IMAGENET.std
    score_names: tuple[str, ...] = ()

    @property
    def pretrained(self) -> bool:
        """Whether timm is to fetch the weights."""
        return self.weights.partition(":")[0] == "timm" and not self.uri

    @property
    def gives_maps(self) -> bool:
        """Whether the network has the maps heads need."""
        return gives_maps(self.name) and not self.is_onnx

    @property
    def is_onnx(self) -> bool:
        """Whether an ONNX file brings network and weights."""
        return self.uri.lower().endswith(".onnx")


_NETWORKS: dict[str, tuple[type[MobileFaceNet] | type[Ddamfn], Source]] = {
    "mobilefacenet": (MobileFaceNet, Source("mobilefacenet", "", input_size=112, fixed=True, mean=_HALF, std=_HALF)),
    "ddamfn": (Ddamfn, Source("ddamfn", "", input_size=112, fixed=True)),
}


def source_of(name: str, weights: str) -> Source:
    """What is known of a backbone by its name and its weights, before anything is built.

    Args:
        name: ``mobilefacenet``, ``ddamfn``, or any timm classifier; timm's MobileNetV4 family gives maps as well.
            ``onnx`` for ONNX files of other networks. A name of the catalogue is its network, and a file beside it is
            one of its kind: same input size, normalisation and scores.
        weights: ``untrained``, ``timm``, ``timm:TAG``, a name of the catalogue, ``shipped`` or the name of what comes
            with emobeam, or a file. A file that tells its own input size and normalisation (as ``emobeam pretrain``
            writes it) is believed; one that is called as the catalogue calls it is taken for that model, wherever it
            lies.

    Raises:
        UsageError: there is no such network, timm has no such weights of it, or the weights are another network's.
        EmobeamError: the weights are in the catalogue, but have not been fetched, or they came with another version
            of emobeam.
    """
    if is_shipped(weights):
        found = shipped_as(weights)
        _same_network(name, found.architecture, found.name)
        return replace(source_of(name, str(found.backbone.path)), weights=found.name)
    kind = CATALOGUED.get(name) if weights.partition(":")[0] not in ("untrained", "timm") else None
    name = kind.architecture if kind is not None else name
    entry = entry_of(weights)
    if entry is not None:
        _same_network(name, entry.architecture, weights)
    source = _network(name, weights)
    if weights in CATALOGUED:
        return _known(replace(source, uri=_fetched(CATALOGUED[weights])), CATALOGUED[weights])
    note, info = (read_note(source.uri), read_info(source.uri)) if source.uri else ({}, None)
    if "architecture" in note:
        _same_network(name, str(note["architecture"]), weights)
    if info is not None:
        return replace(
            source,
            input_size=info.input_size,
            mean=_rgb(info.mean),
            std=_rgb(info.std),
            score_names=info.outputs,
        )
    entry = entry or kind
    return _known(source, entry) if entry is not None else source


def _known(source: Source, entry: Entry) -> Source:
    return replace(
        source,
        tag="",
        input_size=entry.input_size,
        mean=entry.mean,
        std=entry.std,
        score_names=entry.score_names,
    )


def _fetched(entry: Entry) -> str:
    path = fetched(entry.name)
    if path is None:
        how = f"emobeam models fetch {entry.name} --accept-licence" if entry.url else entry.note
        raise EmobeamError(f"--backbone-weights {entry.name}: not on this machine yet; {how}")
    return str(path)


def _same_network(name: str, architecture: str, weights: str) -> None:
    if name != architecture and name != "onnx" and not weights.lower().endswith(".onnx"):
        raise UsageError(
            f"--backbone {name}: {weights} holds weights of {architecture}; leave --backbone out, or say "
            f"--backbone {architecture}"
        )


def _network(name: str, weights: str) -> Source:
    by_timm = weights.partition(":")[0] == "timm"
    file = "" if weights == "untrained" or by_timm else weights
    if name == "onnx" or name in _NETWORKS:
        if not file and (by_timm or name == "onnx"):
            raise UsageError(f"--backbone {name} --backbone-weights {weights}: name a file of weights")
        source = _NETWORKS[name][1] if name in _NETWORKS else Source(name, weights)
        return replace(source, weights=weights, uri=file)
    if not timm.is_model(name):
        raise UsageError(
            f"--backbone {name}: timm has no such model; for example "
            f"{', '.join([*_close_to(name), *_NETWORKS, 'tf_efficientnet_b0'])}"
        )
    if "." in name:
        plain, _, tag = name.partition(".")
        raise UsageError(f"--backbone {name}: say --backbone {plain} --backbone-weights timm:{tag}")
    tag = weights.partition(":")[2] if by_timm else ""
    source = Source(name, weights, uri=file, tag=tag)
    try:
        cfg = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name, allow_unregistered=not tag)
    except RuntimeError as error:
        known = [each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*")]
        raise UsageError(
            f"--backbone-weights {weights}: timm has no such weights of {name}; it has {', '.join(known) or 'none'}"
        ) from error
    if cfg is None:
        return source
    # Heads over maps are made for 224 px; only weights that timm itself names say what else they were made for.
    size = 224 if gives_maps(name) and not by_timm else int(cfg.input_size[-1])
    return replace(source, input_size=size, mean=_rgb(cfg.mean), std=_rgb(cfg.std))


def _close_to(name: str) -> list[str]:
    return timm.list_models(f"*{name.split('_')[0]}*conv_small*")[:5] if name else ["mobilenetv4_conv_small"]


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def classifier(source: Source, classes: int) -> nn.Module:
    """A network that gives (embedding [N, D], scores [N, K]), seeded, with timm's own weights, or an ONNX file's.

    Raises:
        UsageError: the network doesn't end in an embedding and one linear layer.
        EmobeamError: timm can't build it or fetch its weights.
    """
    if source.is_onnx:
        return OnnxNetwork(source.uri)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would seed the GPUs as well
        if source.name in _NETWORKS:
            return _NETWORKS[source.name][0](scores=classes)
        name = f"{source.name}.{source.tag}" if source.tag else source.name
        return TimmVectors(name, classes, pretrained=source.pretrained)


def timm_classes(source: Source) -> int:
    """How many classes the weights have that timm fetches."""
    cfg = timm.get_pretrained_cfg(f"{source.name}.{source.tag}" if source.tag else source.name)
    return int(cfg.num_classes) if cfg is not None else 0
