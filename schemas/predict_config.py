"""What stage 2 does with a cache: frozen configuration, and what its jobs are asked beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from emobeam.schemas.config import DEVICE, ENGINE
from emobeam.schemas.options import Option, Section
from emobeam.schemas.tasks import TASKS

TASK_NAMES = tuple(sorted(TASKS))


@dataclass(frozen=True)
class PredictConfig:
    """Everything but the heads that decides what stage 2 writes. Times in seconds.

    Attributes:
        faces: ``main`` (face 0 alone) or ``all``.
        max_gap: how far a value may be carried from a seen face.
        window_gap: a window never crosses a longer gap between sampled frames.
        stride: frames between the starts of two windows; 0 means side by side.
        kernel_batch: windows per call of a head, the last call padded; with OpenVINO it is always one.
        engine: what runs the heads, a concrete one; with OpenVINO they compute in float32.
    """

    faces: Annotated[str, Option("Whose values are written.", Section.HEADS, choices=("main", "all"))] = "main"
    max_gap: Annotated[
        float, Option("How far a value is carried from a face.", Section.HEADS, metavar="SECONDS", least=0)
    ] = 0.5
    window_gap: Annotated[float, Option("What a window may step over.", Section.HEADS, metavar="SECONDS", least=0)] = (
        0.5
    )
    stride: Annotated[int, Option("Frames between windows; 0: side by side.", Section.HEADS, least=0)] = 0
    kernel_batch: int = 16
    device: Annotated[str, DEVICE] = "cpu"
    engine: Annotated[str, ENGINE] = "torch"


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Which heads, and for whom.

    Attributes:
        heads: folders or URIs of heads; several of one task are averaged. ``shipped`` stands for those that come with
            emobeam, ``untrained`` for seeded random ones for the tasks that no other is of.
        tasks: names of tasks. Default: those of the heads, else ``au``. Without a head, ``au`` has the one that comes
            with emobeam, and expressions and valence-arousal are read off the scores of a backbone that gives them.
        subjects: CSV file ``video,subject,person``.
    """

    heads: Annotated[
        Sequence[str],
        Option(
            "Folder of a head; several may be given; 'untrained' is random, for tests.",
            Section.HEADS,
            flag="--head",
            metavar="HEAD|untrained",
            told="au: the head that comes with emobeam",
            place=True,
        ),
    ] = ()
    tasks: Annotated[
        Sequence[str],
        Option("Repeatable.", Section.HEADS, flag="--task", told="tasks of the heads, else au", choices=TASK_NAMES),
    ] = ()
    subjects: Annotated[
        str, Option("CSV video,subject,person: who a subject is.", Section.HEADS, metavar="FILE", place=True)
    ] = ""


@dataclass(frozen=True, kw_only=True)
class ChallengeOptions:
    """What is written and scored for a challenge.

    Attributes:
        edition: 0 writes no submission.
        template: organisers' templates, or folders of them: of several the one with a task's header is the task's.
        truth: labels to score the predictions with, ``""`` for none.
        partition: of the labels, where they hold several; default: the official validation part if there is one.
    """

    edition: Annotated[
        int,
        Option("ABAW edition; writes the submission.", Section.CHALLENGE, unset=None, least=3, most=11),
    ] = 0
    template: Annotated[
        Sequence[str],
        Option(
            "Organisers' rows for the submission; of several tasks repeatable, or a folder.",
            Section.CHALLENGE,
            flag="--template",
            metavar="FILE",
            place=True,
        ),
    ] = ()
    truth: Annotated[
        str,
        Option("Organisers' annotations; writes metrics.json.", Section.CHALLENGE, metavar="LABELS", place=True),
    ] = ""
    partition: Annotated[
        str, Option("With --truth: train, validation, test or all.", Section.CHALLENGE, metavar="NAME")
    ] = ""
