"""From what the user names on the command line to the videos it stands for."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from emobeam.emo_transforms.inputs.crop_layouts import LAYOUTS, is_image, layout_of
from emobeam.emo_transforms.inputs.listing import (
    asked,
    below,
    has_video_extension,
    is_hidden,
    left_out,
    walk_files,
)
from emobeam.emo_transforms.inputs.user_tables import read_table, refuse_spreadsheet
from emobeam.emo_transforms.storage import file_exists, file_name, is_local, locate, open_text
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.schemas.records import EmobeamError, UsageError, Video
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.wording import counted, did_you_mean, in_unicode

_WILDCARD = re.compile(r"[*?\[]")
_TABLES = (".csv", ".tsv", ".parquet")
_WEB = ("http://", "https://")


def resolve_inputs(inputs: Sequence[str], *, only: str = "") -> list[Video]:
    """The videos that files, folders, globs and tables stand for, sorted by id.

    A video's id is its path below the input's root without extension, ``/`` kept. The root of a file is its
    folder, that of a folder the folder itself, that of a glob its part before the first wildcard. In a table
    (``.csv`` or ``.parquet``) the column ``video`` gives the id and ``path``, relative to the table, the
    file; without ``path``, ``video`` is the path. Rows of one video with several values of ``subject`` give
    one video whose ``subject`` is these values joined by commas, in order; a row that names none counts as
    ``""``, so ``subject.split(",")`` always lists who is meant.

    A file named outright is taken whether it exists or not: a missing one becomes a failure of its own when
    it is probed, and the others are not concerned.

    Args:
        inputs: paths or URIs (anything fsspec can open).
        only: see :func:`keep_only`; ``""`` keeps all.

    Raises:
        UsageError: nothing is named, a folder or table doesn't exist, a folder or glob holds no video, a
            table has no column ``video``, or two inputs have one id.
        EmobeamError: a folder or table can't be read.
    """
    if not inputs:
        raise UsageError("no input: name a video, a folder, a glob or a table")
    videos = unique_videos(video for each in inputs for video in _resolve(each))
    return keep_only(videos, only) if only else videos


def _resolve(text: str) -> list[Video]:
    fs, path = locate(text)
    refuse_spreadsheet(path, text)
    video = Video(id=_stem(file_name(text)), uri=uri_of(fs, path) if is_local(text) else text.rstrip("/"))
    if text.startswith(_WEB):  # what follows a question mark there is no part of the name; folders end in a slash
        if file_name(text).lower().endswith(_TABLES):
            return _from_table(text)
        return _from_folder(text) if text.endswith("/") else [video]
    if _WILDCARD.search(path) and not asked(text, lambda: fs.exists(path)):
        return _from_glob(text)
    if path.lower().endswith(_TABLES):
        return _from_table(text)
    if asked(text, lambda: fs.isdir(path) or not (has_video_extension(path) or fs.exists(path))):
        return _from_folder(text)
    return [video]


def files_left_out(inputs: Sequence[str]) -> list[str]:
    """What to tell, for each folder among the inputs, of files that aren't taken for videos by their endings."""
    told = []
    for text in inputs:
        fs, path = locate(text)
        if text.startswith(_WEB) and not text.endswith("/"):
            continue  # a file, whose address may have expired by now
        if not path.lower().endswith(_TABLES) and fs.isdir(path) and not fs.exists(f"{path}/dataset.json"):
            note = left_out(walk_files(text)[2])
            told += [f"{text}: {note}"] if note else []
    return told


def _from_folder(text: str) -> list[Video]:
    fs, root, paths = walk_files(text)
    videos = [Video(id=_stem(below(root, path)), uri=uri_of(fs, path)) for path in paths if has_video_extension(path)]
    if not videos:
        raise UsageError(
            f"{text}: holds no video (known extensions: mp4, mov, avi, mkv, webm ...){_crops_there(paths)}"
        )
    return videos


def _crops_there(paths: Sequence[str]) -> str:
    """What to say of a folder that holds pictures instead."""
    images = [path for path in paths if is_image(path)]
    if not images:
        return ""
    layout = layout_of(images)
    way = f"add --crops {layout}" if layout else f"--crops {'|'.join(LAYOUTS)} takes them if they are named so"
    return f", but {counted(len(images), 'picture')} like {posixpath.basename(images[0])}: for crops of faces {way}"


def _from_glob(text: str) -> list[Video]:
    fs, pattern = locate(text)
    fixed = pattern[: _first_wildcard(pattern)]
    root = fixed[: fixed.rfind("/") + 1]
    found = asked(text, lambda: fs.glob(pattern, detail=True))
    # A pattern with an extension of its own (*.dat) says what a video is; others go by what is known.
    own_extension = not _WILDCARD.search(posixpath.splitext(pattern)[1] or "*")
    shown = is_hidden(below(root, pattern))
    videos = [
        Video(id=_stem(below(root, path)), uri=uri_of(fs, path))
        for path, entry in found.items()
        if entry["type"] != "directory"
        and (own_extension or has_video_extension(path))
        and (shown or not is_hidden(below(root, path)))
    ]
    if not videos:
        hint = "; it matches folders only, add /** to look into them" if found else ""
        raise UsageError(f"{text}: no video matches{hint}")
    return videos


def _first_wildcard(pattern: str) -> int:
    match = _WILDCARD.search(pattern)
    return match.start() if match else len(pattern)


