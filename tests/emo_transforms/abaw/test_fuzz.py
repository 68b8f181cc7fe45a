"""Thousands of damaged files: each gives the data that stand in it, or an error that names file and line.

What stands in a damaged file is decided by a second reader (``oracle``). The seed is fixed, so failures repeat.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels, read_labels
from emobeam.emo_transforms.abaw.submissions.reading import read_submission
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, write_submission
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import format_key, format_name
from emobeam.schemas.tasks import TASKS, Task
from tests.emo_transforms.abaw import oracle
from tests.emo_transforms.abaw.examples import label_files, outputs_of
from tests.emo_transforms.abaw.invented import FORMS, valid_rows

CASES = 300
"""Damaged files per kind of file: with labels and submissions of all tasks thousands; more in a hostile run."""

MEMORY = MemoryFileSystem()

NUMBERS = [b"nan", b"inf", b"-5", b"-1", b"1e999", b"0x1", b"1_0", b"9" * 30, b"1.0", b"+1", b"-0", b"0.5", b"\xc2\xb2"]
MARKS = [b"", b" ", b",", b"\t", b"\r", b"\n", b"\n\n", b"#", b'"', b"&a", b"!", b": "]
BYTES = [b"\xff", b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xa8"]
JUNK = [*NUMBERS, *MARKS, *BYTES]


def damaged(random_: random.Random, data: bytes) -> bytes:
    """The data after one or two mishaps, of bytes, fields or lines."""
    for _ in range(random_.choice((1, 1, 2))):
        kind = random_.randrange(10)
        place = random_.randrange(len(data) + 1)
        lines = data.split(b"\n")
        line = random_.randrange(len(lines))
        fields = lines[line].split(b",")
        if kind == 0:
            data = data[:place] + bytes([random_.randrange(256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place] + random_.choice(JUNK) + data[place:]
        elif kind == 2:
            data = data[:place] + data[place + random_.randint(1, 6) :]
        elif kind == 3:
            data = data[:place]
        elif kind == 4:
            fields[random_.randrange(len(fields))] = random_.choice(JUNK)
        elif kind == 5:
            fields.insert(random_.randrange(len(fields) + 1), random_.choice(JUNK))
        elif kind == 6:
            fields.pop()
        elif kind == 7:
            lines[line : line + 1] = [lines[line]] * random_.choice((0, 2))
        elif kind == 8:
            random_.shuffle(lines)
        else:
            lines.insert(line, random_.choice(lines + JUNK))
        if kind in (4, 5, 6):
            lines[line] = b",".join(fields)
        if kind >= 4:
            data = b"\n".join(lines)
    return data


def spelled_otherwise(random_: random.Random, data: bytes) -> bytes:
    """The same data with other line ends, mark, blanks at line ends, or empty lines at the end."""
    ends = random_.choice((b"\n", b"\r\n", b"\r", b" \n", b"\t\r\n"))
    data = data.rstrip(b"\n") + random_.choice((b"", b"\n", b"\n\n", b"\n \n"))
    return random_.choice((b"", b"\xef\xbb\xbf")) + data.replace(b"\n", ends)


def invented(task: Task, seed: int) -> list[VideoLabels]:
    rng = np.random.default_rng(seed)
    found = []
    for base in ("14-30-1920x1080", "video49_left"):
        name = format_name(task, base, "")
        frames = np.arange(1, 2 if task.scope == "clip" else 5, dtype=np.int32)
        columns = []
        for group in task.groups:
            low, high = group.label_range
            for _ in group.label_columns:
                values = rng.uniform(low, high, len(frames)).round(3)
                columns.append(values.round() if group.kind != "value" else values)
        table = np.stack(columns, axis=1).astype(np.float32)
        found.append(VideoLabels(name, frames, table, valid_rows(task, table)))
    return found


Read = Callable[[], oracle.Data]


def check(data: bytes, file: str, read: Read, expected: oracle.Data | None, same: oracle.Data) -> bool:
    """Whether the data were read; fails where they are neither right nor refused with file and line."""
    try:
        found = read()
    except EmobeamError as error:
        message = str(error)
        assert file in message, (data, message)
        assert "line " in message, (data, message)
        return False
    assert equal(found, expected) or equal(found, same), (data, found, expected)
    return True


def equal(one: oracle.Data, other: oracle.Data | None) -> bool:
    if other is None or one.keys() != other.keys():
        return False
    return all(np.array_equal(np.float32(one[key]), np.float32(other[key])) for key in one)


LAYOUTS = list(TASKS.values())


@pytest.mark.parametrize("task", LAYOUTS, ids=[task.name for task in LAYOUTS])
def test_annotation_files(task: Task) -> None:
    random_ = random.Random(f"labels {task.name}")
    video = invented(task, 1)
    kind = task.labels.kind
    name, text = next(iter(label_files(task, video).items()))
    name = name or "annotation"
    file = f"memory://fuzz/{task.name}/{name}{'.yml' if kind == 'bah-frames' else '.csv'}"

    def read() -> oracle.Data:
        return {
            (found.name, frame): tuple(row)
            for found in read_labels(file, task, warn=pytest.fail)
            for frame, row in zip(found.frames.tolist(), found.values.tolist(), strict=True)
        }

    def second(data: bytes) -> oracle.Data | None:
        if kind == "bah-frames":
            return oracle.read_yaml(data)
        return oracle.read(task, kind, data, name, task.labels.header, labels=True)

    original = second(text.encode())
    assert original is not None
    kept = 0
    for _ in range(CASES):
        data = damaged(random_, text.encode())
        MEMORY.pipe(file, data)
        kept += check(data, file, read, second(data), original)
    assert 0 < kept < CASES
    for _ in range(30):
        MEMORY.pipe(file, spelled_otherwise(random_, text.encode()))
        assert equal(read(), original)


@pytest.mark.parametrize(("task", "edition"), FORMS, ids=[f"{task.name}-{edition}" for task, edition in FORMS])
def test_submission_files(task: Task, edition: int) -> None:
    random_ = random.Random(f"{task.name} {edition}")
    videos = invented(task, edition)
    tables = {(video.name, ""): FramePredictions(video.frames, outputs_of(task, video.values)) for video in videos}
    report = write_submission(
        task,
        edition,
        f"memory://fuzz/{task.name}-{edition}",
        predictions=lambda *at: tables.get(at),
        tables=tables,
        decimals=3,
    )
    form = task.forms_of(edition)[0]
    file = report.files[0]
    text = MEMORY.cat_file(file)
    name = file.rpartition("/")[2].rpartition(".")[0]
    kind = {"place": "rows", "number": "numbered"}.get(form.key.kind, "table")
    template = f"memory://fuzz/{task.name}-{edition}/template.txt"
    keys = [name] if form.key.per_video else [
        video.name if task.scope == "clip" else format_key(task, video.name, frame)
        for video in videos for frame in video.frames.tolist()
    ]  # fmt: skip
    MEMORY.pipe(template, "".join(f"{key}\n" for key in keys).encode())

    def read() -> oracle.Data:
        return {
            (found, frame): tuple(row)
            for found, frames, values in read_submission(file, task, edition)
            for frame, row in zip(frames.tolist(), values.tolist(), strict=True)
        }

    def second(data: bytes) -> oracle.Data | None:
        return oracle.read(task, kind, data, name, form.header, labels=False)

    original = second(text)
    assert original is not None
    assert equal(read(), original)
    kept = valid = 0
    for _ in range(CASES // 2):
        data = damaged(random_, text)
        MEMORY.pipe(file, data)
        kept += check(data, file, read, second(data), original)
        checked = validate(file, task, edition, template)
        if checked.ok:  # then all is there, once, in order, and can be read
            valid += 1
            assert list(read()) == list(original) or form.key.per_video, data
        else:
            assert all(file in str(finding) for finding in checked.errors), data
    assert 0 < valid <= kept < CASES
    for _ in range(20):
        MEMORY.pipe(file, spelled_otherwise(random_, text))
        assert equal(read(), original)
        assert validate(file, task, edition, template).ok
