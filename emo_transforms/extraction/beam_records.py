"""Records between Beam stages: their coders, and the steps that read and leave them as files."""

from __future__ import annotations

import hashlib
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.coders.typecoders import registry

from emobeam.emo_transforms.cache.segment_codec import decode_segment, encode_segment
from emobeam.emo_transforms.storage.run_mailbox import Exchange, read_records
from emobeam.schemas.plain_json import from_text, to_text
from emobeam.schemas.records import EmobeamError, Looked, NotDone, Segment, VideoFeatures, VideoTask


class SegmentCoder(Coder):  # type: ignore[misc]
    """Segments in a few hundred bytes, see ``emobeam.emo_transforms.cache.segment_codec``."""

    def encode(self, value: Segment) -> bytes:
        """The segment's packed form, the same bytes on every machine."""
        return encode_segment(value)

    def decode(self, encoded: bytes) -> Segment:
        """The segment again."""
        return decode_segment(encoded)

    def is_deterministic(self) -> bool:
        """True, so that Beam may group by segments."""
        return True

    def to_type_hint(self) -> type[Segment]:
        """The only type it codes."""
        return Segment

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
        """True, so that Beam may group by records."""
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


class NotDoneCoder(RecordCoder):
    """What could not be done, and why."""

    kind = NotDone


registry.register_coder(Segment, SegmentCoder)
for coder in (VideoTaskCoder, VideoFeaturesCoder, LookedCoder, NotDoneCoder):
    registry.register_coder(coder.kind, coder)


def _pair(key: type[Any], kind: type[Any]) -> Any:
    return tuple.__class_getitem__((key, kind))


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
    data = encode_segment(element) if isinstance(element, Segment) else to_text(element).encode()
    return hashlib.sha256(data).digest()[:8], element


def _values(group: tuple[bytes, Iterable[Any]]) -> Iterable[Any]:
    return group[1]


@dataclass
class ReadRecords(beam.PTransform):  # type: ignore[misc, type-arg]
    """URIs of files of records in, records out, redistributed: what follows runs on all workers.

    Attributes:
        reporter: told of every file as the event ``bundle``; must be picklable.
    """

    kind: type[Any]
    grouped: bool = False
    reporter: Callable[[str, Mapping[str, Any]], None] | None = None

    def expand(self, uris: Any) -> Any:
        """URIs (str) in, records of ``kind`` out."""
        read = beam.FlatMap(partial(_read_and_tell, kind=self.kind, reporter=self.reporter))
        read = read.with_input_types(str).with_output_types(self.kind)
        return uris | "Read" >> read | "Redistribute" >> Redistribute(self.kind, self.grouped)


def _read_and_tell(uri: str, kind: type[Any], reporter: Callable[[str, Mapping[str, Any]], None] | None) -> list[Any]:
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
        kind: has a field ``video`` or ``key``, which decides the file.
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
    name: str = getattr(record, "video", None) or record.key
    return zlib.crc32(name.encode("utf-8", "backslashreplace")) % files, record


def _leave(group: tuple[int, Iterable[Any]], exchange: Exchange, folder: str) -> Iterator[str]:
    number, records = group
    exchange.check()
    yield exchange.put_records(folder, f"{number:04d}.jsonl", sorted(records, key=to_text))
