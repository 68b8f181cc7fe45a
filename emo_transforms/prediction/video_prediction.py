"""What stage 2 makes of one video: who is who, values of heads, values of every native frame. Pure, no Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from emobeam.emo_transforms.cache.columns import array_of
from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.footers import Footer
from emobeam.emo_transforms.cache.shards import read_footer, read_rows
from emobeam.emo_transforms.networks.heads.output_quality import marks_of
from emobeam.emo_transforms.networks.heads.running import RunningHead
from emobeam.emo_transforms.prediction.face_roles import assign_faces, face_stretches
from emobeam.emo_transforms.prediction.interpolation import carry
from emobeam.emo_transforms.prediction.track_stitching import Sightings, stitch
from emobeam.emo_transforms.prediction.windows import Row, predict_clip, predict_frames
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, VideoFeatures
from emobeam.schemas.tables import LAST_FRAME, SOURCES, column_of, predictions_schema

NOMINAL_FPS = 30.0
"""Frames per second by which gaps are judged where a folder of crops comes without times."""

_PLAIN = ["track", "frame", "time", "box", "score"]


@dataclass(frozen=True)
class VideoView:
    """All that is known of a video but its maps.

    Attributes:
        frames, times: all native frames, ascending; ``times`` in s, NaN where nothing supplies time.
        clock: times by which gaps are judged: ``times``, or frame numbers at :data:`NOMINAL_FPS`.
        sightings: one row per seen face, in the order of the shards' rows.
        person: stitched identity of each row.
        roles: face number of each row by subject, -1 where it plays no part.
    """

    video: str
    frames: NDArray[np.int32]
    times: NDArray[np.float64]
    clock: NDArray[np.float64]
    sightings: Sightings
    person: NDArray[np.int16]
    roles: Mapping[str, NDArray[np.int16]]


def view_video(features: str, item: VideoFeatures, appearance: Sequence[str]) -> VideoView:
    """Reads footers and plain columns of a video's shards and decides who is who.

    Args:
        appearance: names of the maps or vectors that the cache stores; the last one tells what faces look like.

    Raises:
        EmobeamError: a shard is missing or damaged.
    """
    try:
        footers = [read_footer(shard_uri(features, shard)) for shard in item.shards]
    except FileNotFoundError as error:
        text = f"{error.filename or error}: a shard of {item.video} is gone; run emobeam extract again"
        raise EmobeamError(text) from error
    frames, times = _native_frames(footers, item)
    clock = (frames - 1) / NOMINAL_FPS if np.isnan(times).any() else times
    sightings = _sightings(features, item, appearance, dict(zip(frames.tolist(), clock.tolist(), strict=True)))
    if np.isnan(sightings.box).any():  # a folder of crops shows one person, whoever it is
        person = np.zeros(len(sightings), np.int16)
        roles = dict.fromkeys(item.subjects, person)
        return VideoView(item.video, frames, times, clock, sightings, person, roles)
    person = stitch(sightings)
    width = max((footer.width for footer in footers), default=0)
    roles = _roles(item, sightings, person, width)
    return VideoView(item.video, frames, times, clock, sightings, person, roles)


def _native_frames(footers: Sequence[Footer], item: VideoFeatures) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    frames = [*(frame for footer in footers for frame in footer.frames), *item.missing_frames]
    known = dict(zip(item.missing_frames, item.missing_times, strict=False))
    known |= {f: t for footer in footers for f, t in zip(footer.frames, footer.times, strict=False)}
    gaps = bool(frames) and len(known) < len(frames)
    if frames and not 0 <= min(frames) <= max(frames) <= (LAST_FRAME if gaps else np.iinfo(np.int32).max):
        raise EmobeamError(f"{item.video}: its shards or failure records name frames {min(frames)} to {max(frames)}")
    if gaps:
        # Folders of crops name only the frames with an image; the numbers between them are frames as well.
        frames = list(range(1, max(frames) + 1))
    numbers = np.array(sorted(frames), np.int32)
    return numbers, np.array([known.get(frame, np.nan) for frame in numbers.tolist()], np.float64)


def _sightings(features: str, item: VideoFeatures, appearance: Sequence[str], clock: Mapping[int, float]) -> Sightings:
    tables, segments = [], []
    for index, shard in enumerate(item.shards):
        for table in read_rows(shard_uri(features, shard), _PLAIN):
            tables.append(table)
            segments.append(np.full(len(table), index, np.int32))
    if not tables:
        return _gather(pa.table({name: [] for name in _PLAIN}), np.zeros(0, np.int32), clock, None)
    table = pa.concat_tables(tables)
    segment = np.concatenate(segments)
    track = table["track"].to_numpy()
    several = len(np.unique(np.stack([segment, track]), axis=1).T) > 1
    descriptor = _descriptors(features, item, appearance[-1]) if several and appearance else None
    return _gather(table, segment, clock, descriptor)


def _gather(
    table: pa.Table, segment: NDArray[np.int32], clock: Mapping[int, float], descriptor: NDArray[np.float32] | None
) -> Sightings:
    frame = np.asarray(table["frame"].to_numpy(), np.int32)
    boxes = [box if box is not None else (np.nan,) * 4 for box in table["box"].to_pylist()]
    scores = [score if score is not None else np.nan for score in table["score"].to_pylist()]
    return Sightings(
        segment=segment,
        track=np.asarray(table["track"].to_numpy(), np.int16),
        frame=frame,
        time=np.array([clock[number] for number in frame.tolist()], np.float64),
        box=np.array(boxes, np.float32).reshape(-1, 4),
        score=np.array(scores, np.float32),
        descriptor=descriptor,
    )


def _descriptors(features: str, item: VideoFeatures, name: str) -> NDArray[np.float32]:
    """A vector, or the mean over the places of a map: what the stitching of tracks knows of appearance."""
    tables = (table for shard in item.shards for table in read_rows(shard_uri(features, shard), [column_of(name)]))
    arrays = (array_of(table, name).astype(np.float32) for table in tables)
    return np.concatenate([array.mean(axis=(2, 3)) if array.ndim == 4 else array for array in arrays])


def _roles(
    item: VideoFeatures, sightings: Sightings, person: NDArray[np.int16], width: int
) -> dict[str, NDArray[np.int16]]:
    named = dict(item.persons)
    roles = {}
    for subject in item.subjects:
        if subject in named:
            roles[subject] = np.where(person == named[subject], 0, -1).astype(np.int16)
        else:
            roles.update(assign_faces(sightings, person, [subject], width))
    return roles


def stretches(view: VideoView) -> list[dict[str, Any]]:
    """Rows of ``faces.parquet`` (see ``emobeam.schemas.tables.FACES``)."""
    rows = face_stretches(view.video, view.sightings, view.person, view.roles)
    if np.isnan(view.times).any():
        rows = [{**row, "first_time": None, "last_time": None} for row in rows]
    if np.isnan(view.sightings.box).any():
        rows = [{**row, "box": None, "score": None} for row in rows]
    return rows


def predict_table(
    features: str,
    item: VideoFeatures,
    view: VideoView,
    heads: Sequence[RunningHead],
    config: PredictConfig,
    alive: Callable[[], None] = lambda: None,
) -> pa.Table:
    """The predictions table of one task for one video (see ``emobeam.schemas.tables.predictions_schema``).

    Args:
        heads: all of one task; their outputs are averaged, each over the heads that know it. What none of them knows
            is null.
        alive: called now and then, so that a watcher sees that work goes on.
    """
    make = _clip_table if heads[0].config.scope == "clip" else _frame_table
    return make(features, item, view, heads, config, alive)


def _rows(
    features: str,
    item: VideoFeatures,
    view: VideoView,
    inputs: Sequence[str],
    alive: Callable[[], None],
    *,
    main_only: bool,
) -> Iterator[Row]:
    """Rows of all wanted faces in the order of the shards; the key is (subject, face)."""
    position = 0
    for shard in item.shards:
        for table in read_rows(shard_uri(features, shard), [column_of(name) for name in inputs]):
            alive()
            wanted = [
                (index, subject, int(face[position + index]))
                for subject, face in view.roles.items()
                for index in np.flatnonzero(face[position : position + len(table)] >= 0).tolist()
            ]
            wanted = sorted(item for item in wanted if not main_only or item[2] == 0)
            arrays = {name: array_of(table, name) for name in inputs} if wanted else {}
            for index, subject, face in wanted:
                row = position + index
                frame, time = int(view.sightings.frame[row]), float(view.sightings.time[row])
                yield Row((subject, face), frame, time, {name: array[index] for name, array in arrays.items()})
            position += len(table)


def _frame_table(
    features: str,
    item: VideoFeatures,
    view: VideoView,
    heads: Sequence[RunningHead],
    config: PredictConfig,
    alive: Callable[[], None],
) -> pa.Table:
    outputs = heads[0].config.outputs
    knows, nobody = _knowledge(heads)
    main_only = config.faces == "main"
    parts: list[Mapping[Any, tuple[NDArray[np.int32], NDArray[np.float32]]]] = [
        predict_frames(head, _rows(features, item, view, head.inputs, alive, main_only=main_only), config)
        for head in heads
    ]
    clock = dict(zip(view.frames.tolist(), view.clock.tolist(), strict=True))
    keys: set[tuple[str, int]] = {(subject, 0) for subject in view.roles}
    keys |= {key for part in parts for key in part}
    tables = []
    for subject, face in sorted(keys):
        seen, values = _averaged(parts, knows, (subject, face))
        frames, times, native_clock = view.frames, view.times, view.clock
        if face:
            inside = (frames >= seen[0]) & (frames <= seen[-1])
            frames, times, native_clock = frames[inside], times[inside], native_clock[inside]
        seen_times = np.array([clock[frame] for frame in seen.tolist()], np.float64)
        carried, source = carry(
            native_clock, seen_times, values, config.max_gap, native_frames=frames, seen_frames=seen
        )
        carried[:, nobody] = np.nan
        tables.append(_frame_rows(view.video, subject, face, frames, times, outputs, carried, source))
    return pa.concat_tables(tables)


def _knowledge(heads: Sequence[RunningHead]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """``[H, K]`` which head's values count for which output, and ``[K]`` outputs that nobody knows.

    Of those all heads' numbers are carried along, as they must be finite, and blanked at the end.
    """
    outputs = heads[0].config.outputs
    unknown = marks_of([head.config for head in heads]).unknown
    nobody = np.array([name in unknown for name in outputs], bool)
    knows = np.array([[name not in head.config.unknown for name in outputs] for head in heads], bool)
    return knows | nobody, nobody


def _averaged(
    parts: Sequence[Mapping[Any, tuple[NDArray[np.int32], NDArray[np.float32]]]],
    knows: NDArray[np.bool_],
    key: tuple[str, int],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Frames of one face and the mean of the values of the heads that know them; all heads see the same frames."""
    found = [(*part[key], known) for part, known in zip(parts, knows, strict=True) if key in part]
    if not found:
        return np.zeros(0, np.int32), np.zeros((0, knows.shape[1]), np.float32)
    total = np.stack([np.where(known, values, 0.0) for _, values, known in found]).sum(axis=0, dtype=np.float64)
    return found[0][0], (total / np.stack([known for *_, known in found]).sum(axis=0)).astype(np.float32)


