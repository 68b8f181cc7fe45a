"""Whether training waits for its data: ``python -m tests.benchmarks.training``.

The same steps on the same windows, fed from shards as they are read (a buffer far smaller than the cache) and from
memory, in turns. Maps have the shapes of MobileNetV4-small at 224 px; their values are noise, rounded so that they
pack about as well as real ones. The steps are those of ``emobeam train``: the temporal mixer on one and three levels,
forward and backward, AdamW.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.training.fitting import seeded
from emobeam.emo_transforms.training.heads.head_loop import HeadLearner, TrainSetup
from emobeam.emo_transforms.training.heads.head_start import head_config, start_module
from emobeam.emo_transforms.training.heads.loader import Batch, LoadConfig, Resident, Streamed
from emobeam.emo_transforms.training.heads.recipe import recipe_named
from emobeam.emo_transforms.training.heads.row_groups import read_ahead
from emobeam.emo_transforms.training.heads.samples import join_labels
from emobeam.schemas.tasks import TASKS
from tests.benchmarks.figures import Figure, Goal, Section, median_figure, ratio_figure
from tests.benchmarks.measure import as_worker, cores, parser, run
from tests.emo_transforms.training import data

SHAPES = {"s8": (64, 28, 28), "s16": (96, 14, 14), "s32": (128, 7, 7)}
TASK = TASKS["au"]

ENOUGH = 0.9
"""Steps per second from shards, as a share of those from memory."""


def noise(values: np.ndarray, rng: np.random.Generator, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Maps after a ReLU: about half of the values are 0."""
    return {
        name: np.maximum(rng.normal(size=(len(values), *shape)).round(2), 0).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def make(folder: Path, videos: int, rows: int) -> tuple[Path, Path]:
    with patch.object(data, "SHAPES", SHAPES), patch.object(data, "encoded", noise):
        return data.make_data(folder, TASK.name, data.some_clips(videos, rows), data.dataset())


def timed_steps(learner: HeadLearner, batches: Iterator[Batch], device: str) -> float:
    """Steps per second after the first one."""
    began, steps = 0.0, 0
    for step, batch in enumerate(batches):
        with seeded(0, step):
            learner.step(0, step, batch)
        if step == 0:
            began = time.perf_counter()
        steps = step
    if device == "cuda":
        torch.cuda.synchronize()
    return steps / (time.perf_counter() - began)


def compare(features: Path, labels: Path, levels: int, options: argparse.Namespace) -> list[Figure]:
    """Steps per second of both ways round by round, and how many rows reading alone gives."""
    with patch.object(data, "SHAPES", SHAPES):
        made = data.dataset()
    joined = join_labels(str(features), made, TASK, list(read_labels(str(labels), TASK, warn=print)))
    settings = [f"levels={levels}", f"batch={options.batch}", "final_start=random", "drop_invalid=no"]
    recipe = recipe_named("paper", TASK.name, settings)
    faces = tuple(range(len(joined.faces)))
    device = options.device
    setup = TrainSetup(TASK, recipe, str(features), made, joined, faces, (), buffer_mb=10**6, device=device)
    config = head_config(TASK, made, recipe, 1)
    learner = HeadLearner(setup, config, start_module(config).to(device), 1)
    learner.begin(0)
    memory = learner.loader
    assert isinstance(memory, Resident)
    memory.load()
    load = LoadConfig(batch=options.batch, buffer_mb=options.buffer_mb, readers=options.readers)
    loaders = {"shards": Streamed(memory.source, memory.plan, load), "memory": memory}
    found: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(options.repeats + 1):
        for name in list(loaders)[:: -1 if turn % 2 else 1]:
            speed = timed_steps(learner, loaders[name].epoch(turn), device)
            if turn:  # the round before doesn't count
                found[name].append(speed)
    began = time.perf_counter()
    units = memory.plan.units
    rows = sum(unit.rows.shape[1] for unit, _ in read_ahead(memory.source, units, options.readers, 2 * 10**8))
    reading = rows / (time.perf_counter() - began)
    need = statistics.median(found["memory"]) * options.batch * recipe.window
    what, key = f"training, {levels} level{'s' if levels > 1 else ''}, {device}", f"training.{device}.levels{levels}"
    note = f"batches of {options.batch} windows through {options.buffer_mb} MB"
    return [
        ratio_figure(
            f"{key}.stream", f"{what}: steps/s from shards", "from memory", found["shards"], found["memory"],
            goal=Goal(at_least=ENOUGH), note=note,
        ),
        median_figure(f"{key}.steps", f"{what}: steps/s from memory", "", "/s", found["memory"], goal=None),
        Figure(
            f"{key}.rows", f"{what}: rows/s that reading alone gives", "", "/s", reading,
            note=f"training takes {need:.0f}/s",
        ),
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> Section:
    if options.quick:
        options.videos, options.rows, options.batch, options.buffer_mb = 3, 128, 4, 128
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="emobeam-bench-") as folder:
        features, labels = make(Path(folder), options.videos, options.rows)
        size = sum(path.stat().st_size for path in features.rglob("*.parquet"))
        for levels in options.levels:
            figures += compare(features, labels, levels, options)
    return Section("training", tuple(figures), details={"cache_mb": size / 1e6})


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("--videos", type=int, default=16, help="in the cache (default: 16)")
    arguments.add_argument("--rows", type=int, default=256, help="sampled frames of each (default: 256)")
    arguments.add_argument("--batch", type=int, default=16, help="windows of 8 frames (default: 16)")
    arguments.add_argument("--buffer-mb", type=int, default=256, help="of the stream (default: 256)")
    arguments.add_argument("--readers", type=int, default=0, help="threads (default: 0, one per core)")
    arguments.add_argument("--levels", type=int, nargs="+", default=[1, 3], help="of the mixer (default: 1 3)")
    arguments.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    run(arguments, measure, argv, on_cores=cores())


if __name__ == "__main__":
    as_worker(f"tests.benchmarks.{Path(__file__).stem}")
    main()
