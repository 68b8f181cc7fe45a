"""What planning takes in a launcher: ``python -m tests.benchmarks.graph_scale``.

1,000 hours at 30 frames a second, 60,000 segments of a minute, go through the graph of stage 1 on the in-process
runner; children give segments that were planned before and do nothing with them. And 1,000 clips of two seconds are
planned for real by two workers. Ends with exit code 1 where the launcher takes more memory than it may.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.cache.segment_codec import encode_segment
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.extraction.plan_job import PlanJob
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.plain_json import to_text
from emobeam.schemas.records import Fingerprint, Looked, PlannedSegment, Probe, Video, VideoTask

MOST_MB = 500.0
RATE = 30


@dataclass(frozen=True)
class PlannedBefore:
    """Gives the segments of an hour of video for every task, as ``PlanJob`` does, under names of their own."""

    pieces: tuple[tuple[str, int, bytes], ...]

    def open(self, _: Decoders) -> Callable[[VideoTask, Report], None]:
        def plan(task: VideoTask, report: Report) -> None:
            name = task.video.id
            segments = [[f"{shard[:40]}{name:0>24}", n, b64encode(data).decode()] for shard, n, data in self.pieces]
            sampled = sum(n for _, n, _ in self.pieces)
            record = Looked(name, Fingerprint(1, name), len(segments), 0, sampled, "", 3600.0, sampled)
            report("done", {"key": name, "result": {"looked": to_text(record), "segments": segments}})

        return plan


@dataclass(frozen=True)
class DoNothing:
    """Tells of a shard for every segment, and makes none."""

    features: str = ""

    def open(self, _: Decoders) -> Callable[[PlannedSegment, Report], None]:
        row: dict[str, Any] = dict.fromkeys(("start", "first_time", "last_time"), 12345.678901)
        row |= dict.fromkeys(("segment", "count", "frames", "sampled", "lost", "with_face", "rows", "clipped"), 360)
        row |= {"first_frame": 1, "last_frame": 1800, "width": 1920, "height": 1080, "size": 1 << 30, "bytes": 1 << 24}

        def make(planned: PlannedSegment, report: Report) -> None:
            told = {**row, "video": planned.shard[40:], "shard": planned.shard, "digest": "d" * 64, "note": ""}
            record = [told, [], False, {"decode": 1.0, "detect": 2.0, "align": 0.1, "embed": 1.0, "write": 0.1}]
            report("done", {"key": planned.shard, "result": to_text(tuple(record))})

        return make


def hour() -> tuple[tuple[str, int, bytes], ...]:
    """The segments of an hour with frames that come when they should, within a tick."""
    stamps = tuple(round(number * 90000 / RATE) + number % 2 for number in range(3600 * RATE))
    video, config = Video("hour", "gs://bucket/collection of videos/day 1/hour.mp4"), ExtractConfig()
    segments = plan_segments(
        video, Fingerprint(1 << 30, "d" * 64), Probe(stamps, (1, 90000), 1920, 1080), config.sampling, config.cache_id
    )
    return tuple((each.shard, len(each.sampled), encode_segment(each)) for each in segments)


def through_the_graph(tasks: Sequence[VideoTask], plan: Any, extract: Any, workers: int) -> dict[str, float]:
    """The graph of stage 1 here; seconds until all is planned, and until all is through."""
    began = time.perf_counter()
    planned = 0.0
    records: dict[str, list[Any]] = {}

    def told(event: str, data: Any) -> None:
        nonlocal planned
        if event == "looked" and len(records["looked"]) == len(tasks):
            planned = time.perf_counter() - began

    with LocalPool(LocalConfig(workers=workers)) as pool:
        pool.start(plan, len(tasks))
        from emobeam.pipelines.stages.graphs.extract_graph import extract_graph
        from emobeam.runners.direct_run import run_direct

        run_direct(lambda pipeline, ends: extract_graph(pipeline, ends, plan, extract), tasks, pool, told, [], records)
    whole = time.perf_counter() - began
    return {"planned": planned, "whole": whole, "segments": len(records["shards"])}


def hours(count: int) -> None:
    """``count`` hours of 60 segments each, and what this process takes for them."""
    tasks = [VideoTask(Video(f"{number}", f"gs://bucket/{number}.mp4")) for number in range(count)]
    pieces = hour()
    found = through_the_graph(tasks, PlannedBefore(pieces), DoNothing(), 2)
    assert "torch" not in sys.modules, "what it takes is known, and hides the rest"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    size = sum(len(data) for _, _, data in pieces) / len(pieces)
    print(
        f"{count} hours, {found['segments']:.0f} segments of {size:.0f} bytes: planned in {found['planned']:.1f} s,",
        end=" ",
    )
    print(f"through the graph in {found['whole']:.1f} s; the launcher took {peak:.0f} MB at most")
    if peak > MOST_MB:
        sys.exit(f"too much: {MOST_MB:.0f} MB is the limit")


def clips(count: int) -> None:
    """``count`` clips of two seconds, planned by two workers."""
    from emobeam.emo_transforms.extraction.video_plans import find_videos
    from emobeam.pipelines.stages.remaining_work import know
    from tests.benchmarks.plan_scale import clip

    with tempfile.TemporaryDirectory(prefix="emobeam-scale-") as temporary:
        folder = Path(temporary) / "videos"
        folder.mkdir()
        original = clip(Path(temporary) / "clip.mp4", 2, rate=25)
        for number in range(count):
            (folder / f"{number:04d}.mp4").hardlink_to(original)
        features = Path(temporary) / "features"
        for name in ("shards", "failures"):
            (features / name).mkdir(parents=True)
        config = replace(ExtractConfig())
        known = know(str(features), find_videos([str(folder)]), config)
        found = through_the_graph(known.tasks, PlanJob(config, str(features)), DoNothing(), 2)
    print(f"{count} clips of 2 s, two workers: planned in {found['planned']:.1f} s, start of all processes included")


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures; each is measured in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int)
    parser.add_argument("--clips", type=int)
    args = parser.parse_args(argv)
    if args.hours or args.clips:
        hours(args.hours) if args.hours else clips(args.clips)
        return
    for part in (("--hours", "1000"), ("--clips", "1000")):
        subprocess.run([sys.executable, "-m", "tests.benchmarks.graph_scale", *part], check=True)


if __name__ == "__main__":
    from tests.benchmarks import graph_scale

    graph_scale.main()  # children can't find what is defined in __main__
