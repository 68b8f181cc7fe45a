"""Mishaps of files, drawn from a seeded generator: of bytes, and of values in JSON."""

from __future__ import annotations

import json
import random
from typing import Any

_INTEGERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_ODD: tuple[Any, ...] = (
    *(0, -1, 1, 3, 2**31, 2_000_000_000, 10**18, 1e308, -1e-308, 0.5, True, None),
    *("", "x", "x" * 70_000, "\0", "\x1b[2J", "../../up", "é\ud800", "nan"),
    *([], {}, [1, 2, 2_000_000_000], [[]], {"a": {"b": 1}}, ["x", 1, None]),
)
_DEEP = 5_000


def damaged_bytes(random_: random.Random, data: bytes) -> bytes:
    """The data after one to three mishaps: bits flipped, stretches overwritten, doubled, lost; numbers put in."""
    found = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 3))):
        place = random_.randrange(len(found) + 1)
        length = min(int(random_.paretovariate(0.7)), 4096)
        match random_.randrange(8):
            case 0 if place < len(found):
                found[place] ^= 1 << random_.randrange(8)
            case 1:
                found[place : place + length] = random_.randbytes(min(length, len(found) - place))
            case 2:
                found[place : place + length] = bytes([random_.choice((0, 255))]) * min(length, len(found) - place)
            case 3:
                del found[place:]
            case 4:
                del found[place : place + length]
            case 5:
                found[place:place] = found[place : place + length]
            case 6:
                found[place:place] = random_.randbytes(length)
            case _:
                number = random_.choice(_INTEGERS).to_bytes(4, random_.choice(("big", "little")))
                found[place : place + 4] = number
    return bytes(found)


def damaged_json(random_: random.Random, data: bytes) -> bytes:
    """A document in which one to three values or keys are others; now and then its text is damaged, or it is deep."""
    kind = random_.randrange(12)
    if kind == 0:
        return damaged_bytes(random_, data)
    if kind == 1:
        return random_.choice((b"[", b'{"a":')) * _DEEP
    document = json.loads(data)
    for _ in range(random_.choice((1, 1, 2, 3))):
        document = _damaged(random_, document)
    return json.dumps(document, ensure_ascii=random_.random() < 0.5).encode("utf-8", "surrogatepass")


def _damaged(random_: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and random_.random() < 0.9:
        key = random_.choice(sorted(value))
        if (drawn := random_.random()) < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if drawn < 0.15:
            return {**value, random_.choice(("", "x", f"{key} ")): value[key]}
        return {**value, key: _damaged(random_, value[key])}
    if isinstance(value, list) and value and random_.random() < 0.6:
        place = random_.randrange(len(value))
        return [*value[:place], _damaged(random_, value[place]), *value[place + 1 :]]
    return random_.choice(_ODD)
