"""From a task's keys to (video, subject, frame) and back.

A key names one row of a label, template or submission file. It holds the organisers' name of a video, and for
frame-level tasks the number of a frame:

    Aff-Wild2, CE  ``14-30-1920x1080/00001.jpg``                              numbers from 1
    AH             ``82683/Visite_1/82683_Question_1_Video.mp4/frame-0.jpg``  numbers from 0, the name keeps ``.mp4``
    AH, video      ``Videos/82683/Visite_1/82683_Question_1_Video.mp4``       a clip, no frame
    EMI            ``00012``                                                  a clip, no frame

Names are text and may hold blanks. A name ending in ``_left`` or ``_right`` may mean one of two people in a video.
Files of one video each (edition 3, VD) are named after it and have no keys.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import counted

SUBJECTS = ("left", "right")
"""Ends of a name (after ``_``) that mean the person on that side of the frame."""

_LAST_FRAME = 2**31 - 1  # frames are int32 in every table
_FOLDER = "Videos/"  # BAH's editions 10 and 11 write it before the ids that edition 8 has
_EXTENSIONS = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv", ".jpg")
)  # of videos, and of the single images of LSD


class Key(NamedTuple):
    """What a key says: the organisers' name of the video, and the native frame (from 1; None for a clip)."""

    name: str
    frame: int | None


def parse_key(task: Task, key: str) -> Key:
    """Reads a key.

    Leading zeros of the frame number are optional, those of a name belong to it.

    Raises:
        EmobeamError: the text is no key of this task.
    """
    style = task.form.key
    if style.per_video:
        raise UsageError(f"task {task.name} has one file per video and no keys, got {key!r}")
    if style.kind == "clip":
        other = key.endswith(style.suffix) if not style.extension else not key.lower().endswith(style.extension)
        if not key or "," in key or other or key.lower() == style.extension:
            raise _no_key(task, key)
        return Key(key, None)
    name, _, image = key.rpartition("/")
    digits = image[len(style.prefix) : -len(style.suffix)]
    if not (name and image.startswith(style.prefix) and image.endswith(style.suffix)):
        raise _no_key(task, key)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 20):
        raise _no_key(task, key)
    frame = int(digits) - style.first + 1
    if not 1 <= frame <= _LAST_FRAME:
        raise _no_key(task, key)
    return Key(name, frame)


def format_key(task: Task, name: str, frame: int | None) -> str:
    """Writes a key as the organisers do; the inverse of :func:`parse_key`.

    Raises:
        ValueError: a frame where the task names clips, no frame where it names frames, or one below 1.
    """
    style = task.form.key
    if style.kind == "clip":
        if frame is not None:
            raise ValueError(f"{task.name}: a key names a clip, got frame {frame} of {name!r}")
        return name
    if frame is None or frame < 1:
        raise ValueError(f"{task.name}: a key names a frame from 1, got {frame} of {name!r}")
    number = frame - 1 + style.first
    return f"{name}/{style.prefix}{number:0{style.digits}d}{style.suffix}"


def format_name(task: Task, video: str, subject: str) -> str:
    """The name under which a video's subject appears in keys; :func:`match_names` leads back.

    Without a template that is the video's id without the folders of the data sets' own layouts, then ``_left`` or
    ``_right``, then the extension the task keeps.
    """
    style = task.form.key
    video = without_layout(video)
    name = f"{video}_{subject}" if subject else video
    name = name if name.startswith(style.folder) else style.folder + name
    return name if name.endswith(style.extension) else name + style.extension


_LAYOUT = re.compile(
    r"(?:cropped(?:_aligned)?(?:_faces|_new_50_vids)?|face_images|raw|videos|batch_?\d|new_vids|(?:test|train)_data"
    r"|(?:test|train|validation)_set|abaw[^/]*_data)/"
)
"""Folders in which the data sets hand out videos and crops; none of them is part of a name."""


def without_layout(video: str) -> str:
    """An id without the folders above it that are the data sets' own: an input that was named one level too high."""
    while _LAYOUT.match(re.sub("[- ]", "_", video.lower())):
        video = video.partition("/")[2]
    return video


def strange_folders(task: Task, names: Iterable[str]) -> str:
    """What to warn of names with folders that no template of the task has; ``""`` where there are none."""
    style = task.form.key
    strange = [name for name in names if name.removeprefix(style.folder).count("/") > style.depth]
    if not strange:
        return ""
    return (
        f"{counted(len(strange), 'name')} with folders that no template of task {task.name} has, for example "
        f"{strange[0]!r}; was INPUT named one level too high? A template gives the right ones"
    )


def row_key(task: Task, row: str) -> str:
    """The key at the start of a row: ``key``, ``key,`` or ``key,value,value``."""
    return split_row(task, row)[0]


def split_row(task: Task, row: str) -> tuple[str, str]:
    """The key at the start of a row, and what follows its comma.

    For frame-level tasks the key ends where the image's name ends, so a name may even hold commas.
    """
    style = task.form.key
    if style.kind == "image":
        if row.endswith(style.suffix):
            return row, ""
        end = row.rfind(style.suffix + ",")
        if end >= 0:
            end += len(style.suffix)
            return row[:end], row[end + 1 :]
    key, _, rest = row.partition(",")
    return key.strip(), rest


