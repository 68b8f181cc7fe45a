"""Labels joined with the rows of a feature cache: which rows show whom, and what is known of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.cache.dataset import Dataset, shard_uri
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.prediction.video_prediction import view_video
from emobeam.schemas.records import EmobeamError, VideoFeatures
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted, noun

PRESENT = 0.3
"""Activation from which a unit counts as present where labels say how active it is; 0 and 1 it leaves as they are."""

VIEW = "view"
"""Column with the number of an augmented view; 0 is the plain one."""


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """The rows of one labelled person in one video, in order of time.

    Attributes:
        name: as the labels call it.
        video, subject: in the cache.
        shards: names of the video's shards.
        shard: int32 ``[n]``, index into ``shards`` of each row.
        row: int64 ``[V, n]``, place in the shard of each view of each row; view 0 first.
        frame: int32 ``[n]``, native frames.
        time: float64 ``[n]``, s, by which gaps are judged.
        labels: float32 ``[n, C]`` in label form; clip-level tasks ``[1, C]``. Of yes-or-no outputs it may be how
            active they are, in [0, 1], or NaN where that output alone has no label.
        valid: bool ``[n, G]``: the labels of that group mean something; clip-level ``[1, G]``.
    """

    name: str
    video: str
    subject: str
    shards: tuple[str, ...]
    shard: NDArray[np.int32]
    row: NDArray[np.int64]
    frame: NDArray[np.int32]
    time: NDArray[np.float64]
    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Counts:
    """What became of labels and rows, for people.

    Attributes:
        labelled: videos (or persons in them) with labels.
        not_in_cache: of them without a video in the cache; ``missing`` names the first.
        without_rows: in the cache, but no face was seen.
        unlabelled_videos: videos of the cache that no label is about.
        rows: of the labelled faces.
        rows_without_label: of them without any valid label at their frame.
    """

    labelled: int = 0
    not_in_cache: int = 0
    without_rows: int = 0
    unlabelled_videos: int = 0
    rows: int = 0
    rows_without_label: int = 0
    missing: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """One line for each fact that a user should know."""
        found = self.labelled - self.not_in_cache - self.without_rows
        told = [
            (
                f"{found} of {counted(self.labelled, 'labelled video')} {noun(found, 'has', 'have')} rows in the "
                f"cache: {counted(self.rows, 'row')}, {self.rows - self.rows_without_label} with a label"
            )
        ]
        if self.not_in_cache:
            count = self.not_in_cache
            lacking = f"{counted(count, 'labelled video')} {noun(count, 'is', 'are')} not in the cache"
            told.append(f"{lacking}, for example {self.missing[0]}")
        if self.without_rows:
            count = self.without_rows
            told.append(f"{counted(count, 'labelled video')} {noun(count, 'has', 'have')} no face in the cache")
        return told


@dataclass(frozen=True, eq=False)
class Joined:
    """All labelled faces of a cache.

    Attributes:
        groups: rows of each row group, by shard.
        views: number of views of each row, 1 where there are no augmented ones.
    """

    faces: tuple[LabelledFace, ...]
    groups: Mapping[str, tuple[int, ...]]
    counts: Counts
    views: int = 1

    @cached_property
    def digest(self) -> str:
        """Digest of all rows and labels: what a run of training was about."""
        found = hashlib.sha256()
        for face in self.faces:
            found.update(repr((face.name, face.video, face.subject, face.shards)).encode())
            for array in (face.shard, face.row, face.frame, face.labels, face.valid):
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:16]


def join_labels(
    features: str,
    dataset: Dataset,
    task: Task,
    labels: Sequence[VideoLabels],
    *,
    alive: Callable[[], None] = lambda: None,
) -> Joined:
    """Finds the rows of each labelled person, as stage 2 would: stitched tracks, sides, main face.

    Args:
        features: URI of the cache.
        alive: called after each video.

    Raises:
        EmobeamError: no labelled video is in the cache, a name may mean several, or a shard is damaged.
    """
    shards = _shards_by_video(features)
    found, missing = _matched(labels, shards)
    if not found:
        raise EmobeamError(
            f"{features}: none of the {len(labels)} labelled videos is in the cache: labels name "
            f"{labels[0].name if labels else '-'!r}, the cache holds {next(iter(sorted(shards)), 'nothing')!r}"
        )
    by_video: dict[str, list[tuple[VideoLabels, str]]] = defaultdict(list)
    for entry in labels:
        if entry.name in found:
            video, subject = found[entry.name]
            by_video[video].append((entry, subject))
    faces: list[LabelledFace] = []
    groups: dict[str, tuple[int, ...]] = {}
    views, without_rows = 1, 0
    for video in sorted(by_video):
        alive()
        wanted = by_video[video]
        places = _Places(features, shards[video])
        groups |= dict(zip(shards[video], places.groups, strict=True))
        views = max(views, places.views)
        subjects = tuple(sorted({subject for _, subject in wanted}))
        view = view_video(features, VideoFeatures(video, shards[video], subjects), tuple(dataset.map_shapes))
        sightings = view.sightings
        for entry, subject in sorted(wanted, key=lambda pair: pair[0].name):
            rows = np.flatnonzero(view.roles[subject] == 0)
            if not len(rows):
                without_rows += 1
                continue
            segment = np.asarray(sightings.segment[rows], np.int32)
            frame = sightings.frame[rows]
            values, valid = (entry.values, entry.valid) if task.scope == "clip" else labels_at(entry, frame)
            faces.append(
                LabelledFace(
                    entry.name,
                    video,
                    subject,
                    shards[video],
                    segment,
                    places.rows_of(segment, sightings.track[rows], frame),
                    frame,
                    sightings.time[rows],
                    values,
                    np.asarray(valid, bool),
                )
            )
    if any(face.row.shape[0] != views for face in faces):
        raise EmobeamError(f"{features}: some shards hold {views} views of each face, others fewer; extract again")
    counts = Counts(
        labelled=len(labels),
        not_in_cache=len(missing),
        without_rows=without_rows,
        unlabelled_videos=len(shards) - len(by_video),
        rows=sum(map(len, faces)),
        rows_without_label=sum(_without_label(face) for face in faces),
        missing=tuple(missing[:5]),
    )
    return Joined(tuple(faces), groups, counts, views)


def _matched(labels: Sequence[VideoLabels], videos: Mapping[str, Any]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Video and subject of each name that the cache knows, and the other names."""
    matches = match_names([entry.name for entry in labels], videos)
    found = dict(matches.found)
    others = {entry.name: entry.also for entry in labels if entry.also and entry.name not in found}
    if not others:
        return found, matches.missing
    second = match_names(dict.fromkeys(others.values()), videos).found
    owner: dict[tuple[str, str], str] = {place: name for name, place in found.items()}
    for name, also in others.items():
        if also not in second:
            continue
        if (other := owner.setdefault(second[also], name)) != name:
            raise EmobeamError(
                f"labels {other} and {name} may both mean {second[also][0]!r} of the cache: extract from a folder "
                "above both, so that its ids name the folder too, or leave one of them out"
            )
        found[name] = second[also]
    return found, [name for name in matches.missing if name not in found]


