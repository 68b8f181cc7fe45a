"""A folder with what the documentation's commands name: clips, crops, labels, heads, a cache, an output."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.shipped import shipped
from emobeam.pipelines.cli import main
from emobeam.schemas.tasks import Task, task_named
from tests.clips import face, portrait, two_faces
from tests.emo_transforms.abaw.predictions import invent_labels

CLIPS = ("videos/talk.mp4", "videos/day1/pair.mp4")
FRAMES = 16
"""Frames of a clip: four sampled ones at 6 per second, one face each."""

TASKS = ("au", "va", "expr")
OTHER_TASKS = ("emi", "ah")
"""Their heads are made, but nothing is predicted with them beforehand."""


def emobeam(*words: str) -> int:
    """Runs the function behind the console script in the current folder; its exit code."""
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fill(folder: Path) -> None:
    """Makes the material below ``folder``, which has to be the current one."""
    _write_clips(folder)
    _write_study(folder)
    _write_crops(folder)
    # The pages mix what names these weights with what names none: both mean the same here.
    shutil.copy(shipped().backbone.path, folder / "mobilenetv4_affectnet.safetensors")
    weights = ("--backbone-weights", "mobilenetv4_affectnet.safetensors")
    assert emobeam("extract", "videos/", "--store", "maps,crops", "--output", "features/", *weights, "-q") == 0
    dataset = read_dataset("features")
    for task in (*TASKS, *OTHER_TASKS):
        save_head(new_head(task_named(task), dataset.offer), f"heads/{task}")
    _write_labels(folder)
    heads = [word for task in TASKS for word in ("--head", f"heads/{task}")]
    truth = ("--truth", "8th ABAW Annotations", "--edition", "8")
    shutil.copytree("features", "out/features")
    assert emobeam("predict", "out/features", *heads, *truth, "--output", "out", "-q") == 0
    shutil.copytree("out", "demo-out")
    shutil.copy("out/submission/au/predictions.txt", "sample.txt")


def _write_clips(folder: Path) -> None:
    names = ("talk.mp4", *CLIPS, "raw/14-30-1920x1080.mp4", "renamed.mp4")
    for phase, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        portrait(folder / name, frames=FRAMES, painter=lambda number, phase=phase: face(number, (160, 120), phase))


def _write_study(folder: Path) -> None:
    """Two sessions of two people, who they are, and what a coder saw."""
    sessions = ("interview", "P02_T1")
    for name in sessions:
        two_faces(folder / f"videos/{name}.mp4", frames=FRAMES)
    table = {
        "sessions.csv": ["video,path,subject", *(f'{name},videos/{name}.mp4,"left,right"' for name in sessions)],
        "people.csv": ["video,subject,person", *(f"{name},left,Ann\n{name},right,Ben" for name in sessions)],
        "coding/coder.csv": ["video,subject,unit,onset,offset", *(f"{name},left,AU12,0.1,0.4" for name in sessions)],
    }
    for place, rows in table.items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text("\n".join([*rows, ""]))


def _write_crops(folder: Path) -> None:
    for place, first in (
        ("cropped_aligned/14-30-1920x1080/{:05d}.jpg", 1),
        ("face_images/00012/{}.jpg", 0),
        ("cropped-aligned-faces/82557/frame-{}.jpg", 0),
    ):
        for number in range(3):
            path = folder / place.format(number + first)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(face(number, (112, 112))).save(path)


def _write_labels(folder: Path) -> None:
    """Annotations of both clips, one for training and one for validation, by every name that pages give them."""
    rng = np.random.default_rng(0)
    for root in ("8th ABAW Annotations", "labels"):
        for name in TASKS:
            task = task_named(name)
            for clip, partition in zip(CLIPS, ("Train_Set", "Validation_Set"), strict=True):
                place = folder / root / task.labels.folders[0] / partition
                place.mkdir(parents=True, exist_ok=True)
                _write_label(place, task, invent_labels(task, Path(clip).stem, FRAMES, rng))


def _write_label(place: Path, task: Task, labels: VideoLabels) -> None:
    (group,) = task.groups
    values = np.where(labels.valid, labels.values, group.invalid).astype(np.float64)
    rows = [",".join(f"{value:g}" for value in row) for row in values.tolist()]
    (place / f"{labels.name}.txt").write_text("\n".join([str(task.labels.header), *rows]) + "\n")
