"""The gate of MTCNN's fine levels: fits it, and shows what it saves and loses.

    python -m tests.benchmarks.gate --photographs FOLDER [--write] [--json FILE]

FOLDER is the Face Research Lab London set (``neutral/``, ``smiling/``: pictures named after the person's number). Its
heads are pasted, from 40 px to two thirds of the frame wide, turned, darkened, blurred and compressed, into pictures
without faces from scikit-image and scikit-learn; some stick out of the frame. What is to be learnt: about which places
of a level does P-Net propose a box on the next finer level that is half on a face of the whole cascade. People of the
test side of ``shipped/split.json`` and every third background are left out and tell what the gate is
worth: *found* is the share of the ungated cascade's faces, *tiles* the share of P-Net's work that is left.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

from emobeam.emo_transforms.faces.crops import Picture
from emobeam.emo_transforms.faces.detection import mtcnn
from emobeam.emo_transforms.faces.detection.area_averages import sums_of
from emobeam.emo_transforms.faces.detection.boxes import overlaps, square
from emobeam.emo_transforms.faces.detection.gate import FACTOR, Gate, evidence, shipped_gate
from emobeam.emo_transforms.faces.detection.mtcnn import MtcnnDetector
from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.faces.detection.mtcnn_torch import one_thread
from emobeam.emo_transforms.faces.detection.pyramid import Level, levels_of, mapped
from emobeam.emo_transforms.storage import write_json
from emobeam.schemas.config import DetectorConfig
from tests.benchmarks.agreement import Agreement, Found, pairs_of, total
from tests.benchmarks.weights.split import london_test

WEIGHTS = Path(mtcnn.__file__).with_name("gate.safetensors")

_HEADS = 7
_HIDDEN = 32
_STEPS = 6000
_FAR = 9
_SHARE = 0.06
"""Of the places far from all that should open: neighbours are much alike."""

_CAUTION = 2.0
"""The logit below which a place is left closed: missing a face costs seven times what a look in vain does."""

_PICTURES = {
    "skimage": ("coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "grass.png",
                "gravel.png", "coins.png", "ihc.png", "page.png", "brick.png"),
    "sklearn": ("china.jpg", "flower.jpg"),
}  # fmt: skip


_ORIGIN = {
    "made by": "python -m tests.benchmarks.gate --write",
    "licence": "Apache-2.0",
    "data": "Face Research Lab London Set (DeBruine & Jones, 2017, CC BY 4.0); sample pictures of scikit-image and "
    "scikit-learn, see docs/weights.md",
}


@dataclass(frozen=True, eq=False)
class Side:
    """Photographs of heads and pictures without any, of training or of test."""

    heads: list[Picture]
    backgrounds: list[Picture]


def sides(photographs: Path) -> tuple[Side, Side]:
    """Training and test, which share neither a person nor a background."""
    tested = london_test()
    paths = sorted(photographs.glob("*/*.jpg"))
    if not paths:
        raise SystemExit(
            f"{photographs}: no photographs; the folder needs neutral/NUMBER_*.jpg and smiling/NUMBER_*.jpg"
        )
    held = [path.name.split("_")[0] in tested for path in paths]
    backgrounds = [_read(_package(name) / picture) for name, names in _PICTURES.items() for picture in names]
    return (
        Side([_read(path) for path, out in zip(paths, held, strict=True) if not out],
             [one for number, one in enumerate(backgrounds) if number % 3]),
        Side([_read(path) for path, out in zip(paths, held, strict=True) if out], backgrounds[::3]),
    )  # fmt: skip


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    return root / "data" if name == "skimage" else root / "datasets" / "images"


def _read(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB"))


def collages(side: Side, count: int, seed: int, lines: int = 360) -> Iterator[Picture]:
    """Frames of 16:9 with up to seven heads each."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        frame = _background(side.backgrounds[rng.integers(len(side.backgrounds))], (lines, lines * 16 // 9), rng)
        for _ in range(_HEADS):
            _paste(frame, side.heads[rng.integers(len(side.heads))], rng)
        yield _spoiled(frame, rng)


def _background(picture: Picture, size: tuple[int, int], rng: np.random.Generator) -> Picture:
    zoom = max(size[0] / picture.shape[0], size[1] / picture.shape[1]) * rng.uniform(1, 1.6)
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    large = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=way)
    top, left = (int(rng.integers(large.shape[axis] - size[axis] + 1)) for axis in (0, 1))
    return np.asarray(large[top : top + size[0], left : left + size[1]], np.uint8).copy()


