"""Stage 1 against the script a researcher writes today: ``python -m tests.benchmarks.stage1 [CLIP...]``.

Both take a clip from file to stored feature maps: the same sampled frames (6 per second), the same sizes and
thresholds, one core, one torch thread. The script uses decord with one thread, ``MTCNN(keep_all=True).detect``, a crop
and timm's ``features_only``, one frame at a time, and saves with numpy. Time is CPU time of all processes, for both
decode beside the networks. Networks and the decoding process are started before. Each round does all sides in turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.schemas.config import ExtractConfig
from tests.benchmarks.figures import Figure, Goal, Section, ratio_figure
from tests.benchmarks.material import one_face, segments_of, several_faces, video_seconds
from tests.benchmarks.measure import (
    MODE_TEXT,
    MODES,
    Spent,
    as_worker,
    cpus,
    detector_modes,
    interleaved,
    parser,
    run,
    stage1_settings,
    timed,
)
from tests.benchmarks.plain_script import PLAIN, Outcome, PlainScript
from tests.benchmarks.steps import Steps

SPEED = {"exact": Goal(at_least=5), "track": Goal(at_least=10)}
AGAINST_DECODING = Goal(at_most=1.6)


def run_emobeam(clip: Path, tools: Tools, features: Path) -> Outcome:
    """``decode`` is the CPU time of the decoding process; the rest is this process's, divided as its own clock does."""
    assert tools.decoder is not None
    steps = Steps()
    decoding, own = _child_seconds(tools), time.process_time()
    with steps("plan"):
        segments = segments_of(clip, tools.config, tools.decoder)
    seconds = Counter(steps.seconds)
    faces = 0
    for segment in segments:
        record = extract_segment(segment, tools, str(features))
        seconds.update(record.seconds)
        faces += record.rows
    decoding, own = _child_seconds(tools) - decoding, time.process_time() - own
    del seconds["decode"]  # waiting for pictures
    del seconds["plan"]  # probing is the child's work, too
    clock = sum(seconds.values())
    parts = {step: value * min(1.0, own / clock) for step, value in seconds.items()} if clock else {}
    return faces, {"decode": max(decoding, 0.0), **parts, "rest": max(own - clock, 0.0)}


def _child_seconds(tools: Tools) -> float:
    assert tools.decoder is not None
    pid = tools.decoder.pid
    return sum(psutil.Process(pid).cpu_times()[:2]) if pid else 0.0


def decode(clip: Path, tools: Tools) -> Outcome:
    """The sampled frames, planned and decoded as stage 1 does, and dropped."""
    assert tools.decoder is not None
    for segment in segments_of(clip, tools.config, tools.decoder):
        for _ in tools.decoder.frames(str(clip), segment):
            pass
    return 0, {}


@dataclass
class Bench:
    """All sides with their networks loaded."""

    tools: Mapping[str, Tools]
    script: PlainScript

    @property
    def config(self) -> ExtractConfig:
        return self.tools["exact"].config

    def rounds(
        self, clip: Path, sides: Sequence[str], repeats: int
    ) -> tuple[dict[str, list[Spent]], dict[str, int], int]:
        """What each side spent on a clip in each round, faces found, sampled frames."""
        exact = self.tools["exact"]
        assert exact.decoder is not None
        frames = [frame for segment in segments_of(clip, self.config, exact.decoder) for frame in segment.sampled]
        faces: dict[str, int] = {}
        works: dict[str, Callable[[Path], Outcome]] = {
            "plain": lambda folder: self.script.run(clip, frames, folder / "maps.npz"),
            "decode": lambda _: decode(clip, exact),
            **{mode: _emobeam(clip, tools) for mode, tools in self.tools.items()},
        }

        def one(name: str) -> Spent:
            found: list[Outcome] = []
            with tempfile.TemporaryDirectory() as folder:
                spent = timed(lambda: found.append(works[name](Path(folder))))
            faces[name], steps = found[0]
            return replace(spent, steps=steps)

        runs = {side: (lambda side=side: one(side)) for side in sides}
        return interleaved(runs, repeats, warm_up=False), faces, len(frames)


def _emobeam(clip: Path, tools: Tools) -> Callable[[Path], Outcome]:
    return lambda folder: run_emobeam(clip, tools, folder)


def per_frame(spent: Sequence[Spent], frames: int) -> dict[str, float]:
    """CPU milliseconds per frame by step, medians; the plain script's own clock measures wall seconds of one thread."""
    names = {name for one in spent for name in one.steps}
    steps = {name: statistics.median(one.steps.get(name, 0.0) for one in spent) for name in names}
    cpu = statistics.median(one.cpu for one in spent)
    scale = cpu / sum(steps.values()) if sum(steps.values()) else 0.0
    return {name: 1000 * value * scale / frames for name, value in steps.items()}


