"""Every row of the table in one run: ``python -m tests.benchmarks.suite [--quick] [--only NAME ...]``.

Each benchmark runs in a fresh process, pinned to one core (two where workers are compared), both sides with the
allocator's settings of emobeam's workers. Their output goes to standard error as they run; at the end the table goes to
standard output, the figures to ``bench.json`` and the picture of where a second goes to ``bench.png``. The exit code is
1 where a benchmark failed; a goal that is missed is a result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emobeam.emo_transforms.storage import write_json
from emobeam.runners.children.settings import ALLOCATOR
from tests.benchmarks.measure import machine_facts
from tests.benchmarks.picture import draw
from tests.benchmarks.report import render, sections_of, verdict

BENCHMARKS = ("start", "detection", "outputs", "backbone", "stage1", "workers", "beam_cost", "cache", "memory",
              "growth", "training")  # fmt: skip
SCHEMA = 1


def run_one(name: str, flags: Sequence[str], folder: Path) -> dict[str, Any] | None:
    """The section of one benchmark, None where it failed."""
    target = folder / f"{name}.json"
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json", str(target), *flags]
    environment = {**ALLOCATOR, **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    code = subprocess.run(command, stdout=sys.stderr, env=environment, check=False).returncode
    if code or not target.exists():
        return None
    section: dict[str, Any] = json.loads(target.read_text())
    return section


def commit() -> str:
    """The revision of the working tree, ``-dirty`` where it was changed; "" outside of git."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="so little that figures mean nothing: does it run?")
    arguments.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME",
                           help=f"of {', '.join(BENCHMARKS)} (default: all)")  # fmt: skip
    arguments.add_argument("--engine", default="auto", help="as for emobeam extract (default: auto)")
    arguments.add_argument("--output", type=Path, default=Path("bench.json"), help="default: bench.json")
    arguments.add_argument(
        "--picture", type=Path, default=Path("bench.png"), help="PNG, SVG or PDF (default: bench.png)"
    )
    options = arguments.parse_args(argv)
    flags = ["--engine", options.engine, *(["--quick"] if options.quick else [])]
    facts, began = machine_facts(), time.monotonic()
    sections, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(options.only, start=1):
            print(f"\n[{number} of {len(options.only)}] {name}", file=sys.stderr, flush=True)
            section = run_one(name, flags, Path(folder))
            if section is None:
                failed.append(name)
            else:
                sections.append(section)
    bench = {
        "schema": SCHEMA,
        "machine": facts,
        "commit": commit(),
        "quick": options.quick,
        "engine": options.engine,
        "seconds": round(time.monotonic() - began, 1),
        "sections": sections,
        "failed": failed,
    }
    write_json(str(options.output), bench)
    found = sections_of(bench)
    drawn = draw(found, options.picture)
    print(render(bench))
    met, measured = verdict(found)
    where = f"figures in {options.output}" + (f", picture in {options.picture}" if drawn else "")
    print(f"{met} of {measured} goals met; {where}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
