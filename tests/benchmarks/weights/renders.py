"""Rendered sequences of people whom nothing was trained on: F1, AUC, mirrored faces, and where it fails."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.training.material.rendering.scene import draw_person
from tests.benchmarks.figures import Goal
from tests.benchmarks.weights.measured import NOT_MEASURABLE, Measured, measured, unmeasured
from tests.benchmarks.weights.network import Network
from tests.benchmarks.weights.resampling import Estimate, auc, draw_weights, f1, largest, mean_of, means
from tests.benchmarks.weights.split import renders_test

Floats = NDArray[np.float64]

POSITIVE = 0.3
"""Activation from which on a unit counts as there."""

STEADY = 0.8
"""AUC from which on a unit is asked to stay the same in a mirror."""

MIRROR_GOAL = Goal(at_most=0.05)


@dataclass(frozen=True, eq=False)
class Renders:
    """Frames of a people folder, in order of person, clip and frame.

    Attributes:
        person: ``[n]``.
        clip: ``[n]`` number of the clip among all.
        crops: n pictures.
        truth: ``[n, K]`` activations by ``units``; NaN where nothing says.
        yaw: ``[n]`` degrees.
        skin: ``[n]`` luminance of the skin, linear.
    """

    person: NDArray[np.int64]
    clip: NDArray[np.int64]
    crops: tuple[Picture, ...]
    units: tuple[str, ...]
    truth: Floats
    yaw: Floats
    skin: Floats

    @property
    def people(self) -> int:
        return len(set(self.person.tolist()))

    def clips(self) -> list[list[Picture]]:
        """Crops by clip."""
        return [[self.crops[i] for i in np.flatnonzero(self.clip == c)] for c in range(int(self.clip.max()) + 1)]

    def column(self, unit: str) -> Floats:
        return self.truth[:, self.units.index(unit)]


def read_renders(folder: Path, units: Sequence[str], limit: int = 0) -> Renders:
    """Reads the clips of a people folder, which must hold people of the split's test side.

    Args:
        units: names of the units.
        limit: people; 0 takes all.
    """
    files = sorted((folder / "people").glob("*.parquet"))[: limit or None]
    if not files:
        raise SystemExit(f"{folder}: holds no rendered people")
    first, last = renders_test()
    seed = int(json.loads((folder / "render.json").read_text())["config"]["seed"])
    rows: list[dict[str, Any]] = []
    for path in files:
        columns = ["person", "clip", "frame", "crop", "yaw", *units]
        table = pq.ParquetFile(path).read(columns=columns)
        rows += table.sort_by([("clip", "ascending"), ("frame", "ascending")]).to_pylist()
    if strangers := sorted({row["person"] for row in rows if not first <= row["person"] <= last}):
        raise SystemExit(f"{folder}: person {strangers[0]} is not on the test side ({first} to {last})")
    numbers: dict[tuple[int, int], int] = {}
    clip = [numbers.setdefault((row["person"], row["clip"]), len(numbers)) for row in rows]
    skins = {p: float(draw_person(p, seed).skin @ (0.2126, 0.7152, 0.0722)) for p in {row["person"] for row in rows}}
    truth = [[np.nan if row[unit] is None else row[unit] for unit in units] for row in rows]
    return Renders(
        person=np.array([row["person"] for row in rows]),
        clip=np.array(clip),
        crops=tuple(np.asarray(Image.open(io.BytesIO(row["crop"])).convert("RGB")) for row in rows),
        units=tuple(units),
        truth=np.array(truth, np.float64),
        yaw=np.array([row["yaw"] or 0.0 for row in rows]),
        skin=np.array([skins[row["person"]] for row in rows]),
    )


@dataclass(frozen=True)
class Unit:
    """How one unit does.

    Attributes:
        base_rate: share of frames in which it is there.
        marked: whether it is experimental.
    """

    name: str
    base_rate: float
    threshold: float
    f1: Estimate
    auc: Estimate
    marked: bool


@dataclass(frozen=True, eq=False)
class Scored:
    """Renders and what the network says of them, ``[n, K]`` as the renders' units."""

    renders: Renders
    values: Floats
    thresholds: Floats
    marked: tuple[str, ...]

    def shown(self, rows: NDArray[np.int64]) -> list[int]:
        """Columns of units that are there in some rows, and not in others."""
        rates = (self.renders.truth[rows] >= POSITIVE).mean(axis=0)
        return np.flatnonzero((rates > 0) & (rates < 1)).tolist()

    def units(self, keep: NDArray[np.bool_] | None = None) -> tuple[list[Unit], Estimate, int]:
        """Units, mean F1 and number of people, of all frames or those to keep; without units not seen there."""
        rows = np.flatnonzero(np.ones(len(self.values), bool) if keep is None else keep)
        _, groups = np.unique(self.renders.person[rows], return_inverse=True)
        people = int(groups.max()) + 1
        truth, said = self.renders.truth[rows] >= POSITIVE, self.values[rows]
        shown = self.shown(rows)
        weights = draw_weights(["renders"] * people)
        each, mean = f1(groups, truth[:, shown], said[:, shown] >= self.thresholds[shown], weights)
        each = [figure.among(people) for figure in each]
        found = [
            Unit(
                self.renders.units[k],
                float(truth[:, k].mean()),
                float(self.thresholds[k]),
                figure,
                auc(groups, truth[:, k], said[:, k], weights).among(people),
                self.renders.units[k] in self.marked,
            )
            for k, figure in zip(shown, each, strict=True)
        ]
        return found, mean, people


