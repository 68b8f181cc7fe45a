"""What a child process of a worker on another engine does with an element. Beam stays outside of it."""

from __future__ import annotations

from typing import Any

import torch

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.cache.failures import write_failure
from emobeam.emo_transforms.extraction.segments import Tools, do_segment, segment_failure
from emobeam.emo_transforms.prediction.video_parts import HeadSpec, PredictTools, do_video, load_tools
from emobeam.runners.local_worker import PipeReporter
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import InputError, Segment, VideoFeatures

_THREADS = 1
"""Torch threads of a child: engines give one slot per core."""


class SegmentJob:
    """Extracts segments one after the other; what it needs is loaded for the first and kept."""

    def __init__(self, config: ExtractConfig, features: str) -> None:
        self._settings = (config, features)
        self._tools: Tools | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SegmentJob, self._settings

    def run(self, elements: list[Segment], reporter: PipeReporter) -> None:
        """Writes a shard, or a failure record, for each; raises :class:`OutputError` where nothing can be written."""
        config, features = self._settings
        if self._tools is None:
            torch.set_num_threads(_THREADS)
            self._tools = Tools(config)
        for segment in elements:
            do_segment(segment, self._tools, features, reporter)


class VideoJob:
    """Predicts videos one after the other; heads are loaded for the first and kept."""

    def __init__(
        self, specs: tuple[HeadSpec, ...], dataset: Dataset, features: str, output: str, config: PredictConfig
    ) -> None:
        self._settings = (specs, dataset, features, output, config)
        self._tools: PredictTools | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return VideoJob, self._settings

    def run(self, elements: list[VideoFeatures], reporter: PipeReporter) -> None:
        """Writes the tables of each; raises :class:`OutputError` where nothing can be written."""
        specs, dataset, features, output, config = self._settings
        if self._tools is None:
            torch.set_num_threads(_THREADS)
            self._tools = load_tools(specs, dataset)
        for item in elements:
            do_video(item, self._tools, features, output, config, reporter)


def note_crash(features: str, segment: Segment, reason: str, message: str) -> None:
    """Writes the failure record of a segment whose worker died of it."""
    text = f"{segment.video.uri}: segment {segment.index}: {message}"
    error = InputError(text, stage="extract", reason=reason, permanent=False)
    write_failure(features, segment.shard, segment_failure(segment, error))
