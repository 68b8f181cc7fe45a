"""How cost grows with the work: ``python -m tests.benchmarks.growth``.

CPU seconds of whole runs of ``extract`` (probing, planning, decoding, networks, writing, indexing) with one worker
that stays: over 1, 10 and 100 clips, and over one clip of 1, 10 and 60 minutes. A run over almost nothing is measured
beside them, and what it costs beyond its frames is taken off: what a run costs once is no growth. Told is the slope of
log cost over log size, with its interval: 1 is growth in proportion. The pictures are small and few are sampled, so
that the parts that could grow faster (plans, names, indexes, seeking) are not hidden behind networks.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import LocalConfig
from tests.benchmarks.figures import Figure, Goal, Section, slope_of_logs
from tests.benchmarks.material import carphone, loop_clip, scale_clip, video_seconds
from tests.benchmarks.measure import Spent, as_worker, detector_modes, parser, run, stage1_settings
from tests.benchmarks.runs import whole_run

GOAL = Goal(within=(0.9, 1.1))


def many_clips(clip: Path, count: int, folder: Path) -> Path:
    """A folder with ``count`` copies of a clip."""
    target = folder / f"{count}-clips"
    target.mkdir()
    for number in range(count):
        shutil.copyfile(clip, target / f"clip-{number:04}.mp4")
    return target


def grow(
    sizes: Sequence[int], make: Callable[[int], Path], cost: Callable[[Path], Spent], repeats: int
) -> tuple[list[float], list[float]]:
    """Sizes and CPU seconds of all runs; small sizes are run more often, for their noise weighs most."""
    inputs = {size: make(size) for size in sizes}
    points = [(size, turn) for rank, size in enumerate(reversed(sizes)) for turn in range(repeats * (2 * rank + 1))]
    points.sort(key=lambda point: point[1])  # in turns
    return [size for size, _ in points], [cost(inputs[size]).cpu for size, _ in points]


def once_per_run(tiny: float, share: float, sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """What a run costs whatever its size.

    Args:
        tiny: CPU seconds of the tiny run.
        share: its size, in the unit of ``sizes``; its own work, at the rate of the largest run, is no part of it.
    """
    largest = max(sizes)
    most = statistics.median(value for size, value in zip(sizes, seconds, strict=True) if size == largest)
    return max(tiny - share * (most - tiny) / (largest - share), 0.0)


def figure(kind: str, sizes: list[float], seconds: list[float], once: float) -> Figure:
    steps = sorted(set(sizes))
    slope, low, high = slope_of_logs(sizes, [max(value - once, 1e-3) for value in seconds])
    middle = {size: statistics.median(s for at, s in zip(sizes, seconds, strict=True) if at == size) for size in steps}
    note = ", ".join(f"{size:g}: {value:.1f} s" for size, value in middle.items())
    return Figure(
        f"growth.{kind}", "cost growth: slope of log CPU time", f"{kind}: {', '.join(f'{size:g}' for size in steps)}",
        "", slope, low, high, goal=GOAL, note=f"{note}; {once:.1f} s once per run taken off",
    )  # fmt: skip


def measure(options: argparse.Namespace) -> Section:
    quick = options.quick
    mode = detector_modes(options.engine)[-1]
    few = stage1_settings(detector=mode, engine=options.engine, fps=3)
    rare = stage1_settings(detector=mode, engine=options.engine, fps=1)
    figures, details = [], {}
    with tempfile.TemporaryDirectory() as name, LocalPool(LocalConfig(workers=1, threads=1)) as pool:
        folder = Path(name)
        small = scale_clip(carphone(), folder / "small.mp4", height=120)
        unit = loop_clip(small, folder / "unit.mp4", times=1 if quick else 4)
        minute = loop_clip(small, folder / "minute.mp4", times=round(60 / video_seconds(small)))
        # Some frames with a face of the size of the others: so all that a run loads and compiles is loaded.
        tiny = {
            "clips": scale_clip(carphone(), folder / "tiny.mp4", height=120, seconds=1),
            "minutes": loop_clip(small, folder / "short.mp4", times=2),
        }

        def minutes(count: int) -> Path:
            return loop_clip(minute, folder / f"{count}-minutes.mp4", times=count)

        def clips(count: int) -> Path:
            return many_clips(unit, count, folder)

        for kind, dataset, make, whole, steps in (
            ("clips", few, clips, unit, (1, 4, 16) if quick else (1, 10, 100)),
            ("minutes", rare, minutes, minute, (1, 3, 6) if quick else (1, 10, 60)),
        ):

            def cost(path: Path, dataset: Dataset = dataset) -> Spent:
                return _fresh(path, dataset, pool)

            cost(tiny[kind])  # the worker starts
            start = statistics.median(cost(tiny[kind]).cpu for _ in range(3))
            sizes, seconds = grow(steps, make, cost, options.repeats)
            once = once_per_run(start, video_seconds(tiny[kind]) / video_seconds(whole), sizes, seconds)
            figures.append(figure(kind, sizes, seconds, once))
            details[kind] = {"sizes": sizes, "cpu_seconds": seconds, "tiny": start, "once": once}
    return Section("growth", tuple(figures), details=details)


def _fresh(path: Path, dataset: Dataset, pool: LocalPool) -> Spent:
    with tempfile.TemporaryDirectory() as features:
        return whole_run(path, Path(features), dataset, pool)


def main(argv: Sequence[str] | None = None) -> None:
    run(parser(__doc__, repeats=1), measure, argv)


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
