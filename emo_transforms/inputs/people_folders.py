"""People folders: crops of people with what their faces do, as ``emobeam render`` and its like write them.

Layout: ``FOLDER/people/<name>.parquet``, a row per crop: ``person``, ``clip``, ``frame`` (from 1), ``time`` (s, null
for single pictures), ``crop`` (an encoded picture), a column per action unit in [0, 1] (null: unknown), and more that
isn't read here. The frames of a clip that have times are a video ``<person>-<clip>``, each single picture a video of
one frame ``<person>-<clip>-<frame>``; the person has six digits at least, the frame of a picture four.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emobeam.emo_transforms.inputs.crop_folders import decode_crop
from emobeam.emo_transforms.inputs.listing import below, walk_files
from emobeam.emo_transforms.inputs.videos import unique_videos
from emobeam.emo_transforms.storage import locate, names
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.emo_transforms.storage.parquet_files import open_parquet
from emobeam.schemas.records import EmobeamError, InputError, UsageError, Video

LAYOUT = "people"
"""What ``--crops`` calls them."""

RENDER_NOTE, PHOTO_NOTE = "render.json", "pseudo-label.json"
"""What says in a folder how its crops were made: rendered, or photographs that a teacher labelled."""

RENDERED, PHOTOGRAPHED = "render", "photo"
"""The collections of people of folders with such notes, see :func:`collection_of`."""

_FILE = re.compile(r"(?:(.*)/)?people/[^/]+\.parquet")
_ID = re.compile(r"(?:.*/)?(\d{6,})-(\d+)(?:-(\d{4,}))?")
_KEYS = ("person", "clip", "frame", "time")


@dataclass(frozen=True, eq=False)
class Clip:
    """The rows of one video of a person's file.

    Attributes:
        name: ``<person>-<clip>`` or ``<person>-<clip>-<frame>``.
        person: six digits or more.
        rows: int64 ``[n]``, places in the file, in order of frames.
        frames: int32 ``[n]``, ascending, from 1.
        times: float64 ``[n]``, s; None for a single picture.
    """

    name: str
    person: str
    rows: NDArray[np.int64]
    frames: NDArray[np.int32]
    times: NDArray[np.float64] | None


def is_people_folder(uri: str) -> bool:
    """Whether ``FOLDER/people`` holds Parquet files."""
    try:
        fs, path = locate(uri)
        return bool(fs.isdir(f"{path}/people")) and bool(names(f"{uri_of(fs, path)}/people", ".parquet"))
    except (OSError, UsageError):
        return False


def people_below(uri: str) -> bool:
    """Whether the place is a people folder, or a folder directly above some."""
    if is_people_folder(uri):
        return True
    try:
        fs, path = locate(uri)
        inside = fs.ls(path, detail=True) if fs.isdir(path) else []
    except (OSError, UsageError):
        return False
    return any(entry["type"] == "directory" and is_people_folder(uri_of(fs, entry["name"])) for entry in inside)


def people_files(uri: str) -> list[tuple[str, str]]:
    """Folder (below ``uri``, ``""`` where it is one itself) and URI of each person's file, sorted.

    Raises:
        UsageError: no such folder, or no people in it.
    """
    fs, root, paths = walk_files(uri)
    found = []
    for path in paths:
        if match := _FILE.fullmatch(below(root, path)):
            found.append((match[1] or "", uri_of(fs, path)))
    if not found:
        raise UsageError(f"{uri}: holds no people (expected people/*.parquet, as emobeam render writes them)")
    return found


def collected_files(uri: str, name: str) -> Iterator[tuple[str, str, str]]:
    """As :func:`people_files`, and the collection of people of each file (:func:`collection_of`).

    Args:
        name: of the folder ``uri``.
    """
    found: dict[str, str] = {}
    for inner, file in people_files(uri):
        if inner not in found:
            folder, own = (posixpath.join(uri, inner), posixpath.join(name, inner)) if inner else (uri, name)
            found[inner] = collection_of(folder, own)
        yield inner, file, found[inner]


def collection_of(folder: str, name: str) -> str:
    """Whose numbers the persons of a folder have: equal numbers of one collection are one person.

    Folders of rendered people are all of one collection, ``render``: a number is a face (:func:`draw_person
    <emobeam.emo_transforms.training.material.rendering.scene.draw_person>`; with another seed it is another one, and
    the two count as one). So
    are those of labelled photographs, ``photo``: the same photographs are often labelled several times, moved by other
    seeds. Photographs of two data sets with equal numbers thus count as one person: too much may be held out together,
    never one person be on both sides. The people of any other folder are its own.

    Args:
        folder: the people folder itself.
        name: what its own people are told apart by where it has no such note.
    """
    notes = names(folder, "")
    return PHOTOGRAPHED if PHOTO_NOTE in notes else RENDERED if RENDER_NOTE in notes else name


def resolve_people(inputs: Sequence[str]) -> list[Video]:
    """The clips and pictures of people folders, sorted by id; of a folder above several, ids begin with their names.

    Raises:
        UsageError: no people in an input, or two files have one person's clip (the message names both).
        EmobeamError: a file can't be read.
    """
    if not inputs:
        raise UsageError("no input: name a people folder")
    return unique_videos(
        Video(id=posixpath.join(folder, clip.name), uri=uri, kind="people")
        for text in inputs
        for folder, uri in people_files(text)
        for clip in clips_of(read_columns(uri, _KEYS), uri)
    )


def read_columns(uri: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a person's file.

    Raises:
        EmobeamError: it can't be read, or lacks one of them.
    """
    with _opened(uri) as parquet:
        return parquet.read(columns=_there(uri, parquet, columns), use_threads=False)


