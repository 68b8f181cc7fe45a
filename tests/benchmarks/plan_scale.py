"""``emobeam plan`` on 100,000 videos of 3,000 hours: time and memory. ``python -m tests.benchmarks.plan_scale``.

The videos are links to a few generated clips of different length, so each of them can really be looked at. Ends with
exit code 1 where planning takes longer, more memory or larger elements than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from tests.pipelines.runs import emobeam

LENGTHS = (12, 25, 45, 70, 108, 150, 200, 254)
"""Seconds; their mean is that of 3,000 hours in 100,000 videos."""


MOST_SECONDS = 120.0
MOST_GB = 2.0
MOST_BYTES = 1000
"""What planning may take: seconds, memory of all its processes together, and bytes of one element that travels."""


@dataclass(frozen=True)
class Planned:
    """What a run of ``emobeam plan`` took, and what it told.

    Attributes:
        seconds: from the command to its end.
        gigabytes: most memory of all its processes together; pages that they share count once, where that is known.
        told: its ``--json``.
    """

    seconds: float
    gigabytes: float
    told: dict[str, Any]

    def too_much(self) -> list[str]:
        """What is beyond the limits, in words; empty where all is well."""
        size = int(self.told["element_bytes"])
        found = []
        if self.seconds > MOST_SECONDS:
            found.append(f"{self.seconds:.1f} s, and {MOST_SECONDS:.0f} s is the limit")
        if self.gigabytes > MOST_GB:
            found.append(f"{self.gigabytes:.2f} GB, and {MOST_GB:g} GB is the limit")
        if size > MOST_BYTES:
            found.append(f"elements of {size} bytes, and {MOST_BYTES} bytes is the limit")
        return found


def tree_bytes(root: psutil.Process) -> int:
    """Memory of a process and of all below it now: proportional set sizes on Linux, else resident ones."""
    total = 0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue  # it has just ended
        total += int(getattr(memory, "pss", memory.rss))
    return total


def plan(videos: Path) -> Planned:
    """Plans a job of 200 workers on these videos, and watches it."""
    command = emobeam("plan", videos, "--runner", "dataflow", "--workers", "200", "--json", "--quiet")
    began, most = time.monotonic(), 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        while process.poll() is None:
            most = max(most, tree_bytes(psutil.Process(process.pid)))
            time.sleep(0.1)
        seconds = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
        output.seek(0)
        return Planned(seconds, most / 1e9, json.loads(output.read()))


def clip(path: Path, seconds: float, rate: int = 5) -> Path:
    """A small clip of moving noise: its size grows with its length."""
    generator = np.random.default_rng(round(seconds))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "40"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(round(seconds * rate)):
            noise = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def make_videos(folder: Path, count: int) -> float:
    """``count`` videos in folders of a thousand; returns their length in hours."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    originals = [clip(clips / f"{seconds}.mp4", seconds) for seconds in LENGTHS]
    for number in range(count):
        subfolder = folder / "videos" / f"{number // 1000:03d}"
        if number % 1000 == 0:
            subfolder.mkdir(parents=True)
        os.link(originals[number % len(originals)], subfolder / f"{number % 1000:03d}.mp4")
    return sum(LENGTHS[number % len(LENGTHS)] for number in range(count)) / 3600


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the figures; exit code 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="emobeam-scale-") as temporary:
        hours = make_videos(Path(temporary), args.videos)
        found = plan(Path(temporary) / "videos")
    told = found.told["hours"]
    print(f"{args.videos} videos, {hours:.0f} hours: ", end="")
    print(f"planned in {found.seconds:.1f} s with {found.gigabytes:.2f} GB at most in all processes together")
    print(f"told: {told['value']:.0f} hours ({told['low']:.0f} to {told['high']:.0f}), ", end="")
    print(f"{found.told['segments']['value']:.0f} segments, at most {found.told['element_bytes']} bytes each")
    if beyond := found.too_much():
        sys.exit("too much: " + "; ".join(beyond))


if __name__ == "__main__":
    main()