def score(renders: Renders, network: Network) -> Scored:
    """Runs the network over all clips."""
    return Scored(
        renders, run(renders, network), np.array([network.threshold(unit) for unit in renders.units]),
        network.experimental,
    )  # fmt: skip


def run(renders: Renders, network: Network, *, mirrored: bool = False) -> Floats:
    """Probabilities ``[n, K]`` as the renders' units."""
    columns = [network.column(unit) for unit in renders.units]
    return np.concatenate(network.probabilities(renders.clips(), mirrored=mirrored))[:, columns]


def sequence_goals(scored: Scored) -> tuple[list[Measured], list[Unit]]:
    """Mean F1 over units, with and without the experimental ones."""
    units, mean, people = scored.units()
    rows = len(scored.values)
    missing = sorted(set(scored.renders.units) - {unit.name for unit in units})
    note = "units " + ", ".join(unit.name for unit in units) + "; thresholds are the head's"
    note += f"; nothing to score for {', '.join(missing)}" if missing else ""
    found = [
        measured("renders.f1", "rendered sequences of unseen people: mean F1 over units", mean,
                 identities=people, rows=rows, goal=Goal(at_least=0.8), note=note),
    ]  # fmt: skip
    plain = [unit.f1 for unit in units if not unit.marked]
    if 0 < len(plain) < len(units):
        found.append(
            measured("renders.f1.plain", "the same without experimental units", mean_of(plain),
                     identities=people, rows=rows)
        )  # fmt: skip
    found.append(
        measured("renders.auc", "rendered sequences: mean AUC over units", mean_of([u.auc for u in units]),
                 identities=people, rows=rows)
    )  # fmt: skip
    return found, units


def steady_units(units: Sequence[Unit]) -> list[str]:
    """Units with an AUC of at least :data:`STEADY`."""
    return [unit.name for unit in units if unit.auc.value >= STEADY]


def mirror_goal(
    key: str, title: str, names: Sequence[str], groups: Sequence[int], plain: Floats, mirrored: Floats
) -> list[Measured]:
    """Largest mean absolute change of a unit when the face is mirrored, then every unit's.

    Args:
        names: of the columns of ``plain`` and ``mirrored`` ``[n, K]``.
        groups: identity of each row, numbers from 0.
    """
    what = f"{title}: largest mean change of a probability"
    if not names:
        return [
            unmeasured(key, what, why := f"no unit has an AUC of {STEADY}", MIRROR_GOAL, f"{NOT_MEASURABLE} ({why})")
        ]
    people = max(groups) + 1
    each = means(groups, np.abs(plain - mirrored), draw_weights([key] * people))
    worst = max(range(len(names)), key=lambda k: each[k].value)
    note = f"the largest is {names[worst]}; of {len(names)} units with an AUC of at least {STEADY}"
    rows = len(plain)
    found = [measured(key, what, largest(each), identities=people, rows=rows, goal=MIRROR_GOAL, note=note)]
    return found + [
        measured(f"{key}.{name}", f"{title}, {name}", estimate, identities=people, rows=rows)
        for name, estimate in zip(names, each, strict=True)
    ]


def open_mouths(scored: Scored) -> tuple[list[str], Floats]:
    """Who opens the mouth without a smile (AU25 at least 0.5, AU12 below 0.05), and AU12 by the network."""
    renders = scored.renders
    keep = (renders.column("AU25") >= 0.5) & (renders.column("AU12") < 0.05)
    return [f"render {p}" for p in renders.person[keep]], scored.values[keep, renders.units.index("AU12")]


def where_it_fails(scored: Scored) -> list[Measured]:
    """Mean F1 and mean AUC by skin, turn of the head, and sharpness of the picture."""
    renders = scored.renders
    parts: list[tuple[str, str, NDArray[np.bool_]]] = []
    parts += _thirds("skin", renders.skin, ("dark skin", "middle skin", "light skin"))
    turn = np.abs(renders.yaw)
    for low, high in ((0, 15), (15, 30), (30, 90)):
        parts.append((f"yaw.{low}", f"turned {low} to {high} degrees", (turn >= low) & (turn < high)))
    parts += _thirds("sharpness", sharpness(renders.crops), ("blurred third", "middle third", "sharp third"))
    found = []
    for key, what, keep in parts:
        if not keep.any() or not scored.shown(np.flatnonzero(keep)):
            continue
        units, mean, people = scored.units(keep)
        rates = f"{len(units)} units, base rate {np.mean([unit.base_rate for unit in units]):.2f}"
        rows = int(keep.sum())
        found.append(measured(f"renders.f1.{key}", f"F1, {what}", mean, identities=people, rows=rows, note=rates))
        found.append(
            measured(f"renders.auc.{key}", f"AUC, {what}", mean_of([u.auc for u in units]),
                     identities=people, rows=rows)
        )  # fmt: skip
    return found


def _thirds(key: str, values: Floats, names: Sequence[str]) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Rows by thirds of a value; rows of one value stay together."""
    low, high = np.quantile(np.unique(values), [1 / 3, 2 / 3])
    masks = (values < low, (values >= low) & (values < high), values >= high)
    return [(f"{key}.{name.split()[0]}", name, mask) for name, mask in zip(names, masks, strict=True)]


def sharpness(crops: Sequence[Picture]) -> Floats:
    """Standard deviation of the Laplacian of each grey picture over that of the picture itself, without noise."""
    found = []
    for crop in crops:
        grey = cv2.GaussianBlur(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
        found.append(cv2.Laplacian(grey, cv2.CV_64F).std() / max(float(grey.std()), 1.0))
    return np.array(found)
