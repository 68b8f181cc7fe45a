"""What the heavy step of a job on another engine does, as it travels: the work itself stays packed until a child
process opens it, so that the Beam worker around it loads neither networks nor tables.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.cache.segment_codec import expanded
from emobeam.emo_transforms.storage import read_bytes
from emobeam.runners.local_worker import Job, PipeReporter
from emobeam.schemas.records import Segment, VideoFeatures


class _Packed:
    """Unpickled, it is the job."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._data,)

    def run(self, elements: list[Any], reporter: PipeReporter) -> None:
        raise AssertionError("only its unpickled form works")


@dataclass(frozen=True)
class ExtractTask:
    """Extraction as ``runners.child_supervision`` wants it. ``packed`` is a pickled ``child_jobs.SegmentJob``."""

    packed: bytes
    features: str

    def job(self) -> Job:
        """A ``SegmentJob``, unpacked in the child alone."""
        return _Packed(self.packed)

    def key(self, element: Segment) -> str:
        """Name of the segment's shard."""
        return element.shard

    def give_up(self, element: Segment, reason: str, message: str) -> None:
        """Writes the failure record of a segment whose children died of it."""
        from emobeam.pipelines.stages.child_jobs import note_crash

        note_crash(self.features, expanded(element, read_bytes), reason, message)


@dataclass(frozen=True)
class PredictTask:
    """Prediction as ``emobeam.runners.child_supervision`` wants it. ``packed`` is a pickled ``child_jobs.VideoJob``."""

    packed: bytes

    def job(self) -> Job:
        """A ``VideoJob``, unpacked in the child alone."""
        return _Packed(self.packed)

    def key(self, element: VideoFeatures) -> str:
        """Name of the video."""
        return element.video

    def give_up(self, element: VideoFeatures, reason: str, message: str) -> None:
        """What is not predicted is told in the record of the run, which the launcher writes."""
