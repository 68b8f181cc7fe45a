"""Streams beside the shards: vectors that others computed of a video (voice, text, another network), on a clock.

``streams/<name>/<digest of the video's id>.parquet`` holds one stream of one video. It is no part of the features'
identity: shards neither know of it nor change with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.schemas.config import digest_of
from emobeam.schemas.plain_json import checked, parsed
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import FOOTER_KEY, stream_schema

FORM = 1


@dataclass(frozen=True)
class Stream:
    """The JSON document in the footer of a stream.

    Attributes:
        name: of the stream, the same for all videos.
        length: of a vector.
        steps: rows.
        clock: where times come from: ``times`` (given), ``rate`` (steps per second), ``spread`` (evenly over the
            decoded duration), ``clip`` (none: one vector for all of the video).
        rate: steps per second; 0 with another clock.
        source: what the vectors were read from, for people.
        digest: sha256 of what they were read from, by which a later run knows that it is done.
    """

    video: str
    name: str
    length: int
    steps: int
    clock: Literal["times", "rate", "spread", "clip"]
    rate: float
    source: str
    digest: str
    form: int = FORM


def stream_uri(features: str, name: str, video: str) -> str:
    """Where a stream of a video lies.

    Raises:
        UsageError: the name is no name of a folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise UsageError(f"'{name}' can't be the name of a stream; take letters, digits, '_', '-' and '.'")
    return storage.join(features, "streams", name, f"{digest_of([video])}.parquet")


def write_stream(
    features: str, about: Stream, times: NDArray[np.float64] | None, vectors: NDArray[np.floating[Any]]
) -> None:
    """Writes a stream as a whole or not at all.

    Args:
        times: of the middle of each step in s, in order; None with the clock ``clip``.
        vectors: finite, ``[steps, length]``.

    Raises:
        ValueError: what is said of the stream isn't so.
        OutputError: it can't be written.
    """
    if vectors.shape != (about.steps, about.length) or not np.isfinite(vectors).all():
        raise ValueError(f"expected finite vectors {[about.steps, about.length]}, got {list(vectors.shape)}")
    if (times is None) != (about.clock == "clip") or (times is not None and len(times) != about.steps):
        raise ValueError(f"times of a stream with the clock {about.clock}")
    schema = stream_schema(about.length)
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    columns = [
        pa.array([about.video] * about.steps, pa.string()),
        pa.array(np.arange(about.steps, dtype=np.int32)),
        pa.nulls(about.steps, pa.float64()) if times is None else pa.array(np.asarray(times, np.float64)),
        pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type),
    ]
    told = json.dumps(asdict(about), separators=(",", ":"), ensure_ascii=False)
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata({FOOTER_KEY: told}))
    with storage.atomic_file(stream_uri(features, about.name, about.video)) as path:
        pq.write_table(table, path, compression="snappy", use_dictionary=["video"])


def read_stream(
    features: str, name: str, video: str
) -> tuple[Stream, NDArray[np.float64] | None, NDArray[np.float32]] | None:
    """What a stream says of itself, its times and its vectors; None where the video has none.

    Raises:
        EmobeamError: it is damaged, or of a newer emobeam.
    """
    uri = stream_uri(features, name, video)
    try:
        table = read_parquet(uri)
        about = checked(Stream, parsed((table.schema.metadata or {}).get(FOOTER_KEY, b"")))
        if about.form > FORM or not table.schema.equals(stream_schema(about.length)) or len(table) != about.steps:
            raise ValueError(f"form {about.form}, {about.steps} steps of {about.length}")
    except FileNotFoundError:
        return None
    except (ValueError, pa.ArrowException) as error:
        raise EmobeamError(f"{uri}: not a stream that this emobeam reads ({error}); attach it again") from error
    vectors = np.asarray(table["vector"].combine_chunks().flatten(), np.float32).reshape(about.steps, about.length)
    return about, None if about.clock == "clip" else table["time"].to_numpy(), vectors


def stream_names(features: str) -> list[str]:
    """Names of the streams that a cache has."""
    return sorted(storage.names(storage.join(features, "streams"), ""))
