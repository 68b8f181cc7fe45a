"""Time and memory of scoring a whole test set: ``python -m tests.benchmarks.scoring [ROWS]`` prints a table.

Labels, tables and a submission of action units are invented, as many rows as named (default 729736, ABAW's test set) in
141 videos. Each step runs in a process of its own; memory is that process's peak.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

VIDEOS = 141

_STEP = """
import resource, sys, time
from emobeam.emo_transforms.abaw.scoring.scores import score
from emobeam.emo_transforms.abaw.scoring.tuning import tune
from emobeam.schemas.tasks import task_named
step, truth, predictions = sys.argv[1:]
begin = time.perf_counter()
if step == "tune":
    tune(task_named("au"), 8, truth, predictions)
else:
    score(task_named("au"), 8, truth, predictions, warn=print)
seconds = time.perf_counter() - begin
print(f"{seconds:.1f} s | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
"""


def main(rows: int) -> None:
    from emobeam.schemas.tasks import task_named
    from tests.emo_transforms.abaw.predictions import Values, invent_labels, write_tables
    from tests.emo_transforms.abaw.truth import write_labels

    task, rng = task_named("au"), np.random.default_rng(0)
    sizes = np.diff(np.linspace(0, rows, VIDEOS + 1).astype(int))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = [invent_labels(task, f"video{n}", int(size), rng) for n, size in enumerate(sizes)]
        values: Values = {(v.name, ""): rng.random(v.values.shape, np.float32) for v in labels}
        truth, tables = write_labels(folder, task, labels), write_tables(folder / "out", task, values)
        submission = folder / "predictions.txt"
        with submission.open("w") as file:
            file.write(f"{task.form.header}\n")
            for (video, _), scores in values.items():
                for frame, row in enumerate((scores >= 0.5).astype(int).tolist(), start=1):
                    file.write(f"{video}/{frame:05d}.jpg,{','.join(map(str, row))}\n")
        print(f"{rows} rows of 12 action units in {VIDEOS} videos\n\n| step | time | peak memory |\n|---|---|---|")
        for step, predictions in (("score tables", tables), ("score submission", submission), ("tune", tables)):
            command = [sys.executable, "-c", _STEP, step, truth, str(predictions)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {step} | {done.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    begin = time.perf_counter()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 729_736)
    print(f"\n{time.perf_counter() - begin:.0f} s with making the files")
