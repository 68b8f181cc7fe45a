"""Published figures to set a score beside: organisers' baselines and the best results found, each with its source.

Figures are those of the challenge's own measure. Validation figures in papers usually leave out valid rows without a
face image (1.3 to 1.6 % of the rows), so they compare with "valid rows with a face". Test labels are not public.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Role = Literal["baseline", "best", "lightweight", "reference"]


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        task: as in ``emobeam.schemas.tasks``.
        edition: ABAW edition of its protocol.
        split: ``validation``, ``test`` or ``zero-shot``.
        role: ``best`` of any method, ``lightweight`` (best of small, vision-only models), ``baseline`` of the
            organisers, or another ``reference`` point.
        system: who or what reached it.
        source: where it stands.
        note: what to keep in mind.
    """

    task: str
    edition: int
    split: str
    role: Role
    score: float
    system: str
    source: str
    note: str = ""


_SITE8 = "8th ABAW web site"
_TEST6 = "ABAW6 leaderboard as printed in abaw6.pdf (github.com/upczww/abaw6)"
_OVERVIEW10 = "overview of the 10th ABAW, arXiv 2605.27451"
_NOTEBOOK6 = "EmotiEffLib notebook abaw6_affwild2"
_NOTEBOOK8 = "EmotiEffLib notebook abaw8_expr"

PUBLISHED: tuple[Published, ...] = (
    Published("va", 8, "validation", "baseline", 0.22, "ResNet-50 (V 0.24, A 0.20)", _SITE8),
    Published("va", 10, "validation", "best", 0.658, "RAS (V 0.608, A 0.707)", "arXiv 2603.13056", "face, VLM, audio"),
    Published("va", 6, "validation", "lightweight", 0.5676, "DDAMFN-MT, box smoothing 50", _NOTEBOOK6),
    Published("va", 8, "validation", "reference", 0.4836, "Mamba-VA (V 0.5362, A 0.4310)", "arXiv 2503.10104"),
    Published("va", 8, "test", "reference", 0.45775, "Mamba-VA (V 0.5036, A 0.4119)", "arXiv 2503.10104"),
    Published("va", 6, "test", "baseline", 0.201, "organisers", _TEST6),
    Published("va", 6, "test", "best", 0.6721, "Netease Fuxi", _TEST6),
    Published("va", 10, "test", "baseline", 0.20, "organisers", _OVERVIEW10),
    Published("va", 10, "test", "best", 0.62, "RAS", _OVERVIEW10),
    Published("expr", 8, "validation", "baseline", 0.25, "VGGFACE with MixAugment", _SITE8),
    Published("expr", 10, "validation", "best", 0.474, "HSEmotion, with audio", "arXiv 2603.12693"),
    Published("expr", 8, "validation", "lightweight", 0.4384, "EfficientNet-B0, gate 0.7, box 50", _NOTEBOOK8),
    Published("expr", 6, "validation", "reference", 0.3844, "EfficientNet-B0 and MLP, frame by frame", _NOTEBOOK6),
    Published("expr", 6, "test", "baseline", 0.225, "organisers", _TEST6, "0.205 elsewhere in that paper"),
    Published("expr", 6, "test", "best", 0.5005, "Netease Fuxi", _TEST6),
    Published("expr", 10, "test", "baseline", 0.225, "organisers", _OVERVIEW10),
    Published("expr", 10, "test", "best", 0.391, "EagleonPamir1", _OVERVIEW10),
    Published("au", 8, "validation", "baseline", 0.39, "VGGFACE", _SITE8),
    Published(
        "au", 8, "validation", "lightweight", 0.5441, "MobileNetV4 and MLP-Mixer, 1 level", "arXiv 2503.10530", "at 0.5"
    ),
    Published(
        "au", 6, "validation", "best", 0.5528, "2 x EfficientNet-B0", _NOTEBOOK6, "thresholds tuned on the same videos"
    ),
    Published("au", 10, "validation", "reference", 0.547, "HSEmotion", "arXiv 2603.12693"),
    Published("au", 6, "validation", "reference", 0.5076, "EfficientNet-B0, threshold 0.5", _NOTEBOOK6, "at 0.5"),
    Published("au", 6, "test", "baseline", 0.365, "organisers", _TEST6),
    Published("au", 6, "test", "best", 0.5601, "Netease Fuxi", _TEST6),
    Published("au", 10, "test", "baseline", 0.365, "organisers", _OVERVIEW10),
    Published("au", 10, "test", "best", 0.51, "USTC", _OVERVIEW10),
    Published("mtl", 7, "validation", "baseline", 0.32, "organisers", "7th ABAW web site"),
    Published("mtl", 7, "validation", "best", 1.4939, "HSEmotion", "EmotiEffLib notebook ABAW7/mtl"),
    Published("mtl", 11, "validation", "baseline", 0.45, "ConvNeXt", "11th ABAW web site"),
    Published("ce", 9, "zero-shot", "best", 0.3485, "RAS", "arXiv 2507.02205", "test labels, no training labels"),
    Published("ce", 7, "test", "lightweight", 0.3146, "HSEmotion", "EmotiEffLib notebook ABAW7/cexpr"),
    Published("emi", 8, "validation", "baseline", 0.25, "ViT, GRU and Wav2Vec2", _SITE8, "0.09 by ViT and GRU alone"),
    Published("emi", 8, "validation", "best", 0.51, "USTC", "arXiv 2503.10603v3", "v1 said 0.35; split unclear"),
    Published("emi", 8, "validation", "reference", 0.446, "HSEmotion, with audio and text", "arXiv 2503.10399"),
    Published("emi", 8, "test", "best", 0.68, "USTC", "arXiv 2503.10603v3"),
    Published("emi", 10, "test", "baseline", 0.27, "organisers", _OVERVIEW10, "0.25 elsewhere"),
    Published("emi", 10, "test", "best", 0.708, "USTC", _OVERVIEW10),
    Published("ah", 8, "validation", "baseline", 0.70, "organisers", _SITE8, "always 'no' scores 0.674"),
    Published("ah", 8, "validation", "best", 0.737, "HSEmotion", "arXiv 2503.10399"),
    Published("ah", 8, "validation", "lightweight", 0.713, "HSEmotion, faces only", "EmotiEffLib notebook ABAW8/bah"),
    Published(
        "ah-video", 10, "test", "baseline", 0.343, "organisers", _OVERVIEW10, "private test; 0.2827 on the public one"
    ),
    Published("ah-video", 10, "test", "best", 0.727, "VisPBF", _OVERVIEW10, "private test"),
    Published("vd", 9, "validation", "baseline", 0.73, "organisers", "10th ABAW web site", "0.640 in arXiv 2603.12693"),
    Published("vd", 10, "test", "baseline", 0.504, "organisers", _OVERVIEW10),
    Published("vd", 10, "test", "best", 0.587, "HSEmotion", _OVERVIEW10),
)
"""All of them; where sources disagree the note says so."""


def published_for(task: str, edition: int) -> list[dict[str, Any]]:
    """Figures of a task as plain data, those of this edition's protocol first."""
    fitting = [entry for entry in PUBLISHED if entry.task == task]
    return [asdict(entry) for entry in sorted(fitting, key=lambda entry: (entry.edition != edition, -entry.edition))]
