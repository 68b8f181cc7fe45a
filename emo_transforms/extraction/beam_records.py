"""Records between Beam steps: their coders, and the steps that read and leave them as files."""

from __future__ import annotations

import hashlib
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.coders.typecoders import registry

from emobeam.emo_transforms.extraction.child_work import Finder, Report
from emobeam.emo_transforms.storage.run_mailbox import Exchange, read_records
from emobeam.schemas.plain_json import from_text, to_text
from emobeam.schemas.records import (
    EmobeamError,
    Looked,
    PlannedSegment,
    ShardRecord,
    VideoFeatures,
    VideoPredicted,
    VideoTask,
)


class PlannedSegmentCoder(Coder):  # type: ignore[misc]
    """Segments as they were packed when they were planned: name, number of frames, the bytes."""

    def encode(self, value: PlannedSegment) -> bytes:
        """The packed segment behind its name and its number of frames."""
        return b"%s %d %s" % (value.shard.encode(), value.sampled, value.data)

    def decode(self, encoded: bytes) -> PlannedSegment:
        """The segment again, still packed."""
        shard, sampled, data = encoded.split(b" ", 2)
        return PlannedSegment(shard.decode(), int(sampled), data)

    def is_deterministic(self) -> bool:
        """True, so that Beam may group by them."""
        return True

    def to_type_hint(self) -> type[PlannedSegment]:
        """The only type it codes."""
        return PlannedSegment

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class RecordCoder(Coder):  # type: ignore[misc]
    """Other small records as JSON. One class per kind: Beam makes coders without arguments."""

    kind: type[Any]

    def encode(self, value: Any) -> bytes:
        """The record as JSON, the same bytes on every machine."""
        return to_text(value).encode()

    def decode(self, encoded: bytes) -> Any:
        """The record again."""
        return from_text(self.kind, encoded)

    def is_deterministic(self) -> bool:
        """True, so that Beam may group by them."""
        return True

    def to_type_hint(self) -> type[Any]:
        """The only type it codes."""
        return self.kind

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class VideoTaskCoder(RecordCoder):
    """Inputs to be looked at."""

    kind = VideoTask


class VideoFeaturesCoder(RecordCoder):
    """Videos to be predicted."""

    kind = VideoFeatures


class LookedCoder(RecordCoder):
    """What planning saw of an input."""

    kind = Looked


class ShardRecordCoder(RecordCoder):
    """What became of segments."""

    kind = ShardRecord


class VideoPredictedCoder(RecordCoder):
    """What became of videos in stage 2."""

    kind = VideoPredicted


registry.register_coder(PlannedSegment, PlannedSegmentCoder)
for coder in (VideoTaskCoder, VideoFeaturesCoder, LookedCoder, ShardRecordCoder, VideoPredictedCoder):
    registry.register_coder(coder.kind, coder)


def _pair(key: type[Any], kind: type[Any]) -> Any:
    return tuple.__class_getitem__((key, kind))


@dataclass(frozen=True)
class Ends:
    """Where a graph begins and ends, and who works in its steps: all in which runners differ.

    Attributes:
        tasks: gives what is to be done.
        finder: leads steps to those who do it.
        spread: from the kind of elements to what spreads them over all workers.
        leave: from the kind and the name of records to what takes them.
        hints: resource hints of the heavy step.
    """

    tasks: Any
    finder: Finder
    spread: Callable[[type[Any]], Any]
    leave: Callable[[type[Any], str], Any]
    hints: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Redistribute(beam.PTransform):  # type: ignore[misc, type-arg]
    """Elements in, the same elements out, spread over all workers.

    Attributes:
        kind: of the elements.
        grouped: spread by a grouping instead of Beam's Reshuffle. Beam's Spark runner makes as many pieces of a
            reshuffle as there were before it, and out of one file of tasks comes one.
    """

    kind: type[Any]
    grouped: bool = False

    def expand(self, elements: Any) -> Any:
        """Elements of ``kind`` in and out, in no order."""
        if not self.grouped:
            return elements | "Reshuffle" >> beam.Reshuffle()
        keyed = beam.Map(_by_content).with_input_types(self.kind).with_output_types(_pair(bytes, self.kind))
        values = beam.FlatMap(_values).with_output_types(self.kind)
        return elements | "Key" >> keyed | "Group" >> beam.GroupByKey() | "Ungroup" >> values


def _by_content(element: Any) -> tuple[bytes, Any]:
    data = element.data if isinstance(element, PlannedSegment) else to_text(element).encode()
    return hashlib.sha256(data).digest()[:8], element


def _values(group: tuple[bytes, Iterable[Any]]) -> Iterable[Any]:
    return group[1]


@dataclass
class TaskFiles(beam.PTransform):  # type: ignore[misc, type-arg]
    """Gives the records of files, redistributed: what follows runs on all workers.

    Attributes:
        uris: of the files.
        reporter: told of every file as the event ``bundle``; must be picklable.
    """

    uris: list[str]
    kind: type[Any]
    grouped: bool = False
    reporter: Report | None = None

    def expand(self, begin: Any) -> Any:
        """The beginning of a pipeline in, records of ``kind`` out."""
        read = beam.FlatMap(partial(_read_and_tell, kind=self.kind, reporter=self.reporter))
        read = read.with_input_types(str).with_output_types(self.kind)
        files = begin | "Files" >> beam.Create(self.uris, reshuffle=False)
        return files | "Read" >> read | "Redistribute" >> Redistribute(self.kind, self.grouped)


def _read_and_tell(uri: str, kind: type[Any], reporter: Report | None) -> list[Any]:
    if reporter is not None:
        reporter("bundle", {})
    return read_tasks(uri, kind)


def read_tasks(uri: str, kind: type[Any]) -> list[Any]:
    """The records of a file; raises :class:`EmobeamError` where this worker doesn't see it."""
    try:
        return read_records(uri, kind)
    except FileNotFoundError as error:
        raise EmobeamError(
            f"{uri}: the worker on {socket.gethostname()} doesn't see what the launcher wrote there; output and inputs "
            "must lie in a bucket, or on a path that all workers share"
        ) from error


@dataclass
class LeaveRecords(beam.PTransform):  # type: ignore[misc, type-arg]
    """Leaves records in ``folder`` of an exchange, in at most ``files`` files whatever the number of workers.

    A bundle that is tried again writes the same files.

    Attributes:
        kind: has a field ``video``, which decides the file.
    """

    kind: type[Any]
    exchange: Exchange
    folder: str
    files: int = 16

    def expand(self, records: Any) -> Any:
        """Records of ``kind`` in; out come the URIs of the files that were written."""
        keyed = (
            beam.Map(partial(_keyed, files=self.files))
            .with_input_types(self.kind)
            .with_output_types(_pair(int, self.kind))
        )
        return (
            records
            | "Key" >> keyed
            | "Group" >> beam.GroupByKey()
            | "Leave"
            >> beam.FlatMap(partial(_leave, exchange=self.exchange, folder=self.folder)).with_output_types(str)
        )


def _keyed(record: Any, files: int) -> tuple[int, Any]:
    name: str = record.video
    return zlib.crc32(name.encode("utf-8", "backslashreplace")) % files, record


def _leave(group: tuple[int, Iterable[Any]], exchange: Exchange, folder: str) -> Iterator[str]:
    number, records = group
    exchange.check()
    yield exchange.put_records(folder, f"{number:04d}.jsonl", sorted(records, key=to_text))
