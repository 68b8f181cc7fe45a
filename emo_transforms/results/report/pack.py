"""Rows of a video as few bytes: rounded, as differences, byte planes apart, deflated, in base64.

Layout of the inflated bytes: uint32 little-endian length of a JSON document, the document, then the arrays. In the
document an array is ``{"at": offset, "n": length, "as": kind}``, offsets counting from the end of the document:

    u8    one byte a value
    i32   differences to the value before (the first to 0) as little-endian int32; the lowest bytes of all values come
          first, then the next ones, and so on: neighbours in a plane are alike, which is what deflating lives on
    q16   values in units of :data:`STEP`, int16, -32768 for none; differences modulo 65536 in two planes
    raw   bytes as they are (``n`` bytes)
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.schemas.plain_json import parsed

STEP = 0.002
"""Unit of packed values: what the page shows is at most half of it off the table."""

TIME_UNIT = 1e-4
"""Unit of packed times in s."""

_NONE = -32768


class Packer:
    """Collects arrays, each standing in the document as what its ``add`` method returns."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add_bytes(self, data: bytes) -> dict[str, Any]:
        """Bytes as they are."""
        return self._add(data, len(data), "raw")

    def add_codes(self, values: NDArray[np.uint8]) -> dict[str, Any]:
        """Whole numbers from 0 to 255."""
        return self._add(values.astype(np.uint8).tobytes(), len(values), "u8")

    def add_whole(self, values: NDArray[Any]) -> dict[str, Any]:
        """Whole numbers within int32."""
        steps = np.diff(values.astype(np.int64), prepend=0).astype(np.int32)
        return self._add(_planes(steps, 4), len(values), "i32")

    def add_times(self, seconds: NDArray[np.float64]) -> dict[str, Any]:
        """Times in units of :data:`TIME_UNIT`."""
        return self.add_whole(np.rint(seconds / TIME_UNIT).astype(np.int64))

    def add_values(self, values: NDArray[np.floating[Any]]) -> dict[str, Any]:
        """Values within about +-65; NaN stands for none."""
        known = np.isfinite(values)
        units = np.where(known, np.clip(np.rint(np.where(known, values, 0) / STEP), -32767, 32767), _NONE)
        steps = np.diff(units.astype(np.int64), prepend=0).astype(np.uint64).astype(np.uint16)
        return self._add(_planes(steps, 2), len(values), "q16")

    def close(self, document: dict[str, Any]) -> str:
        """The document and all arrays as base64; equal content gives equal text."""
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        whole = struct.pack("<I", len(text)) + text + b"".join(self._parts)
        return base64.b64encode(gzip.compress(whole, 9, mtime=0)).decode("ascii")

    def _add(self, data: bytes, length: int, kind: str) -> dict[str, Any]:
        place = {"at": self._size, "n": length, "as": kind}
        self._parts.append(data)
        self._size += len(data)
        return place


def _planes(values: NDArray[Any], width: int) -> bytes:
    little = values.astype(values.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, width).T.tobytes()


def unpack(text: str) -> tuple[dict[str, Any], bytes]:
    """The document and the bytes of the arrays: the inverse of :meth:`Packer.close`."""
    whole = gzip.decompress(base64.b64decode(text))
    (length,) = struct.unpack_from("<I", whole)
    return parsed(whole[4 : 4 + length]), whole[4 + length :]


def read_array(place: dict[str, Any], data: bytes) -> Any:
    """An array of :func:`unpack` as the page reads it: uint8[n], int64[n], float64[n] with NaN, or bytes."""
    start, length = place["at"], place["n"]
    if place["as"] == "raw":
        return data[start : start + length]
    if place["as"] == "u8":
        return np.frombuffer(data, np.uint8, length, start)
    width = 4 if place["as"] == "i32" else 2
    planes = np.frombuffer(data, np.uint8, length * width, start).reshape(width, length)
    steps = np.ascontiguousarray(planes.T).view("<i4" if width == 4 else "<i2").reshape(-1)
    if width == 4:
        return np.cumsum(steps.astype(np.int64))
    units = np.cumsum(steps.astype(np.int64)).astype(np.uint64).astype(np.uint16).view(np.int16)
    return np.where(units == _NONE, np.nan, units * STEP)
