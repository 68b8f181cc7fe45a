"""What other boxes do to results: ``python -m tests.benchmarks.outputs [--head HEAD ...]``.

Clips go through stage 1 and stage 2 as a run takes them, once with the boxes of ``facenet_pytorch.MTCNN.detect``, once
with each mode of our detector; everything else is equal. Compared are the values of the main face in sampled frames
that both have: the mean of the absolute change, of that output where it is largest.

Untrained heads hardly move whatever they see. So their outputs are also told *stretched*: their logits, scaled so that
over the frames of the reference they have a standard deviation of 1.5, are put through a sigmoid, which then uses the
whole range from 0 to 1. This magnifies whatever differs, more than a trained head would; it has no goal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit, logit

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.emo_transforms.faces.detection.facenet_detector import FacenetDetector
from emobeam.emo_transforms.prediction.prediction_tables import part_uri
from emobeam.emo_transforms.prediction.video_parts import HeadSpec, PredictTools, load_tools, predict_video
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import VideoFeatures
from tests.benchmarks.figures import Figure, Goal, Section
from tests.benchmarks.material import one_face, real_clips, segments_of, wide_portrait
from tests.benchmarks.measure import MODE_TEXT, as_worker, detector_modes, parser, run, stage1_settings

SPREAD = 1.5
GOAL = Goal(at_most=0.02)

_REAL = ("single_face.mp4", "WolfgangLanger_Pexels.mp4", "webcam_h264.mp4", "face_noface.mov")

Values = Mapping[tuple[str, int], NDArray[np.float64]]
"""Outputs of the main face by video and frame."""


def results(clips: Sequence[Path], tools: Tools, heads: PredictTools, folder: Path) -> dict[str, Values]:
    """Both stages over all clips; values by task."""
    assert tools.decoder is not None
    features, output = folder / "features", folder / "out"
    found: dict[str, dict[tuple[str, int], NDArray[np.float64]]] = {task: {} for task in heads.heads}
    for clip in clips:
        segments = segments_of(clip, tools.config, tools.decoder)
        records = [extract_segment(segment, tools, str(features)) for segment in segments]
        shards = tuple(segment.shard for segment, record in zip(segments, records, strict=True) if record.rows)
        if not shards:
            continue
        video = VideoFeatures(clip.stem, shards, sampled=sum(record.sampled for record in records))
        predict_video(video, heads, str(features), str(output), PredictConfig())
        for task in heads.heads:
            found[task].update(values_of(part_uri(str(output), task, clip.stem), clip.stem))
    return dict(found)


def values_of(part: str, video: str) -> dict[tuple[str, int], NDArray[np.float64]]:
    table = pq.read_table(part).to_pandas()
    table = table[(table["face"] == 0) & (table["source"] == "sampled")]
    outputs = [name for name in table.columns if table[name].dtype.kind == "f" and name != "time"]
    rows = table[outputs].to_numpy(np.float64)
    return {(video, int(frame)): row for frame, row in zip(table["frame"], rows, strict=True)}


def changes(theirs: Values, ours: Values) -> tuple[float, float, int]:
    """Mean absolute change of the output that changes most, plain and stretched; and the number of frames."""
    both = sorted(theirs.keys() & ours.keys())
    if not both:
        return float("nan"), float("nan"), 0
    a, b = (np.stack([values[key] for key in both]) for values in (theirs, ours))
    plain = float(np.abs(a - b).mean(axis=0).max())
    low = -1.0 if min(a.min(), b.min()) < 0 else 0.0  # tanh or sigmoid; both are a sigmoid of some logit
    x, y = (logit(np.clip((values - low) / (1 - low), 1e-7, 1 - 1e-7)) for values in (a, b))
    middle, scale = x.mean(axis=0), SPREAD / np.maximum(x.std(axis=0), 1e-9)
    stretched = np.abs(expit((x - middle) * scale) - expit((y - middle) * scale))
    return plain, float(stretched.mean(axis=0).max()), len(both)


def clips_for(folder: Path, quick: bool) -> list[Path]:
    if quick:
        return [one_face(folder, 360, seconds=2)]
    real = [clip for clip in real_clips() if clip.name in _REAL]
    return [*real, wide_portrait(folder / "generated.mp4", 360, seconds=8)]


def measure(options: argparse.Namespace) -> Section:
    modes = detector_modes(options.engine)
    datasets: dict[str, Dataset] = {
        mode: stage1_settings(detector=mode, engine=options.engine, weights=options.backbone_weights) for mode in modes
    }
    specs = [HeadSpec("au", "untrained"), HeadSpec("va", "untrained")] if not options.head else []
    heads = load_tools([*specs, *_named(options.head)], datasets[modes[0]])
    found: dict[str, dict[str, Values]] = {}
    with tempfile.TemporaryDirectory() as name:
        clips = clips_for(Path(name), options.quick)
        for side in ("plain", *modes):
            tools = Tools(datasets[modes[0] if side == "plain" else side].config)
            if side == "plain":
                tools.detector = FacenetDetector(tools.config.detector)
            try:
                found[side] = results(clips, tools, heads, Path(name) / side)
            finally:
                tools.close()
    figures, details = [], {}
    trained = bool(options.head)
    pairs = [("plain", mode) for mode in modes] + ([("exact", "track")] if "track" in modes else [])
    for theirs, ours in pairs:
        against = "the same with the boxes of facenet_pytorch" if theirs == "plain" else "the same with exact boxes"
        for task in heads.heads:
            plain, stretched, frames = changes(found[theirs][task], found[ours][task])
            key, what = f"outputs.{ours}.{theirs}.{task}", f"mean change of outputs, {task}, {MODE_TEXT[ours]}"
            note = f"{frames} frames of {len(clips)} clips; {'trained' if trained else 'untrained'} head"
            figures.append(Figure(key, what, against, "", plain, goal=GOAL, note=note))
            if not trained:
                figures.append(Figure(f"{key}.stretched", f"{what}, stretched", against, "", stretched, note=note))
            details[key] = {"frames": frames, "change": plain, "stretched": stretched}
    return Section("outputs", tuple(figures), details=details)


def _named(folders: Sequence[str]) -> list[HeadSpec]:
    return [HeadSpec("", folder) for folder in folders]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=1)
    arguments.add_argument("--head", action="append", default=[], help="folder of a head of frame scope; repeatable")
    arguments.add_argument("--backbone-weights", default="", help="as for emobeam extract; those of the heads")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
