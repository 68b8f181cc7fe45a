"""Crops of people with known or estimated action units, as ``emobeam render`` and ``emobeam pseudo-label`` write them.

Layout of a people folder: ``people/*.parquet``, one file per person, a row per crop: ``person``, ``clip``, ``frame``,
``crop`` (an encoded picture), a column per action unit and a map ``shapes`` of blendshape weights, all in [0, 1], and
``landmarks`` (51 points, x and y in parts of the crop's edge); null where nobody knows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emobeam.emo_transforms.inputs.people_folders import collected_files, read_columns
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named

UNITS = task_named("au").outputs
_SIDES = {"_L": "_R", "_R": "_L"}
LANDMARKS = tuple(f"landmark{number}_{axis}" for number in range(17, 68) for axis in "xy")
"""Names of the landmarks' coordinates; numbers as in the 300-W challenge."""
ALIGNED = tuple(name.replace("landmark", "aligned") for name in LANDMARKS)
"""Names of the same in the face's own frame, see :func:`align`."""
_EYES = (36 - 17, 45 - 17)
"""Outer corners of the eyes."""
_MIRRORED_LANDMARKS = (
    *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip
"""The landmark that each of 17 to 67 becomes when the picture is mirrored left to right."""


@dataclass(frozen=True, eq=False)
class PeopleCrops:
    """Crops in memory, sorted by id.

    Attributes:
        outputs: names of what is known: action units (``AU12``), then shapes (``mouthSmile_L``).
        crops: encoded pictures.
        ids: ``<folder>/<person>-<clip>-<frame>``.
        groups: ``<collection>/<person>``: crops of one person share it, whichever folder they are from; all rendered
            folders are one collection (``render``), and so are all folders of labelled photographs (``photo``), see
            :func:`emobeam.emo_transforms.inputs.people_folders.collection_of`.
        targets: float32 ``[n, K]`` in [0, 1], NaN where nobody knows.
        landmarks: float32 ``[n, 51, 2]``, x and y in parts of the crop's edge, NaN where nobody knows.
    """

    outputs: tuple[str, ...]
    crops: tuple[bytes, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    targets: NDArray[np.float32]
    landmarks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def units(self) -> int:
        """How many of the outputs are action units; they stand first."""
        return sum(name in UNITS for name in self.outputs)

    @property
    def mirrored(self) -> NDArray[np.intp]:
        """``[K]``: where each output's value comes from when the picture is mirrored left to right."""
        place = {name: index for index, name in enumerate(self.outputs)}
        partners = [name[:-2] + _SIDES[name[-2:]] if name[-2:] in _SIDES else name for name in self.outputs]
        return np.array([place[name] for name in partners], np.intp)

    def take(self, places: NDArray[np.intp]) -> PeopleCrops:
        """Some of the crops, in the order of ``places``."""
        chosen = places.tolist()
        return PeopleCrops(
            self.outputs,
            tuple(self.crops[i] for i in chosen),
            tuple(self.ids[i] for i in chosen),
            tuple(self.groups[i] for i in chosen),
            self.targets[places],
            self.landmarks[places],
        )

    def digest(self) -> str:
        """sha256 over ids, targets and pictures."""
        found = hashlib.sha256("\0".join(self.outputs).encode())
        for identity, crop, row, points in zip(self.ids, self.crops, self.targets, self.landmarks, strict=True):
            found.update(f"{identity}\0".encode() + hashlib.sha256(crop).digest() + row.tobytes() + points.tobytes())
        return found.hexdigest()

    def known(self) -> dict[str, int]:
        """Crops for which each output is known."""
        return dict(zip(self.outputs, (~np.isnan(self.targets)).sum(0).tolist(), strict=True))


def read_people(uris: Sequence[str]) -> PeopleCrops:
    """Reads people folders; shapes that a crop doesn't name are 0; all are unknown where it has null.

    All rendered folders count as one collection of people, and so do all folders of labelled photographs. A unit that
    is unknown in every crop is no output; a shape that occurs on one side is an output on both.

    Raises:
        UsageError: a folder without people.
        EmobeamError: a file that can't be read or lacks a column, values out of range.
    """
    rows: list[_Row] = []
    names = _folder_names(uris)
    for uri, name in zip(uris, names, strict=True):
        for _, file, collection in collected_files(uri, name):
            rows += _read_file(file, name, collection)
    rows.sort(key=lambda row: row[0])
    shapes = {shape for row in rows for shape in row[4] or {}}
    shapes |= {shape[:-2] + _SIDES[shape[-2:]] for shape in shapes if shape[-2:] in _SIDES}
    units = [unit for place, unit in enumerate(UNITS) if any(row[3][place] is not None for row in rows)]
    outputs = (*units, *sorted(shapes))
    targets = np.full((len(rows), len(outputs)), np.nan, np.float32)
    for target, row in zip(targets, rows, strict=True):
        values = {unit: value for unit, value in zip(UNITS, row[3], strict=True) if value is not None}
        known = {} if row[4] is None else dict.fromkeys(shapes, 0.0) | row[4]
        target[:] = [{**known, **values}.get(name, np.nan) for name in outputs]
    low, high = (float(edge) for edge in (np.nanmin(targets, initial=0), np.nanmax(targets, initial=0)))
    if low < 0 or high > 1:
        raise EmobeamError(f"{', '.join(uris)}: activations from {low:g} to {high:g}, expected 0 to 1")
    landmarks = np.full((len(rows), len(LANDMARKS)), np.nan, np.float32)
    for points, row in zip(landmarks, rows, strict=True):
        if row[5] is not None:
            points[:] = row[5]
    return PeopleCrops(
        outputs,
        tuple(row[2] for row in rows),
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        targets,
        landmarks.reshape(-1, len(LANDMARKS) // 2, 2),
    )


def align(landmarks: Tensor) -> Tensor:
    """Landmarks ``[n, 51, 2]`` in the frame of the face ``[n, 102]``: the outer corners of its eyes at -0.5 and 0.5.

    Moving, turning or enlarging the picture changes nothing; what is left is who it is, how the head is turned, and
    what the face does.
    """
    points = torch.view_as_complex(landmarks.contiguous())
    left, right = points[:, _EYES[0], None], points[:, _EYES[1], None]
    return torch.view_as_real((points - (left + right) / 2) / (right - left)).flatten(1)


def mirror_landmarks(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Landmarks ``[51, 2]`` of the picture mirrored left to right."""
    mirrored = landmarks[np.array(_MIRRORED_LANDMARKS) - 17].copy()
    mirrored[:, 0] = 1 - mirrored[:, 0]
    return np.asarray(mirrored, np.float32)


def split_people(crops: PeopleCrops, share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of the crops to train on, and of those of people held out: ``share`` of the people, at least one."""
    people = sorted(set(crops.groups), key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode()).digest())
    held = set(people[: max(round(share * len(people)), 1 if len(people) > 1 else 0)])
    out = np.array([group in held for group in crops.groups], bool)
    return np.flatnonzero(~out), np.flatnonzero(out)


_Row = tuple[str, str, bytes, list[float | None], dict[str, float] | None, list[float] | None]
"""Id, group, crop, units, shapes, landmarks."""


def _read_file(uri: str, name: str, collection: str) -> list[_Row]:
    table = read_columns(uri, ("person", "clip", "frame", "crop", "shapes", "landmarks", *UNITS))
    found: list[_Row] = []
    for row in table.to_pylist():
        person = f"{row['person']:06d}"
        identity = f"{name}/{person}-{row['clip']}-{row['frame']:04d}"
        shapes = None if row["shapes"] is None else dict(row["shapes"])
        points = row["landmarks"]
        if points is not None and len(points) != len(LANDMARKS):
            raise EmobeamError(f"{uri}: {len(points)} coordinates of landmarks, expected {len(LANDMARKS)}")
        found.append((identity, f"{collection}/{person}", row["crop"], [row[unit] for unit in UNITS], shapes, points))
    return found


def _folder_names(uris: Sequence[str]) -> list[str]:
    """Last parts of the paths; with a number where two are alike."""
    names: list[str] = []
    for uri in uris:
        name = uri.rstrip("/").rpartition("/")[2] or "people"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names
