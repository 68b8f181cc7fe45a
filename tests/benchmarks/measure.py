"""What the benchmarks share: their command line, the settings they measure, time and CPU time of interleaved runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import psutil
import torch

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.storage import write_json
from emobeam.pipelines import cli
from emobeam.pipelines.requests import extract_request
from emobeam.pipelines.run_origin import versions
from emobeam.runners.children.settings import ALLOCATOR
from emobeam.schemas.records import EmobeamError
from tests.benchmarks.figures import Section, goal_text, table, to_json, value_text
from tests.benchmarks.material import carphone

MODES = ("exact", "track")
"""Values of ``--detector``: every frame by itself, or with temporal short cuts."""

MODE_TEXT = {"exact": "exact", "track": "with short cuts"}

# --- what is measured -----------------------------------------------------------------------------------


class Unavailable(EmobeamError):
    """This version of emobeam, or this installation, has no such setting."""


def stage1_settings(
    *, detector: str = "exact", engine: str = "auto", fps: float = 6.0, segment_seconds: float = 60.0, weights: str = ""
) -> Dataset:
    """The settings as the command line resolves them from its flags.

    Raises:
        Unavailable: the command line has no such detector or engine.
        EmobeamError: what the command line says of the flags.
    """
    command = cli.cli.commands["extract"]
    known = {name for parameter in command.params for name in parameter.opts}
    flags = ["--fps", f"{fps:g}", "--segment-seconds", f"{segment_seconds:g}"]
    if weights:
        flags += ["--backbone-weights", weights]
    for name, value, plain in (("--engine", engine, ("auto", "torch")), ("--detector", detector, ("exact",))):
        if name in known:
            flags += [name, value]
        elif value not in plain:
            raise Unavailable(f"no {name} {value} in this version")
    try:
        context = command.make_context("extract", [str(carphone()), "--output", "unused", *flags])
    except click.UsageError as error:
        raise Unavailable(error.format_message()) from error
    return extract_request(context.params, "unused").dataset


def detector_modes(engine: str = "auto") -> list[str]:
    """Those of :data:`MODES` that there are, ``exact`` always among them."""
    stage1_settings(engine=engine)
    try:
        stage1_settings(detector="track", engine=engine)
    except Unavailable:
        return ["exact"]
    return list(MODES)


# --- time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What one run took.

    Attributes:
        wall: seconds.
        cpu: seconds of all cores, of this process and all processes below it.
        steps: seconds by step.
    """

    wall: float
    cpu: float
    steps: Mapping[str, float] = field(default_factory=dict)


def cpu_seconds() -> float:
    """User and system time so far of this process, its ended children and all living processes below it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for process in psutil.Process().children(recursive=True):
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


def walls(spent: Sequence[Spent]) -> list[float]:
    """Wall seconds of each round."""
    return [one.wall for one in spent]


def cpus(spent: Sequence[Spent]) -> list[float]:
    """CPU seconds of each round."""
    return [one.cpu for one in spent]


# --- command line ---------------------------------------------------------------------------------------

_LIBRARIES = ("openvino", "opencv-python-headless", "torchvision", "pillow", "scipy", "matplotlib")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_worker(module: str) -> None:
    """Starts the process anew with the allocator's settings that workers have, unless it has them.

    The C library reads them when a process starts and never again. They hold for all sides that are compared.
    """
    if not ALLOCATOR.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], ALLOCATOR | os.environ)


def pin(count: int) -> None:
    """Keeps this process and what it starts on ``count`` cores, where the system can do that."""
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-count:])


def machine_facts() -> dict[str, Any]:
    """What a reader has to know about machine, libraries and moment."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    libraries = dict(versions())
    for name in _LIBRARIES:
        try:
            libraries[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            libraries[name] = "not installed"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "libraries": libraries,
    }


def parser(doc: str | None, *, repeats: int, quick_repeats: int = 1) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="so little that figures mean nothing: does it run?")
    made.add_argument("--json", metavar="FILE", default="", help="also write the figures to this file")
    made.add_argument("--engine", default="auto", help="as for emobeam extract (default: auto)")
    made.add_argument(
        "--repeats", type=int, help=f"interleaved rounds (default: {repeats}; with --quick {quick_repeats})"
    )
    made.set_defaults(_repeats=(repeats, quick_repeats))
    return made


def run(
    arguments: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Section],
    argv: Sequence[str] | None,
    *,
    on_cores: int = 1,
) -> Section:
    """Measures as the command line asks, prints the table and writes the JSON."""
    options = arguments.parse_args(argv)
    if options.repeats is None:
        options.repeats = options._repeats[1 if options.quick else 0]
    facts = machine_facts()
    pin(min(on_cores, cores()))
    print(f"{facts['cores']} cores of {facts['cpu']}, load {facts['load']} before; torch {torch.__version__}\n")
    began = time.perf_counter()
    section = replace(measure(options), seconds=round(time.perf_counter() - began, 1))
    print(section_table(section), flush=True)
    if options.json:
        write_json(options.json, to_json(section) | {"machine": facts})
    return section


def section_table(section: Section) -> str:
    """The figures of one section in Markdown, and what was skipped."""
    marks = {True: "yes", False: "no", None: ""}
    rows = [[f.what, f.against, value_text(f), goal_text(f), marks[f.met], f.note] for f in section.figures]
    title = f"{section.name}, {section.seconds:.0f} s"
    text = table(title, ["what", "against", "measured", "goal", "met", "note"], rows)
    return text + "".join(f"\nnot measured: {reason}\n" for reason in section.skipped)
