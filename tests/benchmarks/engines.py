"""The same work on each engine: ``python -m tests.benchmarks.engines [--faults | --noted FILE] [--write]``.

One generated clip, many times under different names, so that all segments cost the same. ``extract`` with one worker
and with two, from the command to its end: on this machine, on a Flink and on a Spark cluster that stand ready on
loopback, Python workers as processes of the engine. Against it the plain loop: one process without Beam that probes,
plans and calls ``extract_segment``, its start included. ``--faults`` runs the engine tests as well and takes the times
they note; ``--noted`` takes those of a run before, ``EMOBEAM_FIGURES=FILE make test-engines``. Each table is printed,
and with ``--write`` put into ``docs/engines.md``, as soon as it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from emobeam.runners.engines.jars import versions_in
from tests.benchmarks.figures import table
from tests.benchmarks.material import several_faces
from tests.benchmarks.measure import machine_facts
from tests.benchmarks.runs import PeakMemory
from tests.clips import face, portrait
from tests.engines.clusters import Cluster, flink_cluster, running, spark_cluster
from tests.engines.install import ROOT, cluster_version, install, job_server_jar
from tests.pipelines.runs import emobeam

_DOCS = ROOT / "docs" / "engines.md"
_MARKS = ("<!-- figures -->", "<!-- /figures -->")

_LOOP = """
import sys
from emobeam.emo_transforms.cache.dataset import open_dataset
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.emo_transforms.networks.engines import resolve_engine
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.emo_transforms.extraction.video_plans import find_videos, fingerprint_of, plan_video
from emobeam.pipelines.stages.extract import resolve_config
from emobeam.schemas.config import ExtractConfig
import torch

torch.set_num_threads(1)
dataset = resolve_config(ExtractConfig(engine=resolve_engine("auto", "cpu")))
config, features = dataset.config, sys.argv[2]
open_dataset(features, dataset)
tools = Tools(config)
for video in find_videos([sys.argv[1]], "video"):
    for segment in plan_video(video, fingerprint_of(video, config), config, tools.decoder.probe):
        extract_segment(segment, tools, features)
tools.close()
"""


def write_clips(folder: Path, count: int, seconds: float) -> Path:
    """``count`` copies of a clip with a face, 320x240."""
    folder.mkdir(parents=True)
    clip = folder / "clip000.mp4"
    portrait(clip, frames=round(25 * seconds), painter=lambda frame: face(frame, (320, 240)))
    for number in range(1, count):
        shutil.copyfile(clip, folder / f"clip{number:03d}.mp4")
    return folder


def seconds_of(command: Sequence[str]) -> float:
    """Runs a command to its good end; wall seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - began


def memory_on(cluster: Cluster, inputs: Path, features: Path) -> PeakMemory:
    """Peaks of one worker of a cluster while it extracts: Beam's process, its child, the decoding process."""
    with PeakMemory(lambda: [one for worker, below in cluster.with_children() for one in (worker, *below)]) as peaks:
        extract_with(inputs, features, running(cluster, workers=1))
    return peaks


def memory_table(found: Mapping[str, PeakMemory]) -> str:
    """Memory of a worker by engine, in MB."""
    rows = [
        [name, *(f"{mb:.0f}" for mb in (one.beam, one.worker, one.beam + one.worker, one.decoder))]
        for name, one in found.items()
    ]
    heads = ["", "Beam's process", "its child", "both", "decoding process"]
    return table("Peak memory of a worker at 1080p with several faces, MB", heads, rows)


def extract_with(inputs: Path, features: Path, options: Sequence[str]) -> float:
    """One run of ``emobeam extract`` into a fresh folder."""
    try:
        return seconds_of(emobeam("extract", inputs, "--output", features, *options))
    finally:
        shutil.rmtree(features, ignore_errors=True)


def measure(folder: Path, clips: int, seconds: float, repeats: int) -> tuple[dict[str, float], dict[str, PeakMemory]]:
    """Median wall seconds by name: ``loop``, and ``direct 1`` ... ``spark 2``; ``... start``: one short clip.

    And what a worker takes, by engine.
    """
    inputs, one = write_clips(folder / "clips", clips, seconds), write_clips(folder / "one", 1, 1.0)
    found: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        clusters: dict[str, Cluster | None] = {
            "direct": None,
            "flink": stack.enter_context(flink_cluster(folder / "flink")),
            "spark": stack.enter_context(spark_cluster(folder / "spark")),
        }
        for _ in range(repeats):
            found["loop"].append(seconds_of([sys.executable, "-c", _LOOP, str(inputs), str(folder / "loop")]))
            shutil.rmtree(folder / "loop")
            for name, cluster in clusters.items():
                for workers in (1, 2):
                    options = ["--runner", "direct", "--workers", str(workers)]
                    options = running(cluster, workers=workers) if cluster else options
                    found[f"{name} {workers}"].append(extract_with(inputs, folder / "out", options))
                found[f"{name} start"].append(extract_with(one, folder / "out", options))
                print(f"{name}: {found[f'{name} 1'][-1]:.0f} s, {found[f'{name} 2'][-1]:.0f} s", file=sys.stderr)
        street = several_faces(folder, seconds=min(seconds, 4.2))
        memory = {name: memory_on(one, street, folder / "out") for name, one in clusters.items() if one is not None}
    return {name: statistics.median(values) for name, values in found.items()}, memory


