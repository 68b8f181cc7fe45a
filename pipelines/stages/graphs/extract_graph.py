"""The graph of stage 1, the same on every runner."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms.extraction.beam_records import Ends
from emobeam.emo_transforms.extraction.extract_transform import ExtractSegments
from emobeam.emo_transforms.extraction.plan_job import PlanJob
from emobeam.emo_transforms.extraction.plan_transform import PlanVideos
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.schemas.records import Looked, PlannedSegment, ShardRecord


def extract_graph(pipeline: Any, ends: Ends, plan: PlanJob, extract: SegmentJob) -> None:
    """Tasks -> look and plan -> segments -> shards; small records come back, and all else is in files.

    Between planning and extraction segments are spread over all workers; on the in-process runner that is where
    planning ends, so that all totals are known before the heavy step begins.
    """
    planned = pipeline | "Videos" >> ends.tasks | "Plan" >> PlanVideos(plan, ends.finder)
    made = (
        planned.segments
        | "Segments" >> ends.spread(PlannedSegment)
        | "Extract" >> ExtractSegments(extract, ends.finder, ends.hints)
    )
    _ = planned.looked | "Looked" >> ends.leave(Looked, "looked")
    _ = made | "Shards" >> ends.leave(ShardRecord, "shards")
