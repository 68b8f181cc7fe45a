"""Whose pictures there are: photographs in folders, or the stored crops of a feature cache, sorted into people."""

from __future__ import annotations

import posixpath
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import read_dataset, shard_uri
from emobeam.emo_transforms.cache.shards import read_rows
from emobeam.emo_transforms.cache.stored_crops import all_caches, origin_of, read_stored
from emobeam.emo_transforms.inputs.crop_layouts import IMAGE_EXTENSIONS, is_image
from emobeam.emo_transforms.inputs.listing import (
    asked,
    below,
    is_hidden,
    walk_files,
)
from emobeam.emo_transforms.storage import file_exists, locate
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import UsageError

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """One person's pictures.

    Attributes:
        name: of the person.
        pictures: URIs of photographs, sorted; empty for videos.
        names: what the photographs (below the input) or the videos (in the cache) are called, sorted.
        cache: URI of the feature cache that ``names`` are videos of; empty for photographs.
    """

    name: str
    pictures: tuple[str, ...]
    names: tuple[str, ...]
    cache: str = ""

    @property
    def number(self) -> int:
        """The name where it is a number below 2**31, else a number made from it."""
        if self.name.isascii() and self.name.isdigit() and int(self.name) < 2**31:
            return int(self.name)
        return zlib.crc32(self.name.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF

    @property
    def file(self) -> str:
        """The name as a file's, without what file systems don't take."""
        return quote(self.name, safe=" ")


def find_people(inputs: Sequence[str], person: str = "", only: str = "") -> list[Source]:
    """The people in folders, globs and files of photographs, or in feature caches that store crops.

    Args:
        person: regular expression; its first group (or all it matches) in a photograph's path below the input, or in
            a video's id, is the name of the person. Where empty, each photograph and each video is a person.
        only: names of people, separated by commas or line ends; or a text file of them.

    Raises:
        UsageError: there are no pictures, the expression is none or doesn't match, or a name of ``only`` is unknown.
    """
    if not inputs:
        raise UsageError("no input: name a folder, a glob or pictures, or a feature cache that stores crops")
    try:
        form = re.compile(person) if person else None
    except re.error as error:
        raise UsageError(f"--person {person}: not a regular expression ({error})") from error
    caches = all_caches([text for text in inputs if not _WILD.search(text)]) if inputs else False
    found = _videos(inputs) if caches else _photographs(inputs)
    people: dict[str, list[tuple[str, str]]] = {}
    for key, uri in found:
        people.setdefault(_person(key, form), []).append((key, uri))
    sources = []
    for name in _chosen(sorted(people), only):
        entries = sorted(people[name])
        names = tuple(key for key, _ in entries)
        uris = tuple(uri for _, uri in entries)
        if caches:
            if len(set(uris)) > 1:
                raise UsageError(f"'{name}' is in {uris[0]} and in {uris[-1]}; label them into folders of their own")
            sources.append(Source(name, (), names, uris[0]))
        else:
            sources.append(Source(name, uris, names))
    return sources


def _person(key: str, form: re.Pattern[str] | None) -> str:
    if form is None:
        return key
    match = form.search(key)
    name = match and (match[1] if form.groups else match[0])
    if not name:
        raise UsageError(f"--person {form.pattern}: finds nobody in '{key}'")
    return name


def _chosen(names: list[str], only: str) -> list[str]:
    if not only:
        return names
    if storage.file_exists(only):
        with storage.open_text(only) as file:
            only = file.read()
    wanted = {name.strip() for name in re.split(r"[,\n]", only) if name.strip()}
    if unknown := sorted(wanted - set(names)):
        shown = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise UsageError(f"--only: no pictures of {shown}; people are called like '{names[0]}'")
    return [name for name in names if name in wanted]


def _photographs(inputs: Sequence[str]) -> list[tuple[str, str]]:
    """Path below the input without extension, and URI, of each picture."""
    found: dict[str, str] = {}
    for text in inputs:
        fs, root = locate(text)
        if _WILD.search(text) and not asked(text, partial(fs.exists, root)):
            base = root[: _WILD.search(root).start()].rpartition("/")[0]  # type: ignore[union-attr]
            paths = sorted(
                str(path) for path in asked(text, partial(fs.glob, root)) if not is_hidden(below(base, str(path)))
            )
        elif asked(text, partial(file_exists, uri_of(fs, root))):
            base, paths = posixpath.dirname(root), [root]
        else:
            fs, base, paths = walk_files(text)
        pictures = [path for path in paths if is_image(path)]
        if not pictures:
            raise UsageError(f"{text}: no pictures there ({', '.join(sorted(IMAGE_EXTENSIONS))})")
        for path in pictures:
            found.setdefault(uri_of(fs, path), posixpath.splitext(below(base, path))[0])
    return [(key, uri) for uri, key in found.items()]


def _videos(inputs: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for text in inputs:
        origin_of([text])  # refuses a cache without crops
        uri = uri_of(*locate(text))
        found += [(video, uri) for video, shards in read_stored(uri).shards.items() if shards]
    if not found:
        raise UsageError(f"{inputs[0]}: no faces in this cache")
    return found


@dataclass(frozen=True)
class StoredFace:
    """A row of a cache.

    Attributes:
        track: number of the face in its segment; ``segment`` counts over the video.
        frame: native frame, from 1.
        time: in s, or None.
        data: the encoded crop.
        box, landmarks: float32 ``[4]`` and ``[10]`` px of the frame, or None for folders of crops.
    """

    segment: int
    track: int
    frame: int
    time: float | None
    data: bytes
    box: Any
    landmarks: Any


def stored_faces(cache: str, video: str) -> Iterator[StoredFace]:
    """The faces of a video in a cache, in the order of its shards."""
    for segment, shard in enumerate(read_stored(cache).shards[video]):
        for table in read_rows(shard_uri(cache, shard)):
            held = [name for name in _COLUMNS if name in table.column_names]
            for row in table.select(held).to_pylist():
                yield StoredFace(
                    segment,
                    row.get("track", 0),
                    row["frame"],
                    row.get("time"),
                    row["crop"],
                    _floats(row.get("box")),
                    _floats(row.get("landmarks")),
                )


_COLUMNS = ("track", "frame", "time", "box", "landmarks", "crop")


def _floats(values: Any) -> Any:
    return None if values is None else np.asarray(values, np.float32)


def crop_settings(cache: str, size: int) -> ExtractConfig:
    """A cache's settings with which ``stored_crops.network_crop`` gives squares of ``size`` px, margin 0.2."""
    config = read_dataset(cache).config
    margin = min(0.2, config.crop_margin)
    align = replace(config.align, style="square", margin=margin)
    return replace(config, align=align, backbone=replace(config.backbone, input_size=size))
