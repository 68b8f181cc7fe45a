"""What an overlay shows of a video: boxes of faces for every native frame, and the values of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.dataset import Dataset, shard_uri
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.networks.heads.output_quality import Marks, marks_in
from emobeam.emo_transforms.prediction.face_roles import SIDES
from emobeam.emo_transforms.prediction.prediction_tables import part_uri, read_part_footer
from emobeam.emo_transforms.prediction.smoothing import GAP_TOLERANCE
from emobeam.emo_transforms.prediction.video_prediction import VideoView, view_video
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.records import EmobeamError, VideoFeatures
from emobeam.schemas.tables import SOURCES

FaceKey = tuple[str, int]
"""Subject (``""``: nobody was named) and number of a face, as the tables have them."""

_NOT_VALUES = frozenset(("video", "subject", "face", "frame", "time", "source"))

_LANDMARKS = 10


@dataclass(frozen=True, eq=False)
class FaceBoxes:
    """Where one face is, frame by frame.

    Attributes:
        frames: int32 ``[n]``, native frames with a box, ascending.
        boxes: float32 ``[n, 4]``, x1, y1, x2, y2 in px of the upright picture.
        landmarks: float32 ``[n, 10]``, x, y of eyes, nose and corners of the mouth in px; NaN where unknown.
        sampled: bool ``[n]``: the face was seen in this very frame, not between two others.
    """

    frames: NDArray[np.int32]
    boxes: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    sampled: NDArray[np.bool_]

    def row(self, frame: int) -> int | None:
        """Row of a native frame, None where the face has no box."""
        return _row(self.frames, frame)


@dataclass(frozen=True, eq=False)
class Values:
    """The table of one task for one face.

    Attributes:
        frames: int32 ``[n]``, ascending; empty where one row stands for the whole clip.
        values: float32 ``[n, K]`` (``[1, K]`` for a clip), NaN where absent.
        source: int8 ``[n]``, index into ``emobeam.schemas.tables.SOURCES``.
    """

    frames: NDArray[np.int32]
    values: NDArray[np.float32]
    source: NDArray[np.int8]

    def at(self, frame: int) -> tuple[NDArray[np.float32] | None, str]:
        """Values of a native frame and their source; None and ``absent`` where the table has none."""
        if not len(self.frames):
            return (self.values[0], SOURCES[self.source[0]]) if len(self.values) else (None, "absent")
        row = _row(self.frames, frame)
        if row is None or np.isnan(self.values[row]).all():
            return None, "absent"
        return self.values[row], SOURCES[self.source[row]]


@dataclass(frozen=True, eq=False)
class TaskValues:
    """All faces of one task: ``outputs`` are the value columns, in the order of the table; ``marks`` are its heads'."""

    task: str
    outputs: tuple[str, ...]
    faces: Mapping[FaceKey, Values]
    marks: Marks = field(default_factory=Marks)


def _row(frames: NDArray[np.int32], frame: int) -> int | None:
    row = int(np.searchsorted(frames, frame))
    return row if row < len(frames) and frames[row] == frame else None


def interpolate_boxes(
    frames: NDArray[np.int32],
    clock: NDArray[np.float64],
    seen: NDArray[np.int32],
    boxes: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    max_gap: float,
) -> FaceBoxes:
    """Boxes of one face for native frames: where it was seen, and linearly in time between two such frames.

    Nothing is drawn before the first and after the last sighting, nor between two that lie more than ``max_gap``
    seconds apart (with a tolerance of 1e-6 s).

    Args:
        frames, clock: ``[n]`` native frames, ascending, and their times in s.
        seen: ``[m]`` native frames with a box, strictly ascending, all among ``frames``.
        boxes, landmarks: ``[m, 4]`` and ``[m, 10]`` in px.
    """
    if not len(seen):
        nothing = np.zeros(0, np.int32)
        return FaceBoxes(nothing, np.zeros((0, 4), np.float32), np.zeros((0, _LANDMARKS), np.float32), nothing > 0)
    times = clock[np.searchsorted(frames, seen)]
    before = np.searchsorted(seen, frames, side="right") - 1
    inside = (before >= 0) & (frames <= seen[-1])
    frames, clock, before = frames[inside], clock[inside], before[inside]
    sampled = seen[before] == frames
    after = np.minimum(before + 1, len(seen) - 1)
    span = times[after] - times[before]
    keep = sampled | (span <= max_gap + GAP_TOLERANCE)
    frames, clock, before, after = frames[keep], clock[keep], before[keep], after[keep]
    sampled, span = sampled[keep], span[keep]
    share = np.where(sampled | (span <= 0), 0.0, (clock - times[before]) / np.where(span > 0, span, 1.0))[:, None]
    between = [
        np.where(sampled[:, None], array[before], (1 - share) * array[before] + share * array[after])
        for array in (boxes, landmarks)
    ]
    return FaceBoxes(frames, between[0].astype(np.float32), between[1].astype(np.float32), sampled)


