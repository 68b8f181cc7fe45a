"""``annotation.yml`` of BAH's frame-level release: read as a stream of YAML events, which know their lines.

The file maps the id of a video to a mapping that holds, beside other things, ``frame_annotation``: a list of pairs of a
frame's key and 0 or 1. With all videos it has a third of a million pairs; events keep it small and give lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from emobeam.emo_transforms.abaw.text_files import read_lines
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import parse_key
from emobeam.schemas.tasks import Task

_FRAMES = "frame_annotation"


def read_annotation(uri: str, task: Task) -> Iterator[tuple[str, int, str, int, tuple[float, ...]]]:
    """Yields file, line, id of the video, frame (from 1) and the one value of every annotated frame.

    Raises:
        EmobeamError: no YAML of that form; names file and line.
    """
    text = "\n".join(line.rstrip() for _, line in read_lines(uri, strip=False))
    try:
        events = _Events(uri, yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        for line, name in events.entries():
            seen = False
            for inner, field in events.entries(f"{uri}, line {line}: {name!r}"):
                if field != _FRAMES:
                    events.skip()
                    continue
                if seen:
                    raise EmobeamError(f"{uri}, line {inner}: {name!r} has {_FRAMES} twice")
                seen = True
                for place, key, value in events.pairs():
                    frame = _frame(uri, place, task, name, key)
                    if value not in ("0", "1"):
                        raise EmobeamError(f"{uri}, line {place}: {key!r} is labelled {value!r}, expected 0 or 1")
                    yield uri, place, name, frame, (float(value),)
            if not seen:
                raise EmobeamError(f"{uri}, line {line}: {name!r} has no {_FRAMES}")
        events.expect_end()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0) or 0)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise EmobeamError(f"{uri}, line {place + 1}: no valid YAML ({reason})") from error


class _Events:
    """Reads mappings and lists from a stream of YAML events."""

    def __init__(self, uri: str, events: Iterator[Any]) -> None:
        self.uri = uri
        self.events = events
        self.first = True

    def next(self) -> Any:
        event = next(self.events, None)
        if event is None or isinstance(event, yaml.AliasEvent):
            raise EmobeamError(f"{self.uri}, line {self.line(event)}: not a mapping of videos to annotations")
        return event

    @staticmethod
    def line(event: Any) -> int:
        return 1 if event is None else int(event.start_mark.line) + 1

    def entries(self, where: str = "") -> Iterator[tuple[int, str]]:
        """The keys of the mapping that comes now; the caller reads or skips the value of each."""
        if self.first:
            self.first = False
            for _ in range(2):  # the beginnings of stream and document
                event = self.next()
        event = self.next()
        if not isinstance(event, yaml.MappingStartEvent):
            raise EmobeamError(f"{where or f'{self.uri}, line {self.line(event)}: the file'} is no mapping")
        seen: dict[str, int] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            key, line = self.scalar(event), self.line(event)
            if key in seen:
                raise EmobeamError(f"{self.uri}, line {line}: {key!r} stands on line {seen[key]} already")
            seen[key] = line
            yield line, key

    def pairs(self) -> Iterator[tuple[int, str, str]]:
        """Line, first and second of each item of the list of pairs that comes now."""
        event = self.next()
        if not isinstance(event, yaml.SequenceStartEvent):
            raise EmobeamError(f"{self.uri}, line {self.line(event)}: expected a list of [frame, 0 or 1]")
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            line = self.line(event)
            if not isinstance(event, yaml.SequenceStartEvent):
                raise EmobeamError(f"{self.uri}, line {line}: expected [frame, 0 or 1]")
            key, value = self.scalar(self.next()), self.scalar(self.next())
            if not isinstance(self.next(), yaml.SequenceEndEvent):
                raise EmobeamError(f"{self.uri}, line {line}: {key!r} has more than one label")
            yield line, key, value

    def skip(self) -> None:
        """Passes over the value that comes now, whatever it is."""
        depth = 0
        while True:
            event = next(self.events, None)
            if event is None:
                return
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth == 0:
                return

    def expect_end(self) -> None:
        """The document and the stream end now."""
        self.next()
        event = self.next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise EmobeamError(f"{self.uri}, line {self.line(event)}: a second document begins, expected one")

    def scalar(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise EmobeamError(f"{self.uri}, line {self.line(event)}: expected a single value")
        return str(event.value)


def _frame(uri: str, line: int, task: Task, name: str, key: str) -> int:
    try:
        video, frame = parse_key(task, key)
    except EmobeamError as error:
        raise EmobeamError(f"{uri}, line {line}: {error}") from None
    if video != name or frame is None:
        raise EmobeamError(f"{uri}, line {line}: {key!r} is no frame of {name!r}")
    return frame