def recovery(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds that the fault tests noted, by engine; ends the program where one of them fails."""
    target = folder / "figures.json"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "engines", "tests/engines"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "EMOBEAM_FIGURES": str(target)}, check=False)
    if done.returncode:
        raise SystemExit("the engine tests fail; no figures without them")
    figures: dict[str, dict[str, float]] = json.loads(target.read_text())
    return figures


def work_table(found: Mapping[str, float], title: str) -> str:
    """Times of the same work, and what is left of them when the loop's and the start are taken off."""
    loop, rows = found["loop"], [["plain loop", f"{found['loop']:.0f}", "", "", "", ""]]
    for name in ("direct", "flink", "spark"):
        one, two, start = (found[f"{name} {what}"] for what in ("1", "2", "start"))
        more = 100 * (one - loop) / loop
        rows.append([name, f"{one:.0f}", f"{one - loop:+.0f}", f"{more:+.0f} %", f"{two:.0f}", f"{start:.0f}"])
    heads = ["", "1 worker, s", "more than the loop, s", "%", "2 workers, s", "one clip of 1 s, s"]
    return table(title, heads, rows)


def fault_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """What the tests noted, engine by engine."""
    names = sorted({name for values in figures.values() for name in values})
    rows = [[name, *(_number(figures.get(engine, {}).get(name)) for engine in ("flink", "spark"))] for name in names]
    return table("Seconds noted by the fault tests", ["", "Flink", "Spark"], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def engines_line() -> str:
    """Versions of both clusters and of what stands between them and Beam here."""
    told = [f"Python {platform.python_version()}, Beam {metadata.version('apache-beam')}"]
    for engine in ("flink", "spark"):
        beam, inside = versions_in(str(job_server_jar(engine)))
        server = f"job server of Beam {beam or 'unknown'} for {engine.capitalize()} {inside or 'unknown'}"
        told.append(f"{engine.capitalize()} {cluster_version(engine)} behind a {server}")
    return "; ".join(told)


def machine_line(facts: Mapping[str, Any], load: float) -> str:
    """Where and when figures were taken, and whether they mean much: ``load`` is that of the last 5 minutes."""
    told = f"{facts['cores']} cores of {facts['cpu']}; load {facts['load']} before, {load:.1f} after; {facts['date']}. "
    told += f"{engines_line()}."
    if float(facts["load"]) > 0.3 * float(facts["cores"]):
        told += " **The machine had other work to do at the same time: no second is to be compared closely.**"
    return textwrap.fill(told, 120, break_long_words=False, break_on_hyphens=False)


def write_docs(text: str) -> None:
    """Puts the tables between their marks in the docs."""
    page = _DOCS.read_text()
    begin, end = _MARKS
    if not re.search(f"{begin}.*{end}", page, flags=re.DOTALL):
        raise SystemExit(f"{_DOCS}: no place for figures between {begin} and {end}")
    before, after = page.split(begin)[0], page.split(end)[1]
    _DOCS.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")


@dataclass
class Report:
    """Tables in the order they come in; each is told at once, so that a failure later on doesn't cost it.

    Attributes:
        facts: of the machine, before the first measurement.
        write: takes all tables so far, and the line about the machine.
    """

    facts: Mapping[str, Any]
    write: Callable[[str], None] | None = None
    parts: list[str] = field(default_factory=list)

    def add(self, part: str) -> None:
        """Prints a table, and writes all so far."""
        self.parts.append(part)
        print(part, end="\n\n", flush=True)
        if self.write is not None:
            self.write("\n\n".join([*self.parts, self.last_line()]))

    def last_line(self) -> str:
        """The line about machine and versions, with the load of this moment."""
        return machine_line(self.facts, os.getloadavg()[1])


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="so little that figures mean nothing: does it run?")
    arguments.add_argument("--clips", type=int, default=24, help="clips of --seconds each (default: 24)")
    arguments.add_argument("--seconds", type=float, default=10.0, help="length of a clip (default: 10)")
    arguments.add_argument("--repeats", type=int, default=1, help="rounds; medians are told (default: 1)")
    faults = arguments.add_mutually_exclusive_group()
    faults.add_argument("--faults", action="store_true", help="run the engine tests too, for times of recovery")
    faults.add_argument("--noted", type=Path, help="what they noted when EMOBEAM_FIGURES named this file")
    arguments.add_argument("--write", action="store_true", help="put the tables into docs/engines.md")
    options = arguments.parse_args(argv)
    if options.quick:
        options.clips, options.seconds, options.repeats = 2, 1.0, 1
    install()
    report = Report(machine_facts(), write_docs if options.write else None)
    with tempfile.TemporaryDirectory(prefix="emobeam-engines-") as folder:
        found, memory = measure(Path(folder), options.clips, options.seconds, options.repeats)
        report.add(work_table(found, f"{options.clips} clips of {options.seconds:g} s, 320x240, 6 frames per second"))
        report.add(memory_table(memory))
        if options.faults:
            report.add(fault_table(recovery(Path(folder))))
        elif options.noted:
            report.add(fault_table(json.loads(options.noted.read_text())))
    print(report.last_line())


if __name__ == "__main__":
    main()
