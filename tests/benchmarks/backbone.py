"""The backbone against timm as it comes: ``python -m tests.benchmarks.backbone``.

Real crops in, float32 maps out, normalisation included on both sides, on one core with one torch thread. timm runs
eager with contiguous tensors, in batches as large as ours and one crop at a time, as a plain script does. Outputs are
compared map by map: the largest difference against the largest value.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from emobeam.emo_transforms.extraction.segments import Tools
from emobeam.emo_transforms.faces.crops import crop_face
from emobeam.emo_transforms.networks.backbones import Backbone, embed, load_backbone
from emobeam.emo_transforms.networks.backbones.mobilenet_maps import feature_maps
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.schemas.config import BackboneConfig, ExtractConfig
from tests.benchmarks.figures import Figure, Goal, Section, median_figure, ratio_figure
from tests.benchmarks.material import Picture, one_face, pictures_and_times, sampled_frames
from tests.benchmarks.measure import as_worker, cpus, interleaved, parser, run, stage1_settings, timed

AGAINST = "timm, eager, contiguous"
TOLERANCE = 1e-3


def real_crops(tools: Tools, config: ExtractConfig, count: int) -> list[Picture]:
    """Crops of a face, repeated to ``count``."""
    assert tools.detector is not None
    with tempfile.TemporaryDirectory() as folder, DecoderProcess(config.decoder) as decoder:
        frames, times = pictures_and_times(sampled_frames(one_face(Path(folder), 360, seconds=3), config, decoder))
    crops = [
        crop_face(picture, faces.boxes[0], faces.landmarks[0], config.align, config.backbone.input_size)
        for picture, faces in zip(frames, tools.detector.detect(frames, times), strict=True)
        if len(faces)
    ]
    return (crops * math.ceil(count / len(crops)))[:count]


def normalised(crops: Sequence[Picture], config: BackboneConfig) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    return ((torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous()


def timm_eager(plain: Backbone, crops: Sequence[Picture], batch: int) -> None:
    """timm's ``features_only`` network on batches of crops, all its maps as numpy arrays."""
    for start in range(0, len(crops), batch):
        with torch.no_grad():
            for level in plain.network(normalised(crops[start : start + batch], plain.config)):
                level.numpy()


def eager_maps(plain: Backbone, crops: Sequence[Picture]) -> dict[str, NDArray[np.float32]]:
    with torch.no_grad():
        return {
            name: maps.numpy() for name, maps in feature_maps(plain.network, normalised(crops, plain.config)).items()
        }


def measure(options: argparse.Namespace) -> Section:
    config = stage1_settings(engine=options.engine, weights=options.backbone_weights).config
    tools = Tools(config)
    ours = tools.backbone
    assert ours is not None
    try:
        crops = real_crops(tools, config, 16 if options.quick else options.crops)
    finally:
        tools.close()
    plain, batch = load_backbone(config.backbone), config.kernel_batch
    spent = interleaved(
        {
            "ours": lambda: timed(lambda: embed(ours, crops, config.maps, batch)),
            "timm": lambda: timed(lambda: timm_eager(plain, crops, batch)),
            "single": lambda: timed(lambda: timm_eager(plain, crops, 1)),
        },
        options.repeats,
    )
    seconds = {name: cpus(runs) for name, runs in spent.items()}
    mine, theirs = embed(ours, crops[:batch], config.maps, batch), eager_maps(plain, crops[:batch])
    differences = {
        name: float(np.abs(mine[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in config.maps
    }
    what = f"backbone, {config.backbone.input_size} px, engine {config.engine}"
    milliseconds = [1000 * value / len(crops) for value in seconds["ours"]]
    figures = (
        ratio_figure(
            "backbone.speed", f"{what}, batches of {batch}", f"{AGAINST}, the same batches",
            seconds["timm"], seconds["ours"], goal=Goal(at_least=2),
        ),
        ratio_figure(
            "backbone.speed.single", f"{what}, batches of {batch}", f"{AGAINST}, one crop at a time",
            seconds["single"], seconds["ours"], goal=None,
        ),
        Figure(
            "backbone.difference", f"{what}: largest difference of a map, share of its maximum", AGAINST, "",
            max(differences.values()), goal=Goal(at_most=TOLERANCE),
        ),
        median_figure("backbone.time", f"{what}: CPU time per crop", "", "ms", milliseconds, goal=None),
    )  # fmt: skip
    details = {"engine": config.engine, "crops": len(crops), "cpu_seconds": seconds, "differences": differences}
    return Section("backbone", figures, details=details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=7)
    arguments.add_argument("--crops", type=int, default=128, help="in a round (default: 128)")
    arguments.add_argument("--backbone-weights", default="", help="as for emobeam extract; untrained: at 224 px")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
