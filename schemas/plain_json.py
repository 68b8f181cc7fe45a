"""Frozen records as plain JSON data and back, for files and for the way between two stages."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


_MOST_YOUNG = 2


def to_text(record: Any) -> str:
    """A record as a line of JSON; equal records give equal text."""
    return json.dumps(_plain(record), separators=(",", ":"))


def from_text(kind: type[T], text: str | bytes) -> T:
    """The inverse of :func:`to_text`; raises ``ValueError`` or ``TypeError`` where the text is of another record."""
    record: T = _made(kind, json.loads(text))
    return record


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
