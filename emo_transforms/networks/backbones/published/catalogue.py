"""What can be had: published backbones, where they lie, on which terms, and what their numbers mean.

The facts are those of the publishers; nothing here is downloaded before somebody asks for it and accepts the terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emobeam.schemas.records import UsageError

Form = Literal["safetensors", "module", "checkpoint", "onnx"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

AFFECTNET_8 = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
"""HSEmotion's order, which is alphabetical."""
AFFECTNET_7 = tuple(name for name in AFFECTNET_8 if name != "Contempt")
DDAMFN_8 = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")
"""DDAMFN's order, that of AffectNet's annotation files."""
VALENCE_AROUSAL = ("valence", "arousal")

_EXPR = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other")

_APACHE = "Apache-2.0 (weights by timm, trained on ImageNet)"
_HSEMOTION = "code Apache-2.0; weights derive from VGGFace2 and AffectNet: non-commercial research only"
_DDAMFN = "no licence stated by the authors; weights derive from AffectNet: non-commercial research only"
_PAPER = "no terms stated by the authors; weights derive from AffectNet: non-commercial research only"


@dataclass(frozen=True)
class Entry:
    """One published set of weights.

    Attributes:
        name: what ``emobeam models fetch`` and ``--backbone-weights`` call it.
        architecture: name of the network: a timm model, ``mobilefacenet``, ``ddamfn``.
        form: ``safetensors``, ``module`` (a pickled module), ``checkpoint`` (a state dict), or ``onnx``.
        input_size: edge of the crops in px; ``mean`` and ``std`` per RGB channel, for values in [0, 1].
        embedding: length of the embedding.
        score_names: what the scores are of, in their order; empty where that isn't published.
        url: where the publishers keep it; ``""`` where it can't be fetched by a program.
        terms: on which terms, in a sentence.
        research_only: whether these allow research only.
        parameters: number of weights, in millions; a file holds about four bytes of each.
        sha256: of the file where it is known; ``""`` where the first download decides.
        note: how to get it where ``url`` is empty, and what else there is to know.
        published_as: what the publishers call the file, where that name is nobody else's.
    """

    name: str
    architecture: str
    form: Form
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding: int
    score_names: tuple[str, ...]
    url: str
    terms: str
    research_only: bool
    parameters: float
    sha256: str = ""
    note: str = ""
    published_as: str = ""

    @property
    def file_name(self) -> str:
        """Name of the file in the folder of models."""
        endings: dict[Form, str] = {"safetensors": ".safetensors", "module": ".pt", "checkpoint": ".pth", "onnx": ""}
        return self.name + endings[self.form]

    @property
    def size(self) -> int:
        """Expected size of the file in bytes, within some percent."""
        return round(self.parameters * 4e6)


@dataclass(frozen=True)
class ReadyOutputs:
    """How a network's own scores are outputs of a challenge task, without any head to train.

    Attributes:
        outputs: names of the task's outputs.
        indices: for each of them, which score it is; -1 where the network has none.
        activation: ``softmax`` over the scores that are there, or ``linear``.
        low, high: range to which linear values are clipped.
    """

    outputs: tuple[str, ...]
    indices: tuple[int, ...]
    activation: Literal["softmax", "linear"]
    low: float
    high: float


def entry(name: str) -> Entry:
    """The entry of a name.

    Raises:
        UsageError: there is none; the message lists all.
    """
    for candidate in CATALOGUE:
        if candidate.name == name:
            return candidate
    raise UsageError(f"{name}: no such model; there are {', '.join(each.name for each in CATALOGUE)}")


def ready_outputs(model: Entry, task: str) -> ReadyOutputs:
    """How a model's scores are outputs of ``expr`` or ``va``; of the expressions ``Other`` may be unknown to it.

    Raises:
        UsageError: the model has no scores for the task.
    """
    places = {name: index for index, name in enumerate(model.score_names)}
    if task == "va" and set(VALENCE_AROUSAL) <= set(places):
        indices = tuple(places[name] for name in VALENCE_AROUSAL)
        return ReadyOutputs(VALENCE_AROUSAL, indices, "linear", -1.0, 1.0)
    if task == "expr" and set(_EXPR[:-1]) <= set(places):
        return ReadyOutputs(_EXPR, tuple(places.get(name, -1) for name in _EXPR), "softmax", 0.0, 1.0)
    named = ", ".join(model.score_names) or "none that are known"
    raise UsageError(
        f"{model.name}: its scores ({named}) hold no values for task {task}; train a head on its embedding"
    )