def _from_table(text: str) -> list[Video]:
    fs, path = locate(text)
    folder = posixpath.dirname(path.partition("?")[0] if text.startswith(_WEB) else path)
    try:
        columns, rows = _parquet_rows(text) if file_name(text).lower().endswith(".parquet") else _csv_rows(text)
    except FileNotFoundError as error:
        raise UsageError(f"{text}: no such table") from error
    except (OSError, ValueError) as error:
        raise EmobeamError(f"{text}: can't be read as a table ({error})") from error
    if "video" not in columns:
        raise UsageError(f"{text}: has no column 'video' (its columns: {', '.join(columns) or 'none'})")
    videos = []
    for number, row in enumerate(rows, start=1):
        name, place = row.get("video", ""), row.get("path", "")
        if not name:
            raise UsageError(f"{text}: row {number} names no video")
        uri = _named(uri_of(fs, folder), place or name)
        if place:
            identity = _stem(name) if has_video_extension(name) else name
        elif uri.startswith(root := uri_of(fs, folder).rstrip("/") + "/"):
            identity = _stem(uri.removeprefix(root))
        else:
            identity = _stem(file_name(uri))
        videos.append(Video(id=identity, uri=uri, subject=row.get("subject", "")))
    if not videos:
        raise UsageError(f"{text}: has no rows")
    return videos


def _named(folder: str, path: str) -> str:
    """The address that a row of a table in ``folder`` means.

    What is behind a full one is for those to see who read it: a mistake in one row is no reason to stop.
    """
    if "://" in path and not is_local(path):
        return path if path.endswith("://") else path.rstrip("/")
    absolute = "://" in path or path.startswith("/")
    return uri_of(*locate(path if absolute else f"{folder.rstrip('/')}/{path}"))


def _csv_rows(uri: str) -> tuple[list[str], list[dict[str, str]]]:
    return ["video"], read_table(uri, "", ("video",))


def _parquet_rows(uri: str) -> tuple[list[str], list[dict[str, str]]]:
    from emobeam.emo_transforms.storage.parquet_files import read_parquet  # tables of this kind are rare

    table = read_parquet(uri)
    columns = [name for name in ("video", "path", "subject") if name in table.column_names]
    rows = table.select(columns).to_pylist()
    texts = [{key: "" if value is None else str(value).strip() for key, value in row.items()} for row in rows]
    return columns or table.column_names, texts


def _stem(path: str) -> str:
    """A path without its extension, as text."""
    return in_unicode(posixpath.splitext(path)[0])


def unique_videos(videos: Iterable[Video]) -> list[Video]:
    """One video per id, sorted by id; the subjects of equal ones joined by commas, in order.

    Raises:
        UsageError: two different files have one id; the message names both.
    """
    unique: dict[str, Video] = {}
    for video in videos:
        known = unique.setdefault(video.id, video)
        if known.uri != video.uri:
            raise UsageError(
                f"two inputs have the id '{video.id}': {known.uri} and {video.uri}; "
                "name a folder above both, or leave one out"
            )
        if video.subject not in known.subject.split(","):
            unique[video.id] = replace(known, subject=f"{known.subject},{video.subject}")
    return [unique[identity] for identity in sorted(unique)]


def keep_only(videos: Sequence[Video], only: str) -> list[Video]:
    """The videos that are named, in the order given.

    A name matches an id by unique path suffix, extension optional; ``_left`` or ``_right`` at its end is
    dropped where no video is called so.

    Args:
        videos: to choose from.
        only: names separated by commas, all of which must match; or a file with a name per line, or a
            template with rows like ``name/00001.jpg,...``, of which at least one must match.

    Raises:
        UsageError: the file doesn't exist, or nothing matches.
        EmobeamError: a name matches several ids.
    """
    _, path = locate(only)
    listed = not has_video_extension(path) and asked(only, lambda: file_exists(only))
    if not listed and ("://" in only or path.lower().endswith((".txt", ".csv"))):
        raise UsageError(f"--only {only}: no such file")
    names = list(_names_in(only)) if listed else [name.strip() for name in only.split(",") if name.strip()]
    matches = match_names(names, [video.id for video in videos])
    if not matches.found or (matches.missing and not listed):
        shown = ", ".join(matches.missing[:5]) + (" ..." if len(matches.missing) > 5 else "")
        meant = did_you_mean(shown, (video.id for video in videos))
        raise UsageError(f"--only {only}: " + (f"no input is called {shown}{meant}" if shown else "names nothing"))
    kept = {identity for identity, _ in matches.found.values()}
    return [video for video in videos if video.id in kept]


_IMAGE_ROW = re.compile(r"(.+)/(?:frame-)?\d+\.(?:jpe?g|png)(?:,|$)", re.IGNORECASE)
_HEADERS = {"image_location", "image", "filename", "video", "name"}


def _names_in(uri: str) -> Iterator[str]:
    """Names of a names file or template, each once, in order."""
    last = ""
    seen = set()
    with open_text(uri) as file:
        for number, line in enumerate(file):
            row = line.strip()
            image = _IMAGE_ROW.match(row)
            name = image[1] if image else row.split(",", 1)[0].strip()
            if not name or (number == 0 and name.lower() in _HEADERS):
                continue
            if name != last and name not in seen:  # a template has a row per frame: most repeat the last
                seen.add(name)
                yield name
            last = name
