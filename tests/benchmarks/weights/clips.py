"""Real clips: what the pipeline says of their frames, against what the teacher sees in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import emobeam
from tests.benchmarks.figures import Goal
from tests.benchmarks.weights.measured import Measured, measured, unmeasured
from tests.benchmarks.weights.network import BACKBONE, Network
from tests.benchmarks.weights.resampling import Estimate, difference_in_time, over_clips, pearson_in_time
from tests.benchmarks.weights.teacher import Reading

Floats = NDArray[np.float64]

CLIPS: Mapping[str, str] = {
    "single_face.mp4": "a man at a door",
    "face_noface.mov": "a man at a door",
    "WolfgangLanger_Pexels.mp4": "a woman who cries and laughs",
    "webcam_h264.mp4": "a man who speaks",
}
"""Clips of the split's test side, and who is in them: the first two are of one recording."""

AGREEMENT: Mapping[str, tuple[tuple[str, ...], float]] = {
    "AU12": (("AU12",), 0.8),
    "AU25/26": (("AU25", "AU26"), 0.75),
    "AU1/2": (("AU1", "AU2"), 0.6),
    "AU4": (("AU4",), 0.5),
}
"""What is compared (the mean of the units), and the goal of its correlation in each clip."""

STILL = 0.03
"""Standard deviation of the teacher's signal below which a clip can't show whether two agree."""