def labels_at(labels: VideoLabels, frames: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Labels ``[n, C]`` and their validity ``[n, G]`` at native frames; a frame without a label is not valid."""
    place = np.minimum(np.searchsorted(labels.frames, frames), len(labels.frames) - 1)
    there = labels.frames[place] == frames
    return labels.values[place], labels.valid[place] & there[:, None]


def check_cut(task: Task, faces: Sequence[LabelledFace], train: Sequence[int], held: Sequence[int]) -> list[str]:
    """Whether a cut can be trained on and judged by, before the first step is taken.

    Args:
        train, held: indices into ``faces``; nothing held is fine.

    Returns:
        What the hold-out can't tell, for people.

    Raises:
        EmobeamError: one side has no valid label of a group of outputs.
    """
    sides = [("training", train, "hold less out, or other videos"), ("held-out", held, "hold more out (--holdout 0.2)")]
    for side, indices, advice in sides:
        if side == "held-out" and not held:
            continue
        for place, group in enumerate(task.groups):
            if not any(faces[index].valid[:, place].any() for index in indices):
                raise EmobeamError(
                    f"none of the {len(indices)} {side} videos has a valid label of {group.name} "
                    f"({', '.join(group.label_columns)}): {advice}, or name those to hold out with --holdout FILE"
                )
    if not held:
        return []
    counts = label_counts(task, [faces[index] for index in held])
    unknown = unknown_outputs(task, [faces[index] for index in train])
    told = []
    for group in task.groups:
        if group.kind == "binary":
            pairs = zip(group.label_columns, counts[group.name], strict=True)
            untold = [name for name, (no, yes) in pairs if not no + yes and name not in unknown]
            if untold:
                told.append(f"no label of {', '.join(untold)} is held out: the figures leave them out")
            pairs = zip(group.label_columns, counts[group.name], strict=True)
            missing = [name for name, (no, yes) in pairs if no and not yes]
        elif group.kind == "class":
            missing = [name for name, count in zip(group.outputs, counts[group.name][0], strict=True) if not count]
        else:
            continue
        if missing:
            told.append(
                f"the hold-out shows no {', '.join(missing)}: their F1 there is 0 whatever the head says, and lowers "
                "the figure of each epoch alike; hold more out, or name what to hold out with --holdout FILE"
            )
    return told


def label_counts(task: Task, faces: Sequence[LabelledFace]) -> dict[str, list[list[int]]]:
    """How often each label is there, by group: (no, yes) of every yes-or-no output, the count of each class.

    Yes is an activation of :data:`PRESENT` at least. Groups of values have an empty list.
    """
    found: dict[str, list[list[int]]] = {}
    column = 0
    for index, group in enumerate(task.groups):
        stop = column + len(group.label_columns)
        blocks = [face.labels[face.valid[:, index], column:stop] for face in faces]
        values = np.concatenate(blocks) if blocks else np.zeros((0, stop - column), np.float32)
        if group.kind == "binary":
            known, yes = (~np.isnan(values)).sum(axis=0), (values >= PRESENT).sum(axis=0)
            found[group.name] = [[int(all_) - int(count), int(count)] for all_, count in zip(known, yes, strict=True)]
        elif group.kind == "class":
            found[group.name] = [np.bincount(values[:, 0].astype(int), minlength=len(group.outputs)).tolist()]
        else:
            found[group.name] = []
        column = stop
    return found


def unknown_outputs(task: Task, faces: Sequence[LabelledFace]) -> tuple[str, ...]:
    """Yes-or-no outputs of which no face has any label, where others of their group have: nobody teaches them."""
    counts = label_counts(task, faces)
    return tuple(
        name
        for group in task.groups
        if group.kind == "binary" and any(map(sum, counts[group.name]))
        for name, pair in zip(group.outputs, counts[group.name], strict=True)
        if not sum(pair)
    )


def hold_activations(task: Task, faces: Sequence[LabelledFace]) -> bool:
    """Whether some labels of yes-or-no outputs lie between no and yes."""
    column = 0
    for index, group in enumerate(task.groups):
        stop = column + len(group.label_columns)
        if group.kind == "binary":
            for face in faces:
                values = face.labels[face.valid[:, index], column:stop]
                if ((values > 0) & (values < 1)).any():
                    return True
        column = stop
    return False


def present(task: Task, labels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Labels ``[n, C]`` with 0 or 1 of yes-or-no outputs, by :data:`PRESENT`; NaN stays."""
    binary = np.array([group.kind == "binary" for group in task.groups for _ in group.label_columns])
    known = binary & ~np.isnan(labels)
    return np.where(known, labels >= PRESENT, labels).astype(np.float32)


@dataclass
class _Places:
    """Where rows lie in the shards of a video."""

    features: str
    shards: Sequence[str]
    groups: list[tuple[int, ...]] = field(default_factory=list)
    views: int = 1
    _found: dict[tuple[int, int, int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, shard in enumerate(self.shards):
            sizes: list[int] = []
            for table in _plain_rows(shard_uri(self.features, shard)):
                view = table[VIEW].to_pylist() if VIEW in table.column_names else [0] * len(table)
                keys = zip(table["track"].to_pylist(), table["frame"].to_pylist(), view, strict=True)
                first = sum(sizes)
                self._found |= {(index, *key): first + place for place, key in enumerate(keys)}
                self.views = max(self.views, 1 + max(view, default=0))
                sizes.append(len(table))
            self.groups.append(tuple(sizes))

    def rows_of(self, segment: NDArray[Any], track: NDArray[Any], frame: NDArray[Any]) -> NDArray[np.int64]:
        """``[V, n]`` places of faces; a view that is missing is replaced by the plain one."""
        keys = list(zip(segment.tolist(), track.tolist(), frame.tolist(), strict=True))
        plain = [self._found[(*key, 0)] for key in keys]
        others = [
            [self._found.get((*key, view), place) for key, place in zip(keys, plain, strict=True)]
            for view in range(1, self.views)
        ]
        return np.array([plain, *others], np.int64)


def _plain_rows(uri: str) -> Iterator[Any]:
    try:
        yield from read_rows(uri, ["track", "frame", VIEW], view=None)  # a column that isn't there is passed over
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: a shard is gone; run emobeam extract again") from error


def _shards_by_video(features: str) -> dict[str, tuple[str, ...]]:
    """Shards of every video in the order of its segments, of its present content alone."""
    segments, videos = make_index(features)
    current = {row["video"]: (row["size"], row["digest"]) for row in videos.to_pylist()}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in segments:
        if current.get(row["video"]) == (row["size"], row["digest"]):
            found[row["video"]].append(row)
    return {
        video: tuple(row["shard"] for row in sorted(rows, key=lambda row: row["segment"]))
        for video, rows in found.items()
    }


def _without_label(face: LabelledFace) -> int:
    if len(face.valid) != len(face):  # clip level
        return 0 if face.valid.any() else len(face)
    return int((~face.valid.any(axis=1)).sum())
