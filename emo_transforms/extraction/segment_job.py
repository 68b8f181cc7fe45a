"""What a child process does in stage 1, as it travels: networks are loaded where it is opened, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emobeam.emo_transforms.cache.segment_codec import decode_segment
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.records import PlannedSegment


@dataclass(frozen=True)
class SegmentJob:
    """Extracts segments one after the other; networks are loaded once.

    Attributes:
        features: URI of the cache.
        threads: torch threads.
    """

    config: ExtractConfig
    features: str
    threads: int = 1

    def open(self, decoders: Decoders) -> Callable[[PlannedSegment, Report], None]:
        """What makes the shard of one segment, or writes why there is none."""
        from emobeam.emo_transforms.extraction.segments import Tools, do_segment

        if self.config.engine == "torch":
            import torch

            torch.set_num_threads(self.threads)
        tools = Tools(self.config, decoders)

        def extract(planned: PlannedSegment, report: Report) -> None:
            do_segment(decode_segment(planned.data), tools, self.features, report)

        return extract
