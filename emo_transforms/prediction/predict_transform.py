"""The heavy step of stage 2: children predict videos, see :mod:`.prediction.predict_job`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders of what goes in and out)
from emobeam.emo_transforms.extraction.child_step import ChildStep, count
from emobeam.emo_transforms.extraction.child_work import Finder, Outcome, Work
from emobeam.emo_transforms.prediction.predict_job import VideoJob
from emobeam.schemas.records import VideoFeatures, VideoPredicted


class _PredictVideo(ChildStep):
    def __init__(self, predict: VideoJob, finder: Finder) -> None:
        super().__init__(finder)
        self._job = predict

    def job(self) -> VideoJob:
        return self._job

    def work(self, item: VideoFeatures) -> Work:
        return Work(item.video, item.sampled, item)

    def heard(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "frames":
            count("frames", data["frames"])
        super().heard(event, data)

    def outputs(self, outcome: Outcome) -> Iterator[VideoPredicted]:
        if outcome.reason:
            count("videos_not_predicted")
            yield VideoPredicted(outcome.work.key, error=outcome.message or outcome.reason)
            return
        rows: dict[str, int] = outcome.result
        count("videos_predicted")
        count("rows", sum(rows.values()))
        yield VideoPredicted(outcome.work.key, rows)


@dataclass
class PredictVideos(beam.PTransform):  # type: ignore[misc, type-arg]
    """Videos of the cache in (VideoFeatures); out comes what became of each (VideoPredicted).

    Attributes:
        hints: resource hints of the step.
    """

    job: VideoJob
    finder: Finder
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, items: Any) -> Any:
        """VideoFeatures in, VideoPredicted out."""
        predict: Any = beam.ParDo(_PredictVideo(self.job, self.finder))
        if self.hints:
            predict = predict.with_resource_hints(**self.hints)
        return items | "PredictVideo" >> predict.with_output_types(VideoPredicted)
