"""Data sets whose truth is known because it was made up: caches where one thing alone tells the label.

``motion``: patterns go round, and the label is how fast, and in which direction; no single frame tells it. ``look``:
the label is in every single frame.

Why no single frame can tell: every clip has a twin that shows the very same frames, bit for bit, in reversed order,
so that everything moves the other way and every label has the other sign. Whatever a function f says of a frame, it
says it once where the label is y and once where it is -y, and over both twins the sum of f(frame) * label is 0, and
so is that of the labels. So every predictor that sees one frame at a time has a covariance of exactly 0 with the label,
and a CCC of 0. (Smoothing its values over time with a symmetric filter changes nothing: reversing commutes with it.)
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from emobeam.emo_transforms.cache.dataset import Dataset, open_dataset
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.tables import map_column
from emobeam.schemas.tasks import TASKS
from tests.clips import astronaut, write
from tests.emo_transforms.training.data import FOLDERS, STEP, write_rows

SHAPES = {"s8": (8, 8, 8), "s16": (8, 4, 4), "s32": (8, 2, 2)}
FASTEST = np.pi / 3
"""Phase, in rad, by which the fastest pattern moves between two sampled frames: under pi, so it is no other motion."""

LARGEST = 0.9
"""Largest label."""


@dataclass(frozen=True)
class Twin:
    """A generated clip.

    Attributes:
        labels: ``[rows, 2]``, valence and arousal of the sampled frames.
        maps: float16 ``[rows, C, H, W]`` by name.
    """

    name: str
    labels: NDArray[np.float64]
    maps: Mapping[str, NDArray[np.float16]]


def twins(kind: str, number: int, rows: int, noise: float = 0.2) -> tuple[Twin, Twin]:
    """A clip and its twin: ``clipN-1`` and ``clipN-2``, which the hold-out keeps together.

    Args:
        kind: ``motion`` or ``look``.
        number: of the pair; seeds it.
        rows: sampled frames.
        noise: standard deviation of what is added to every value of a map, independent of all else.
    """
    rng = np.random.default_rng([number, rows])
    turns, starts = rng.uniform(0.4, 1.0, 2), rng.uniform(0, 1, 2)
    labels = LARGEST * np.sin(2 * np.pi * (turns * np.linspace(0, 1, rows)[:, None] + starts))
    if kind == "motion":
        steps = FASTEST / LARGEST * (labels[1:] + labels[:-1]) / 2
        phases = np.cumsum(np.concatenate([rng.uniform(0, 2 * np.pi, (1, 2)), steps]), axis=0)
        maps, sign = _waves(phases, rng, noise), -1.0
    else:
        maps, sign = _shades(labels, rng, noise), 1.0
    backwards = {name: values[::-1].copy() for name, values in maps.items()}
    return Twin(f"clip{number}-1", labels, maps), Twin(f"clip{number}-2", sign * labels[::-1], backwards)


def _waves(phases: NDArray[np.float64], rng: np.random.Generator, noise: float) -> dict[str, NDArray[np.float16]]:
    """Two patterns at ``phases[rows, 2]`` that travel across the columns of the maps, and from channel to channel.

    The channels of a pattern differ by quarters of a turn, so that means over places show the motion as well.
    """
    found = {}
    for name, (channels, height, width) in SHAPES.items():
        offsets = np.arange(channels // 2) * 2 * np.pi / (channels // 2)
        across = 2 * np.pi * np.arange(width) / width
        waves = []
        for phase in phases.T:
            turned = phase[:, None] - offsets
            waves.append(np.cos(turned)[..., None] + np.cos(turned[..., None] - across))
        maps = np.repeat(np.concatenate(waves, axis=1)[:, :, None], height, axis=2)
        found[name] = (maps + noise * rng.normal(size=maps.shape)).astype(np.float16)
    return found


def _shades(labels: NDArray[np.float64], rng: np.random.Generator, noise: float) -> dict[str, NDArray[np.float16]]:
    """Maps whose every channel is a fixed mixture of the labels."""
    found = {}
    for index, (name, (channels, height, width)) in enumerate(SHAPES.items()):
        mixture = np.random.default_rng(index).normal(size=(2, channels))
        maps = np.tile((labels @ mixture)[..., None, None], (1, 1, height, width))
        found[name] = (maps + noise * rng.normal(size=maps.shape)).astype(np.float16)
    return found


def affect_dataset() -> Dataset:
    return Dataset(ExtractConfig(sampling=SamplingConfig(6.0, 60.0)), SHAPES)


def write_affect(
    folder: Path, kind: str, pairs: int = 12, rows: int = 64, *, validation: int = 0, noise: float = 0.2
) -> tuple[Path, Path]:
    """Writes a cache of valence and arousal and its labels in the layout of Aff-Wild2.

    Args:
        validation: how many of the pairs are official validation videos.

    Returns:
        The folders of the cache and of the labels.
    """
    features, labels, made = folder / "features", folder / "labels", affect_dataset()
    open_dataset(str(features), made)
    for number in range(pairs):
        partition = "Validation_Set" if number < validation else "Train_Set"
        for twin in twins(kind, number, rows, noise):
            write_rows(features, twin.name, columns_of(twin.maps), made)
            write_va(labels / FOLDERS["va"] / partition / f"{twin.name}.txt", twin.labels)
    return features, labels


def columns_of(maps: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns of a shard."""
    return {map_column(name): values for name, values in maps.items()}


