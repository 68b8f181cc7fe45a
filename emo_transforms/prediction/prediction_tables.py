"""Predictions tables as files: one Parquet part per video and task, and the footer that tells what made it.

:func:`list_parts` is the one listing that everything that reads an output folder goes by: the tables of each task and
video, and what of them can't be used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.networks.heads.output_quality import Marks, joined, marks_in
from emobeam.emo_transforms.storage import object_stores
from emobeam.emo_transforms.storage.parquet_files import open_parquet, read_parquet
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import FOOTER_KEY
from emobeam.schemas.tasks import TASKS, task_named


def part_name(video: str) -> str:
    """File name of a video's part: readable, and unique by a digest; never hidden from folder readers."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", video).strip("._")[-80:]
    return f"{slug or 'video'}-{hashlib.sha256(video.encode()).hexdigest()[:8]}.parquet"


def part_uri(output: str, task: str, video: str) -> str:
    """Where the predictions of a video lie."""
    return storage.join(output, "predictions", task, part_name(video))


def read_run(output: str) -> dict[str, Any] | None:
    """What the ``run.json`` of an output says, None where there is none.

    Raises:
        EmobeamError: it is damaged, or not as predict writes it: what it tells of tasks, and of their heads, has
            another form.
    """
    uri = storage.join(output, "run.json")
    if not storage.exists(uri):
        return None
    run = storage.read_json(uri)
    formed = isinstance(run, dict) and all(isinstance(run.get(key) or {}, dict) for key in ("heads", "submissions"))
    heads = (run.get("heads") or {}).values() if formed else ()
    if not formed or not all(isinstance(each, list) and all(isinstance(head, dict) for head in each) for each in heads):
        raise EmobeamError(f"{uri}: not the record of a run")
    return dict(run)


_KINDS: Mapping[str, type] = MappingProxyType(
    {
        **dict.fromkeys(("task", "video", "predict_id", "made_by", "shards"), str),
        **dict.fromkeys(("subjects", "persons", "heads", "faces", "unknown", "experimental"), list),
        "settings": dict,
        "rows": int,
    }
)
"""Of what a part's footer says, as far as it says so."""


def read_part_footer(uri: str) -> dict[str, Any]:
    """The JSON document in the footer of a part; raises :class:`EmobeamError` where there is none."""
    try:
        with open_parquet(uri) as parquet:
            data: dict[str, Any] = parsed((parquet.metadata.metadata or {})[FOOTER_KEY])
        if not isinstance(data, dict) or not {"task", "video", "subjects"} <= set(data):
            raise KeyError("task")
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(data.get(name, kind()), kind)]:
            raise TypeError(f"{wrong[0]} is {data[wrong[0]]!r}")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise EmobeamError(f"{uri}: not a predictions table of emobeam, or damaged ({error})") from error
    return data


def write_part(uri: str, table: pa.Table, footer: Mapping[str, Any]) -> None:
    """Writes a part as a whole, the JSON document in its footer."""
    text = json.dumps(footer, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    with (
        storage.atomic_file(uri) as path,
        pq.ParquetWriter(
            path, table.schema, compression="zstd", use_dictionary=["video", "subject", "source"]
        ) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY.decode(): text})


