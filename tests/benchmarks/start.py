"""Whole commands, from the shell and back: ``python -m tests.benchmarks.start``.

Each side is a process of its own with the cores it is given; wall seconds count, imports and all. The plain script does
stage 1 alone (see ``plain_script``); commands do all that they do for a user. The machine is prepared (networks,
compiled loops) by a run before, save where the first command ever is measured, which gets empty caches.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emobeam.schemas.records import EmobeamError
from tests.benchmarks.figures import Figure, Goal, Section, median_figure, ratio_figure
from tests.benchmarks.growth import many_clips
from tests.benchmarks.material import REAL, carphone, loop_clip, one_face, scale_clip, several_faces, video_seconds
from tests.benchmarks.measure import MODE_TEXT, Spent, as_worker, interleaved, parser, run, walls
from tests.benchmarks.plain_script import PLAIN
from tests.benchmarks.runs import PeakMemory

CACHES = ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")
"""Where a machine keeps what it prepares once; the first command ever finds them empty."""

EMOBEAM = [str(Path(sys.executable).with_name("emobeam"))]


def command(arguments: Sequence[str], cores: int, **environment: str) -> Spent:
    """Runs a command on so many cores and waits.

    Raises:
        EmobeamError: it failed; the message is the end of what it said.
    """

    def fewer() -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])

    everything = {**os.environ, **environment}
    everything.pop("PYTHONDONTWRITEBYTECODE", None)  # users have no such thing, and every process would compile anew
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(arguments, stdout=said, stderr=said, env=everything, preexec_fn=fewer)
        code = process.wait()
        seconds = time.perf_counter() - began
        if code:
            said.seek(0)
            raise EmobeamError(f"{' '.join(arguments)}: ended with {code}: {said.read()[-2000:].decode()}")
    return Spent(seconds, 0.0)


def plain(clip: Path, folder: Path, cores: int) -> Callable[[], Spent]:
    script = [sys.executable, "-m", "tests.benchmarks.plain_script", str(clip), str(folder / "maps.npz")]
    return lambda: command(script, cores, OMP_NUM_THREADS=str(cores))


def annotate(clip: Path, folder: Path, cores: int, *flags: str) -> Callable[[], Spent]:
    """The main job into an empty folder."""

    def work() -> Spent:
        output = folder / "annotated"
        shutil.rmtree(output, ignore_errors=True)
        return command([*EMOBEAM, "annotate", str(clip), "--output", str(output), "--quiet", *flags], cores)

    return work


def seconds_figure(key: str, what: str, spent: Sequence[Spent], goal: float | None) -> Figure:
    return median_figure(key, what, "", "s", walls(spent), goal=Goal(at_most=goal) if goal is not None else None)


def short_clip(folder: Path, repeats: int) -> tuple[list[Figure], dict[str, Any]]:
    """The clip of the demo: both stages, once more, stage 2 alone, and all of it on a machine that has nothing."""
    clip, done = carphone(), folder / "done"
    whole = [*EMOBEAM, "annotate", str(clip), "--output", str(done), "--quiet"]
    predicted = folder / "predicted"

    def predict() -> Spent:
        shutil.rmtree(predicted, ignore_errors=True)
        return command([*EMOBEAM, "predict", str(done / "features"), "--output", str(predicted), "--quiet"], 2)

    def first() -> Spent:
        with tempfile.TemporaryDirectory() as empty:
            again = ["annotate", str(clip), "--output", str(Path(empty) / "out"), "--quiet"]
            return command([*EMOBEAM, *again], 2, **dict.fromkeys(CACHES, str(Path(empty) / "cache")))

    command(whole, 2)
    spent = interleaved(
        {
            "plain": plain(clip, folder, 2),
            "annotate": annotate(clip, folder, 2),
            "again": lambda: command(whole, 2),
            "predict": predict,
        },
        repeats,
    )
    firsts = [first() for _ in range(min(repeats, 3))]
    figures = [
        seconds_figure("start.annotate", "annotate, the clip of the demo (4 s), two cores", spent["annotate"], 2.8),
        ratio_figure(
            "start.annotate.plain", "annotate, the clip of the demo (4 s), two cores", PLAIN,
            walls(spent["plain"]), walls(spent["annotate"]), goal=Goal(at_least=1.7),
            note=f"{statistics.median(walls(spent['plain'])):.1f} s",
        ),
        seconds_figure("start.again", "the same again: nothing to do", spent["again"], 0.8),
        seconds_figure("start.predict", "predict of that cache", spent["predict"], 2.0),
        seconds_figure("start.first", "the first command on a machine: annotate, 4 s", firsts, 20.0),
    ]  # fmt: skip
    return figures, {side: walls(runs) for side, runs in spent.items()}


LONGER = {
    "20 s at 360p": {"exact": (4.0, 7.5), "track": (4.5, 11.0)},
    "a street at 1080p": {"exact": (None, 5.3), "track": (None, 7.0)},
}
"""Goals of the clip once and ten times as long, by mode of the detector."""


def longer_clips(folder: Path, repeats: int, times: int, seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    """Whole processes on one core; long clips show stage 1 alone, short ones what a process costs beside it."""
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    person = REAL / "WolfgangLanger_Pexels.mp4"
    clips = {
        "20 s at 360p": person if person.exists() else one_face(folder, 360, seconds=seconds),
        "a street at 1080p": several_faces(folder, seconds=min(seconds, 4.2)),
    }
    for label, clip in clips.items():
        for count in (1, times):
            long = loop_clip(clip, folder / f"{clip.stem}-{count}.mp4", times=count) if count > 1 else clip
            modes = {mode: annotate(long, folder, 1, "--detector", mode) for mode in LONGER[label]}
            spent = interleaved({"plain": plain(long, folder, 1), **modes}, repeats, warm_up=False)
            details[f"{label}, {count}x"] = {side: walls(runs) for side, runs in spent.items()}
            for mode, goals in LONGER[label].items():
                goal = goals[1 if count > 1 else 0]
                figures.append(
                    ratio_figure(
                        f"start.{mode}.{clip.stem}.{count}",
                        f"annotate, {label}{f', {count} times as long' if count > 1 else ''}, "
                        f"{MODE_TEXT[mode]}, one core",
                        PLAIN,
                        walls(spent["plain"]),
                        walls(spent[mode]),
                        goal=Goal(at_least=goal) if goal is not None else None,
                        note=f"{video_seconds(long):.0f} s of video",
                    )
                )
    return figures, details


def many_short(folder: Path, repeats: int, count: int) -> Figure:
    """So many clips of 2 s against one clip of as many frames, two workers."""
    short = scale_clip(carphone(), folder / "short.mp4", height=360, seconds=2.0)
    clips = {"many": many_clips(short, count, folder), "one": loop_clip(short, folder / "long.mp4", times=count)}

    def extract(clip: Path) -> Callable[[], Spent]:
        def work() -> Spent:
            output = folder / "extracted"
            shutil.rmtree(output, ignore_errors=True)
            return command([*EMOBEAM, "extract", str(clip), "--output", str(output), "--workers", "2", "--quiet"], 2)

        return work

    spent = interleaved({side: extract(clip) for side, clip in clips.items()}, repeats, warm_up=False)
    return ratio_figure(
        "start.many", f"extract, {count} clips of 2 s, two workers", "one clip of as many frames",
        walls(spent["one"]), walls(spent["many"]), goal=Goal(at_least=0.95),
        note=f"{statistics.median(walls(spent['many'])):.0f} s",
    )  # fmt: skip


def memory(folder: Path, seconds: float) -> list[Figure]:
    """Peaks of the command's own process, and of its worker together with the decoding process."""
    clip = several_faces(folder, seconds=seconds)
    with PeakMemory() as peaks:
        annotate(clip, folder, 2, "--workers", "1")()
    both = f"worker {peaks.worker:.0f} MB, decoding {peaks.decoder:.0f} MB"
    return [
        Figure("start.memory.worker", "memory at 1080p: worker and decoding process", "", "MB",
               peaks.together, goal=Goal(at_most=650), note=both),
        Figure("start.memory.launcher", "memory at 1080p: launcher", "", "MB", peaks.launcher, goal=Goal(at_most=250)),
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> Section:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures, details = short_clip(folder, options.repeats)
        if not (options.short or options.quick):
            found, more = longer_clips(folder, max(1, options.repeats // 2), times=10, seconds=20.0)
            figures += found
            details |= more
            figures.append(many_short(folder, max(1, options.repeats // 2), 1000))
        figures += memory(folder, 1.0 if options.quick else 4.0)
    return Section("start", tuple(figures), details=details)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("--short", action="store_true", help="the clip of the demo alone")
    run(arguments, measure, argv, on_cores=2)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
