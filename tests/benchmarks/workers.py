"""Two workers against one, and against two plain loops: ``python -m tests.benchmarks.workers [CLIP...]``.

Each clip is repeated until one worker has ``--seconds`` of work. One run of ``extract`` with one worker, one with two,
and two processes that call ``extract_segment`` in a loop, each over every other segment. One torch thread each;
start-up apart: from the first segment's start to the last one's end. Two plain loops are what this machine can give at
best: every worker has a decoding process beside it, which one worker can put on an idle core.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Segment
from tests.benchmarks.figures import Figure, Goal, Section, ratio_figure
from tests.benchmarks.material import loop_clip, segments_of, standard_clip
from tests.benchmarks.measure import (
    MODE_TEXT,
    Spent,
    as_worker,
    cores,
    cpu_seconds,
    cpus,
    detector_modes,
    interleaved,
    parser,
    run,
    stage1_settings,
    walls,
)
from tests.benchmarks.runs import extract

LOOPS = 2


def plain_loop(segments: Sequence[Segment], config: ExtractConfig, features: str) -> tuple[float, float, float]:
    """Begin and end (system-wide clock, s) of a loop in this process, its networks loaded before; CPU seconds."""
    torch.set_num_threads(1)
    tools = Tools(config)
    begin, cpu = time.monotonic(), cpu_seconds()
    for segment in segments:
        extract_segment(segment, tools, features)
    end, cpu = time.monotonic(), cpu_seconds() - cpu
    tools.close()
    return begin, end, cpu


def plain_loops(segments: Sequence[Segment], config: ExtractConfig) -> Spent:
    """As many loops side by side as there are in :data:`LOOPS`, from the first begin to the last end."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as features, ProcessPoolExecutor(LOOPS, mp_context=context) as pool:
        shares = [segments[start::LOOPS] for start in range(LOOPS)]
        jobs = [pool.submit(plain_loop, share, config, features) for share in shares]
        begins, ends, seconds = zip(*(job.result() for job in jobs), strict=True)
    return Spent(max(ends) - min(begins), sum(seconds))


def workers(clip: Path, dataset: Dataset, count: int) -> Spent:
    with tempfile.TemporaryDirectory() as features:
        return extract(clip, Path(features), dataset, workers=count)


def seconds_per_pass(clip: Path, config: ExtractConfig, decoder: DecoderProcess) -> float:
    """Wall seconds of a plain loop over a clip once, start-up apart."""
    with tempfile.TemporaryDirectory() as features:
        begin, end, _ = plain_loop(segments_of(clip, config, decoder), config, features)
    return end - begin


def compare(
    clip: Path, dataset: Dataset, mode: str, seconds: float, repeats: int, folder: Path
) -> tuple[list[Figure], Any]:
    """All three on one clip."""
    config = dataset.config
    with DecoderProcess(config.decoder) as decoder:
        once = seconds_per_pass(clip, config, decoder)
        long = loop_clip(clip, folder / f"{clip.stem}-{mode}-long.mp4", times=max(math.ceil(seconds / once), 2))
        segments = segments_of(long, config, decoder)
    spent = interleaved(
        {
            "one": lambda: workers(long, dataset, 1),
            "two": lambda: workers(long, dataset, 2),
            "loops": lambda: plain_loops(segments, config),
        },
        repeats,
        warm_up=False,
    )
    sampled = sum(len(segment.sampled) for segment in segments)
    middle = {name: statistics.median(walls(runs)) for name, runs in spent.items()}
    note = ", ".join(
        f"{label} {middle[name]:.1f} s" for name, label in (("one", "one"), ("two", "two"), ("loops", "loops"))
    )
    what = f"two workers, {MODE_TEXT[mode]}: times as fast, wall clock"
    figures = [
        ratio_figure(
            f"workers.{mode}.one", what, "one worker", walls(spent["one"]), walls(spent["two"]),
            goal=Goal(at_least=1.85), note=f"{note}; {len(segments)} segments, {sampled} frames",
        ),
        ratio_figure(
            f"workers.{mode}.loops", what, "two plain loops", walls(spent["loops"]), walls(spent["two"]),
            goal=Goal(at_least=0.95),
        ),
    ]  # fmt: skip
    both = {name: {"wall": walls(runs), "cpu": cpus(runs)} for name, runs in spent.items()}
    return figures, {"segments": len(segments), "frames": sampled, "seconds": both}


def measure(options: argparse.Namespace) -> Section:
    if cores() < LOOPS:
        return Section("workers", skipped=(f"two workers: this process may use {cores()} core only",))
    if options.quick:
        options.seconds, options.segment_seconds, options.fps = 3.0, 5.0, 1.0
    mode = detector_modes(options.engine)[-1]
    dataset = stage1_settings(
        detector=mode, engine=options.engine, fps=options.fps, segment_seconds=options.segment_seconds
    )
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for clip in options.clip or [standard_clip(Path(name), times=1 if options.quick else 5)]:
            found, details[clip.name] = compare(clip, dataset, mode, options.seconds, options.repeats, Path(name))
            figures += found
    return Section("workers", tuple(figures), details=details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=3)
    arguments.add_argument("clip", nargs="*", type=Path, help="default: the carphone clip, enlarged and repeated")
    arguments.add_argument("--seconds", type=float, default=30.0, help="of work for one worker (default: 30)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    arguments.add_argument("--segment-seconds", type=float, default=60.0, help="length of a segment (default: 60)")
    run(arguments, measure, argv, on_cores=LOOPS)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
