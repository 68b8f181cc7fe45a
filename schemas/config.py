"""Frozen configuration of stage 1, and the two identities derived from it.

``features_id`` says which numbers a feature map holds: a head and a cache must agree on it.
``cache_id`` says exactly how a shard was made: it decides what a resumed run may keep.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from emobeam.schemas.options import Option, Section
from emobeam.schemas.records import Display, Fingerprint

STAGE1_REVISION = 4
"""Raised by hand whenever a change of stage 1's code changes the bytes of a shard."""

AUGMENTATION_REVISION = 1
"""Raised by hand whenever ``.faces.augmented_views`` draws or makes other pictures; part of ``cache_id`` with views."""

SCHEMA_VERSION = 1
"""Version of the cache layout (dataset.json, shard columns and footers)."""

DEVICE = Option("For the networks.", Section.BACKBONE, unset="auto", choices=("auto", "cpu", "cuda"))
"""Of both stages."""

ENGINE = Option(
    "What runs the networks; auto is openvino on the CPU, torch elsewhere.",
    Section.BACKBONE,
    unset="auto",
    choices=("auto", "torch", "openvino"),
)
"""Of both stages."""


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen network and how pictures enter it. All of it is part of ``features_id``.

    Attributes:
        name: timm's model name, or another of ``.networks.backbones``; ``none`` where no network runs.
        weights: where the weights came from, for people (``untrained``, a path, ``timm:TAG``).
        weights_sha256: digest of the tensors themselves (not of the file).
        input_size: edge of the square input in px.
        mean, std: per RGB channel, for values in [0, 1].
        vectors: the classifier is loaded, too: the network gives an embedding and, if it has classes, scores.
        classes: length of the scores.
        score_names: what the scores are of, where that is known.
    """

    name: Annotated[
        str,
        Option(
            "timm's MobileNetV4 (maps), any other timm classifier, mobilefacenet or ddamfn (embedding, scores).",
            Section.BACKBONE,
            name="backbone",
            metavar="NAME",
            unset="",
            told="that of the weights, else mobilenetv4_conv_small",
        ),
    ] = "mobilenetv4_conv_small"
    weights: Annotated[
        str,
        Option(
            "Checkpoint, safetensors or ONNX file; a name of emobeam models; 'timm' lets timm fetch its own; "
            "'untrained' is random.",
            Section.BACKBONE,
            name="backbone_weights",
            metavar="FILE|URI|NAME|timm[:TAG]|untrained",
            unset="",
            told="those that come with emobeam; of other backbones: untrained",
            place=True,
        ),
    ] = "untrained"
    weights_sha256: str = ""
    input_size: Annotated[
        int,
        Option(
            "Edge of the crops a backbone sees.",
            Section.BACKBONE,
            metavar="PX",
            unset=None,
            told="what it was made for; 224 for maps",
            least=32,
            most=1024,
        ),
    ] = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    vectors: bool = False
    classes: int = 0
    score_names: tuple[str, ...] = ()

    @property
    def untrained(self) -> bool:
        """True where no weights were named and a seeded initialisation stands in."""
        return self.weights == "untrained"

    def identity(self) -> dict[str, Any]:
        """What enters ``features_id``, as plain data.

        Fields that came later are left out at their defaults, so that older caches keep their identity.
        """
        data = to_json(self)
        del data["weights"]  # where the tensors lay doesn't matter, what they are does
        return {key: value for key, value in data.items() if key not in ("vectors", "classes", "score_names") or value}


NO_BACKBONE = BackboneConfig(name="none", weights="none", input_size=0)
"""Stands where crops alone are stored."""


@dataclass(frozen=True)
class SamplingConfig:
    """Which frames are looked at, and how a video is cut.

    Attributes:
        fps: sampled frames per second; 0 takes every frame (``--fps native``).
        segment_seconds: step of the fixed grid on which a video is cut.
        crops_fps: native frames per second of a folder of crops; 0 where that is unknown (time is then null).
    """

    fps: Annotated[
        float,
        Option(
            "Frames looked at per second.", Section.VIDEOS, unset=None, told="6; crops: all", word_for_zero="native"
        ),
    ] = 6.0
    segment_seconds: Annotated[float, Option("Length of a shard.", Section.VIDEOS, metavar="SECONDS", least=1)] = 60.0
    crops_fps: Annotated[
        float, Option("With --crops: native frames per second.", Section.CROPS, metavar="FPS", least=0)
    ] = 0.0


@dataclass(frozen=True)
class DecoderConfig:
    """How pictures leave a file. Limits protect the run; they don't change pictures.

    Attributes:
        name: ``pyav`` or ``decord``.
        timeout: seconds without any progress after which the decoding process is killed.
        memory_mb: resident memory of the decoding process above which it is killed.
        max_pixels: larger pictures are refused (default: 8K UHD).
        stream: of several video streams, from 0; -1: emobeam chooses.
    """

    name: Annotated[
        str,
        Option(
            "auto is pyav (docs/accuracy.md).",
            Section.VIDEOS,
            name="decoder",
            unset="auto",
            choices=("auto", "pyav", "decord"),
        ),
    ] = "pyav"
    timeout: Annotated[
        float,
        Option(
            "A decoder without progress for so long is ended.",
            Section.VIDEOS,
            name="decode_timeout",
            metavar="SECONDS",
            least=1,
        ),
    ] = 30.0
    memory_mb: Annotated[
        int, Option("What a decoder may use.", Section.VIDEOS, name="decode_memory", metavar="MB", least=64)
    ] = 1024
    max_pixels: int = 7680 * 4320
    stream: Annotated[
        int,
        Option(
            "Which of several video streams of a file, from 0.",
            Section.VIDEOS,
            metavar="N",
            unset=None,
            told="the default one, else the largest",
            least=0,
        ),
    ] = -1


@dataclass(frozen=True)
class DetectorConfig:
    """MTCNN as in facenet-pytorch 2.6.0. Sizes in px of the upright frame.

    Attributes:
        name: ``mtcnn``, or ``none`` for folders of crops.
        min_face: smallest face searched for, edge in px.
        thresholds: acceptance of the three networks.
        factor: ratio of the image pyramid.
        keep: faces below this score are dropped.
        mode: ``exact`` (every frame for itself), ``track`` (short cuts through time, see
            ``emobeam.emo_transforms.faces.detection.following``) or ``facenet`` (facenet-pytorch's own ``detect``).
    """

    name: str = "mtcnn"
    min_face: Annotated[int, Option("Smallest face.", Section.FACES, metavar="PX", least=12)] = 20
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    factor: float = 0.709
    keep: Annotated[float, Option("Smallest detection score.", Section.FACES, name="min_score", least=0, most=1)] = 0.9
    mode: Annotated[
        str,
        Option(
            "MTCNN on every frame for itself, with short cuts through time, or facenet-pytorch's own (docs/speed.md).",
            Section.FACES,
            name="detector",
            choices=("exact", "track", "facenet"),
        ),
    ] = "exact"


@dataclass(frozen=True)
class AlignConfig:
    """From box to crop.

    Attributes:
        style: ``square`` (box made square, with margin), ``5pt`` (similarity to the usual five-point
            template), or ``given`` (crops are taken as they come).
        margin: for ``square``: how much longer the crop's edge is than the longer edge of the box.
        resize: the kernel.
    """

    style: Annotated[str, Option("From box to crop.", Section.FACES, name="align", choices=("square", "5pt"))] = (
        "square"
    )
    margin: Annotated[
        float,
        Option("Added to a square crop's edge, as a share of it.", Section.FACES, metavar="RATIO", least=0, most=2),
    ] = 0.2
    resize: str = "pillow-bilinear"


@dataclass(frozen=True)
class OriginConfig:
    """The cache whose stored crops were the input, instead of videos or folders of crops.

    Attributes:
        cache_id: of that cache; ``""`` if there was none.
        margin: with which its crops were cut (see :class:`AlignConfig`).
    """

    cache_id: str = ""
    margin: float = 0.2


MAKE_CROPS = ("sampling", "decoder", "detector")
"""Fields of :class:`ExtractConfig` that say how crops are made of videos; once they are made, nobody asks any more."""


@dataclass(frozen=True)
class ExtractConfig:
    """Everything that decides what stage 1 writes.

    Attributes:
        source: ``video``, or the layout of a folder of crops: ``affwild2``, ``emi``, ``bah``,
            ``people``.
        engine: what runs the networks (``emobeam.emo_transforms.networks.engines``), a concrete one.
        kernel_batch: crops per call of the backbone, the last call padded.
        maps: feature maps to store, by stride.
        store: of ``maps``, ``crops``, ``embedding``, ``scores``; empty stands for what the backbone gives
            (``emobeam.emo_transforms.networks.backbones.outputs_of``) and is filled in before a run begins.
        views: augmented views of each face beside the plain one.
        origin: with crops stored in another cache as input, that cache; ``source``, ``sampling``, ``decoder`` and
            ``detector`` are then those with which its crops were made.
    """

    source: Annotated[
        str,
        Option(
            "INPUT holds folders of cropped faces in the organisers' layout; people: of emobeam render.",
            Section.CROPS,
            name="crops",
            unset=None,
            choices=("affwild2", "emi", "bah", "people"),
        ),
    ] = "video"
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    device: Annotated[str, DEVICE] = "cpu"
    engine: Annotated[str, ENGINE] = "torch"
    kernel_batch: int = 16
    maps: Annotated[tuple[str, ...], Option("Feature maps to store.", Section.BACKBONE, names=("s8", "s16", "s32"))] = (
        "s8",
        "s16",
        "s32",
    )
    store: Annotated[
        tuple[str, ...],
        Option(
            "What a feature row holds; crops alone runs no backbone.",
            Section.BACKBONE,
            unset=None,
            told="maps, else embedding,scores",
            names=("maps", "crops", "embedding", "scores"),
        ),
    ] = ("maps",)
    views: Annotated[
        int, Option("Augmented views of each face beside the plain one.", Section.BACKBONE, least=0, most=100)
    ] = 0
    origin: OriginConfig = field(default_factory=OriginConfig)

    @property
    def idle(self) -> frozenset[str]:
        """Fields that mean nothing for this kind of input, whatever they hold."""
        found = set()
        if self.origin.cache_id:
            found |= {"source", *MAKE_CROPS}
        if self.source != "video":
            found |= {"decoder", "detector", "align"}
        if self.backbone.name == NO_BACKBONE.name:
            found.add("backbone")
        return frozenset(found)

    @property
    def features_id(self) -> str:
        """Identity of the features: backbone, weights, input size, normalisation."""
        return digest_of(self.backbone.identity())

    @property
    def crop_style(self) -> str:
        """How faces were cropped, which heads compare: of people folders square, for so render and pseudo-label cut."""
        return "square" if self.source == "people" else self.align.style

    @property
    def crop_margin(self) -> float:
        """The margin with which stored crops were cut from their frames."""
        return self.origin.margin if self.origin.cache_id else self.align.margin

    @property
    def cache_id(self) -> str:
        """Identity of the cache: all that decides the bytes of a shard."""
        return digest_of(self.identity())

    def identity(self) -> dict[str, Any]:
        """What enters ``cache_id``, as plain data."""
        config = to_json(self)
        # Limits decide whether a file is given up, never what a picture looks like.
        config["decoder"] = self.decoder.name if self.source == "video" else "pillow"
        if self.source == "video" and self.decoder.stream >= 0:
            config["stream"] = self.decoder.stream
        config["backbone"] = self.features_id
        # Both came later than the first caches, whose identity must not change.
        if self.views:
            config["augmentation_revision"] = AUGMENTATION_REVISION
        else:
            del config["views"]
        if self.origin == OriginConfig():
            del config["origin"]
        config["stage1_revision"] = STAGE1_REVISION
        config["schema_version"] = SCHEMA_VERSION
        return config


def to_json(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON data (tuples become lists)."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return data


def extract_config_from_json(data: dict[str, Any]) -> ExtractConfig:
    """The inverse of :func:`to_json` for :class:`ExtractConfig`; unknown keys raise ``TypeError``."""
    parts = {
        "backbone": BackboneConfig,
        "sampling": SamplingConfig,
        "decoder": DecoderConfig,
        "detector": DetectorConfig,
        "align": AlignConfig,
        "origin": OriginConfig,
    }
    values = {key: parts[key](**_tuples(value)) if key in parts else value for key, value in _tuples(data).items()}
    return ExtractConfig(**values)


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def digest_of(data: Any) -> str:
    """First 16 hexadecimal digits of the sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def shard_name(
    video: str, fingerprint: Fingerprint, segment_start: float, cache_id: str, display: Display | None = None
) -> str:
    """Name of a shard without folder and extension (design: one hash of all that decides its bytes).

    ``segment_start``: on the time grid, in s; of crops without time the index of the first frame. A plain ``display``
    and younger parts of it that say nothing don't count, so names of older versions stay.
    """
    shown = [] if display is None or display.plain else [to_json(display)]
    shown = [{key: each[key] for key in each if each[key] or key not in ("tones", "silent")} for each in shown]
    return digest_of([video, fingerprint.size, fingerprint.digest, segment_start, cache_id, *shown])
