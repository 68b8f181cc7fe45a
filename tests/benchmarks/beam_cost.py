"""What Beam costs: ``python -m tests.benchmarks.beam_cost [CLIP...]``.

The transform ``ExtractSegments`` in Beam's in-process runner, with reports as a worker sends them, against
``extract_segment`` in a loop: the same segments, the same loaded networks, the same decoding process, one torch
thread. Beam's own start-up (building and starting a pipeline, measured with one segment whose shard is there) is told
apart.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import torch
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from emo_transforms.extract import ExtractSegments
from emo_transforms.extraction import Tools, extract_segment
from pipelines.extract import resolve_config
from runners.worker import PipeReporter
from schemas.config import ExtractConfig, SamplingConfig
from schemas.records import Segment
from tests.benchmarks.measure import (
    Spent,
    interleaved,
    machine,
    parser,
    percent_more,
    segments_of,
    standard_clip,
    table,
    timed,
)


def run_loop(segments: Sequence[Segment], tools: Tools, features: str) -> None:
    for segment in segments:
        extract_segment(segment, tools, features)


def run_beam(
    segments: Sequence[Segment], config: ExtractConfig, features: str, shared: Shared, reporter: PipeReporter
) -> None:
    """The pipeline a worker runs over a slice (see ``pipelines.extract.ExtractJob``)."""
    extract = ExtractSegments(config, features, shared, threads=1, reporter=reporter)
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        _ = pipeline | beam.Create(segments, reshuffle=False) | extract


def measure(clip: Path, config: ExtractConfig, copies: int, repeats: int) -> str:
    """Loop and Beam over ``copies`` copies of a clip, as tables."""
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
        spent = interleaved({name: _in_fresh_folder(work) for name, work in runs.items()}, repeats)
    tools.close()
    sampled = sum(len(segment.sampled) for segment in segments)
    rows = [
        ["loading the networks", f"{loaded - began:.2f}"],
        ["starting the decoding process and probing", f"{planned - loaded:.2f}"],
        ["Beam: a pipeline with nothing to do", f"{statistics.median(one.wall for one in spent['start']):.3f}"],
    ]
    start_up = table("Start-up in seconds (imports apart)", ["", "s"], rows)
    return report(f"{clip.name}: {len(segments)} segments, {sampled} sampled frames", spent) + "\n" + start_up


def report(title: str, spent: Mapping[str, Sequence[Spent]]) -> str:
    loop, within = spent["loop"], spent["beam"]
    apart = [one.wall - start.wall for one, start in zip(within, spent["start"], strict=True)]

    def row(label: str, plain: Sequence[float], ours: Sequence[float]) -> list[str]:
        return [label, *(f"{statistics.median(v):.2f}" for v in (plain, ours)), percent_more(ours, plain)]

    rows = [
        row("wall s", [one.wall for one in loop], [one.wall for one in within]),
        row("wall s, Beam's start-up apart", [one.wall for one in loop], apart),
        row("CPU s", [one.cpu for one in loop], [one.cpu for one in within]),
    ]
    return table(title, ["", "plain loop", "in Beam", "more"], rows)


def _in_fresh_folder(work: Callable[[str], None]) -> Callable[[], Spent]:
    def run() -> Spent:
        with tempfile.TemporaryDirectory() as folder:
            return timed(lambda: work(folder))

    return run


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("--copies", type=int, default=4, help="how often a clip is done in a run (default: 4)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    options = arguments.parse_args(argv)
    torch.set_num_threads(1)
    print(machine())
    config = resolve_config(ExtractConfig(sampling=SamplingConfig(fps=options.fps))).config
    with tempfile.TemporaryDirectory() as folder:
        for clip in options.clip or [standard_clip(Path(folder))]:
            print(measure(clip, config, options.copies, options.repeats), flush=True)


if __name__ == "__main__":
    main()