def _timm(name: str, size: int, parameters: float, *, half: bool = False) -> Entry:
    mean, std = _HALF if half else _IMAGENET
    return Entry(
        name=name,
        architecture=name.partition(".")[0],
        form="safetensors",
        input_size=size,
        mean=mean,
        std=std,
        embedding=1280,
        score_names=(),
        url=f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors",
        terms=_APACHE,
        research_only=False,
        parameters=parameters,
        note="1000 classes of ImageNet as scores; a start for maps and training",
    )


def _hsemotion(name: str, architecture: str, size: int, embedding: int, parameters: float) -> tuple[Entry, Entry]:
    """The pickled module and the ONNX file of one of HSEmotion's models."""
    classes = AFFECTNET_7 if name.endswith("_7") else AFFECTNET_8
    mean, std = _HALF if architecture == "mobilefacenet" else _IMAGENET
    folder = "https://github.com/sb-ai-lab/EmotiEffLib/blob/main/models/affectnet_emotions"
    module = Entry(
        name=name,
        architecture=architecture,
        form="module",
        input_size=size,
        mean=mean,
        std=std,
        embedding=embedding,
        score_names=(*classes, *(VALENCE_AROUSAL if name.endswith("_mtl") else ())),
        url=f"{folder}/{name}.pt?raw=true",
        terms=_HSEMOTION,
        research_only=True,
        parameters=parameters,
        note="a pickled module, read as data",
    )
    values = {key: value for key, value in module.__dict__.items() if key not in ("name", "form", "url", "note")}
    url = f"{folder}/onnx/{name}.onnx?raw=true"
    return module, Entry(name=f"{name}.onnx", form="onnx", url=url, note="needs emobeam[onnx]; CPU", **values)


CATALOGUE: tuple[Entry, ...] = (
    _timm("mobilenetv4_conv_small.e2400_r224_in1k", 224, 3.77),
    _timm("mobilenetv4_conv_small.e1200_r224_in1k", 224, 3.77),
    _timm("mobilenetv4_conv_small.e3600_r256_in1k", 256, 3.77, half=True),
    _timm("mobilenetv4_conv_small_050.e3000_r224_in1k", 224, 2.24, half=True),
    _timm("mobilenetv4_conv_medium.e500_r224_in1k", 224, 9.72),
    _timm("mobilenetv4_conv_medium.e500_r256_in1k", 256, 9.72),
    _timm("mobilenetv4_hybrid_medium.e500_r224_in1k", 224, 11.07),
    _timm("mobilenetv4_conv_large.e500_r256_in1k", 256, 32.59),
    *_hsemotion("enet_b0_8_best_vgaf", "tf_efficientnet_b0", 224, 1280, 4.02),
    *_hsemotion("enet_b0_8_best_afew", "tf_efficientnet_b0", 224, 1280, 4.02),
    *_hsemotion("enet_b0_8_va_mtl", "tf_efficientnet_b0", 224, 1280, 4.02),
    *_hsemotion("enet_b2_8", "tf_efficientnet_b2", 260, 1408, 7.71),
    *_hsemotion("enet_b2_7", "tf_efficientnet_b2", 260, 1408, 7.71),
    *_hsemotion("mbf_va_mtl", "mobilefacenet", 112, 512, 2.06),
    *_hsemotion("mobilevit_va_mtl", "mobilevitv2_150", 224, 768, 9.83),
    Entry(
        name="ddamfn_affectnet8",
        architecture="ddamfn",
        form="checkpoint",
        input_size=112,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        embedding=512,
        score_names=DDAMFN_8,
        url="",
        terms=_DDAMFN,
        research_only=True,
        parameters=4.11,
        note="get affecnet8_epoch25_acc0.6469.pth from the authors (github.com/SainingZhang/DDAMFN, DDAMFN++), run "
        "emobeam models convert FILE --architecture ddamfn_affectnet8 --output ddamfn.safetensors, and name that: "
        "--backbone-weights ddamfn.safetensors",
        published_as="affecnet8_epoch25_acc0.6469.pth",
    ),
    Entry(
        name="mobilenetv4_affectnet",
        architecture="mobilenetv4_conv_small",
        form="checkpoint",
        input_size=224,
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        embedding=1280,
        score_names=(),
        url="https://github.com/PRVSL/abaw-8th/releases/download/affectnet-pretrained/model_best.pth.tar",
        terms=_PAPER,
        research_only=True,
        parameters=3.77,
        note="the backbone that 'Lightweight Models for Emotional Analysis in Video' starts from; trained at 112 px, "
        "used at 224; its classes aren't published",
    ),
)
