"""The graph of stage 2, the same on every runner."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms.extraction.beam_records import Ends
from emobeam.emo_transforms.prediction.predict_job import VideoJob
from emobeam.emo_transforms.prediction.predict_transform import PredictVideos
from emobeam.schemas.records import VideoPredicted


def predict_graph(pipeline: Any, ends: Ends, predict: VideoJob) -> None:
    """Videos of the cache -> predictions; what became of each comes back, and all else is in files."""
    _ = (
        pipeline
        | "Videos" >> ends.tasks
        | "Predict" >> PredictVideos(predict, ends.finder, ends.hints)
        | "Predicted" >> ends.leave(VideoPredicted, "predicted")
    )
