"""Predictions tables as files: one Parquet part per video and task, and the footer that tells what made it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from emobeam.emo_transforms import storage
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tables import FOOTER_KEY


def part_name(video: str) -> str:
    """File name of a video's part: readable, and unique by a digest; never hidden from folder readers."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "_", video).strip("._")[-80:]
    return f"{slug or 'video'}-{hashlib.sha256(video.encode()).hexdigest()[:8]}.parquet"


def part_uri(output: str, task: str, video: str) -> str:
    """Where the predictions of a video lie."""
    return storage.join(output, "predictions", task, part_name(video))


def read_part_footer(uri: str) -> dict[str, Any]:
    """The JSON document in the footer of a part; raises :class:`EmobeamError` where there is none."""
    try:
        with storage.open_read(uri) as file:
            metadata = pq.read_metadata(file).metadata or {}
            data: dict[str, Any] = json.loads(metadata[FOOTER_KEY])
        if not {"task", "video", "subjects"} <= set(data):
            raise KeyError("task")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise EmobeamError(f"{uri}: not a predictions table of emobeam, or damaged ({error})") from error
    return data


def write_part(uri: str, table: pa.Table, footer: Mapping[str, Any]) -> None:
    """Writes a part as a whole, the JSON document in its footer."""
    text = json.dumps(footer, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    with (
        storage.atomic_file(uri) as path,
        pq.ParquetWriter(
            path, table.schema, compression="zstd", use_dictionary=["video", "subject", "source"]
        ) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY.decode(): text})