def write_va(path: Path, labels: NDArray[np.float64]) -> None:
    """An annotation file: row i is native frame i; sampled frame n is native frame ``n * STEP + 1``."""
    native = np.arange(len(labels) * STEP) / STEP
    lines = [",".join(f"{np.interp(at, np.arange(len(labels)), column):.6f}" for column in labels.T) for at in native]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([TASKS["va"].labels.header or "", *lines]) + "\n")


# --- a face that does what its labels say ----------------------------------------------------------------

SECONDS = 12
"""Length of a clip; what the face does changes every :data:`HOLD` seconds."""

HOLD = 2
NATIVE = 10
"""Frames per second."""

ACTS = {"brows": ("AU1", "AU2", "AU7"), "smile": ("AU6", "AU10", "AU12"), "lips": ("AU25", "AU26")}
"""Action units that are on with a painted act; those of :data:`REST` are on without it."""

REST = {"brows": ("AU4",), "smile": ("AU15",), "lips": ("AU23", "AU24")}


@cache
def _painted(acts: tuple[str, ...]) -> Image.Image:
    picture = astronaut().copy()
    pen = ImageDraw.Draw(picture)
    up = 9 if "brows" in acts else 0
    for left in (191, 231):
        pen.ellipse((left - 1, 84, left + 25, 96), fill=(226, 180, 158))
        pen.line([(left, 94 - up), (left + 12, 90 - up), (left + 24, 94 - up)], fill=(70, 40, 20), width=4)
    pen.ellipse((202, 132, 246, 162), fill=(222, 172, 150))
    if "smile" in acts:
        pen.chord((203, 124, 245, 160), 15, 165, fill=(240, 236, 230), outline=(160, 50, 50), width=3)
    else:
        pen.line([(212, 147), (236, 147)], fill=(165, 70, 70), width=4)
    if "lips" in acts:
        pen.ellipse((212, 140, 236, 164), fill=(60, 10, 15), outline=(165, 60, 60), width=3)
    return picture


def painted_face(acts: tuple[str, ...], number: int) -> NDArray[np.uint8]:
    """The face of ``tests.clips``, brows raised, smiling or lips apart, ever elsewhere; ``[192, 192, 3]``."""
    turn = 2 * np.pi * number / 47
    left, top = 110 + 5 * np.sin(turn), 10 + 4 * np.cos(turn)
    return np.asarray(
        _painted(acts).resize((192, 192), Image.Resampling.BILINEAR, box=(left, top, left + 230, top + 230))
    )


def acts_of(clip: int) -> list[tuple[str, ...]]:
    """What the face does in each frame of a clip: each stretch another of the eight mixtures of acts."""
    order = np.random.default_rng(clip).permutation(8)[: SECONDS // HOLD]
    mixtures = [tuple(act for place, act in enumerate(ACTS) if mixture >> place & 1) for mixture in order.tolist()]
    return [mixture for mixture in mixtures for _ in range(HOLD * NATIVE)]


def write_faces(folder: Path, clips: int = 10, validation: int = 2) -> tuple[Path, Path]:
    """Writes clips of a painted face and the action units it shows, in the layout of Aff-Wild2.

    Args:
        validation: how many of the clips are official validation videos.

    Returns:
        The folders of the videos and of the labels.
    """
    videos, labels, task = folder / "videos", folder / "labels", TASKS["au"]
    videos.mkdir(parents=True)
    for clip in range(clips):
        acts = acts_of(clip)
        pictures = (painted_face(mixture, 31 * clip + number) for number, mixture in enumerate(acts))
        write(videos / f"face{clip}.mp4", pictures, time_base=Fraction(1, NATIVE))
        path = labels / FOLDERS["au"] / ("Validation_Set" if clip < validation else "Train_Set") / f"face{clip}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [",".join(str(int(name in _units(mixture))) for name in task.outputs) for mixture in acts]
        path.write_text("\n".join([task.labels.header or "", *lines]) + "\n")
    return videos, labels


def _units(acts: Container[str]) -> set[str]:
    return {name for act in ACTS for name in (ACTS if act in acts else REST)[act]}
