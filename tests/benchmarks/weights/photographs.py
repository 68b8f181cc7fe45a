"""Neutral and smiling photographs of the test identities of the Face Research Lab London set."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emobeam.emo_transforms.faces.crops import Detector, Picture, crop_face
from emobeam.emo_transforms.faces.detection.detectors import make_detector
from emobeam.emo_transforms.networks.engines import resolve_engine
from emobeam.schemas.config import AlignConfig, DetectorConfig
from tests.benchmarks.figures import Goal
from tests.benchmarks.weights.measured import Measured, measured
from tests.benchmarks.weights.network import Network
from tests.benchmarks.weights.resampling import FEW, auc, draw_weights, means
from tests.benchmarks.weights.split import london_test

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Photographs:
    """Pictures of the test side, with what the network says of them.

    Attributes:
        people: of each picture, an identity.
        smiling: the name of the folder it lies in, whatever the face does.
        crops: as stage 1 cuts them.
        facts: columns of ``london_info.csv`` of each identity.
        teacher: the teacher's smile, as the index of the set tells.
    """

    people: tuple[str, ...]
    smiling: NDArray[np.bool_]
    crops: tuple[Picture, ...]
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    teacher: tuple[float, ...] = ()

    @property
    def identities(self) -> list[str]:
        return sorted(set(self.people))

    @property
    def groups(self) -> list[int]:
        """Number of the identity of each picture."""
        order = {name: place for place, name in enumerate(self.identities)}
        return [order[name] for name in self.people]


def read_photographs(folder: Path, size: int, limit: int = 0) -> Photographs:
    """Detects and crops the photographs of the test identities.

    Args:
        folder: with ``neutral``, ``smiling``, ``index.csv``, ``london_info.csv``.
        size: edge of a crop.
        limit: identities; 0 takes all.

    A photograph in which no face is found is an error: leaving it out would flatter the figures.
    """
    test = london_test()[: limit or None]
    with (folder / "index.csv").open() as file:
        scores = {row["file"]: float(row["mp_smile"]) for row in csv.DictReader(file)}
    with (folder / "london_info.csv").open() as file:
        facts = {row["face_id"]: dict(row) for row in csv.DictReader(file)}
    detector = face_detector()
    people, smiling, crops, teacher = [], [], [], []
    for kind in ("neutral", "smiling"):
        for path in sorted((folder / kind).glob("*.jpg")):
            person = path.stem.split("_")[0]
            if person not in test:
                continue
            picture = np.asarray(Image.open(path).convert("RGB"))
            crop = cut(detector, picture, size)
            if crop is None:
                raise SystemExit(f"{path}: no face found")
            crops.append(crop)
            people.append(person)
            smiling.append(kind == "smiling")
            teacher.append(scores[f"{kind}/{path.name}"])
    return Photographs(tuple(people), np.array(smiling), tuple(crops), facts, tuple(teacher))


def face_detector() -> Detector:
    """The detector of stage 1."""
    return make_detector(DetectorConfig(), resolve_engine("auto", "cpu"))


def cut(detector: Detector, picture: Picture, size: int) -> Picture | None:
    """The largest face in a picture as stage 1 crops it; None where there is none."""
    detector.start()
    faces = detector.detect([picture], [0.0])[0]
    if not len(faces):
        return None
    best = int(np.argmax(faces.boxes[:, 2] - faces.boxes[:, 0]))
    return crop_face(picture, faces.boxes[best], faces.landmarks[best], AlignConfig(), size)


def values_of(photographs: Photographs, network: Network, *, mirrored: bool = False) -> Floats:
    """Probabilities ``[pictures, K]``."""
    return values_of_crops(photographs.crops, network, mirrored=mirrored)


def values_of_crops(crops: Sequence[Picture], network: Network, *, mirrored: bool = False) -> Floats:
    """Probabilities ``[n, K]`` of pictures that are one frame each."""
    found = network.probabilities([[crop] for crop in crops], mirrored=mirrored)
    return np.stack([values[0] for values in found])


def smile_goal(photographs: Photographs, smile: Floats) -> list[Measured]:
    """AUC of AU12 over all test identities, and that of the teacher on the same pictures."""
    groups, people = photographs.groups, len(photographs.identities)
    weights = draw_weights(["london"] * people)
    rows = len(photographs.people)
    ours = auc(groups, photographs.smiling, smile, weights)
    theirs = auc(groups, photographs.smiling, photographs.teacher, weights)
    weak = int((np.asarray(photographs.teacher)[photographs.smiling] < 0.3).sum())
    note = f"folder labels as they are; {weak} of the {rows // 2} smiling ones hardly smile (teacher below 0.3)"
    return [
        measured("london.smile", "London, neutral against smiling: AUC of AU12", ours,
                 identities=people, rows=rows, goal=Goal(at_least=0.93), note=note),
        measured("london.smile.teacher", "the same by the teacher (MediaPipe's mouthSmile)", theirs,
                 identities=people, rows=rows, note="for comparison: what the teacher itself reaches"),
    ]  # fmt: skip


def smile_calls(photographs: Photographs, smile: Floats, threshold: float) -> list[Measured]:
    """Share of neutral and of smiling photographs in which AU12 is called."""
    groups, people = np.array(photographs.groups), len(photographs.identities)
    weights, found = draw_weights(["london"] * people), []
    for kind, keep in (("neutral", ~photographs.smiling), ("smiling", photographs.smiling)):
        (share,) = means(groups[keep], (smile[keep] >= threshold)[:, None], weights)
        what, note = f"London, {kind}: share in which AU12 is called", f"at the head's threshold of {threshold:.2f}"
        rows = int(keep.sum())
        found.append(measured(f"london.called.{kind}", what, share, identities=people, rows=rows, note=note))
    return found


def open_mouth_goal(
    photographs: Photographs,
    smile: Floats,
    key: str,
    what: str,
    others: Sequence[str],
    theirs: Floats,
    goal: Goal | None,
    note: str,
) -> Measured:
    """AUC of AU12 of smiling photographs against faces with open mouths that don't smile.

    Args:
        others: of each such face, where it is from and who it is: ``clip a man``. Identities of the London set are
            drawn together with their smiling photographs.
        theirs: AU12 of each.

    There is no interval where one of the sources shows fewer than ``resampling.FEW`` people.
    """
    mine = [name for name, yes in zip(photographs.people, photographs.smiling, strict=True) if yes]
    names = [*(f"london {name}" for name in mine), *others]
    order = {name: place for place, name in enumerate(sorted(set(names)))}
    scores = np.concatenate([smile[photographs.smiling], theirs])
    sources = [name.split()[0] for name in sorted(order)]
    weights = draw_weights(sources)
    found = auc([order[n] for n in names], [True] * len(mine) + [False] * len(others), scores, weights)
    found = found.among(min(Counter(sources).values()))
    return measured(key, what, found, identities=len(order), rows=len(names), goal=goal, note=note)


def smile_by_group(photographs: Photographs, smile: Floats) -> list[Measured]:
    """The same figure in groups of people, as ``london_info.csv`` has them."""
    found = []
    for column in ("face_gender", "face_eth"):
        for value in sorted({photographs.facts[name][column] for name in photographs.identities}):
            chosen = [name for name in photographs.identities if photographs.facts[name][column] == value]
            found.append(_among(photographs, smile, chosen, f"london.smile.{column}.{value}", f"London, {value}"))
    ages = {name: _age(photographs.facts[name]["face_age"]) for name in photographs.identities}
    for text, low, high in (("under 30", 0, 30), ("30 and older", 30, 200)):
        chosen = [name for name, age in ages.items() if low <= age < high]
        found.append(_among(photographs, smile, chosen, f"london.smile.age.{text.split()[0]}", f"London, {text}"))
    return [row for row in found if row is not None]


def _age(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _among(photographs: Photographs, smile: Floats, chosen: Sequence[str], key: str, what: str) -> Measured | None:
    if not chosen:
        return None
    keep = np.array([name in chosen for name in photographs.people])
    order = {name: place for place, name in enumerate(chosen)}
    groups = [order[name] for name in photographs.people if name in order]
    weights = draw_weights(["london"] * len(chosen))
    found = auc(groups, photographs.smiling[keep], smile[keep], weights)
    note = "too few people to say anything" if len(chosen) < FEW else ""
    return measured(key, what, found, identities=len(chosen), rows=len(groups), note=note)


FACE_SIZES = (64, 32, 20)
"""Edges of a crop in px, as small faces in a picture give."""


def smile_by_size(photographs: Photographs, network: Network) -> list[Measured]:
    """The smile goal on crops that were made small, then enlarged as stage 1 does."""
    people = len(photographs.identities)
    weights = draw_weights(["london"] * people)
    found = []
    for edge in FACE_SIZES:
        small = [cv2.resize(crop, (edge, edge), interpolation=cv2.INTER_AREA) for crop in photographs.crops]
        values = network.probabilities([[np.asarray(crop, np.uint8)] for crop in small])
        smile = np.array([each[0, network.column("AU12")] for each in values])
        figure = auc(photographs.groups, photographs.smiling, smile, weights)
        what = f"London, crops of {edge} px"
        found.append(measured(f"london.smile.size.{edge}", what, figure, identities=people, rows=len(smile)))
    return found