def _frame_rows(
    video: str,
    subject: str,
    face: int,
    frames: NDArray[np.int32],
    times: NDArray[np.float64],
    outputs: Sequence[str],
    values: NDArray[np.float32],
    source: NDArray[np.int8],
) -> pa.Table:
    count = len(frames)
    columns = [
        pa.array([video] * count, pa.string()),
        pa.array([subject] * count, pa.string()),
        pa.array(np.full(count, face, np.int16)),
        pa.array(frames),
        pa.array(times, mask=np.isnan(times)),
        *(pa.array(values[:, index], mask=np.isnan(values[:, index])) for index in range(len(outputs))),
        pa.DictionaryArray.from_arrays(pa.array(source, pa.int8()), pa.array(SOURCES, pa.string())),
    ]
    return pa.Table.from_arrays(columns, schema=predictions_schema(outputs))


def _clip_table(
    features: str,
    item: VideoFeatures,
    view: VideoView,
    heads: Sequence[RunningHead],
    config: PredictConfig,
    alive: Callable[[], None],
) -> pa.Table:
    outputs = heads[0].config.outputs
    knows, nobody = _knowledge(heads)
    parts = [
        predict_clip(head, _rows(features, item, view, head.inputs, alive, main_only=True), config) for head in heads
    ]
    rows = []
    for subject in sorted(view.roles):
        found = [(part[subject, 0], known) for part, known in zip(parts, knows, strict=True) if (subject, 0) in part]
        values: list[float | None] = [None] * len(outputs)
        if found:
            held = np.stack([known for _, known in found])
            mean = np.mean(np.stack([value for value, _ in found]), axis=0, where=held)
            values = [None if blank else value for value, blank in zip(mean.tolist(), nobody.tolist(), strict=True)]
        rows.append({"video": view.video, "subject": subject, **dict(zip(outputs, values, strict=True))})
    return pa.Table.from_pylist(rows, predictions_schema(outputs, clip=True))
