"""A submission of about a million rows: written after a template, validated against it, read back; and labels read.

Each step runs in a fresh process, which tells its time (without start-up) and the most memory it held.

    python -m tests.benchmarks.submission --rows 1000000
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.abaw.submissions.reading import read_submission
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, write_submission
from emobeam.schemas.row_keys import format_key, format_name
from emobeam.schemas.tasks import TASKS, Task

PER_VIDEO = 5000
STEPS = ("write", "validate", "read")


def make(folder: Path, task: Task, rows: int) -> None:
    """A template without values, and labels: of VA one file per video, of AH one for all."""
    header = f"{task.form.header}\n" if task.form.header else ""
    with open(folder / "template.txt", "w") as file:
        file.write(header)
        for name in names(task, rows):
            file.writelines(f"{format_key(task, name, frame)},\n" for frame in range(1, PER_VIDEO + 1))
    rng = np.random.default_rng(0)
    for name in names(task, rows):
        if task.labels.kind == "rows":
            values = "".join(f"{one:.3f},{other:.3f}\n" for one, other in rng.uniform(-1, 1, (PER_VIDEO, 2)))
            (folder / f"{name}.label.txt").write_text("valence,arousal\n" + values)
        elif task.labels.kind == "bah-frames":
            with open(folder / "annotation.yml", "a") as file:
                file.write(f"{name}:\n  frame_annotation:\n")
                file.writelines(f"  - - {format_key(task, name, k)}\n    - {k % 2}\n" for k in range(1, PER_VIDEO + 1))


def names(task: Task, rows: int) -> list[str]:
    """As many videos as hold the rows."""
    plain = [f"{number}-30-1920x1080" for number in range(1, rows // PER_VIDEO + 1)]
    return [format_name(task, f"{name}/1/{name}", "") for name in plain] if task.name == "ah" else plain


def step(what: str, folder: Path, task: Task) -> int:
    """One step; returns the rows it has seen."""
    template, edition = str(folder / "template.txt"), task.form.editions[-1]
    if what == "write":
        frames = np.arange(1, PER_VIDEO + 1, dtype=np.int32)

        def predictions(video: str, subject: str) -> FramePredictions:
            values = np.random.default_rng(len(video)).random((PER_VIDEO, len(task.outputs)), np.float32)
            values[::10] = np.nan
            return FramePredictions(frames, values)

        with open(template) as file:
            rows = sum(1 for _ in file) - bool(task.form.header)
        tables = [(name, "") for name in names(task, rows)]
        return write_submission(
            task, edition, str(folder), predictions=predictions, tables=tables, template=template
        ).rows
    if what == "validate":
        report = validate(str(folder / task.form.file), task, edition, template)
        assert report.ok, report.errors
        return report.rows
    if what == "read":
        return sum(len(frames) for _, frames, _ in read_submission(str(folder / task.form.file), task, edition))
    if task.labels.kind == "rows":
        return sum(
            len(video.frames)
            for file in folder.glob("*.label.txt")
            for video in read_labels(str(file), task, warn=print)
        )
    return sum(len(video.frames) for video in read_labels(str(folder), task, warn=print))


def peak_bytes() -> int:
    """The most memory this process held. Linux starts a process with its parent's ru_maxrss; VmHWM is its own."""
    status = Path("/proc/self/status")
    own = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.exists() else None
    if own:
        return int(own[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tasks", nargs="+", default=["va", "expr", "au", "mtl", "ah"])
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        start = time.perf_counter()
        rows = step(args.step[0], Path(args.step[1]), TASKS[args.tasks[0]])
        print(rows, time.perf_counter() - start, peak_bytes() / 1e6)
        return
    print("| task | step | rows | s | peak MB |\n|---|---|---|---|---|")
    for name in args.tasks:
        task = TASKS[name]
        with tempfile.TemporaryDirectory(prefix="emobeam-bench-") as folder:
            make(Path(folder), task, args.rows)
            for what in (*STEPS, *(["labels"] if name in ("va", "ah") else [])):
                command = [sys.executable, "-m", "tests.benchmarks.submission", "--tasks", name, "--step", what, folder]
                result = subprocess.run(command, capture_output=True, text=True, check=True)
                rows, seconds, peak = map(float, result.stdout.split())
                print(f"| {name} | {what} | {int(rows)} | {seconds:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
