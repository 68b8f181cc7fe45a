"""``emobeam plan`` on 100,000 videos of 3,000 hours: time and memory. ``python -m tests.benchmarks.plan_scale``.

The videos are links to a few generated clips of different length, so each of them can really be looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from tests.pipelines.runs import emobeam

LENGTHS = (12, 25, 45, 70, 108, 150, 200, 254)
"""Seconds; their mean is that of 3,000 hours in 100,000 videos."""


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
    """Prints a line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="emobeam-scale-") as temporary:
        hours = make_videos(Path(temporary), args.videos)
        command = emobeam(
            "plan", f"{temporary}/videos", "--runner", "dataflow", "--workers", "200", "--json", "--quiet"
        )
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        found = json.loads(done.stdout)
    told = found["hours"]
    print(f"{args.videos} videos, {hours:.0f} hours: planned in {seconds:.1f} s with {memory:.2f} GB at most")
    print(f"told: {told['value']:.0f} hours ({told['low']:.0f} to {told['high']:.0f}), ", end="")
    print(f"{found['segments']['value']:.0f} segments, at most {found['element_bytes']} bytes each")


if __name__ == "__main__":
    main()
