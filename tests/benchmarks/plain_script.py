"""The script a researcher writes today, also as a process: ``python -m tests.benchmarks.plain_script CLIP TARGET``.

decord with one thread, ``MTCNN(keep_all=True).detect``, a crop and timm's ``features_only``, one frame at a time, saved
with numpy. As a process it samples 6 frames per second and imports nothing but what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image

from emobeam.schemas.config import ExtractConfig
from tests.benchmarks.steps import Steps

PLAIN = "plain script (decord, MTCNN.detect, timm)"

Outcome = tuple[int, Mapping[str, float]]
"""Number of faces, and CPU seconds by step."""


class PlainScript:
    """The script, with its networks loaded."""

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        # Not before torch: decord2 3.4 loads every CUDA library it finds for all to see, NVBLAS takes over the matrix
        # products of a torch that comes later, and the process crashes.
        import decord

        self.decord = decord
        detector = config.detector
        self.detector = MTCNN(
            keep_all=True,
            min_face_size=detector.min_face,
            thresholds=list(detector.thresholds),
            factor=detector.factor,
        )
        self.network = timm.create_model(
            config.backbone.name, pretrained=False, features_only=True, out_indices=(2, 3, 4)
        ).eval()
        self.mean = torch.tensor(config.backbone.mean).view(3, 1, 1)
        self.std = torch.tensor(config.backbone.std).view(3, 1, 1)

    def run(self, clip: Path, frames: Sequence[int], target: Path) -> Outcome:
        steps = Steps()
        with steps("decode"):
            reader = self.decord.VideoReader(str(clip), ctx=self.decord.cpu(0), num_threads=1)
        maps: list[list[NDArray[np.float16]]] = []
        for frame in frames:
            with steps("decode"):
                picture = reader[frame - 1].asnumpy()
            with steps("detect"):
                boxes, scores = self.detector.detect(picture)
            for box, score in zip(boxes, scores, strict=True) if boxes is not None else ():
                if score < self.config.detector.keep:
                    continue
                with steps("align"):
                    crop = self._crop(picture, box)
                with steps("embed"):
                    maps.append(self._embed(crop))
        with steps("write"):
            levels: dict[str, Any] = {f"level{at}": np.stack(found) for at, found in enumerate(zip(*maps, strict=True))}
            np.savez(target, **levels)
        return len(maps), steps.seconds

    def _crop(self, picture: NDArray[np.uint8], box: Any) -> NDArray[np.uint8]:
        left, top, right, bottom = box
        half = max(right - left, bottom - top) * (1 + self.config.align.margin) / 2
        x, y = (left + right) / 2, (top + bottom) / 2
        size = self.config.backbone.input_size
        square = Image.fromarray(picture).crop((int(x - half), int(y - half), int(x + half), int(y + half)))
        return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))

    def _embed(self, crop: NDArray[np.uint8]) -> list[NDArray[np.float16]]:
        pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            levels = self.network(((pixels - self.mean) / self.std).unsqueeze(0))
        return [level[0].half().numpy() for level in levels]


def main(clip: Path, target: Path) -> None:
    """From file to stored feature maps, 6 frames per second."""
    script = PlainScript(ExtractConfig())
    reader = script.decord.VideoReader(str(clip), ctx=script.decord.cpu(0), num_threads=1)
    step = reader.get_avg_fps() / 6
    frames = [1 + round(number * step) for number in range(1 + int((len(reader) - 1) / step))]
    faces, _ = script.run(clip, [frame for frame in frames if frame <= len(reader)], target)
    print(f"{faces} faces in {len(frames)} frames")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
