"""What a child process does to plan stage 1: it looks at inputs, one after the other, and loads no network."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from emobeam.emo_transforms.cache.segment_codec import compacted, encode_segment
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.extraction.resume_plan import look_at, looked, note_failure
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.plain_json import from_text, to_text
from emobeam.schemas.records import Looked, PlannedSegment, VideoTask


@dataclass(frozen=True)
class PlanJob:
    """Looks at inputs; what comes of each is the result, see :func:`planned`.

    Failure records of videos of which nothing can be had are written here.

    Attributes:
        features: URI of the cache.
        exchange: takes the lists of segments that are too long to travel (see ``segment_codec.compacted``); None where
            nothing is too long.
    """

    config: ExtractConfig
    features: str
    exchange: Exchange | None = None

    def open(self, decoders: Decoders) -> Callable[[VideoTask, Report], None]:
        """What looks at one input, with a decoding process for all of them."""
        decoder = decoders.get(self.config.decoder)

        def plan(task: VideoTask, report: Report) -> None:
            report("start", {"key": task.video.id})
            look = look_at(task, self.config, decoder.probe)
            note_failure(self.features, task.video, look, self.config)
            todo = look.todo((*task.given_up, *task.there))
            pieces = []
            for segment in todo:
                small = compacted(segment, partial(_put, self.exchange)) if self.exchange else segment
                data = b64encode(encode_segment(small)).decode()
                pieces.append([segment.shard, len(segment.sampled), data])
            record = looked(task, look, todo)
            report("done", {"key": task.video.id, "result": {"looked": to_text(record), "segments": pieces}})

        return plan


def _put(exchange: Exchange, name: str, data: bytes) -> str:
    return exchange.put("timelines", f"{name}.segment", data)


def planned(result: Any) -> tuple[Looked, list[PlannedSegment]]:
    """What :class:`PlanJob` told of one input."""
    record = from_text(Looked, result["looked"])
    return record, [PlannedSegment(shard, sampled, b64decode(data)) for shard, sampled, data in result["segments"]]
