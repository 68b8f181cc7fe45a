"""Two workers against one, and against two plain loops: ``python -m tests.benchmarks.workers [CLIP...]``.

Each clip is repeated until one worker has ``--minutes`` of work (five by default). One run of ``extract`` with one
worker, one with two, and two processes that call ``extract_segment`` in a loop, each over every other segment. One
torch thread each; start-up apart: from the first segment's start to the last one's end. Two plain loops are what this
machine can give at best: every worker has a decoding process beside it, which one worker can put on an idle core.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from emo_transforms.cache import Dataset
from emo_transforms.decoding import DecoderProcess
from emo_transforms.extraction import Tools, extract_segment
from pipelines.extract import resolve_config
from schemas.config import ExtractConfig, SamplingConfig
from schemas.records import Segment
from tests.benchmarks.measure import (
    Spent,
    cpu_seconds,
    interleaved,
    loop_clip,
    machine,
    parser,
    ratio,
    segments_of,
    standard_clip,
    table,
    video_seconds,
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
        begins, ends, cpus = zip(*(job.result() for job in jobs), strict=True)
    return Spent(max(ends) - min(begins), sum(cpus))


def workers(clip: Path, dataset: Dataset, count: int) -> Spent:
    with tempfile.TemporaryDirectory() as features:
        return extract(clip, Path(features), dataset, workers=count)


def seconds_per_pass(clip: Path, config: ExtractConfig, decoder: DecoderProcess) -> float:
    """Wall seconds of a plain loop over a clip once, start-up apart."""
    with tempfile.TemporaryDirectory() as features:
        begin, end, _ = plain_loop(segments_of(clip, config, decoder), config, features)
    return end - begin


def measure(clip: Path, dataset: Dataset, minutes: float, repeats: int, folder: Path) -> str:
    """All three on one clip, as a table."""
    config = dataset.config
    with DecoderProcess(config.decoder) as decoder:
        once = seconds_per_pass(clip, config, decoder)
        long = loop_clip(clip, folder / f"{clip.stem}-long.mp4", times=max(math.ceil(60 * minutes / once), 2))
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
    one = [run.wall for run in spent["one"]]
    rows = []
    for name, label in (("one", "1 worker"), ("two", "2 workers"), ("loops", "2 plain loops")):
        wall = [run.wall for run in spent[name]]
        cpu = statistics.median(run.cpu for run in spent[name])
        rows.append([label, f"{statistics.median(wall):.1f}", f"{cpu:.1f}", ratio(one, wall)])
    rows[1][-1] += f"; {ratio([r.wall for r in spent['loops']], [r.wall for r in spent['two']])} against the loops"
    sampled = sum(len(segment.sampled) for segment in segments)
    title = f"{clip.name}, {video_seconds(long) / 60:.1f} minutes of video: {len(segments)} segments, {sampled} frames"
    return table(title, ["", "wall s", "CPU s", "times as fast as 1 worker"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=1)
    arguments.add_argument("--minutes", type=float, default=5.0, help="work of one worker (default: 5)")
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    arguments.add_argument("--segment-seconds", type=float, default=60.0, help="length of a segment (default: 60)")
    options = arguments.parse_args(argv)
    print(machine())
    sampling = SamplingConfig(fps=options.fps, segment_seconds=options.segment_seconds)
    dataset = resolve_config(ExtractConfig(sampling=sampling))
    with tempfile.TemporaryDirectory() as name:
        for clip in options.clip or [standard_clip(Path(name))]:
            print(measure(clip, dataset, options.minutes, options.repeats, Path(name)), flush=True)


if __name__ == "__main__":
    main()