def _paste(frame: Picture, head: Picture, rng: np.random.Generator) -> None:
    width = int(np.exp(rng.uniform(np.log(40), np.log(frame.shape[0] * 2 / 3))))
    height = width * head.shape[0] // head.shape[1]
    small = cv2.resize(head, (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:height, :width]
    oval = np.hypot((columns - width / 2) / (width * 0.36), (rows - height * 0.52) / (height * 0.46)) < 1
    soft = cv2.GaussianBlur(oval.astype(np.float32), (0, 0), max(width / 60, 0.5))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-20, 20), 1)
    small = cv2.warpAffine(small, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.warpAffine(soft, turn, (width, height))[..., None]
    lit = np.clip(small * rng.uniform(0.4, 1.15) + rng.uniform(-10, 25), 0, 255)
    top, left = (
        rng.integers(-height // 3, frame.shape[0] - height * 2 // 3),
        rng.integers(-width // 3, frame.shape[1] - width * 2 // 3),
    )
    there = np.s_[max(top, 0) : min(top + height, frame.shape[0]), max(left, 0) : min(left + width, frame.shape[1])]
    here = np.s_[there[0].start - top : there[0].stop - top, there[1].start - left : there[1].stop - left]
    frame[there] = (frame[there] * (1 - soft[here]) + lit[here] * soft[here]).astype(np.uint8)


def _spoiled(frame: Picture, rng: np.random.Generator) -> Picture:
    if rng.random() < 0.5:
        _, packed = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])
        frame = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    if rng.random() < 0.3:
        frame = np.clip(frame + rng.normal(0, rng.uniform(2, 12), frame.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        frame = np.repeat(frame.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    return np.ascontiguousarray(frame)


# --- what is to be learnt -------------------------------------------------------------------------------


def examples(frames: Iterator[Picture], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Evidence [n, 20] at places of gated levels' next coarser ones, and whether they should open [n]."""
    detector = MtcnnDetector(DetectorConfig(factor=FACTOR), MtcnnNetworks("torch"))
    values, wanted = [], []
    for frame in frames:
        sums = sums_of(frame)
        levels = levels_of(sums.size, detector.config.min_face, FACTOR)
        looks = [mtcnn._Look(index, 0, np.ones(level.tiles, bool)) for index, level in enumerate(levels)]
        answers = detector._look([sums], levels, looks)
        maps = [mapped(own, look.tiles, level) for own, look, level in zip(answers, looks, levels, strict=True)]
        faces = detector.detect([frame])[0].boxes
        open_here = np.zeros(maps[0].shape[:2], bool)
        for index in range(mtcnn.GATED_LEVELS):
            # A finer level is only reached through this one, so what opens that one has to open this one, too.
            inherited = _projected(*np.nonzero(open_here), maps[index].shape[:2], maps[index + 1].shape[:2])
            open_here = inherited | _worth_a_look(
                maps[index], maps[index + 1].shape[:2], levels[index], detector, faces
            )
            far = cv2.dilate(open_here.astype(np.uint8), np.ones((_FAR, _FAR), np.uint8)) == 0
            own, likely = evidence(maps[index + 1])
            taken = (open_here | (far & (rng.random(far.shape) < _SHARE)))[likely]
            values.append(own[taken])
            wanted.append(open_here[likely][taken].astype(np.float32))
    return np.concatenate(values), np.concatenate(wanted)


def _worth_a_look(
    answers: NDArray[np.float32],
    coarser: tuple[int, ...],
    level: Level,
    detector: MtcnnDetector,
    faces: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """The places of the next coarser level where a proposal of this level is half on a face."""
    rows, columns = np.nonzero(answers[..., 0] >= mtcnn._logit(detector.config.thresholds[0]))
    if not len(faces) or not len(rows):
        return np.zeros(coarser, bool)
    places = np.stack([columns, rows], axis=1).astype(np.float32)
    boxes = np.concatenate([np.floor((2 * places + reach) / np.float32(level.scale)) for reach in (1, 12)], axis=1)
    edges = boxes[:, 2:] - boxes[:, :2]
    squares = square(boxes + answers[rows, columns, 1:] * np.concatenate([edges, edges], axis=1))
    good = overlaps(squares, faces).max(axis=1) >= 0.5
    return _projected(rows[good], columns[good], answers.shape[:2], coarser)


def _projected(
    rows: NDArray[np.intp], columns: NDArray[np.intp], finer: tuple[int, ...], coarser: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where places of one level lie on the next coarser one."""
    found = np.zeros(coarser, bool)
    at = [
        np.minimum(((where + 0.5) * count / own).astype(int), count - 1)
        for where, count, own in zip((rows, columns), coarser, finer, strict=True)
    ]
    found[at[0], at[1]] = True
    return found


def fit(values: NDArray[np.float32], wanted: NDArray[np.float32]) -> Gate:
    """A gate that opens places from a logit of minus :data:`_CAUTION`, both kinds weighed equally."""
    torch.manual_seed(0)
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-3
    network = nn.Sequential(nn.Linear(values.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=_STEPS)
    given, aim = torch.from_numpy((values - mean) / scale), torch.from_numpy(wanted)
    loss = nn.BCEWithLogitsLoss(pos_weight=(aim == 0).sum() / aim.sum())
    with one_thread():
        for _ in range(_STEPS):
            batch = torch.randint(len(given), (4096,))
            optimiser.zero_grad()
            loss(network(given[batch])[:, 0], aim[batch]).backward()
            optimiser.step()
            schedule.step()
    first, last = network[0], network[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = (first.weight.detach().numpy() / scale).astype(np.float32)
    return Gate(
        hidden,
        (first.bias.detach().numpy() - hidden @ mean).astype(np.float32),
        last.weight.detach().numpy()[0].copy(),
        (last.bias.detach().numpy() + _CAUTION).astype(np.float32),
    )


# --- what it is worth -----------------------------------------------------------------------------------


class _Counting(MtcnnNetworks):
    tiles = 0

    def propose(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        self.tiles += len(tiles)
        return super().propose(tiles)


def worth(frames: Sequence[Picture], gate: Gate, cautions: Sequence[float]) -> dict[str, dict[str, float]]:
    """Faces found and tiles looked at, in per cent of those of the ungated cascade; by caution."""
    config = DetectorConfig(factor=FACTOR)
    networks = _Counting("torch")

    def look(gate: Gate | None) -> tuple[list[Found], int]:
        networks.tiles = 0
        faces = MtcnnDetector(config, networks, gate).detect(frames)
        return [Found(one.boxes, one.scores) for one in faces], networks.tiles

    theirs, every = look(None)
    found = {}
    for caution in cautions:
        shift = np.float32(caution - _CAUTION)
        ours, tiles = look(replace(gate, output_bias=gate.output_bias + shift))
        same: Agreement = total(pairs_of(theirs, ours))
        found[f"{caution:g}"] = {
            "faces": same.theirs,
            "found": 100 * same.found / same.theirs,
            "overlap": same.mean_overlap,
            "tiles": 100 * tiles / every,
        }
    return found


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--photographs", type=Path, required=True, metavar="FOLDER")
    arguments.add_argument("--frames", type=int, default=800, help="collages of training (default: 800)")
    arguments.add_argument("--held-out", type=int, default=150, help="collages of test (default: 150)")
    arguments.add_argument("--lines", type=int, default=360, help="height of the collages of test (default: 360)")
    arguments.add_argument("--write", action="store_true", help="fit it anew and write the package's gate")
    arguments.add_argument("--json", type=Path, metavar="FILE")
    options = arguments.parse_args(argv)
    training, test = sides(options.photographs)
    if options.write:
        values, wanted = examples(collages(training, options.frames, 11), np.random.default_rng(1))
        gate = fit(values, wanted)
        weights = {name: getattr(gate, name) for name in ("hidden", "hidden_bias", "output", "output_bias")}
        save_file(weights, WEIGHTS.with_suffix(".new"), _ORIGIN)
        WEIGHTS.with_suffix(".new").replace(WEIGHTS)
        print(f"{len(wanted)} places, {int(wanted.sum())} of them to be opened: {WEIGHTS}")
        print("It finds other faces than the last one: raise STAGE1_REVISION in schemas/config.py")
    else:
        gate = shipped_gate()
    result = worth(list(collages(test, options.held_out, 12, options.lines)), gate, (4.0, 3.0, _CAUTION, 1.0, 0.0))
    for caution, row in result.items():
        print(f"caution {caution}: " + ", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    if options.json:
        write_json(str(options.json), result)


if __name__ == "__main__":
    main()
