"""Peak memory of a worker and its decoding process: ``python -m tests.benchmarks.memory [CLIP...]``.

``extract`` with one worker on a clip at 1080 lines and on the same clip ten times as long, for each mode of the
detector. Without a clip: a street scene with several faces where the real clips are at hand, else a generated one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.cache.dataset import Dataset
from tests.benchmarks.figures import Figure, Goal, Section
from tests.benchmarks.material import loop_clip, scale_clip, several_faces, video_seconds
from tests.benchmarks.measure import MODE_TEXT, as_worker, detector_modes, parser, run, stage1_settings
from tests.benchmarks.runs import PeakMemory, extract

LIMIT_MB = 650
FLAT = 1.1
"""A run ten times as long may take a tenth more: allocators and buffers settle only after some batches."""


def peak_of(clip: Path, dataset: Dataset) -> PeakMemory:
    """Peaks of one run in processes of its own."""
    with tempfile.TemporaryDirectory() as features, PeakMemory() as peak:
        extract(clip, Path(features), dataset, workers=1)
    return peak


def compare(clip: Path, mode: str, options: argparse.Namespace, folder: Path) -> tuple[list[Figure], dict[str, Any]]:
    """Both lengths of one clip; the worst of all rounds counts."""
    dataset = stage1_settings(detector=mode, engine=options.engine, fps=options.fps)
    longer = {
        count: loop_clip(clip, folder / f"{clip.stem}-{mode}-{count}.mp4", times=count) for count in (1, options.times)
    }
    peaks: dict[int, list[PeakMemory]] = {count: [] for count in longer}
    for _ in range(options.repeats):
        for count, path in longer.items():
            peaks[count].append(peak_of(path, dataset))
    worst = {count: max(found, key=lambda peak: peak.together) for count, found in peaks.items()}
    short, long = worst[1], worst[options.times]
    what = f"memory, {MODE_TEXT[mode]}, {clip.stem}"
    lengths = f"{video_seconds(longer[1]):.0f} and {video_seconds(longer[options.times]):.0f} s"
    key = f"memory.{mode}.{clip.stem}"
    figures = [
        Figure(
            f"{key}.flat", f"{what}: clip {options.times}x as long", "the clip once", "x",
            long.together / short.together,
            goal=Goal(at_most=FLAT), note=f"{lengths} of video; worst of {options.repeats}",
        ),
        Figure(
            f"{key}.peak", f"{what}: peak of worker and decoding process", "", "MB", long.together,
            goal=Goal(at_most=LIMIT_MB), note=f"worker {long.worker:.0f} MB, decoding {long.decoder:.0f} MB",
        ),
    ]  # fmt: skip
    details = {
        str(count): [{"worker": peak.worker, "decoder": peak.decoder} for peak in found]
        for count, found in peaks.items()
    }
    return figures, details


def measure(options: argparse.Namespace) -> Section:
    if options.quick:
        options.times, options.fps = 2, 1.0
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = options.clip or [several_faces(folder, seconds=1 if options.quick else 4)]
        if options.height:
            clips = [
                scale_clip(clip, folder / f"{clip.stem}-{options.height}.mp4", height=options.height) for clip in clips
            ]
        for clip in clips:
            for mode in detector_modes(options.engine):
                found, details[f"{clip.name}, {mode}"] = compare(clip, mode, options, folder)
                figures += found
    return Section("memory", tuple(figures), details=details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=1)
    arguments.add_argument("clip", nargs="*", type=Path, help="default: several faces at 1080 lines")
    arguments.add_argument("--times", type=int, default=10, help="the longer length (default: 10)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    arguments.add_argument("--height", type=int, default=0, help="encode at so many lines first (default: 0, as it is)")
    run(arguments, measure, argv, on_cores=2)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
