"""The Beam transform of stage 1, around :func:`emo_transforms.extraction.extract_segment`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import torch
from apache_beam.metrics.metric import Metrics
from apache_beam.utils.shared import Shared

from emo_transforms.cache import write_failure
from emo_transforms.extraction import Tools, extract_segment, segment_failure
from schemas.config import ExtractConfig
from schemas.records import InputError, Segment

Reporter = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event (``start``, ``frames``, ``done``, ``failed``) and what belongs to it."""


class _ExtractDoFn(beam.DoFn):  # type: ignore[misc]
    def __init__(
        self, config: ExtractConfig, features: str, shared: Shared, threads: int, reporter: Reporter | None
    ) -> None:
        self._config = config
        self._features = features
        self._shared = shared
        self._threads = threads
        self._report: Reporter = reporter or (lambda event, data: None)
        self._tools: Tools | None = None

    def setup(self) -> None:
        torch.set_num_threads(self._threads)
        self._tools = self._shared.acquire(lambda: Tools(self._config), tag=self._config.cache_id)

    def process(self, segment: Segment) -> Iterator[Any]:
        assert self._tools is not None
        self._report("start", {"key": segment.shard})

        def progress(frames: int) -> None:
            Metrics.counter("emobeam", "frames").inc(frames)
            self._report("frames", {"key": segment.shard, "frames": frames})

        try:
            record = extract_segment(segment, self._tools, self._features, progress)
        except InputError as error:
            failure = segment_failure(segment, error)
            write_failure(self._features, segment.shard, failure)
            Metrics.counter("emobeam", "segments_failed").inc()
            self._report("failed", {"key": segment.shard})
            yield beam.pvalue.TaggedOutput("failures", failure)
            return
        Metrics.counter("emobeam", "segments").inc()
        Metrics.counter("emobeam", "faces").inc(record.rows)
        self._report("done", {"key": segment.shard, "rows": record.rows, "seconds": record.seconds})
        yield record


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
        do_fn = _ExtractDoFn(self.config, self.features, self.shared, self.threads, self.reporter)
        return segments | "ExtractSegment" >> beam.ParDo(do_fn).with_outputs("failures", main="shards")
