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
from tests.benchmarks.weights.measured import NOT_MEASURABLE, Measured, measured, unmeasured
from tests.benchmarks.weights.network import BACKBONE, Network
from tests.benchmarks.weights.resampling import Estimate, difference_in_time, over_people, pearson_in_time
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

STILL = 0.05
"""Standard deviation of the teacher's signal below which a clip can't show whether two agree."""

NUMB = 0.01
"""Standard deviation of our own values below which we don't move, and so agree with nothing."""

PEOPLE = 2
"""People who have to show a unit, for agreement on it to be a goal that can be met."""

_ENDS = 12
_NATIVE = 5  # native frames between two sampled ones


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


def agreement(clips: Sequence[Clip], readings: Mapping[str, Sequence[Reading]], length: int) -> list[Measured]:
    """Correlation with the teacher, clip by clip and over people, for each entry of :data:`AGREEMENT`.

    Args:
        length: of the stretches of time that intervals are drawn over, in sampled frames.

    A clip can show a unit where the teacher's signal has a deviation of :data:`STILL`; others have figures, but no
    say. Where the teacher's signal moves and ours doesn't (:data:`NUMB`), r counts as 0.
    """
    found: list[Measured] = []
    for name, (units, goal) in AGREEMENT.items():
        rows = [_in_clip(name, goal, clip, *paired(clip, readings[clip.name], units), length) for clip in clips]
        found += [_over_people(name, goal, rows, [clip.person for clip in clips]), *rows]
    return found


def _in_clip(name: str, goal: float, clip: Clip, theirs: Floats, ours: Floats, length: int) -> Measured:
    """A row with a goal where the clip can show it, else without."""
    key, what, count = f"teacher.{name}.{clip.name}", f"{name}, {clip.name}", len(theirs)
    spread, own = (float(values.std()) if count else 0.0 for values in (theirs, ours))
    note = f"{clip.person}; the teacher's deviation is {spread:.2f}"
    shows = count >= 10 and spread >= STILL
    if not shows:
        note = f"{NOT_MEASURABLE}: the teacher's signal has a deviation of {spread:.3f} ({count} frames)"
    if count < 2 or spread == 0.0:
        return unmeasured(key, what, note)
    if own < NUMB:
        found, note = Estimate.alone(0.0), f"{note}; we don't move (deviation {own:.3f}), so r counts as 0"
    else:
        found = pearson_in_time(theirs, ours, length)
    return measured(
        key, what, found, identities=1, rows=count, goal=Goal(at_least=goal) if shows else None, note=note,
        over="stretches of time of one person",
    )  # fmt: skip


def _over_people(name: str, goal: float, rows: Sequence[Measured], people: Sequence[str]) -> Measured:
    key, what = f"teacher.{name}", f"agreement with the teacher on real clips, {name}: mean of Pearson's r over people"
    shown = [(row, person) for row, person in zip(rows, people, strict=True) if row.goal is not None]
    who = [person for _, person in shown]
    note = f"asked of each clip; {len(shown)} of {len(rows)} clips can show it"
    if len(set(who)) < PEOPLE:
        verdict = f"{NOT_MEASURABLE} ({len(shown)} of {len(rows)} clips)"
        note = f"{len(shown)} of {len(rows)} clips, {len(set(who))} of {len(set(people))} people can show it"
        return unmeasured(key, what, f"{note}; figures clip by clip are below", Goal(at_least=goal), verdict)
    hits = sum(row.met is True for row, _ in shown)
    verdict = "yes" if hits == len(shown) else f"no: in {hits} of {len(shown)} clips"
    note += "; each person's clips are averaged first, then people"
    return measured(
        key, what, over_people(who, [row.value for row, _ in shown]), identities=len(set(who)),
        rows=sum(row.rows for row, _ in shown), goal=Goal(at_least=goal), note=note, verdict=verdict,
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


def smile_begins(clips: Sequence[Clip], length: int) -> list[Measured]:
    """``single_face.mp4``, neutral to a smile: AU12 of the last native frames minus the first ones.

    Args:
        length: see :func:`agreement`.
    """
    clip = next((clip for clip in clips if clip.name == "single_face.mp4"), None)
    what, goal = f"single_face.mp4: AU12 of the last {_ENDS} frames minus the first {_ENDS}", Goal(at_least=0.4)
    if clip is None:
        return [unmeasured("single_face", what, "the clip isn't there", goal)]
    smile = clip.native["AU12"].to_numpy(np.float64)
    # Values between two sampled frames are interpolated.
    found = difference_in_time(smile[:_ENDS], smile[-_ENDS:], length * _NATIVE)
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
        people += [f"clip {clip.person}"] * len(frames)
        smiles += clip.sampled().loc[frames, "AU12"].tolist()
    return people, np.array(smiles, np.float64)
