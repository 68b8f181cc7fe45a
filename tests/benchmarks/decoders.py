"""Compares the decoders: ``python -m tests.benchmarks.decoders CLIP...`` prints a table in Markdown.

Speed is the median of interleaved runs over whole clips at 6 frames per second, read in the child process and
including its start of decoding, not its start as a process. Memory is the child's peak while pictures are taken
as fast as they come, and again with a caller that needs 50 ms for each. Survival and numbering are measured on
generated clips.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import Fingerprint, InputError, Segment, Video
from tests import clips

DECODERS = ("pyav", "decord")
LAVISH = 16_384
"""Memory limit in MB that lets every decoder show what it takes."""


def segments_of(process: DecoderProcess, path: Path, fps: float, seconds: float = 60.0) -> list[Segment]:
    probe = process.probe(str(path))
    return plan_segments(Video(path.stem, str(path)), Fingerprint(1, ""), probe, SamplingConfig(fps, seconds), "")


def milliseconds_per_frame(process: DecoderProcess, path: Path) -> float:
    """Wall time per sampled frame at 6 frames per second."""
    segments = segments_of(process, path, 6.0)
    begin = time.perf_counter()
    frames = sum(1 for segment in segments for _ in process.frames(str(path), segment))
    return 1000 * (time.perf_counter() - begin) / max(frames, 1)


def peak_mb(decoder: str, path: Path, pause: float) -> int:
    """Peak resident memory of a fresh child, seen from the caller after each picture."""
    peak = 0
    with DecoderProcess(DecoderConfig(name=decoder, memory_mb=LAVISH)) as process:
        for segment in segments_of(process, path, 6.0):
            for _ in process.frames(str(path), segment):
                time.sleep(pause)
                if process.pid is not None:
                    peak = max(peak, psutil.Process(process.pid).memory_info().rss >> 20)
    return peak


def right_and_wrong(decoder: str, path: Path, first: int = 1) -> str:
    """How many frames arrive, and how many of these carry another frame's number."""
    right = wrong = planned = 0
    with DecoderProcess(DecoderConfig(name=decoder, memory_mb=LAVISH)) as process:
        for segment in segments_of(process, path, 0.0, seconds=0.7):
            planned += len(segment.sampled)
            try:
                for number, picture in process.frames(str(path), segment):
                    shown = clips.read_number(picture)
                    wrong += shown not in (-1, number + first - 1)
                    right += shown in (-1, number + first - 1)
            except InputError as error:
                return f"refused ({error.reason})"
    return f"{right} of {planned}" + (f", {wrong} wrong" if wrong else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="*", type=Path, help="real clips for speed and memory")
    parser.add_argument("--runs", type=int, default=3, help="runs per decoder and clip (default: 3)")
    options = parser.parse_args()

    rows: list[tuple[str, list[str]]] = []
    for clip in options.clip:
        times: dict[str, list[float]] = {decoder: [] for decoder in DECODERS}
        for _ in range(options.runs):
            for decoder in DECODERS:
                with DecoderProcess(DecoderConfig(name=decoder, memory_mb=LAVISH)) as process:
                    try:
                        milliseconds_per_frame(process, clip)  # imports, file cache
                        times[decoder].append(milliseconds_per_frame(process, clip))
                    except InputError:
                        continue
        medians = [f"{statistics.median(times[name]):.1f}" if times[name] else "refused" for name in DECODERS]
        rows.append((f"{clip.name}: ms per frame", medians))
        for what, pause in (("fast caller", 0.0), ("50 ms per frame", 0.05)):
            peaks = [f"{peak_mb(name, clip, pause)}" if times[name] else "refused" for name in DECODERS]
            rows.append((f"{clip.name}: peak MB, {what}", peaks))

    with tempfile.TemporaryDirectory() as folder:
        for what, name, first in (
            ("two packets damaged", "damaged.mp4", 1),
            ("truncated", "truncated_announced.mp4", 1),
            ("edit list", "edit_list.mp4", 6),
            ("variable rate", "variable.mp4", 1),
            ("open groups", "open_gop.mp4", 1),
            ("MPEG-TS", "portrait.ts", 1),
            ("AVI, B-frames", "mpeg4.avi", 1),
        ):
            path = clips.CLIPS[name](Path(folder) / name)
            rows.append((f"{what}: frames", [right_and_wrong(decoder, path, first) for decoder in DECODERS]))

    print("| | " + " | ".join(DECODERS) + " |")
    print("|---|" + "---|" * len(DECODERS))
    for label, values in rows:
        print(f"| {label} | " + " | ".join(values) + " |")


if __name__ == "__main__":
    main()
