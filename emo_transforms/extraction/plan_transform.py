"""The Beam transform that looks at inputs and plans their segments, around :mod:`.extraction.resume_plan`.

Apart from stage 1's heavy work, so that a worker that only plans loads no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics

from emobeam.emo_transforms.cache.segment_codec import compacted
from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders of what goes in and out)
from emobeam.emo_transforms.extraction.resume_plan import look_at, looked, note_failure
from emobeam.emo_transforms.storage.run_mailbox import Exchange
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import Looked, Segment, VideoTask

Reporter = Callable[[str, Mapping[str, Any]], None]
"""Takes the name of an event (``looked``, ``bundle``) and what belongs to it."""


class _PlanDoFn(beam.DoFn):  # type: ignore[misc]
    _decoder: DecoderProcess  # from setup on

    def __init__(self, config: ExtractConfig, features: str, exchange: Exchange, reporter: Reporter | None) -> None:
        self._config = config
        self._features = features
        self._exchange = exchange
        self._report: Reporter = reporter or (lambda event, data: None)

    def setup(self) -> None:
        self._exchange.check()
        self._decoder = DecoderProcess(self._config.decoder)

    def teardown(self) -> None:
        if hasattr(self, "_decoder"):  # else setup failed
            self._decoder.close()

    def process(self, task: VideoTask) -> Iterator[Any]:
        look = look_at(task, self._config, self._decoder.probe)
        note_failure(self._features, task.video, look, self._config)
        todo = look.todo(task.given_up)
        record = looked(task, look, todo)
        Metrics.counter("emobeam", "videos").inc()
        Metrics.counter("emobeam", "segments_planned").inc(record.segments)
        self._report("looked", {"key": record.video, "segments": record.segments, "frames": record.sampled})
        yield beam.pvalue.TaggedOutput("looked", record)
        for segment in todo:
            yield compacted(segment, self._put)

    def finish_bundle(self) -> None:
        self._report("bundle", {})

    def _put(self, name: str, data: bytes) -> str:
        return self._exchange.put("timelines", f"{name}.segment", data)


@dataclass
class PlanVideos(beam.PTransform):  # type: ignore[misc, type-arg]
    """Videos in (VideoTask); out come ``.segments`` (Segment, those to be done) and ``.looked`` (Looked).

    Failure records of videos of which nothing can be had are written here.

    Attributes:
        exchange: takes the lists of segments that are too long to travel (see ``segment_codec.compacted``).
        reporter: told about progress; must be picklable.
    """

    config: ExtractConfig
    features: str
    exchange: Exchange
    reporter: Reporter | None = None

    def expand(self, tasks: Any) -> Any:
        """Tasks in, the two collections named above out."""
        do_fn = _PlanDoFn(self.config, self.features, self.exchange, self.reporter)
        found = tasks | "PlanVideo" >> beam.ParDo(do_fn).with_outputs("looked", main="segments")
        # Outputs with tags have no types of their own to take a coder from.
        found.segments.element_type = Segment
        found.looked.element_type = Looked
        return found
