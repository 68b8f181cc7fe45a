"""What is drawn on one frame, as plain data: the hand-over from tables and shards to the painter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.overlay.content import FaceBoxes, FaceKey, TaskValues
from emobeam.schemas.tasks import TASKS

Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),
    (240, 228, 66),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (170, 170, 255),
    (120, 220, 120),
)
"""Of faces, in their order; told apart by colour-blind people too (Okabe and Ito, 2008), as far as eight colours go."""


@dataclass(frozen=True)
class Face:
    """A face that is drawn: its name, its colour, and whether anything was predicted for it."""

    key: FaceKey
    label: str
    colour: Colour
    predicted: bool


@dataclass(frozen=True)
class Bar:
    """One output: name, range, the threshold that is marked (None: none), and whether it is ``experimental``, or
    ``unknown`` to the head.
    """

    name: str
    low: float
    high: float
    mark: float | None
    doubt: str = ""

    @property
    def label(self) -> str:
        """The name as it is drawn."""
        return f"{self.name} *" if self.doubt else self.name


@dataclass(frozen=True)
class Block:
    """One task: title, bars; ``choice`` marks the highest of outputs that compete for one class."""

    task: str
    title: str
    untrained: bool
    bars: tuple[Bar, ...]
    choices: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Mark:
    """A face in one frame: box x1, y1, x2, y2 and points in px of the upright picture."""

    face: Face
    box: tuple[float, float, float, float]
    points: tuple[tuple[float, float], ...]
    sampled: bool


@dataclass(frozen=True)
class FaceValues:
    """Values of one face in one frame by block, None where there is none, with their sources."""

    face: Face
    blocks: tuple[NDArray[np.float32] | None, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """One frame: its number from 1, its time in s, the marks in the picture and the values beside it."""

    frame: int
    time: float
    marks: tuple[Mark, ...]
    values: tuple[FaceValues, ...]


@dataclass(frozen=True)
class Story:
    """All frames of a clip: gives the :class:`Scene` of each.

    Attributes:
        faces: those that are drawn, in the order of their colours.
        blocks: what the panel shows, one per table of ``tables``.
        scale: factor from px of the cache to px of the clip, in x and y.
    """

    faces: tuple[Face, ...]
    blocks: tuple[Block, ...]
    boxes: dict[FaceKey, FaceBoxes]
    tables: tuple[TaskValues, ...]
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def predicted(self) -> tuple[Face, ...]:
        """Faces with bars."""
        return tuple(face for face in self.faces if face.predicted)

    def scene(self, frame: int, time: float) -> Scene:
        """The scene of a native frame."""
        marks = []
        for face in self.faces:
            found = self.boxes.get(face.key)
            row = found.row(frame) if found is not None else None
            if found is not None and row is not None:
                marks.append(_mark(face, found, row, self.scale))
        values = []
        for face in self.predicted:
            told = [
                table.faces[face.key].at(frame) if face.key in table.faces else (None, "absent")
                for table in self.tables
            ]
            values.append(FaceValues(face, tuple(value for value, _ in told), tuple(source for _, source in told)))
        return Scene(frame, time, tuple(marks), tuple(values))


def _mark(face: Face, found: FaceBoxes, row: int, scale: tuple[float, float]) -> Mark:
    across, down = scale
    x1, y1, x2, y2 = found.boxes[row].tolist()
    points = found.landmarks[row].reshape(-1, 2).tolist()
    return Mark(
        face,
        (x1 * across, y1 * down, x2 * across, y2 * down),
        tuple((x * across, y * down) for x, y in points if x == x and y == y),
        bool(found.sampled[row]),
    )


def make_faces(keys: Sequence[FaceKey], predicted: Sequence[FaceKey]) -> tuple[Face, ...]:
    """Faces with names and colours: those with values first, by subject and number.

    A face is called by its number; where subjects are named, by the subject (``left``), with its number if that
    isn't 0.
    """
    order = sorted(dict.fromkeys([*keys, *predicted]), key=lambda key: (key not in predicted, key))
    faces = []
    for index, (subject, number) in enumerate(order):
        label = str(number) if not subject else subject + (f" {number}" if number else "")
        faces.append(Face((subject, number), label, COLOURS[index % len(COLOURS)], (subject, number) in predicted))
    return tuple(faces)


def make_block(table: TaskValues, *, untrained: bool, thresholds: Sequence[float] = ()) -> Block:
    """The panel's block of a task: ranges of its outputs, thresholds of binary ones (0.5 where none are given)."""
    task = TASKS[table.task]
    groups = {output: group for group in task.groups for output in group.outputs}
    bars = []
    for index, name in enumerate(table.outputs):
        group = groups.get(name)
        mark = None
        if group is not None and group.kind == "binary":
            mark = thresholds[index] if len(thresholds) == len(table.outputs) else 0.5
        bars.append(Bar(name, group.low if group else 0.0, group.high if group else 1.0, mark, table.marks.of(name)))
    choices = tuple(
        tuple(index for index, name in enumerate(table.outputs) if name in group.outputs)
        for group in task.groups
        if group.kind == "class"
    )
    title = task.name + (" (whole clip)" if task.scope == "clip" else "")
    return Block(task.name, title, untrained, tuple(bars), tuple(choice for choice in choices if choice))