def clips_of(table: pa.Table, uri: str) -> list[Clip]:
    """The videos of a person's file, from its columns ``person``, ``clip``, ``frame`` and ``time``.

    Raises:
        EmobeamError: numbers below 0 (frames below 1), one frame twice, or a clip of which some frames have a time;
            names the file.
    """
    if any(table[name].null_count for name in ("person", "clip", "frame")):
        raise EmobeamError(f"{uri}: a row without person, clip or frame")
    person, clip, frame = (table[name].to_numpy().astype(np.int64) for name in ("person", "clip", "frame"))
    time = table["time"].cast(pa.float64()).to_numpy(zero_copy_only=False) if len(table) else np.zeros(0)
    if len(table) and (person.min() < 0 or clip.min() < 0 or frame.min() < 1):
        raise EmobeamError(f"{uri}: persons and clips count from 0, frames from 1")
    order = np.lexsort((frame, clip, person))
    edges = np.flatnonzero(np.diff(person[order]) | np.diff(clip[order])) + 1
    return [
        found for rows in np.split(order, edges) if len(rows) for found in _clip(rows, person, clip, frame, time, uri)
    ]


def _clip(
    rows: NDArray[np.int64],
    persons: NDArray[np.int64],
    clips: NDArray[np.int64],
    frames: NDArray[np.int64],
    times: NDArray[np.float64],
    uri: str,
) -> Iterator[Clip]:
    person, own, when = f"{persons[rows[0]]:06d}", frames[rows].astype(np.int32), times[rows]
    name = f"{person}-{clips[rows[0]]}"
    if (np.diff(own) == 0).any():
        raise EmobeamError(f"{uri}: frame {own[:-1][np.diff(own) == 0][0]} of clip {name} is there twice")
    timeless = np.isnan(when)
    if timeless.all():
        for row, frame in zip(rows, own, strict=True):
            yield Clip(f"{name}-{frame:04d}", person, row[None], frame[None], None)
    elif timeless.any() or (np.diff(when) <= 0).any():
        raise EmobeamError(f"{uri}: clip {name} needs a time for each frame, or none at all, and times that grow")
    else:
        yield Clip(name, person, rows, own, when)


def clip_named(video: Video) -> Clip:
    """The clip or picture that a video of :func:`resolve_people` stands for.

    Raises:
        InputError: the file can't be read (any more), or no longer holds it.
    """
    name = video.id.rpartition("/")[2]
    try:
        clip = next((clip for clip in clips_of(read_columns(video.uri, _KEYS), video.uri) if clip.name == name), None)
    except EmobeamError as error:
        raise _as_input_error(error) from error
    if clip is None:
        text = f"{video.uri}: no longer holds {name}"
        raise InputError(text, stage="open", reason="missing", permanent=False)
    return clip


def people_pictures(video: Video) -> Callable[[str], tuple[bytes, NDArray[np.uint8]]]:
    """What reads the pictures of a video by their names in its segments: bytes as they are, and RGB uint8 [H, W, 3].

    The file is read once, and only the row groups that hold the video.

    Raises:
        InputError: the file can't be read; the returned function: a picture is missing or damaged.
    """
    try:
        crops = _read_crops(video)
    except EmobeamError as error:
        raise _as_input_error(error) from error

    def read(image: str) -> tuple[bytes, NDArray[np.uint8]]:
        frame = int(image.rpartition("-")[2])
        where = f"{video.uri}: frame {frame} of {video.id.rpartition('/')[2]}"
        if frame not in crops:
            raise InputError(f"{where}: no longer there", stage="open", reason="missing", permanent=False)
        return crops[frame], decode_crop(crops[frame], where)

    return read


def _read_crops(video: Video) -> Mapping[int, bytes]:
    match = _ID.fullmatch(video.id)
    if match is None:
        raise EmobeamError(f"{video.uri}: {video.id!r} names no clip of a person")
    person, clip, picture = int(match[1]), int(match[2]), match[3]
    found: dict[int, bytes] = {}
    with _opened(video.uri) as parquet:
        columns = _there(video.uri, parquet, ("person", "clip", "frame", "crop"))
        for group in range(parquet.num_row_groups):
            keys = parquet.read_row_group(group, columns=columns[:3], use_threads=False)
            numbers = keys["frame"].to_numpy()
            mine = (keys["person"].to_numpy() == person) & (keys["clip"].to_numpy() == clip)
            if picture is not None:
                mine &= numbers == int(picture)
            if mine.any():
                crops = parquet.read_row_group(group, columns=columns[3:], use_threads=False)["crop"]
                found |= {int(numbers[row]): crops[row].as_py() or b"" for row in np.flatnonzero(mine).tolist()}
    return found


def _there(uri: str, parquet: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    if missing := [name for name in columns if name not in parquet.schema_arrow.names]:
        raise EmobeamError(f"{uri}: no file of a people folder (no column {', '.join(missing)})")
    return list(columns)


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_parquet(uri) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise EmobeamError(f"{uri}: can't be read as a file of a people folder ({error})") from error


def _as_input_error(error: EmobeamError) -> InputError:
    """Files that can't be read may be readable next time; what is wrong in them stays wrong only as long as they do."""
    return InputError(str(error), stage="open", reason="io", permanent=False)
