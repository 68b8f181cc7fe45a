"""A segment as a few hundred bytes, for its way from the step that plans to the step that works.

A minute of video has some 1,800 native frames, each with a number, a time stamp and a time. Numbers run on, times
follow from the stamps and their unit, and stamps of a constant rate have constant differences: stored as differences,
as integers of variable length and deflated, little of it is left. Decoding gives back equal segments, bit by bit.

Layout: one byte of version, then a raw deflate stream (RFC 1951) of: length-prefixed JSON array of the plain fields,
then the arrays ``frames``, ``sampled``, ``pts``, ``packets``, ``times`` and ``images``, each with a byte that says how
it is stored.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from emobeam.schemas.plain_json import from_text, parsed, to_text
from emobeam.schemas.records import Display, Fingerprint, Segment, Video, VideoFacts

LIMIT = 1000
"""Bytes above which the lists of a segment travel as a file of their own (see ``Segment.timeline``)."""

_VERSION = 3
_DENOMINATORS = (90000, 1000, 600, 12800, 15360, 30000, 24000, 60000, 16000, 10240, 25, 30, 24, 50, 60, 48000, 1000000)
"""Units in which times of stored crops can be expected; others are stored as they are."""

_DICTIONARY = b'"cache","crops",".parquet",".webm",".avi",".mkv","gs://","s3://","file:///",".mp4","video","","","",1,0,0,true,"",""'


def encode_segment(segment: Segment) -> bytes:
    """The segment as bytes; equal segments give equal bytes."""
    plain = [
        *(segment.video.id, segment.video.uri, segment.video.kind, segment.video.subject, segment.video.time_uri),
        *(segment.fingerprint.size, segment.fingerprint.digest, segment.index, segment.count, segment.start),
        *(segment.width, segment.height, segment.rotation, segment.seekable, segment.note, segment.origin),
        *(segment.shard, segment.zero, *segment.time_base, segment.timeline),
        *(segment.entry, "" if segment.display.plain else to_text(segment.display)),
        "" if segment.facts is None else to_text(segment.facts),
    ]
    header = json.dumps(plain, separators=(",", ":")).encode()
    body = b"".join(
        [
            _varint(len(header)),
            header,
            _integers(segment.frames),
            _integers(segment.sampled),
            _integers(segment.pts),
            _integers(segment.packets),
            _times(segment),
            _images(segment),
        ]
    )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return bytes([_VERSION]) + deflate.compress(body) + deflate.flush()


def decode_segment(data: bytes) -> Segment:
    """The inverse of :func:`encode_segment`; raises ``ValueError`` for bytes of another version."""
    if data[0] != _VERSION:
        raise ValueError(
            f"a segment of version {data[0]} can't be read here; launcher and workers must be of one emobeam"
        )
    body = _Reader(zlib.decompressobj(-15, _DICTIONARY).decompress(data[1:]))
    plain = parsed(body.take(body.varint()))
    id_, uri, kind, subject, time_uri, size, digest, index, count, start = plain[:10]
    width, height, rotation, seekable, note, origin, shard, zero, numerator, denominator, timeline = plain[10:21]
    entry, display, facts = plain[21:]
    frames = body.integers()
    sampled = body.integers()
    pts = body.integers()
    packets = body.integers()
    segment = Segment(
        video=Video(id_, uri, kind, subject, time_uri),
        fingerprint=Fingerprint(size, digest),
        index=index,
        count=count,
        start=start,
        frames=frames,
        times=(),
        sampled=sampled,
        pts=pts,
        width=width,
        height=height,
        rotation=rotation,
        seekable=seekable,
        note=note,
        origin=origin,
        shard=shard,
        zero=zero,
        time_base=(numerator, denominator),
        timeline=timeline,
        entry=entry,
        display=from_text(Display, display) if display else Display(),
        packets=packets,
        facts=from_text(VideoFacts, facts) if facts else None,
    )
    return replace(segment, times=_read_times(body, segment), images=_read_images(body, segment))


def compacted(segment: Segment, put: Callable[[str, bytes], str]) -> Segment:
    """The segment itself where it is small; else without its lists, which ``put(name, data)`` has stored at a URI."""
    data = encode_segment(segment)
    if len(data) <= LIMIT:
        return segment
    uri = put(segment.shard, data)
    return replace(segment, frames=(), times=(), sampled=(), pts=(), packets=(), images=(), timeline=uri)


def expanded(segment: Segment, get: Callable[[str], bytes]) -> Segment:
    """The inverse of :func:`compacted`."""
    return decode_segment(get(segment.timeline)) if segment.timeline else segment


def _varint(value: int) -> bytes:
    """LEB128, for values from 0 upwards."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _signed(value: int) -> bytes:
    return _varint(value * 2 if value >= 0 else -value * 2 - 1)