@dataclass(frozen=True)
class NameMatches:
    """Which videos a list of names means.

    Attributes:
        found: (video id, subject) of each name that means a video; subject is ``""``, ``left`` or ``right``.
        missing: the other names, in their order, each once.
        unclear: names that fit several videos equally well, with the error's text; empty where those raise.
    """

    found: Mapping[str, tuple[str, str]]
    missing: list[str]
    unclear: Mapping[str, str] = field(default_factory=dict)


def match_names(names: Iterable[str], videos: Iterable[str], *, strict: bool = True) -> NameMatches:
    """Finds the video that each name means.

    A name means the video whose id is equal to it, else the only one whose last path components are; a video file's
    extension may stand on one side and be missing on the other: ``00012`` finds ``raw/00012`` and ``a/b/c.mp4`` finds
    ``x/a/b/c``. Closer spellings win: equal, equal but for the extension, path suffix, path suffix but for the
    extension. Only where nothing is found and the name ends in ``_left`` or ``_right``, the name before that end
    is looked for, and the end becomes the subject; a name that starts with BAH's ``Videos/`` is looked for without it.

    Args:
        names: names from keys, in any number and order.
        videos: ids of all videos, each once.
        strict: raise where a name is unclear; else list it.

    Raises:
        EmobeamError: several videos fit a name equally well, or a name is the number of a video but for its zeros
            (``12`` for ``00012``), which spreadsheets and pandas take away.
    """
    index = _Index(videos)
    found: dict[str, tuple[str, str]] = {}
    missing: list[str] = []
    unclear: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            match = _match_or_side(name, index)
        except EmobeamError as error:
            if strict:
                raise
            unclear[name] = str(error)
            continue
        if match is None and (whole := index.by_number(name)):
            text = f"{name!r} means no video, but is it {whole!r}? Programs that read names as numbers drop their zeros"
            if strict:
                raise EmobeamError(f"{text}; write the names as text (pandas: dtype=str)")
            unclear[name] = text
        elif match is None:
            missing.append(name)
        else:
            found[name] = match
    return NameMatches(found, missing, unclear)


class _Index:
    """Video ids by each of their path suffixes, the whole id included: ``x/a/b`` under x/a/b, a/b and b."""

    def __init__(self, ids: Iterable[str]) -> None:
        videos = list(dict.fromkeys(ids))
        self.as_is: defaultdict[str, list[str]] = defaultdict(list)
        self.without_extension: defaultdict[str, list[str]] = defaultdict(list)
        for video in videos:
            for suffix in _path_suffixes(video):
                self.as_is[suffix].append(video)
            stem = _without_extension(video)
            if stem != video:
                for suffix in _path_suffixes(stem):
                    self.without_extension[suffix].append(video)
        self.numbered = {
            int(last): video for video in videos if _is_number(last := _without_extension(video).rpartition("/")[2])
        }

    def by_number(self, name: str) -> str:
        """The video whose number is that of the name, zeros aside; ``""`` where there is none."""
        stem = _without_extension(name)
        return self.numbered.get(int(stem), "") if _is_number(stem) else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20


def without_side(name: str) -> str:
    """A name without the ``_left`` or ``_right`` that means one of two people in a video."""
    base, _, side = name.rpartition("_")
    return base if base and side in SUBJECTS else name


def participant_of(name: str) -> str:
    """The participant's folder in one of BAH's names, which is the whole name where it names no folder."""
    folders = name.removeprefix(_FOLDER).split("/")
    return folders[0] if len(folders) > 1 else name


def _match_or_side(name: str, index: _Index) -> tuple[str, str] | None:
    video = _match(name, index, asked=name)
    if video is not None:
        return video, ""
    base, _, subject = name.rpartition("_")
    if base and subject in SUBJECTS:
        video = _match(base, index, asked=name)
        if video is not None:
            return video, subject
    if name.startswith(_FOLDER):
        video = _match(name.removeprefix(_FOLDER), index, asked=name)
        if video is not None:
            return video, ""
    return None


def _match(name: str, index: _Index, *, asked: str) -> str | None:
    stem = _without_extension(name)
    close = index.as_is.get(name, [])
    # One side loses its extension, never both: `c.avi` is no other spelling of `c.mp4`.
    loose = index.without_extension.get(name, []) + (index.as_is.get(stem, []) if stem != name else [])
    close_equal = [video for video in close if video == name]
    loose_equal = [video for video in loose if video == stem or _without_extension(video) == name]
    videos = close_equal or loose_equal or close or loose
    if len(videos) > 1:
        listed = ", ".join(sorted(videos)[:5]) + (" ..." if len(videos) > 5 else "")
        raise EmobeamError(f"{asked!r} may mean any of {len(videos)} videos: {listed}; leave all but one of them out")
    return videos[0] if videos else None


def _path_suffixes(path: str) -> Iterator[str]:
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _without_extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    return stem if stem and not stem.endswith("/") and (dot + extension).lower() in _EXTENSIONS else name


def _no_key(task: Task, key: str) -> EmobeamError:
    name = format_name(task, "00012" if task.scope == "clip" else "video", "")
    example = format_key(task, name, 1 if task.form.key.kind == "image" else None)
    return EmobeamError(f"{key!r} is no key of task {task.name}: expected something like {example!r}")
