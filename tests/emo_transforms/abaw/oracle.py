"""A second reader of the organisers' files, slow and strict, written apart from the one under test.

It takes the bytes of a file and returns ``{(name, frame): (value, ...)}``, or None where a careful person would say
that the file is damaged.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import yaml

from emobeam.schemas.tasks import Task

Data = dict[tuple[str, int], tuple[float, ...]]


def lines_of(data: bytes) -> list[str] | None:
    """Lines without blanks around them, those at the end that are empty left out."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_values(task: Task, fields: list[str], *, labels: bool) -> tuple[float, ...] | None:
    """The values of a row, None where one isn't a number, or none that may stand there."""
    columns = [group for group in task.groups for _ in group.label_columns]
    if len(fields) != len(columns):
        return None
    values = []
    for field, group in zip(fields, columns, strict=True):
        if "_" in field or not field.isascii():  # Decimal takes both
            return None
        try:
            number = Decimal(field.strip())
        except InvalidOperation:
            return None
        low, high = group.label_range
        marker = labels and group.invalid is not None and number == Decimal(group.invalid)
        if not number.is_finite() or not (marker or low <= number <= high):
            return None
        if group.kind != "value" and number != number.to_integral_value():
            return None
        values.append(float(number))
    return tuple(values)


def read_key(task: Task, text: str) -> tuple[str, int] | None:
    """Name and frame."""
    if task.name == "ah":
        found = re.fullmatch(r"(.+)/frame-([0-9]{1,20})\.jpg", text)
        return (found[1], int(found[2]) + 1) if found and int(found[2]) < 2**31 - 1 else None
    if task.scope == "frame":
        found = re.fullmatch(r"(.+)/([0-9]{1,20})\.jpg", text)
        return (found[1], int(found[2])) if found and 1 <= int(found[2]) < 2**31 else None
    ends = {"ah-video": ".mp4", "lsd": ".jpg"}.get(task.name, "")
    fine = text and text.lower().endswith(ends) and (ends or not text.endswith(".jpg")) and text.lower() != ends
    return (text, 1) if fine else None


def read(task: Task, kind: str, data: bytes, name: str, header: str | None, *, labels: bool) -> Data | None:
    """The data of one file of that kind (``rows``, ``numbered``, ``table``, ``bah-clips``)."""
    lines = lines_of(data)
    placed = kind == "rows" or (kind == "numbered" and not labels)
    lines = lines if placed or lines is None else [line for line in lines if line]
    if not lines:
        return None
    if header is not None:
        first = lines.pop(0)
        if not labels and [field.strip() for field in first.split(",")] != header.split(","):
            return None
        numbers = [field for field in first.split(",") if re.fullmatch(r"[-+.\d]+", field.strip(), re.ASCII)]
        if labels and (any(map(str.strip, numbers)) or (first != header and first.startswith(header))):
            return None  # no header at all, or a row glued to it
    found: Data = {}
    for place, line in enumerate(lines, start=1):
        row = read_row(task, kind, line, name, place, labels=labels)
        if row is None or row[0] in found:
            return None
        found[row[0]] = row[1]
    return found or None


def read_row(
    task: Task, kind: str, line: str, name: str, place: int, *, labels: bool
) -> tuple[tuple[str, int], tuple[float, ...]] | None:
    """Key and values of one line."""
    if kind == "bah-clips":
        split = line.split(",", 2)
        fine = len(split) == 3 and split[1].strip() in ("0", "1") and split[0].strip().lower().endswith(".mp4")
        return ((split[0].strip(), 1), (float(split[1]),)) if fine else None
    if kind == "rows":
        values = read_values(task, line.split(","), labels=labels)
        return ((name, place), values) if values else None
    if kind == "numbered":
        number, _, rest = line.partition(",")
        values = read_values(task, rest.split(","), labels=labels)
        fine = re.fullmatch(r"[0-9]{1,10}", number.strip()) and 1 <= int(number) < 2**31
        return ((name, int(number)), values) if values and fine else None
    columns = sum(len(group.label_columns) for group in task.groups)
    fields = line.rsplit(",", columns)
    values = read_values(task, fields[1:], labels=labels)
    key = read_key(task, fields[0].strip())
    if task.scope == "clip" and "," in fields[0]:
        return None
    return (key, values) if key and values else None


def read_yaml(data: bytes) -> Data | None:
    """The data of annotation.yml."""
    found: Data = {}
    try:
        videos = yaml.safe_load(data.decode("utf-8-sig"))
        for name, video in videos.items():
            for key, value in video["frame_annotation"]:
                if str(value) not in ("0", "1") or not key.startswith(f"{name}/frame-") or not key.endswith(".jpg"):
                    return None
                place = (name, int(key[len(name) + 7 : -4]) + 1)
                if place in found:
                    return None
                found[place] = (float(value),)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
        return None
    return found or None
