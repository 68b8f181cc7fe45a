"""What Beam costs: ``python -m tests.benchmarks.beam_cost [CLIP...]``.

The heavy step in Beam's in-process runner against the pool of children alone: the same segments of a minute, the same
child with its loaded networks and its decoding process, one torch thread. Beam's own start-up (building and starting a
pipeline, measured with one segment whose shard is there) is told apart; a launcher pays it once per stage.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.cache.segment_codec import encode_segment
from emobeam.emo_transforms.extraction.beam_records import Ends
from emobeam.emo_transforms.extraction.child_work import Work
from emobeam.emo_transforms.extraction.extract_transform import ExtractSegments
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from emobeam.runners.direct_run import run_direct
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import PlannedSegment, ShardRecord
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


def run_pool(segments: Sequence[PlannedSegment], job: SegmentJob, pool: LocalPool) -> None:
    work = [Work(segment.shard, segment.sampled, segment) for segment in segments]
    assert all(not outcome.reason for outcome in pool.work_off(job, work))


def run_beam(segments: Sequence[PlannedSegment], job: SegmentJob, pool: LocalPool) -> None:
    """The heavy step between a source and a sink."""

    def build(pipeline: Any, ends: Ends) -> None:
        made = pipeline | "Segments" >> ends.tasks | "Extract" >> ExtractSegments(job, ends.finder)
        _ = made | "Shards" >> ends.leave(ShardRecord, "shards")

    records: dict[str, list[ShardRecord]] = {}
    run_direct(build, segments, pool, lambda event, data: None, [], records)
    assert len(records["shards"]) == len(segments)


def compare(clip: Path, config: ExtractConfig, copies: int, repeats: int) -> tuple[list[Figure], dict[str, Any]]:
    """Pool and Beam over ``copies`` copies of a clip."""
    with DecoderProcess(config.decoder) as decoder:
        found = [s for number in range(copies) for s in segments_of(clip, config, decoder, name=f"copy-{number}")]
    segments = [PlannedSegment(each.shard, len(each.sampled), encode_segment(each)) for each in found]
    with tempfile.TemporaryDirectory() as folder, LocalPool(LocalConfig()) as pool:
        job = SegmentJob(config, folder)  # one folder for all rounds: another job would load the networks anew
        began = time.perf_counter()
        run_pool(segments[:1], job, pool)
        loaded = time.perf_counter()
        runs: dict[str, Callable[[], Spent]] = {
            "pool": lambda: _anew(folder, lambda: run_pool(segments, job, pool)),
            "beam": lambda: _anew(folder, lambda: run_beam(segments, job, pool)),
            "start": lambda: timed(lambda: run_beam(segments[:1], job, pool)),
        }
        runs["start"]()  # imports, and what Beam keeps
        spent = interleaved(runs, repeats, warm_up=False)
    sampled = sum(segment.sampled for segment in segments)
    alone, within, start = (spent[name] for name in ("pool", "beam", "start"))
    apart = [one.cpu - other.cpu for one, other in zip(within, start, strict=True)]
    what, against, note = (
        "Beam, CPU time more",
        "the pool of children alone",
        f"{len(segments)} segments, {sampled} frames",
    )
    limit = Goal(at_most=5)
    figures = [
        more_figure("beam.more", what, against, cpus(within), cpus(alone), goal=limit, note=note),
        more_figure("beam.more.apart", f"{what}, its start-up apart", against, apart, cpus(alone), goal=None),
        median_figure("beam.start", "Beam: a pipeline with nothing to do", "", "ms",
                      [1000 * one.wall for one in start], goal=None),
    ]  # fmt: skip
    details = {
        "segments": len(segments),
        "frames": sampled,
        "first_segment_seconds": loaded - began,
        "cpu_seconds": {name: cpus(runs) for name, runs in spent.items()},
        "wall_seconds": {name: walls(runs) for name, runs in spent.items()},
        "ms_per_frame": 1000 * (statistics.median(cpus(within)) - statistics.median(cpus(alone))) / sampled,
    }
    return figures, details


def _anew(folder: str, work: Callable[[], None]) -> Spent:
    """With no shard in the folder; one that is there at the end, so that ``start`` finds the first."""
    for shard in Path(folder).glob("shards/*.parquet"):
        shard.unlink()
    return timed(work)


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
