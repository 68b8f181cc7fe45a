"""What Beam costs: ``python -m tests.benchmarks.beam_cost [CLIP...]``.

The transform ``ExtractSegments`` in Beam's in-process runner, with reports as a worker sends them, against
``extract_segment`` in a loop: the same segments of a minute, the same loaded networks, the same decoding process, one
torch thread. Beam's own start-up (building and starting a pipeline, measured with one segment whose shard is there) is
told apart; a worker pays it once per slice of the plan.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.extraction.extract_transform import ExtractSegments
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.runners.local_worker import PipeReporter
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Segment
from tests.benchmarks.figures import Figure, Goal, Section, median_figure, more_figure
from tests.benchmarks.material import segments_of, standard_clip
from tests.benchmarks.measure import (
    Spent,
    as_worker,
    cpus,
    detector_modes,
    interleaved,
    parser,
    run,
    stage1_settings,
    timed,
    walls,
)


def run_loop(segments: Sequence[Segment], tools: Tools, features: str) -> None:
    for segment in segments:
        extract_segment(segment, tools, features)


def run_beam(
    segments: Sequence[Segment], config: ExtractConfig, features: str, shared: Shared, reporter: PipeReporter
) -> None:
    """The pipeline a worker runs over a slice (see ``emobeam.pipelines.stages.extract.ExtractJob``)."""
    extract = ExtractSegments(config, features, shared, threads=1, reporter=reporter)
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        _ = pipeline | beam.Create(segments, reshuffle=False) | extract


def compare(clip: Path, config: ExtractConfig, copies: int, repeats: int) -> tuple[list[Figure], dict[str, Any]]:
    """Loop and Beam over ``copies`` copies of a clip."""
    shared = Shared()
    began = time.perf_counter()
    tools: Tools = shared.acquire(lambda: Tools(config), tag=config.cache_id)
    loaded = time.perf_counter()
    assert tools.decoder is not None
    segments = segments_of(clip, config, tools.decoder)  # the decoding process starts here
    planned = time.perf_counter()
    segments = [s for number in range(copies) for s in segments_of(clip, config, tools.decoder, name=f"copy-{number}")]
    with tempfile.TemporaryDirectory() as done, open(os.devnull, "wb") as nowhere:
        reporter = PipeReporter(nowhere.fileno())
        run_loop(segments[:1], tools, done)
        runs: dict[str, Callable[[str], None]] = {
            "loop": lambda folder: run_loop(segments, tools, folder),
            "beam": lambda folder: run_beam(segments, config, folder, shared, reporter),
            "start": lambda _: run_beam(segments[:1], config, done, shared, reporter),
        }
        runs["start"](done)  # imports, and what Beam keeps
        spent = interleaved({name: _in_fresh_folder(work) for name, work in runs.items()}, repeats, warm_up=False)
    tools.close()
    sampled = sum(len(segment.sampled) for segment in segments)
    loop, within, start = (spent[name] for name in ("loop", "beam", "start"))
    apart = [one.cpu - other.cpu for one, other in zip(within, start, strict=True)]
    what, against, note = (
        "Beam, CPU time more",
        "extract_segment in a loop",
        f"{len(segments)} segments, {sampled} frames",
    )
    limit = Goal(at_most=5)
    figures = [
        more_figure("beam.more", what, against, cpus(within), cpus(loop), goal=limit, note=note),
        more_figure("beam.more.apart", f"{what}, its start-up apart", against, apart, cpus(loop), goal=None),
        median_figure("beam.start", "Beam: a pipeline with nothing to do", "", "ms",
                      [1000 * one.wall for one in start], goal=None),
    ]  # fmt: skip
    details = {
        "segments": len(segments),
        "frames": sampled,
        "loading_seconds": loaded - began,
        "decoder_start_seconds": planned - loaded,
        "cpu_seconds": {name: cpus(runs) for name, runs in spent.items()},
        "wall_seconds": {name: walls(runs) for name, runs in spent.items()},
        "ms_per_frame": 1000 * (statistics.median(cpus(within)) - statistics.median(cpus(loop))) / sampled,
    }
    return figures, details


def _in_fresh_folder(work: Callable[[str], None]) -> Callable[[], Spent]:
    def once() -> Spent:
        with tempfile.TemporaryDirectory() as folder:
            return timed(lambda: work(folder))

    return once


def measure(options: argparse.Namespace) -> Section:
    if options.quick:
        options.copies, options.fps = 1, 1.0
    mode = detector_modes(options.engine)[-1]
    config = stage1_settings(detector=mode, engine=options.engine, fps=options.fps).config
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    steps: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for clip in options.clip or [standard_clip(Path(folder), times=3 if options.quick else 15)]:
            found, details[clip.name] = compare(clip, config, options.copies, options.repeats)
            figures += found
            steps["Beam"] = {"Beam": max(details[clip.name]["ms_per_frame"], 0.0)}
    return Section("beam_cost", tuple(figures), steps, details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("clip", nargs="*", type=Path, help="default: the carphone clip, enlarged, a minute of it")
    arguments.add_argument("--copies", type=int, default=2, help="how often a clip is done in a run (default: 2)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
