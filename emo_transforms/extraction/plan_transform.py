"""The first step of stage 1: children look at inputs and plan their segments, see :mod:`.extraction.plan_job`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders of what goes in and out)
from emobeam.emo_transforms.extraction.child_step import ChildStep, count
from emobeam.emo_transforms.extraction.child_work import Finder, Outcome, Work
from emobeam.emo_transforms.extraction.plan_job import PlanJob, planned
from emobeam.emo_transforms.extraction.resume_plan import Look, looked, note_failure
from emobeam.schemas.records import InputError, Looked, PlannedSegment, VideoTask


class _PlanVideo(ChildStep):
    def __init__(self, plan: PlanJob, finder: Finder) -> None:
        super().__init__(finder)
        self._job = plan

    def job(self) -> PlanJob:
        return self._job

    def work(self, task: VideoTask) -> Work:
        return Work(task.video.id, 1, task)

    def heard(self, event: str, data: Mapping[str, Any]) -> None:
        if event in ("died", "retry"):
            super().heard(event, data)

    def outputs(self, outcome: Outcome) -> Iterator[Any]:
        record, segments = self._gave_up(outcome) if outcome.reason else planned(outcome.result)
        count("videos")
        count("segments_planned", record.segments)
        told = {"segments": record.segments, "frames": record.sampled, "failed": bool(record.error)}
        yield beam.pvalue.TaggedOutput("looked", record)
        self.helpers.report("looked", {"key": record.video, **told})
        yield from segments

    def _gave_up(self, outcome: Outcome) -> tuple[Looked, list[PlannedSegment]]:
        task: VideoTask = outcome.work.element
        text = f"{task.video.uri}: {outcome.message}"
        look = Look(None, error=InputError(text, stage="probe", reason=outcome.reason, permanent=False))
        note_failure(self._job.features, task.video, look, self._job.config)
        return looked(task, look, []), []


@dataclass
class PlanVideos(beam.PTransform):  # type: ignore[misc, type-arg]
    """Videos in (VideoTask); out come ``.segments`` (PlannedSegment, those to be done) and ``.looked`` (Looked).

    Failure records of videos of which nothing can be had are written here.
    """

    job: PlanJob
    finder: Finder

    def expand(self, tasks: Any) -> Any:
        """Tasks in, the two collections named above out."""
        plan = beam.ParDo(_PlanVideo(self.job, self.finder))
        found = tasks | "PlanVideo" >> plan.with_outputs("looked", main="segments")
        # Outputs with tags have no types of their own to take a coder from.
        found.segments.element_type = PlannedSegment
        found.looked.element_type = Looked
        return found
