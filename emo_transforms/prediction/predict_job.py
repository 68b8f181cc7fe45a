"""What a child process does in stage 2, as it travels: heads are loaded where it is opened, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.child_work import Report
from emobeam.emo_transforms.video.decoding_process import Decoders
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import VideoFeatures


@dataclass(frozen=True)
class HeadSpec:
    """Which head to use.

    Attributes:
        task: its task; ``""`` where the folder tells.
        uri: folder or URI; ``shipped`` for the head of the task that comes with emobeam, ``untrained`` for seeded
            random weights that fit the cache, ``""`` for the backbone's own scores.
        sha256: digest of its tensors as the launcher saw them; a worker must find the same.
    """

    task: str
    uri: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class VideoJob:
    """Predicts videos one after the other; heads are loaded once.

    Attributes:
        specs: the heads, several of one task are averaged.
        threads: torch threads.
    """

    specs: tuple[HeadSpec, ...]
    dataset: Dataset
    features: str
    output: str
    config: PredictConfig
    threads: int = 1

    def open(self, _: Decoders) -> Callable[[VideoFeatures, Report], Any]:
        """What writes the tables of one video."""
        from emobeam.emo_transforms.networks.engines import check_engine
        from emobeam.emo_transforms.prediction.video_parts import do_video, load_tools

        check_engine(self.config.engine)
        if self.config.engine == "torch":
            import torch

            torch.set_num_threads(self.threads)
        tools = load_tools(self.specs, self.dataset, self.config.engine)

        def predict(item: VideoFeatures, report: Report) -> None:
            do_video(item, tools, self.features, self.output, self.config, report)

        return predict
