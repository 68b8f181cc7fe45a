"""The challenge tasks: what they ask for, in which range, and how their submission files look.

Headers, output names and invalid markers are the organisers' own words (ABAW editions 3 to 11). A new task is
one more entry of :data:`TASKS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from schemas.records import UsageError

Scope = Literal["frame", "clip"]
Activation = Literal["tanh", "sigmoid"]
OutputKind = Literal["value", "binary"]


@dataclass(frozen=True)
class KeyStyle:
    """How a task names a row: ``<name>/<prefix><number><suffix>``, or the bare name of a clip.

    Attributes:
        frames: rows are frames; if False the key is the name alone and the other fields mean nothing.
        prefix, suffix: what stands around the number in the image's name.
        digits: the number is padded with zeros to this length (longer numbers stay as they are).
        first: number of a video's first frame; frames themselves always count from 1.
        extension: what names end in where the organisers keep a file's extension, else ``""``.
    """

    frames: bool = True
    prefix: str = ""
    suffix: str = ".jpg"
    digits: int = 5
    first: int = 1
    extension: str = ""


@dataclass(frozen=True)
class SubmissionForm:
    """Shape of a submission that is one text file.

    Attributes:
        editions: ABAW editions that take this form.
        header: first line without line end, or None where the file starts with its first row.
        key: how rows are named.
        file: name of the file in ``submission/<task>/``.
    """

    editions: tuple[int, ...]
    header: str | None
    key: KeyStyle
    file: str = "predictions.txt"


@dataclass(frozen=True)
class Task:
    """One challenge task.

    Attributes:
        name: what users write (``--task``).
        title: for people.
        outputs: names of the outputs, in the organisers' order and spelling.
        scope: ``frame`` (one row per native frame) or ``clip`` (one row per video).
        activation: what the last layer of a head ends in.
        low, high: range of every output, both ends included.
        neutral: value of each output where nothing is known and the organisers demand a number.
        invalid: what labels hold where an annotator gave none, or None if that doesn't happen.
        kind: ``value`` outputs are submitted as they are, ``binary`` ones as 0 or 1 by a threshold.
        editions: ABAW editions that hold the task in this form of the problem.
        form: its submission file; ``form.editions`` may be fewer than ``editions``.
    """

    name: str
    title: str
    outputs: tuple[str, ...]
    scope: Scope
    activation: Activation
    low: float
    high: float
    neutral: tuple[float, ...]
    invalid: float | None
    kind: OutputKind
    editions: tuple[int, ...]
    form: SubmissionForm


_IMAGE = KeyStyle()
_AUS = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
_EMOTIONS = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")

_ALL = (
    Task(
        name="va",
        title="valence-arousal estimation",
        outputs=("valence", "arousal"),
        scope="frame",
        activation="tanh",
        low=-1.0,
        high=1.0,
        neutral=(0.0, 0.0),
        invalid=-5.0,
        kind="value",
        editions=(3, 5, 6, 8, 9, 10),
        form=SubmissionForm(editions=(5, 6, 8, 9, 10), header="image_location,valence,arousal", key=_IMAGE),
    ),
    Task(
        name="au",
        title="action unit detection",
        outputs=_AUS,
        scope="frame",
        activation="sigmoid",
        low=0.0,
        high=1.0,
        neutral=(0.0,) * len(_AUS),
        invalid=-1.0,
        kind="binary",
        editions=(3, 5, 6, 8, 10),
        form=SubmissionForm(
            editions=(5, 6, 8, 10),
            header="image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
            key=_IMAGE,
        ),
    ),
    Task(
        name="emi",
        title="emotional mimicry intensity estimation",
        outputs=_EMOTIONS,
        scope="clip",
        activation="sigmoid",
        low=0.0,
        high=1.0,
        # The measure is Pearson's rho over all clips: a filled row does least harm at the mean of the other
        # rows. That mean isn't known beforehand, and the middle of the range is never far from it; 0 would
        # claim that a clip nobody could see shows no mimicry at all.
        neutral=(0.5,) * len(_EMOTIONS),
        invalid=None,
        kind="value",
        editions=(6, 8, 10),
        form=SubmissionForm(
            editions=(6, 8, 10),
            header="Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy",
            key=KeyStyle(frames=False),
            file="predictions.csv",
        ),
    ),
    Task(
        name="ah",
        title="ambivalence/hesitancy recognition, frame level",
        outputs=("AH",),
        scope="frame",
        activation="sigmoid",
        low=0.0,
        high=1.0,
        neutral=(0.0,),
        invalid=None,
        kind="binary",
        editions=(8,),
        form=SubmissionForm(
            editions=(8,), header=None, key=KeyStyle(prefix="frame-", digits=1, first=0, extension=".mp4")
        ),
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
"""All known tasks by name."""


def task_named(name: str) -> Task:
    """The task of that name; raises :class:`UsageError` listing the known names where there is none."""
    try:
        return TASKS[name]
    except KeyError:
        raise UsageError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}") from None
