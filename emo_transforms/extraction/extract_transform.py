"""The heavy step of stage 1: children make the shards of segments, see :mod:`.extraction.segment_job`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from emobeam.emo_transforms.cache.failures import write_failure
from emobeam.emo_transforms.cache.segment_codec import decode_segment, expanded
from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders of what goes in and out)
from emobeam.emo_transforms.extraction.child_step import ChildStep, count
from emobeam.emo_transforms.extraction.child_work import Finder, Outcome, Work
from emobeam.emo_transforms.extraction.resume_plan import segment_failure
from emobeam.emo_transforms.extraction.segment_job import SegmentJob
from emobeam.emo_transforms.storage import read_bytes
from emobeam.schemas.plain_json import from_text
from emobeam.schemas.records import InputError, PlannedSegment, ShardRecord


class _ExtractSegment(ChildStep):
    def __init__(self, extract: SegmentJob, finder: Finder) -> None:
        super().__init__(finder)
        self._job = extract

    def job(self) -> SegmentJob:
        return self._job

    def work(self, segment: PlannedSegment) -> Work:
        return Work(segment.shard, segment.sampled, segment)

    def heard(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "frames":
            count("frames", data["frames"])
        super().heard(event, data)

    def outputs(self, outcome: Outcome) -> Iterator[ShardRecord]:
        if outcome.reason:
            count("segments_failed")
            if outcome.crashed:  # else its job has written what there is to say
                note_crash(self._job.features, outcome.work.element, outcome.reason, outcome.message)
            return
        record = from_text(ShardRecord, outcome.result)
        count("segments")
        count("faces", record.rows)
        for step, seconds in record.seconds.items():
            Metrics.distribution("emobeam", f"ms_{step}").update(round(1000 * seconds))
        yield replace(record, seconds={})


def note_crash(features: str, planned: PlannedSegment, reason: str, message: str) -> None:
    """Writes the failure record of a segment that killed its process, or stood still."""
    segment = expanded(decode_segment(planned.data), read_bytes)
    text = f"{segment.video.uri}: segment {segment.index}: {message}"
    error = InputError(text, stage="extract", reason=reason, permanent=False)
    write_failure(features, segment.shard, segment_failure(segment, error))


@dataclass
class ExtractSegments(beam.PTransform):  # type: ignore[misc, type-arg]
    """Segments in (PlannedSegment); out come records of their shards (ShardRecord).

    Failure records of segments that can't be done are written here.

    Attributes:
        hints: resource hints of the step.
    """

    job: SegmentJob
    finder: Finder
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, segments: Any) -> Any:
        """PlannedSegment in, ShardRecord out."""
        extract: Any = beam.ParDo(_ExtractSegment(self.job, self.finder))
        if self.hints:
            extract = extract.with_resource_hints(**self.hints)
        return segments | "ExtractSegment" >> extract.with_output_types(ShardRecord)