_ENDS = 12


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as the pipeline annotated it.

    Attributes:
        native: the predictions of face 0, a row per native frame.
        boxes: box ``[4]`` of the largest face, by sampled frame.
    """

    name: str
    person: str
    native: pd.DataFrame
    boxes: Mapping[int, Floats]

    def sampled(self) -> pd.DataFrame:
        """Rows of frames in which the face was seen, by number of the frame."""
        return self.native[self.native["source"] == "sampled"].set_index("frame")


def annotated(paths: Sequence[Path], network: Network, work: Path) -> list[Clip]:
    """Runs both stages on clips, as ``emobeam annotate --fps 6`` does.

    Args:
        work: a folder; crops are kept there, so that other weights need neither decoding nor detection.
    """
    crops = work / "crops"
    emobeam.extract([str(path) for path in paths], output=crops, store=["crops"], fps=6, workers=1)
    digests = network.backbone.config.weights_sha256[:12], network.head.weights_sha256[:12]
    output = work / "-".join(("annotated", *digests))
    emobeam.annotate(
        crops,
        output=output,
        features=work / f"features-{digests[0]}",
        heads=[network.head_folder],
        tasks=["au"],
        backbone=BACKBONE,
        backbone_weights=network.backbone_file,
        store=["maps"],
        workers=1,
    )
    table = emobeam.load_predictions(output, task="au")
    faces = emobeam.load_features(crops, columns=["video", "frame", "box"])
    found = []
    for path in paths:
        native = table[(table["video"] == path.stem) & (table["face"] == 0)].sort_values("frame")
        boxes: dict[int, Floats] = {}
        here = faces[faces["video"] == path.stem]
        for frame, each in zip(here["frame"].tolist(), here["box"], strict=True):
            box = np.asarray(each, np.float64)
            if frame not in boxes or box[2] - box[0] > boxes[frame][2] - boxes[frame][0]:
                boxes[frame] = box
        found.append(Clip(path.name, CLIPS.get(path.name, path.stem), native, boxes))
    return found


def both_see(clip: Clip, readings: Sequence[Reading]) -> list[Reading]:
    """Readings of frames in which the teacher's face lies in the box of the pipeline's."""
    rows = set(clip.sampled().index)
    return [reading for reading in readings if reading.frame in rows and _inside(reading, clip.boxes)]


def _inside(reading: Reading, boxes: Mapping[int, Floats]) -> bool:
    if reading.centre is None or reading.frame not in boxes:
        return False
    (x, y), (left, top, right, bottom) = reading.centre, boxes[reading.frame]
    return bool(left <= x <= right and top <= y <= bottom)


def agreement(clips: Sequence[Clip], readings: Mapping[str, Sequence[Reading]]) -> list[Measured]:
    """Correlation with the teacher, clip by clip and over clips, for each entry of :data:`AGREEMENT`."""
    found: list[Measured] = []
    for name, (units, goal) in AGREEMENT.items():
        rows, estimates, people, frames = [], [], [], 0
        for clip in clips:
            key, what = f"teacher.{name}.{clip.name}", f"{name}, {clip.name}"
            theirs, ours = paired(clip, readings[clip.name], units)
            spread = float(theirs.std()) if len(theirs) else 0.0
            if len(theirs) < 10 or spread < STILL:
                why = f"not measurable: the teacher's signal has a deviation of {spread:.3f} ({len(theirs)} frames)"
                rows.append(unmeasured(key, what, why, Goal(at_least=goal)))
                continue
            estimate = pearson_in_time(theirs, ours)
            note = f"{clip.person}; the teacher's deviation is {spread:.2f}"
            rows.append(
                measured(key, what, estimate, identities=1, rows=len(theirs), goal=Goal(at_least=goal), note=note,
                         over="stretches of time of one person")
            )  # fmt: skip
            estimates.append(estimate)
            people.append(clip.person)
            frames += len(theirs)
        found += [_over_clips(name, goal, rows, estimates, people, frames), *rows]
    return found


def _over_clips(
    name: str, goal: float, rows: Sequence[Measured], estimates: Sequence[Estimate], people: Sequence[str], frames: int
) -> Measured:
    key, what = f"teacher.{name}", f"agreement with the teacher on real clips, {name}: mean of Pearson's r over clips"
    if not estimates:
        return unmeasured(key, what, "no clip shows it", Goal(at_least=goal))
    hits = sum(row.met is True for row in rows)
    verdict = "yes" if hits == len(estimates) else f"no: in {hits} of {len(estimates)} clips"
    note = f"asked of each clip; {len(estimates)} of {len(rows)} clips can show it"
    return measured(
        key, what, over_clips(people, estimates), identities=len(set(people)), rows=frames,
        goal=Goal(at_least=goal), note=note, verdict=verdict, over="people and stretches of their time",
    )  # fmt: skip


def paired(clip: Clip, readings: Sequence[Reading], units: Sequence[str]) -> tuple[Floats, Floats]:
    """Means of some units by the teacher and by the pipeline, in the frames that both see and can tell."""
    table = clip.sampled()
    theirs, ours = [], []
    for reading in both_see(clip, readings):
        told = [reading.units.get(unit) for unit in units]
        if any(value is None for value in told):
            continue
        theirs.append(np.mean([value for value in told if value is not None]))
        ours.append(table.loc[reading.frame, list(units)].to_numpy(np.float64).mean())
    return np.array(theirs, np.float64), np.array(ours, np.float64)


def smile_begins(clips: Sequence[Clip]) -> list[Measured]:
    """``single_face.mp4``, neutral to a smile: AU12 of the last native frames minus the first ones."""
    clip = next((clip for clip in clips if clip.name == "single_face.mp4"), None)
    what, goal = f"single_face.mp4: AU12 of the last {_ENDS} frames minus the first {_ENDS}", Goal(at_least=0.4)
    if clip is None:
        return [unmeasured("single_face", what, "the clip isn't there", goal)]
    smile = clip.native["AU12"].to_numpy(np.float64)
    # Five native frames lie between two sampled ones; values between are interpolated.
    found = difference_in_time(smile[:_ENDS], smile[-_ENDS:], 5)
    note = f"from {smile[:_ENDS].mean():.2f} to {smile[-_ENDS:].mean():.2f}"
    return [
        measured("single_face", what, found, identities=1, rows=2 * _ENDS, goal=goal, note=note,
                 over="stretches of time of one person")
    ]  # fmt: skip


def open_mouths(clips: Sequence[Clip], readings: Mapping[str, Sequence[Reading]]) -> tuple[list[str], Floats]:
    """Who opens the mouth without a smile in frames that both see, and AU12 of these frames by the pipeline."""
    people, smiles = [], []
    for clip in clips:
        seen = both_see(clip, readings[clip.name])
        frames = [reading.frame for reading in seen if reading.open_without_smile]
        people += [clip.person] * len(frames)
        smiles += clip.sampled().loc[frames, "AU12"].tolist()
    return people, np.array(smiles, np.float64)
