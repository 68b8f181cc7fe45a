"""Stage 1 against the script a researcher writes today: ``python -m tests.benchmarks.stage1 [CLIP...]``.

Both take a clip from file to stored feature maps: the same sampled frames (6 per second), the same networks on one
torch thread. The script uses decord with one thread, ``MTCNN(keep_all=True).detect``, a crop and timm's
``features_only``, one frame at a time, and saves with numpy. Both decode beside the networks, decord in a thread that
reads ahead and emobeam in a child process, so the wall clock flatters both where a second core is idle; CPU time counts
all of it and is what a busy machine pays. Networks and the child are started before.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from facenet_pytorch import MTCNN
from numpy.typing import NDArray
from PIL import Image

from emo_transforms.extraction import Tools, extract_segment
from pipelines.extract import resolve_config
from schemas.config import ExtractConfig, SamplingConfig
from tests.benchmarks.measure import (
    Spent,
    Steps,
    interleaved,
    machine,
    parser,
    ratio,
    segments_of,
    standard_clip,
    table,
    timed,
)

STEPS = ("plan", "decode", "detect", "align", "embed", "write")


class PlainScript:
    """The script, with its networks loaded."""

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        # Not before torch: decord2 3.4 loads every CUDA library it finds for all to see, NVBLAS takes over the matrix
        # products of a torch that comes later, and the process crashes.
        import decord

        self.decord = decord
        self.detector = MTCNN(keep_all=True, min_face_size=config.detector.min_face)
        self.network = timm.create_model(
            config.backbone.name, pretrained=False, features_only=True, out_indices=(2, 3, 4)
        ).eval()
        self.mean = torch.tensor(config.backbone.mean).view(3, 1, 1)
        self.std = torch.tensor(config.backbone.std).view(3, 1, 1)

    def run(self, clip: Path, frames: Sequence[int], target: Path) -> tuple[int, Mapping[str, float]]:
        """Number of faces, and wall seconds by step."""
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


def run_emobeam(clip: Path, tools: Tools, features: Path) -> tuple[int, Mapping[str, float]]:
    """Number of faces, and wall seconds by step (``decode`` is the wait for the child)."""
    assert tools.decoder is not None
    steps = Steps()
    with steps("plan"):
        segments = segments_of(clip, tools.config, tools.decoder)
    seconds = Counter(steps.seconds)
    faces = 0
    for segment in segments:
        record = extract_segment(segment, tools, str(features))
        seconds.update(record.seconds)
        faces += record.rows
    return faces, dict(seconds)


def measure(clip: Path, tools: Tools, script: PlainScript, repeats: int) -> str:
    """Both on one clip, as a table."""
    assert tools.decoder is not None
    frames = [frame for segment in segments_of(clip, tools.config, tools.decoder) for frame in segment.sampled]
    faces: dict[str, int] = {}

    def run(name: str, work: Callable[[Path], tuple[int, Mapping[str, float]]]) -> Spent:
        found: list[tuple[int, Mapping[str, float]]] = []
        with tempfile.TemporaryDirectory() as folder:
            spent = timed(lambda: found.append(work(Path(folder))))
        faces[name], seconds = found[0]
        return replace(spent, steps=seconds)

    spent = interleaved(
        {
            "plain": lambda: run("plain", lambda folder: script.run(clip, frames, folder / "maps.npz")),
            "emobeam": lambda: run("emobeam", lambda folder: run_emobeam(clip, tools, folder)),
        },
        repeats,
    )
    return report(clip.name, len(frames), faces, spent)


def report(clip: str, frames: int, faces: Mapping[str, int], spent: Mapping[str, Sequence[Spent]]) -> str:
    def row(label: str, get: Callable[[Spent], float], show: Callable[[float], str]) -> list[str]:
        plain, ours = ([get(one) for one in spent[name]] for name in ("plain", "emobeam"))
        cells = [show(statistics.median(values)) if any(values) else "-" for values in (plain, ours)]
        return [label, *cells, ratio(plain, ours) if any(plain) and any(ours) else "-"]

    def per_second(seconds: float) -> str:
        return f"{frames / seconds:.1f}"

    def milliseconds(seconds: float) -> str:
        return f"{1000 * seconds / frames:.1f}"

    rows = [
        ["faces found", str(faces["plain"]), str(faces["emobeam"]), "-"],
        row("frames/s, wall clock", lambda one: one.wall, per_second),
        row("frames/s of CPU time", lambda one: one.cpu, per_second),
        row("ms/frame", lambda one: one.wall, milliseconds),
    ]
    for step in STEPS:

        def of_step(one: Spent, step: str = step) -> float:
            return one.steps.get(step, 0.0)

        rows.append(row(f"ms/frame: {step}", of_step, milliseconds))
    return table(f"{clip}: {frames} sampled frames", ["", "plain script", "emobeam", "times as fast"], rows)


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__, repeats=5)
    arguments.add_argument("--fps", type=float, default=6.0, help="sampled frames per second (default: 6)")
    options = arguments.parse_args(argv)
    torch.set_num_threads(1)
    print(machine())
    config = resolve_config(ExtractConfig(sampling=SamplingConfig(fps=options.fps))).config
    tools, script = Tools(config), PlainScript(config)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for clip in options.clip or [standard_clip(Path(folder))]:
                print(measure(clip, tools, script, options.repeats), flush=True)
    finally:
        tools.close()


if __name__ == "__main__":
    main()
