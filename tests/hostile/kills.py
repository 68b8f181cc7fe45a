"""Commands killed with SIGKILL at drawn moments: the same command then ends with the same files, and no others.

A killed process can't clear away; the next one has to. What is looked at is all that both have written: the output, the
folder around it, and the temporary folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.clips import portrait
from tests.emo_transforms.training.data import make_data, some_clips
from tests.pipelines.runs import emobeam

QUICK = (
    "--set",
    "final_start=random",
    "--set",
    "batch=8",
    "--set",
    "warmup_steps=0",
    "--levels",
    "1",
    "--threads",
    "1",
)
DIFFERS = ("run.json", "summary.json", "report.html")
"""Files that tell of their run, of its seconds above all; that they are there is looked at."""

RUNS = "runs/"
"""Folder of a cache with a record of each run that came to its end: of a killed one there may be none."""


@dataclass
class Counts:
    """What the killed runs of a command cost: files of the undisturbed run that lack, others, and differing ones.

    Attributes:
        early: kills that came when the command had ended by itself.
        notes: the first of each.
    """

    kills: int = 0
    early: int = 0
    lost: int = 0
    differing: int = 0
    left_over: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Command:
    """A command that can be run again and again.

    Attributes:
        prepare: gives a folder what the command starts from.
        arguments: of ``emobeam``, run in that folder.
        leaves: path of what it writes, below the folder.
    """

    arguments: Sequence[str]
    leaves: str
    prepare: Callable[[Path], None]


def commands(folder: Path) -> dict[str, Command]:
    """The commands that are killed, over material that is made in ``folder`` first."""
    clips = folder / "clips"
    clips.mkdir()
    for name in ("a", "b"):
        portrait(clips / f"{name}.mp4", frames=60)
    random_weights = ("--backbone-weights", "untrained", "--head", "untrained", "--edition", "8", "--workers", "1")
    annotate = ["annotate", str(clips), "--output", "out", "--segment-seconds", "1", "--quiet", *random_weights]
    _run(annotate, folder)
    out = folder / "out"
    features, labels = make_data(folder / "train", "au", some_clips(4, 30))
    train = ["train", str(features), "--task", "au", "--labels", str(labels), "--output", "head", "--epochs", "2"]

    def predicted(place: Path) -> None:
        shutil.copytree(out, place / "out", ignore=shutil.ignore_patterns("submission"))

    def exported(place: Path) -> None:  # one that is replaced: the harder case
        predicted(place)
        _run(["export", "out", "--format", "csv", "--output", "tables", "--quiet"], place)

    return {
        "annotate": Command(annotate, "out", lambda place: None),
        "submit": Command(["submit", "out", "--task", "au", "--edition", "8"], "out", predicted),
        "train": Command([*train, "--seeds", "2", "--holdout", "0.3", *QUICK], "head", lambda place: None),
        "export": Command(["export", "out", "--format", "csv", "--output", "tables", "--quiet"], "tables", exported),
        "report": Command(["report", "out", "--quiet"], "out", predicted),
    }


def count_kills(name: str, command: Command, folder: Path, kills: int, seed: int) -> Counts:
    """Kills a command so many times, each time anew, and runs it again.

    Args:
        folder: empty, to work in.
    """
    random_ = random.Random(f"{name} {seed}")
    counts = Counts()
    whole = folder / "whole"
    _start_from(command, whole)
    began = time.monotonic()
    _run(command.arguments, whole)
    seconds = time.monotonic() - began
    wanted = _files(whole)
    for number in range(kills):
        place = folder / str(number)
        _start_from(command, place)
        wait = seconds * random_.uniform(0.0, 1.1)
        counts.early += not _kill(command.arguments, place, wait)
        counts.kills += 1
        _run(command.arguments, place)
        _compare(counts, wanted, _files(place), f"{name}, killed after {wait:.2f} of {seconds:.2f} s")
        shutil.rmtree(place)
    return counts


def _start_from(command: Command, place: Path) -> None:
    (place / "tmp").mkdir(parents=True)
    command.prepare(place)


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}


def _run(arguments: Sequence[str], place: Path) -> None:
    (place / "tmp").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        emobeam(*arguments), cwd=place, env=_environment(place), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}")


def _kill(arguments: Sequence[str], place: Path, seconds: float) -> bool:
    """Starts a command and kills its launcher, whose children end by themselves; whether it was still at work."""
    process = subprocess.Popen(
        emobeam(*arguments),
        cwd=place,
        env=_environment(place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(family, timeout=60)
        return True
    return False


def _files(place: Path) -> dict[str, bytes]:
    found = {
        str(path.relative_to(place)): path for path in place.rglob("*") if path.is_file() or not any(path.iterdir())
    }
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in found.items() if RUNS not in name}


def _compare(counts: Counts, wanted: Mapping[str, bytes], found: Mapping[str, bytes], name: str) -> None:
    both = wanted.keys() & found.keys()
    lost, more = sorted(wanted.keys() - both), sorted(found.keys() - both)
    differing = [each for each in sorted(both) if wanted[each] != found[each] and not each.endswith(DIFFERS)]
    counts.lost += len(lost)
    counts.left_over += len(more)
    counts.differing += len(differing)
    if lost or more or differing:
        counts.notes.append(f"{name}: lost {lost[:3]}, left over {more[:3]}, differing {differing[:3]}")