def rows_of(
    title: str,
    size: str,
    modes: Sequence[str],
    spent: Mapping[str, Sequence[Spent]],
    frames: int,
    *,
    goals: bool = True,
) -> list[Figure]:
    found = []
    for mode in (mode for mode in modes if mode in spent and "plain" in spent):
        cost = {name: 1000 * statistics.median(cpus(spent[name])) / frames for name in ("plain", mode)}
        note = f"{cost['plain']:.0f} to {cost[mode]:.1f} ms of CPU time per sampled frame, {frames} frames"
        found.append(
            ratio_figure(
                f"stage1.{mode}.{size}", f"stage 1, {MODE_TEXT[mode]}, {title}", PLAIN,
                cpus(spent["plain"]), cpus(spent[mode]), goal=SPEED[mode] if goals else None, note=note,
            )
        )  # fmt: skip
    return found


def decoding_row(title: str, key: str, mode: str, spent: Mapping[str, Sequence[Spent]], goal: Goal | None) -> Figure:
    """What stage 1 costs in decoding's own cost."""
    what = f"stage 1, {MODE_TEXT[mode]}, {title}: its time"
    return ratio_figure(key, what, "decoding alone", cpus(spent[mode]), cpus(spent["decode"]), goal=goal)


def measure(options: argparse.Namespace) -> Section:
    modes = detector_modes(options.engine)
    tools = {m: Tools(stage1_settings(detector=m, engine=options.engine, fps=options.fps).config) for m in modes}
    bench = Bench(tools, PlainScript(tools["exact"].config))
    figures: list[Figure] = []
    steps: dict[str, dict[str, float]] = {}
    details: dict[str, Any] = {"engine": bench.config.engine}
    quickest = modes[-1]

    def take(clip: Path, label: str, sides: Sequence[str], repeats: int) -> tuple[dict[str, list[Spent]], int]:
        spent, faces, frames = bench.rounds(clip, sides, repeats)
        for side in (side for side in sides if side != "decode"):
            steps[f"{MODE_TEXT.get(side, 'plain script')}, {label}"] = per_frame(spent[side], frames)
        details[label] = {
            "clip": clip.name, "seconds": video_seconds(clip), "frames": frames, "faces": faces,
            "cpu_seconds": {side: cpus(runs) for side, runs in spent.items()},
            "wall_seconds": {side: [one.wall for one in runs] for side, runs in spent.items()},
        }  # fmt: skip
        return spent, frames

    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for number, clip in enumerate(options.clip):
                spent, frames = take(clip, clip.name, ["plain", *modes], options.repeats)
                figures += rows_of(clip.name, f"clip{number}", modes, spent, frames, goals=False)
            for height, seconds in (
                () if options.clip else ((360, 1 if options.quick else 20), (1080, 1 if options.quick else 8))
            ):
                warm = one_face(folder, height, seconds=0.5)
                bench.rounds(warm, ["plain", *modes], 1)
                clip = one_face(folder, height, seconds=seconds)
                label = f"one face, {height}p"
                spent, frames = take(clip, label, ["plain", *modes], options.repeats)
                figures += rows_of(label, f"{height}p", modes, spent, frames)
            if not options.clip:
                figures += against_decoding(bench, folder, quickest, options, details)
    finally:
        for each in tools.values():
            each.close()
    skipped = [f"stage 1 {MODE_TEXT[mode]}: not in this version" for mode in MODES if mode not in modes]
    return Section("stage1", tuple(figures), steps, details, tuple(skipped))


def against_decoding(
    bench: Bench, folder: Path, mode: str, options: argparse.Namespace, details: dict[str, Any]
) -> list[Figure]:
    found = []
    clips = {"one face, 1080p": one_face(folder, 1080, seconds=1 if options.quick else 20)}
    if not options.quick:
        clips["several faces, 1080p"] = several_faces(folder, seconds=20)
    for label, clip in clips.items():
        spent, faces, frames = bench.rounds(clip, ["decode", mode], options.repeats)
        goal = AGAINST_DECODING if mode == "track" and label.startswith("one") else None
        figure = decoding_row(label, f"stage1.{mode}.decoding.{label.split()[0]}", mode, spent, goal)
        cost = 1000 * statistics.median(cpus(spent["decode"])) / frames
        note = f"decoding: {cost:.1f} ms per sampled frame; {faces[mode] / frames:.1f} faces a frame"
        found.append(replace(figure, note=note))
        details[f"against decoding, {label}"] = {side: cpus(runs) for side, runs in spent.items()}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=3)
    arguments.add_argument(
        "clip", nargs="*", type=Path, help="instead of the clips with one face at 360 and 1080 lines"
    )
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    run(arguments, measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
