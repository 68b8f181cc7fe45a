"""Frozen records as plain JSON data and back, for files and for the way between two stages."""

from __future__ import annotations

import json
import math
import sys
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


_MOST_YOUNG = 2


def to_text(record: Any) -> str:
    """A record as a line of JSON; equal records give equal text."""
    return json.dumps(_plain(record), separators=(",", ":"))


def from_text(kind: type[T], text: str | bytes) -> T:
    """The inverse of :func:`to_text`; raises ``ValueError`` or ``TypeError`` where the text is of another record."""
    record: T = _made(kind, parsed(text))
    return record


def parsed(text: str | bytes | bytearray) -> Any:
    """JSON from outside; raises ``ValueError`` where it is none, or nested so deeply that nobody can have meant it."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def checked(kind: type[T], data: Any) -> T:
    """A record from plain data by name, each value of the type that the record says.

    Raises:
        ValueError: a name is missing or unknown, or a value of another type, not finite, or beyond 64 bits.
    """
    record: T = _checked(kind, data, kind.__name__)
    return record


def _checked(kind: Any, data: Any, name: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        return _record(kind, data, name)
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        if data not in arguments:
            raise ValueError(f"{name} is none of {', '.join(map(str, arguments))}")
        return data
    if get_origin(kind) in (Union, types.UnionType):
        return None if data is None else _checked(next(each for each in arguments if each is not NoneType), data, name)
    if get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{name} isn't a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _many(arguments[0], data, name)
        if len(data) != len(arguments):
            raise ValueError(f"{name} has {len(data)} values instead of {len(arguments)}")
        return tuple(_checked(each, item, name) for each, item in zip(arguments, data, strict=True))
    if kind is float:
        if type(data) not in (int, float) or not abs(data) < _LARGEST:
            raise ValueError(f"{name} isn't a number")
        return float(data)
    if type(data) is not kind:
        raise ValueError(f"{name} isn't {_CALLED.get(kind, kind)}")
    if kind is int and not -_LARGEST <= data < _LARGEST:
        raise ValueError(f"{name} is too large")
    if kind is str and any("\ud800" <= sign <= "\udfff" for sign in data):
        raise ValueError(f"{name} isn't text")
    return data


def _many(kind: Any, data: list[Any], name: str) -> tuple[Any, ...]:
    """Long lists are of numbers, all of one type, and needn't be looked at one by one."""
    if data and set(map(type, data)) == {kind}:
        if kind is bool or (kind is int and min(data) >= -_LARGEST and max(data) < _LARGEST):
            return tuple(data)
        if kind is float and all(map(math.isfinite, data)):
            return tuple(data)
    return tuple(_checked(kind, item, name) for item in data)


def _record(kind: Any, data: Any, name: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{name} isn't an object")
    known = dict(zip((field.name for field in fields(kind)), _kinds(kind), strict=True))
    if unknown := [str(each) for each in data if each not in known]:
        raise ValueError(f"{name} has no {unknown[0]}")
    values = {each: _checked(known[each], value, each) for each, value in data.items()}
    for field in fields(kind):
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**values)


_LARGEST = 1 << 63
_CALLED = {int: "a whole number", str: "text", bool: "true or false"}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return [_plain(getattr(value, field.name)) for field in fields(value)]
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@cache
def _kinds(kind: type[Any]) -> tuple[Any, ...]:
    hints = get_type_hints(kind)
    return tuple(hints[field.name] for field in fields(kind))


def _made(kind: Any, data: Any) -> Any:
    if is_dataclass(kind):
        kinds = _kinds(kind)  # type: ignore[arg-type]
        # The last fields may be younger than the text.
        needed = len(kinds) - sum(each.default is not MISSING for each in fields(kind)[-_MOST_YOUNG:])
        if not needed <= len(data) <= len(kinds):
            raise ValueError(f"not a {kind}: {len(data)} values instead of {len(kinds)}")
        return kind(*(_made(each, item) for each, item in zip(kinds, data, strict=False)))  # type: ignore[operator]
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        kinds = arguments[:1] * len(data) if len(arguments) == 2 and arguments[1] is Ellipsis else arguments
        return tuple(_made(each, item) for each, item in zip(kinds, data, strict=True))
    if get_origin(kind) in (Union, types.UnionType):
        return None if data is None else _made(next(each for each in arguments if each is not type(None)), data)
    if isinstance(data, dict):  # of many records, all with the same names
        return {sys.intern(name): value for name, value in data.items()}
    return data