def video_item(
    video: str, segments: Sequence[Mapping[str, Any]], footers: Sequence[Mapping[str, Any]]
) -> VideoFeatures:
    """The unit of work that stage 2 made of a video, from the index of the cache and its tables' footers.

    Who a name means (``--subjects``) is known from the faces that were written; a name nobody was found for plays no
    part.

    Args:
        segments: the video's rows of the index, of one content.
        footers: of its predictions tables.
    """
    subjects: list[str] = []
    persons: dict[str, int] = {}
    for footer in footers:
        subjects += [name for name in footer["subjects"] if name not in subjects]
        faces = footer.get("faces") or []
        persons |= {row["subject"]: row["person"] for row in faces if row["subject"] not in ("", *SIDES)}
    known = tuple(name for name in subjects if name in ("", *SIDES) or name in persons)
    shards = sorted(segments, key=lambda row: int(row["segment"]))
    return VideoFeatures(
        video, tuple(str(row["shard"]) for row in shards), known or ("",), tuple(sorted(persons.items()))
    )


def read_boxes(features: str, dataset: Dataset, item: VideoFeatures, max_gap: float) -> dict[FaceKey, FaceBoxes]:
    """Boxes of all faces by subject and number, numbered exactly as stage 2 does.

    Rows of folders of crops have no box; there is nothing to draw then.

    Raises:
        EmobeamError: a shard is missing or damaged.
    """
    appearance = tuple(dataset.map_shapes) or (("embedding",) if dataset.embedding else ())
    view = view_video(features, item, appearance)
    if not len(view.sightings) or np.isnan(view.sightings.box).any():
        return {}
    landmarks = _landmarks(features, item)
    found: dict[FaceKey, FaceBoxes] = {}
    for subject, faces in view.roles.items():
        for face in np.unique(faces[faces >= 0]).tolist():
            found[subject, face] = _boxes_of(view, np.flatnonzero(faces == face), landmarks, max_gap)
    return found


def _boxes_of(view: VideoView, rows: NDArray[np.intp], landmarks: NDArray[np.float32], max_gap: float) -> FaceBoxes:
    """One role may pass from person to person; between two persons nothing is interpolated."""
    person = view.person[rows]
    pieces = [
        interpolate_boxes(
            view.frames,
            view.clock,
            view.sightings.frame[stretch],
            view.sightings.box[stretch],
            landmarks[stretch],
            max_gap,
        )
        for stretch in np.split(rows, np.flatnonzero(np.diff(person)) + 1)
    ]
    return FaceBoxes(
        np.concatenate([piece.frames for piece in pieces]),
        np.concatenate([piece.boxes for piece in pieces]),
        np.concatenate([piece.landmarks for piece in pieces]),
        np.concatenate([piece.sampled for piece in pieces]),
    )


def _landmarks(features: str, item: VideoFeatures) -> NDArray[np.float32]:
    """Landmarks ``[n, 10]`` of all rows in the order of the shards."""
    unknown = [float("nan")] * _LANDMARKS
    rows = [
        [point if point is not None else float("nan") for point in row] if row is not None else unknown
        for shard in item.shards
        for table in read_rows(shard_uri(features, shard), ["landmarks"])
        for row in table["landmarks"].to_pylist()
    ]
    return np.array(rows, np.float32).reshape(-1, _LANDMARKS)


def read_values(output: str, task: str, video: str) -> TaskValues | None:
    """The predictions table of a video, None where there is none.

    Raises:
        EmobeamError: the table is damaged.
    """
    uri = part_uri(output, task, video)
    try:
        footer = read_part_footer(uri)
    except FileNotFoundError:
        return None
    except EmobeamError as error:
        raise EmobeamError(f"{error}; run emobeam predict again") from error
    if footer["video"] != video:
        raise EmobeamError(f"{uri}: is a table of {footer['video']!r}; remove it and run emobeam predict again")
    try:
        table = read_parquet(uri)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise EmobeamError(f"{uri}: the predictions can't be read ({reason}); run emobeam predict again") from error
    outputs = tuple(name for name in table.column_names if name not in _NOT_VALUES)
    values = np.stack([_floats(table[name]) for name in outputs], axis=1)
    subject = np.array(table["subject"].to_pylist(), dtype=object)
    if "frame" not in table.column_names:
        clip = {(name, 0): values[subject == name] for name in dict.fromkeys(subject.tolist())}
        source = {key: np.where(np.isnan(rows).all(axis=1), 3, 0).astype(np.int8) for key, rows in clip.items()}
        nothing = np.zeros(0, np.int32)
        shown = {key: Values(nothing, rows, source[key]) for key, rows in clip.items()}
        return TaskValues(task, outputs, shown, marks_in(footer))
    face, frame = table["face"].to_numpy(), table["frame"].to_numpy()
    names = table["source"].cast(pa.string()).to_pylist()
    source_of_row = np.array([SOURCES.index(name) for name in names], np.int8)
    found = {}
    for name in dict.fromkeys(subject.tolist()):
        for number in np.unique(face[subject == name]).tolist():
            rows = np.flatnonzero((subject == name) & (face == number))
            rows = rows[np.argsort(frame[rows], kind="stable")]
            found[name, number] = Values(frame[rows].astype(np.int32), values[rows], source_of_row[rows])
    return TaskValues(task, outputs, found, marks_in(footer))


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    array: NDArray[np.float32] = column.cast(pa.float32()).to_numpy()
    return np.asarray(array, np.float32)