@dataclass(frozen=True)
class Part:
    """The predictions table of one video and task.

    Attributes:
        uri: of the file.
        task, video: whose predictions they are.
        footer: the JSON document in its footer: ``heads`` (name, weights, digest), ``subjects``, ``faces`` and others,
            see :func:`emobeam.emo_transforms.prediction.video_parts.predict_video`.
    """

    uri: str
    task: str
    video: str
    footer: Mapping[str, Any]

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects that were asked for in the video; ``""`` where nobody was."""
        return tuple(self.footer["subjects"])

    @property
    def untrained(self) -> bool:
        """Whether an untrained head made the values: they mean nothing."""
        return any(head[1] == "untrained" for head in self.footer.get("heads", ()))

    @property
    def marks(self) -> Marks:
        """Outputs that no head knows, or whose values are not to be relied on."""
        return marks_in(self.footer)


@dataclass(frozen=True)
class Damaged:
    """A file among the tables that is none, or is damaged.

    Attributes:
        uri: of the file.
        task: whose folder it lies in.
        video: the id where another file tells it, else the name of the file without its extension.
        reason: what is wrong and what to do, for people.
    """

    uri: str
    task: str
    video: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The tables of an output folder.

    Attributes:
        output: the folder.
        parts: by task (in the order of ``.schemas.tasks.TASKS``) and video (sorted by id); a task without any usable
            table isn't in it.
        damaged: files that can't be used, sorted by task and file.
    """

    output: str
    parts: Mapping[str, Mapping[str, Part]] = field(default_factory=dict)
    damaged: tuple[Damaged, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that have files, damaged ones too, in the order of ``emobeam.schemas.tasks.TASKS``."""
        there = {*self.parts, *(each.task for each in self.damaged)}
        return tuple(name for name in TASKS if name in there)

    @property
    def videos(self) -> tuple[str, ...]:
        """Ids of all videos that have a usable table of any task, sorted."""
        return tuple(sorted({video for own in self.parts.values() for video in own}))

    @property
    def failed(self) -> dict[str, str]:
        """By video what is wrong with its tables, for commands that tell it as ``failed`` and go on."""
        found: dict[str, str] = {}
        for each in self.damaged:
            found[each.video] = f"{found[each.video]}; {each.reason}" if each.video in found else each.reason
        return found


def marks_of_parts(task: str, parts: Iterable[Part]) -> Marks:
    """Marks of all outputs of a task over some of its tables."""
    return joined((part.marks for part in parts), task_named(task).outputs)


def predicted_tasks(output: str) -> list[str]:
    """Names of the tasks that an output folder has tables of, in the order of ``.schemas.tasks.TASKS``; reads none.

    An output may hold tables of several runs: ``run.json`` tells of the last one only.
    """
    folder = storage.join(output, "predictions")
    there = storage.names(folder, "")
    return [name for name in TASKS if name in there and storage.names(storage.join(folder, name), ".parquet")]


def list_parts(
    output: str, tasks: Sequence[str] = (), *, progress: Callable[[int, int], None] | None = None
) -> Listing:
    """Lists the tables of an output folder by one listing per task and their footers, many at a time if far away.

    What can't be read is told in the result, never raised: one damaged table leaves all others usable.

    Args:
        tasks: names; default: all that have tables.
        progress: told how many of how many footers were read.

    Raises:
        EmobeamError: there is no such folder.
        UsageError: an unknown task.
    """
    for name in tasks:
        task_named(name)
    if not storage.exists(output):
        raise EmobeamError(f"{output}: no such folder; name the output of emobeam annotate or predict")
    folder = storage.join(output, "predictions")
    there = storage.names(folder, "")
    found = [
        (task, stem)
        for task in TASKS
        if task in (tasks or there) and task in there
        for stem in sorted(storage.names(storage.join(folder, task), ".parquet"))
    ]
    parts: dict[str, dict[str, Part]] = {}
    damaged: list[Damaged] = []
    with ThreadPoolExecutor(1 if storage.is_local(output) else object_stores.AT_ONCE) as pool:
        read = pool.map(lambda place: _read(storage.join(folder, place[0], f"{place[1]}.parquet"), place[0]), found)
        for done, each in enumerate(read, start=1):
            if isinstance(each, Damaged):
                damaged.append(each)
            elif (known := parts.setdefault(each.task, {}).get(each.video)) is None or not _named_well(known):
                parts[each.task][each.video] = each
            if progress is not None:
                progress(done, len(found))
    if damaged:
        damaged = _with_videos(output, damaged, {video for own in parts.values() for video in own})
    return Listing(output, {task: dict(sorted(own.items())) for task, own in parts.items()}, tuple(damaged))


def _read(uri: str, task: str) -> Part | Damaged:
    try:
        footer = read_part_footer(uri)
        if footer["task"] != task:
            raise EmobeamError(f"{uri}: predictions of task {footer['task']} in the folder of {task}")
    except (EmobeamError, OSError) as error:
        stem = uri.rpartition("/")[2].removesuffix(".parquet")
        return Damaged(uri, task, stem, f"{error}; run emobeam predict again, which makes what is missing or damaged")
    return Part(uri, task, str(footer["video"]), footer)


def _named_well(part: Part) -> bool:
    """Whether a file has the name that predict gives it: of two files of one video, the one that was copied hasn't."""
    return part.uri.endswith(part_name(part.video))


def _with_videos(output: str, damaged: Iterable[Damaged], videos: set[str]) -> list[Damaged]:
    """Names the videos of damaged files, which themselves tell no more than the digest in their names."""
    ids = {part_name(video): video for video in videos | _seen(output)}
    return [
        Damaged(each.uri, each.task, ids.get(each.uri.rpartition("/")[2], each.video), each.reason) for each in damaged
    ]


def _seen(output: str) -> set[str]:
    """Videos that the other tables of the folder name."""
    found: set[str] = set()
    for name in ("videos.parquet", "faces.parquet"):
        with suppress(OSError, pa.ArrowException, KeyError):
            found |= set(read_parquet(storage.join(output, name), ["video"])["video"].to_pylist())
    return found