def _integers(values: Sequence[int]) -> bytes:
    """Count; then order of the differences, their common factor, and the differences; the shorter of both orders."""
    if not values:
        return b"\0"
    return min((_with_order(values, order) for order in (2, 1)), key=lambda data: len(zlib.compress(data, 9)))


def _with_order(values: Sequence[int], order: int) -> bytes:
    first = [later - earlier for earlier, later in pairwise(values)]
    factor = math.gcd(*first) or 1
    steps = [step // factor for step in first]
    if order == 2:
        steps = [*steps[:1], *(later - earlier for earlier, later in pairwise(steps))]
    head = _varint(len(values)) + bytes([order]) + _varint(factor) + _signed(values[0])
    return head + b"".join(_signed(step) for step in steps)


def _times(segment: Segment) -> bytes:
    """``b``: they follow from the stamps; ``d``: integers over a denominator; ``r``: as they are."""
    if segment.times == _from_stamps(segment) and not _has_negative_zero(segment.times):
        return b"b"
    for denominator in _DENOMINATORS:
        numerators = _numerators(segment.times, denominator)
        if numerators is not None:
            return b"d" + _varint(denominator) + _integers(numerators)
    return b"r" + _varint(len(segment.times)) + struct.pack(f"<{len(segment.times)}d", *segment.times)


def _from_stamps(segment: Segment) -> tuple[float, ...]:
    numerator, denominator = segment.time_base
    if not numerator or not denominator:
        return ()
    return tuple((stamp - segment.zero) * numerator / denominator for stamp in segment.pts)


def _numerators(times: Sequence[float], denominator: int) -> list[int] | None:
    found = []
    for time in times:
        if not math.isfinite(time) or abs(time) > 1e9:
            return None
        numerator = round(time * denominator)
        if numerator / denominator != time:
            return None
        found.append(numerator)
    return None if _has_negative_zero(times) else found


def _has_negative_zero(times: Sequence[float]) -> bool:
    return any(time == 0 and math.copysign(1, time) < 0 for time in times)


def _read_times(body: _Reader, segment: Segment) -> tuple[float, ...]:
    how = body.take(1)
    if how == b"b":
        return _from_stamps(segment)
    if how == b"d":
        denominator = body.varint()
        return tuple(numerator / denominator for numerator in body.integers())
    count = body.varint()
    return struct.unpack(f"<{count}d", body.take(8 * count))


def _images(segment: Segment) -> bytes:
    """``-``: none; ``t``: frame numbers in a pattern, and which frames have one; ``l``: a list."""
    names = segment.images
    if not names:
        return b"-"
    pattern = _pattern(names)
    if pattern is not None and len(names) == len(segment.frames):
        prefix, width, suffix = pattern
        # An empty name is one that isn't there; a pattern never gives one.
        if all(
            name in ("", f"{prefix}{frame:0{width}d}{suffix}")
            for name, frame in zip(names, segment.frames, strict=True)
        ):
            text = json.dumps([prefix, width, suffix]).encode()
            there = bytes(1 if name else 0 for name in names)
            return b"t" + _varint(len(text)) + text + there
    text = json.dumps(names, separators=(",", ":")).encode()
    return b"l" + _varint(len(text)) + text


def _pattern(names: Sequence[str]) -> tuple[str, int, str] | None:
    """What stands before and after the number in the first name, and how wide the number is."""
    found = re.fullmatch(r"(.*?)([0-9]+)([^0-9]*)", next((name for name in names if name), ""), flags=re.DOTALL)
    return (found[1], len(found[2]), found[3]) if found else None


def _read_images(body: _Reader, segment: Segment) -> tuple[str, ...]:
    how = body.take(1)
    if how == b"-":
        return ()
    text = parsed(body.take(body.varint()))
    if how == b"l":
        return tuple(text)
    prefix, width, suffix = text
    there = body.take(len(segment.frames))
    return tuple(
        f"{prefix}{frame:0{width}d}{suffix}" if has else "" for frame, has in zip(segment.frames, there, strict=True)
    )


class _Reader:
    """Takes one piece after another off some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._place : self._place + count]
        self._place += count
        return piece

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._place]
            self._place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def signed(self) -> int:
        value = self.varint()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def integers(self) -> tuple[int, ...]:
        count = self.varint()
        if not count:
            return ()
        order = self.take(1)[0]
        factor = self.varint()
        value = self.signed()
        values = [value]
        step = 0
        for _ in range(count - 1):
            step = step + self.signed() if order == 2 else self.signed()
            value += step * factor
            values.append(value)
        return tuple(values)
