"""Backbone and head together on crops, with the functions that both stages call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.faces.crops import Picture, fit_crop
from emobeam.emo_transforms.networks.backbones import Backbone, embed
from emobeam.emo_transforms.networks.backbones.torch_backbones import build_backbone
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.prediction.windows import Row, predict_frames
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.predict_config import PredictConfig
from tests.benchmarks.weights.resampling import stretch
from tests.benchmarks.weights.split import backbone_people, leaked

Floats = NDArray[np.float64]

BACKBONE = "mobilenetv4_conv_small"
_APART = 1000.0  # s between clips: no window reaches from one into the next


@dataclass(frozen=True)
class Network:
    """What is judged."""

    backbone: Backbone
    head: Head
    backbone_file: str
    head_folder: str

    @property
    def units(self) -> tuple[str, ...]:
        """Outputs that somebody taught."""
        unknown = getattr(self.head.config, "unknown", ())
        return tuple(name for name in self.head.config.outputs if name not in unknown)

    @property
    def stretch(self) -> int:
        """Sampled frames over which values of the head hang together."""
        return stretch(self.head.config.window, self.head.config.smoothing)

    @property
    def experimental(self) -> tuple[str, ...]:
        return tuple(getattr(self.head.config, "experimental", ()))

    def column(self, unit: str) -> int:
        """Place of a unit among the outputs."""
        return self.head.config.outputs.index(unit)

    def threshold(self, unit: str) -> float:
        """From which probability on the head says yes."""
        thresholds = self.head.config.thresholds
        return float(thresholds[self.column(unit)]) if thresholds else 0.5

    def identity(self) -> dict[str, Any]:
        """What was judged, for the record."""
        config = self.head.config
        return {
            "backbone": self.backbone_file,
            "backbone_sha256": self.backbone.config.weights_sha256,
            "head": config.name,
            "head_folder": self.head_folder,
            "head_sha256": self.head.weights_sha256,
            "architecture": config.architecture,
            "window": config.window,
            "weights": config.weights,
            "thresholds": dict(zip(config.outputs, config.thresholds, strict=False)),
            "experimental": list(self.experimental),
            "unknown": [name for name in config.outputs if name not in self.units],
        }

    def probabilities(self, clips: Sequence[Sequence[Picture]], *, mirrored: bool = False) -> list[Floats]:
        """Probabilities ``[frames, K]`` of each clip of crops, which are 1 / ``rate`` s apart.

        A single picture is a clip of one frame: a temporal head sees it repeated to the length of its window, as
        stage 2 does with short clips.
        """
        size, config = self.backbone.config.input_size, self.head.config
        crops = [fit_crop(crop, size) for clip in clips for crop in clip]
        if mirrored:
            crops = [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
        found = embed(self.backbone, crops, self.head.inputs, ExtractConfig().kernel_batch)
        stored = {n: v.astype(np.float16 if n in self.head.maps else np.float32) for n, v in found.items()}
        rows, place = [], 0
        for number, clip in enumerate(clips):
            for frame in range(len(clip)):
                time = number * _APART + frame / (config.rate or 6.0)
                rows.append(Row(number, frame + 1, time, {name: v[place] for name, v in stored.items()}))
                place += 1
        values = predict_frames(self.head, rows, PredictConfig())
        return [np.asarray(values[number][1], np.float64) for number in range(len(clips))]


def load_network(backbone: str, head: str) -> Network:
    """Loads named weights as the commands do.

    Raises:
        EmobeamError: a file is missing or damaged, or the head was made for other features.
        SystemExit: one of them was trained on the test side, as far as its files tell.
    """
    loaded, found = build_backbone(BACKBONE, backbone), load_head(head)
    ours = ExtractConfig(backbone=loaded.config).features_id
    if found.config.features_id != ours:
        raise SystemExit(f"{head}: was made for features {found.config.features_id}, {backbone} gives {ours}")
    if told := leaked([*found.config.trained_on, *found.config.tuned_on]):
        raise SystemExit(f"{head}: was trained or tuned on {len(told)} videos of the test side, such as {told[0]}")
    people, folders = backbone_people(backbone)
    if people is None:
        print(f"{backbone}: nobody says whom it was trained on; not checked", file=sys.stderr, flush=True)
    if told := leaked(people or [], folders):
        raise SystemExit(f"{backbone}: was trained on {len(told)} people of the test side, such as {told[0]}")
    return Network(loaded, found, backbone, head)
