"""The Beam transform of stage 2, around :mod:`emobeam.emo_transforms.prediction.video_parts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import torch
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.prediction.video_parts import HeadSpec, PredictTools, Reporter, do_video, load_tools
from emobeam.schemas.config import digest_of
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import VideoFeatures


class _PredictDoFn(beam.DoFn):  # type: ignore[misc]
    _tools: PredictTools  # from setup on

    def __init__(self, transform: PredictVideos) -> None:
        self._transform = transform

    def setup(self) -> None:
        transform = self._transform
        torch.set_num_threads(transform.threads)
        tag = digest_of([[spec.uri, spec.sha256, spec.task] for spec in transform.specs])
        self._tools = transform.shared.acquire(lambda: load_tools(transform.specs, transform.dataset), tag=tag)

    def process(self, item: VideoFeatures) -> Iterator[dict[str, int]]:
        transform = self._transform
        report: Reporter = transform.reporter or (lambda event, data: None)
        rows = do_video(item, self._tools, transform.features, transform.output, transform.config, report)
        Metrics.counter("emobeam", "videos_not_predicted" if rows is None else "videos_predicted").inc()
        if rows is not None:
            yield rows


@dataclass
class PredictVideos(beam.PTransform):  # type: ignore[misc, type-arg]
    """Videos of the cache in; rows written by task out (see ``video_parts.predict_video``).

    Attributes:
        specs: the heads, several of one task are averaged.
        shared: holds the heads of a process between bundles and pipelines.
        reporter: told about progress; must be picklable.
    """

    specs: Sequence[HeadSpec]
    dataset: Dataset
    features: str
    output: str
    config: PredictConfig
    shared: Shared = field(default_factory=Shared)
    threads: int = 1
    reporter: Reporter | None = None

    def expand(self, items: Any) -> Any:
        """Videos in (VideoFeatures), one dictionary of rows by task for each predicted one out."""
        return items | "PredictVideo" >> beam.ParDo(_PredictDoFn(self))
