"""Damaged files of every kind that emobeam reads: each is read, or refused by an error of emobeam's own."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.abaw.submissions.reading import read_submission
from emobeam.emo_transforms.abaw.submissions.templates import read_template
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.emo_transforms.cache.dataset import shard_uri
from emobeam.emo_transforms.cache.shards import read_footer, read_rows
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.emo_transforms.video.sampling import plan_segments
from emobeam.schemas.config import DecoderConfig, SamplingConfig
from emobeam.schemas.records import EmobeamError, Fingerprint, Video
from emobeam.schemas.tables import FOOTER_KEY
from emobeam.schemas.tasks import TASKS
from tests.clips import portrait
from tests.emo_transforms.abaw.test_fuzz import damaged
from tests.emo_transforms.caches import SHAPES, Seen, footer, write_shard
from tests.hostile.damage import damaged_bytes, damaged_json

AU = TASKS["au"]
EDITION = 8
SLOW = 60.0
"""Seconds after which one file takes too long, on whatever machine."""

Change = Callable[[random.Random, bytes], bytes]
Read = Callable[[], object]


@dataclass
class Count:
    """What became of the damaged files of a kind.

    Attributes:
        broken: neither read nor refused in order: another exception, or too slow; what was seen.
    """

    read: int = 0
    refused: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """All of them."""
        return self.read + self.refused + len(self.broken)


@dataclass(frozen=True)
class Target:
    """A file that is damaged in place, again and again, and what then reads it."""

    path: Path
    change: Change
    read: Read


@contextmanager
def _videos(folder: Path) -> Iterator[list[Target]]:
    with DecoderProcess(DecoderConfig(timeout=20.0)) as decoder:

        def reader(path: Path) -> Read:
            def read() -> int:
                probe = decoder.probe(str(path))
                segments = plan_segments(Video("v", str(path)), Fingerprint(1, ""), probe, SamplingConfig(6.0), "")
                return sum(1 for segment in segments[:2] for _ in decoder.frames(str(path), segment))

            return read

        made = [
            portrait(folder / "a.mp4", frames=14),
            portrait(folder / "b.mkv", frames=10),
            portrait(folder / "c.webm", frames=8, codec="libvpx-vp9"),
            portrait(folder / "d.avi", frames=10, codec="mpeg4"),
            portrait(folder / "e.ts", frames=10),
        ]
        yield [Target(path, damaged_bytes, reader(path)) for path in made]


@contextmanager
def _labels(folder: Path) -> Iterator[list[Target]]:
    place = folder / "AU_Detection_Challenge/Train_Set"
    place.mkdir(parents=True)
    rows = "\n".join(",".join(str((row + column) % 3 - 1) for column in range(12)) for row in range(30))
    path = place / "video1.txt"
    path.write_text(f"{AU.labels.header}\n{rows}\n")
    yield [Target(path, damaged, lambda: list(read_labels(str(folder), AU, warn=lambda text: None)))]


def _key(frame: int) -> str:
    return f"video1/{frame:05d}.jpg"


@contextmanager
def _templates(folder: Path) -> Iterator[list[Target]]:
    path = folder / "template.txt"
    path.write_text("\n".join([str(AU.form.header), *(f"{_key(frame)}," for frame in range(1, 40))]) + "\n")
    yield [Target(path, damaged, lambda: list(read_template(str(path), AU)))]


@contextmanager
def _submissions(folder: Path) -> Iterator[list[Target]]:
    path = folder / "predictions.txt"
    path.write_text(
        "\n".join([str(AU.form.header), *(f"{_key(frame)},{','.join('01' * 6)}" for frame in range(1, 40))]) + "\n"
    )

    def read() -> object:
        found = validate(str(path), AU, EDITION, "")
        return found, list(read_submission(str(path), AU, EDITION))

    yield [Target(path, damaged, read)]


@contextmanager
def _heads(folder: Path) -> Iterator[list[Target]]:
    head = folder / "head"
    save_head(new_head(AU, Offer("f00d", {"s32": (4, 2, 2)})), str(head))

    def read() -> object:
        return load_head(str(head))

    yield [
        Target(head / "head.json", damaged_json, read),
        Target(head / "head.json", damaged, read),
        Target(head / "head.safetensors", damaged_bytes, read),
    ]


@contextmanager
def _footers(folder: Path) -> Iterator[list[Target]]:
    faces = [Seen(frame, look=frame % 3) for frame in (1, 6, 11, 16, 21)]
    path = Path(shard_uri(str(folder), write_shard(folder, "shard", footer(), faces)))
    table = pq.ParquetFile(path).read()
    text = pq.read_metadata(path).metadata[FOOTER_KEY]

    def with_footer(random_: random.Random, data: bytes) -> bytes:
        pq.write_table(table.replace_schema_metadata({FOOTER_KEY: damaged_json(random_, text)}), path)
        return path.read_bytes()

    def read() -> object:
        return read_footer(str(path)), list(read_rows(str(path), [f"map_{next(iter(SHAPES))}"]))

    yield [Target(path, with_footer, read), Target(path, damaged_bytes, read)]


KINDS = {
    "videos": _videos,
    "labels": _labels,
    "templates": _templates,
    "submissions": _submissions,
    "heads": _heads,
    "footers": _footers,
}


def count_damaged(kind: str, folder: Path, cases: int, seed: int) -> Count:
    """Damages files of a kind so many times, and counts what becomes of them.

    Args:
        folder: empty, to work in.
    """
    random_ = random.Random(f"{kind} {seed}")
    count = Count()
    with KINDS[kind](folder) as targets:
        whole = {target.path: target.path.read_bytes() for target in targets}
        for target in targets:
            target.read()
        for number in range(cases):
            target = targets[number % len(targets)]
            data = target.change(random_, whole[target.path])
            target.path.write_bytes(data)
            _judge(count, target, f"{kind} {number} of seed {seed} ({target.path.name})")
            target.path.write_bytes(whole[target.path])
    return count


def _judge(count: Count, target: Target, name: str) -> None:
    began = time.monotonic()
    try:
        target.read()
    except EmobeamError:
        count.refused += 1
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        count.broken.append(f"{name}: {type(error).__name__}: {str(error)[:200]} ({where.filename}:{where.lineno})")
    else:
        count.read += 1
    if (seconds := time.monotonic() - began) > SLOW:
        count.broken.append(f"{name}: took {seconds:.0f} s")
