"""``--detector facenet``: facenet-pytorch's own detector, for whoever must have exactly its boxes.

It looks at every frame for itself, one at a time, with no short cut of ours: several times slower than the default,
which finds the same faces (docs/speed.md). facenet-pytorch is no dependency of emobeam, since its own pins contradict
apache-beam's.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

import numpy as np

from emobeam.emo_transforms.faces.crops import Faces, Picture, no_faces
from emobeam.schemas.config import DetectorConfig
from emobeam.schemas.records import UsageError

VERSION = "2.6.0"


def check_facenet() -> None:
    """Raises UsageError where facenet-pytorch isn't installed, or another version, whose faces may be others."""
    try:
        found = metadata.version("facenet-pytorch")
    except metadata.PackageNotFoundError:
        found = ""
    if found != VERSION:
        there = f"is version {found} here, not {VERSION}" if found else "isn't installed here"
        raise UsageError(
            f"--detector facenet: facenet-pytorch {there}; install it past its pins, which contradict apache-beam's: "
            f"pip install --no-deps facenet-pytorch=={VERSION}"
        )


class FacenetDetector:
    """``facenet_pytorch.MTCNN.detect`` on torch, whatever engine runs the other networks.

    Args:
        config: sizes and thresholds.
        device: of torch.

    Raises:
        UsageError: see :func:`check_facenet`.
    """

    def __init__(self, config: DetectorConfig, device: str = "cpu") -> None:
        check_facenet()
        from facenet_pytorch import MTCNN

        self.config = config
        self._mtcnn = MTCNN(
            keep_all=True,
            min_face_size=config.min_face,
            thresholds=list(config.thresholds),
            factor=config.factor,
            device=device,
        )

    def start(self) -> None:
        """Nothing is remembered between frames."""

    def detect(self, frames: Sequence[Picture], times: Sequence[float] = ()) -> list[Faces]:
        """See ``emobeam.emo_transforms.faces.crops.Detector``."""
        from emobeam.emo_transforms.faces.detection.mtcnn_torch import one_thread

        with one_thread():
            return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Picture) -> Faces:
        if min(frame.shape[:2]) < self.config.min_face:
            return no_faces()  # an empty pyramid, on which its code fails
        boxes, scores, points = self._mtcnn.detect(frame, landmarks=True)
        if boxes is None:
            return no_faces()
        faces = Faces(*(np.asarray(values, np.float32) for values in (boxes, scores, points)))
        # Its order is by size.
        best = np.argsort(-faces.scores, kind="stable")
        best = best[faces.scores[best] >= self.config.keep]
        return Faces(faces.boxes[best], faces.scores[best], faces.landmarks[best])
