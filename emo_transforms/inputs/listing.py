"""Looking at what lies in a folder or store: which files, under which names, how large."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from emobeam.emo_transforms.storage import locate
from emobeam.emo_transforms.storage.object_stores import StoreError, reading, uri_of
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.wording import counted

T = TypeVar("T")

VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "m2t", "m2ts", "m2v", "m4v", "mkv"),
        *("mod", "mov", "mp4", "mp4v", "mpe", "mpeg", "mpg", "mts", "mxf", "ogv", "qt", "tod", "ts", "vob"),
        *("webm", "wmv"),
    )
)
"""What counts as a video when a folder is walked. A file named by the user may have any extension."""


_BESIDE = frozenset(
    f".{name}"
    for name in (
        *(
            "txt",
            "md",
            "csv",
            "tsv",
            "json",
            "jsonl",
            "xml",
            "yaml",
            "yml",
            "toml",
            "log",
            "pdf",
            "html",
            "parquet",
            "mat",
        ),
        *(
            "srt",
            "vtt",
            "ass",
            "sub",
            "eaf",
            "pfsx",
            "textgrid",
            "npy",
            "npz",
            "h5",
            "pkl",
            "xlsx",
            "docx",
            "ods",
            "zip",
        ),
        *(
            "wav",
            "mp3",
            "m4a",
            "aac",
            "flac",
            "ogg",
            "opus",
            "sha256",
            "md5",
            "py",
            "sh",
            "ini",
            "cfg",
            "db",
            "gz",
            "tar",
        ),
    )
)
"""What lies beside videos and is never missed."""

_PICTURES = frozenset(f".{name}" for name in ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "exr", "dpx"))

_SEQUENCE = 10
"""So many pictures in a folder are a sequence of pictures, not a cover or a thumbnail."""

_ENDINGS_TOLD = 5


def asked(uri: str, call: Callable[[], T]) -> T:
    """What a file system answers. A store is asked again where it has trouble that may pass.

    Raises:
        FileNotFoundError: there is nothing.
        EmobeamError: there is no answer. Without this a client's own exception would come through, for a store that is
            down or lets nobody in.
    """
    try:
        return reading(uri, call)
    except (FileNotFoundError, StoreError):
        raise
    except OSError as error:
        raise EmobeamError(f"{uri}: can't be read ({error}); check the address and the permissions") from error


def below(root: str, path: str) -> str:
    """``path`` relative to ``root``; both absolute, on one file system."""
    return path[len(root.rstrip("/")) :].lstrip("/")


def is_hidden(relative: str) -> bool:
    """True if a component of a relative path starts with a dot."""
    return any(part.startswith(".") for part in relative.split("/"))


def has_video_extension(path: str) -> bool:
    """True for the extensions of :data:`VIDEO_EXTENSIONS`, in any case."""
    return posixpath.splitext(path)[1].lower() in VIDEO_EXTENSIONS


def left_out(paths: Sequence[str]) -> str:
    """What to tell of the files of a folder that aren't taken for videos by their endings; ``""`` if nothing.

    What usually lies beside videos (texts, tables, sound) isn't told.
    """
    endings = Counter(posixpath.splitext(path)[1].lower() for path in paths)
    odd = Counter({end: n for end, n in endings.items() if end not in VIDEO_EXTENSIONS | _BESIDE | _PICTURES})
    folders = Counter(posixpath.dirname(path) for path in paths if posixpath.splitext(path)[1].lower() in _PICTURES)
    sequences = sum(count >= _SEQUENCE for count in folders.values())
    told = []
    if odd:
        most = [f"{end or 'no ending'} {count}" for end, count in odd.most_common(_ENDINGS_TOLD)]
        more = ", ..." if len(odd) > _ENDINGS_TOLD else ""
        told.append(f"{counted(odd.total(), 'file')} left out ({', '.join(most)}{more}): name them if they are videos")
    if sequences:
        folder = counted(sequences, "folder")
        told.append(
            f"{folder} of pictures left out: sequences of pictures are no videos, make some of them with ffmpeg"
        )
    return "; ".join(told)


def walk_files(uri: str) -> tuple[AbstractFileSystem, str, list[str]]:
    """All visible files below a folder, in one listing.

    Links to folders are followed; each real folder is visited once, so circular links end.

    Returns:
        The file system, the path of the folder, and the paths of the files, sorted.

    Raises:
        UsageError: there is no such folder.
        EmobeamError: it, or a folder in it, can't be read.
    """
    fs, root = locate(uri)
    fs.invalidate_cache(root)  # others may have put files there since it was listed last
    if not asked(uri, lambda: fs.isdir(root)):
        problem = "is not a folder" if asked(uri, lambda: fs.exists(root)) else "no such file or folder"
        raise UsageError(f"{uri}: {problem}")
    try:
        paths = asked(uri, lambda: _walk_local(root) if isinstance(fs, LocalFileSystem) else list(fs.find(root)))
    except FileNotFoundError as error:
        raise EmobeamError(f"{uri}: can't be read ({error}); it is being changed") from error
    return fs, root, sorted(path for path in paths if not is_hidden(below(root, path)))


def leaf_folders(fs: AbstractFileSystem, root: str, paths: Sequence[str]) -> set[str]:
    """The visible folders below a root that hold no other folder; empty ones are known of a local root alone.

    Args:
        paths: of the files below it, as :func:`walk_files` gives them.
    """
    folders = {posixpath.dirname(path) for path in paths}
    if isinstance(fs, LocalFileSystem):
        for folder, inside, _ in os.walk(root, onerror=_refuse):
            inside[:] = [name for name in inside if not name.startswith(".")]
            folders.add(folder)
    above = {posixpath.dirname(folder) for folder in folders}
    while wider := {posixpath.dirname(folder) for folder in above} - above:
        above |= wider
    return {folder for folder in folders if folder not in above and folder != root.rstrip("/")}


def _walk_local(root: str) -> list[str]:
    # fsspec's own walk stats every file, skips linked folders and swallows refusals.
    paths = []
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [posixpath.join(folder, name) for name in files]
    return paths


def _refuse(error: OSError) -> None:
    raise error


def file_sizes(uri: str) -> dict[str, int]:
    """Names and sizes in bytes of the visible files directly in a folder, sorted by name, in one listing.

    Raises:
        OSError: there is no such folder, or it can't be read.
    """
    fs, path = locate(uri)
    if isinstance(fs, LocalFileSystem):
        with os.scandir(path) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    else:
        listed = reading(uri, lambda: fs.ls(path, detail=True))
        sizes = {posixpath.basename(e["name"]): int(e["size"]) for e in listed if e["type"] == "file"}
    return {name: sizes[name] for name in sorted(sizes) if name and not name.startswith(".")}


def sizes_of(uris: Sequence[str]) -> list[int]:
    """Sizes of files in bytes, -1 where one isn't there; in a store by one listing per folder."""
    sizes = {}
    folders: dict[tuple[int, str], tuple[AbstractFileSystem, dict[str, str]]] = {}
    for uri in dict.fromkeys(uris):
        try:
            fs, path = locate(uri)
        except EmobeamError:
            sizes[uri] = -1
            continue
        if isinstance(fs, LocalFileSystem):
            sizes[uri] = os.path.getsize(path) if os.path.isfile(path) else -1
        else:
            folders.setdefault((id(fs), posixpath.dirname(path)), (fs, {}))[1][path] = uri
    for (_, folder), (fs, wanted) in folders.items():
        try:
            found = asked(uri_of(fs, folder), partial(fs.ls, folder, detail=True))
        except FileNotFoundError:
            found = []
        entries = {str(entry["name"]): int(entry["size"] or 0) for entry in found}
        sizes |= {uri: entries.get(path, -1) for path, uri in wanted.items()}
    return [sizes[uri] for uri in uris]
