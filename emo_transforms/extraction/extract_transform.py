"""The Beam transform of stage 1, around :mod:`emobeam.emo_transforms.extraction.segments`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import torch
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders of what goes in and out)
from emobeam.emo_transforms.extraction.segments import Reporter, Tools, do_segment
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Failure, Segment


class _ExtractDoFn(beam.DoFn):  # type: ignore[misc]
    _tools: Tools  # from setup on

    def __init__(
        self, config: ExtractConfig, features: str, shared: Shared, threads: int, reporter: Reporter | None
    ) -> None:
        self._config = config
        self._features = features
        self._shared = shared
        self._threads = threads
        self._report: Reporter = reporter or (lambda event, data: None)

    def setup(self) -> None:
        torch.set_num_threads(self._threads)
        self._tools = self._shared.acquire(lambda: Tools(self._config), tag=self._config.cache_id)

    def process(self, segment: Segment) -> Iterator[Any]:
        with self._tools.lock:  # an engine may run several bundles side by side in one process
            result = do_segment(segment, self._tools, self._features, self._told)
        if isinstance(result, Failure):
            Metrics.counter("emobeam", "segments_failed").inc()
            yield beam.pvalue.TaggedOutput("failures", result)
            return
        Metrics.counter("emobeam", "segments").inc()
        Metrics.counter("emobeam", "faces").inc(result.rows)
        yield result

    def _told(self, event: str, data: Mapping[str, Any]) -> None:
        if event == "frames":
            Metrics.counter("emobeam", "frames").inc(data["frames"])
        self._report(event, data)


@dataclass
class ExtractSegments(beam.PTransform):  # type: ignore[misc, type-arg]
    """Segments in; out come ``.main`` (ShardRecord) and ``.failures`` (Failure).

    Attributes:
        shared: holds the tools of a process between bundles and pipelines.
        threads: torch threads of a worker.
        reporter: told about progress; must be picklable.
    """

    config: ExtractConfig
    features: str
    shared: Shared = field(default_factory=Shared)
    threads: int = 1
    reporter: Reporter | None = None

    def expand(self, segments: Any) -> Any:
        """Segments in, the two collections named above out."""
        do_fn = _ExtractDoFn(self.config, self.features, self.shared, self.threads, self.reporter)
        return segments | "ExtractSegment" >> beam.ParDo(do_fn).with_outputs("failures", main="shards")
