"""The detectors that are compared, behind one signature."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from facenet_pytorch import MTCNN

from emobeam.emo_transforms.extraction.segments import DETECT_BYTES, DETECT_FRAMES, Tools
from emobeam.schemas.config import DetectorConfig
from tests.benchmarks.agreement import Found
from tests.benchmarks.material import Picture


class Plain:
    """``facenet_pytorch.MTCNN.detect`` as it comes, one frame at a time, with our sizes and thresholds."""

    def __init__(self, config: DetectorConfig) -> None:
        torch.set_num_threads(1)
        self.network = MTCNN(
            keep_all=True, min_face_size=config.min_face, thresholds=list(config.thresholds), factor=config.factor
        )

    def start(self) -> None:
        """There is nothing to forget."""

    def __call__(self, frames: Sequence[Picture], times: Sequence[float]) -> list[Found]:
        return [self._one(frame) for frame in frames]

    def _one(self, frame: Picture) -> Found:
        boxes, scores = self.network.detect(frame)
        if boxes is None:
            return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        return Found(np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores, np.float32).reshape(-1))


class Ours:
    """A detector as stage 1 loads it."""

    def __init__(self, tools: Tools) -> None:
        assert tools.detector is not None
        self.detector = tools.detector

    def start(self) -> None:
        """A new segment begins."""
        self.detector.start()

    def __call__(self, frames: Sequence[Picture], times: Sequence[float]) -> list[Found]:
        return [Found(faces.boxes, faces.scores) for faces in self.detector.detect(frames, times)]


Side = Plain | Ours


@dataclass
class Contest:
    """CPU seconds and faces of each side on the same frames."""

    seconds: dict[str, float] = field(default_factory=dict)
    faces: dict[str, list[Found]] = field(default_factory=dict)


def contest(frames: Sequence[Picture], times: Sequence[float], sides: Mapping[str, Side], turn: int = 0) -> Contest:
    """Lets all sides look at the frames, a batch at a time in turns, so that all meet the same moods of the machine.

    What a side does once per size of frame (buffers, compiled networks) is done before and doesn't count.
    """
    result = Contest(dict.fromkeys(sides, 0.0), {name: [] for name in sides})
    for side in sides.values():
        side.start()
        side(frames[:1], times[:1])
        side.start()
    # As many frames per call as stage 1 gives its detector.
    step = min(DETECT_FRAMES, -(-DETECT_BYTES["cpu"] // frames[0].nbytes))
    names = list(sides)
    for number, start in enumerate(range(0, len(frames), step)):
        piece = slice(start, start + step)
        for name in names[:: -1 if (number + turn) % 2 else 1]:
            begin = time.process_time()
            found = sides[name](frames[piece], times[piece])
            result.seconds[name] += time.process_time() - begin
            result.faces[name] += found
    return result
