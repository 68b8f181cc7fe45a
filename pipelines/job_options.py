"""Which options each job of the two stages takes: those of its configs, and what is declared here beside them.

Nothing heavy is imported: ``--help`` is made from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from emobeam.runners.children.settings import LocalConfig
from emobeam.runners.engines.presets import ENGINES, EngineConfig
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.options import Option, OptionField, Section, options_of
from emobeam.schemas.predict_config import ChallengeOptions, HeadOptions, PredictConfig


@dataclass(frozen=True, kw_only=True)
class ExtractPlaces:
    """Where stage 1 writes."""

    output: Annotated[str, Option("Folder of the cache.", metavar="FEATURES", place=True)]


@dataclass(frozen=True, kw_only=True)
class PredictPlaces:
    """Where stage 2 writes, and of which videos."""

    output: Annotated[str, Option("Folder for tables and submission.", metavar="OUT", place=True)]
    only: Annotated[
        str, Option("Only these videos, separated by commas.", Section.VIDEOS, metavar="NAMES", listed=True)
    ] = ""


@dataclass(frozen=True, kw_only=True)
class AnnotatePlaces:
    """Where both stages write."""

    output: Annotated[str, Option("Folder for tables and submission.", metavar="OUT", place=True)]
    features: Annotated[str, Option("Folder of the cache.", metavar="FEATURES", told="OUT/features", place=True)] = ""


@dataclass(frozen=True, kw_only=True)
class VideoChoice:
    """Which of the inputs' videos; see ``emobeam.emo_transforms.extraction.video_plans.find_videos``."""

    only: Annotated[
        str,
        Option("Only these videos: names, or a file of them.", Section.VIDEOS, metavar="NAMES|TEMPLATE", listed=True),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class CropsOptions:
    """What folders of crops lack."""

    videos: Annotated[
        str, Option("With --crops: raw videos, for presentation times.", Section.CROPS, metavar="DIR", place=True)
    ] = ""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What ``plan`` is asked beside the run it plans.

    Attributes:
        runner: engine it would run on.
        workers: how many at a time; 0: those of this machine, elsewhere a few numbers to choose from.
        sample: videos that are looked at.
        measure: run stage 1 on a few seconds of some of them.
        seed: of the draw.
    """

    runner: Annotated[str, Option("Engine to plan for.", Section.MACHINES, choices=("direct", *ENGINES))] = "direct"
    workers: Annotated[int, Option("How many at a time; 0: direct, one per core.", Section.MACHINES, least=0)] = 0
    sample: Annotated[int, Option("Videos to look at; the others by their sizes.", least=1)] = 20
    seed: Annotated[int, Option("Of the draw.", least=0)] = 0
    measure: Annotated[
        bool,
        Option("Don't run stage 1 on a few seconds of the sample; take the figures of the docs.", flag="--no-measure"),
    ] = True


@dataclass(frozen=True, kw_only=True)
class Messages:
    """What a command says; functions give it back instead."""

    as_json: Annotated[
        bool, Option("Print the result as JSON on standard output.", Section.MESSAGES, flag="--json")
    ] = False
    quiet: Annotated[bool, Option("Warnings and errors only.", Section.MESSAGES, short="-q")] = False
    verbose: Annotated[
        bool, Option("Let workers and libraries write to standard error.", Section.MESSAGES, short="-v")
    ] = False


_ELSEWHERE = (EngineConfig, LocalConfig, Messages)
_STAGE_1 = (VideoChoice, ExtractConfig, CropsOptions)
_STAGE_2 = (HeadOptions, PredictConfig, ChallengeOptions)

JOB_OPTIONS: Mapping[str, tuple[OptionField, ...]] = {
    # Only stage 1 by itself leaves a run that the next one can settle; the others have work to do after it.
    "annotate": options_of(AnnotatePlaces, *_STAGE_1, *_STAGE_2, *_ELSEWHERE, without=("detach",)),
    "extract": options_of(ExtractPlaces, *_STAGE_1, *_ELSEWHERE),
    "predict": options_of(PredictPlaces, *_STAGE_2, *_ELSEWHERE, without=("detach",)),
    "plan": options_of(*_STAGE_1, PlanOptions, Messages, without=("verbose",)),
}
"""The options of each job by the name of its command."""

ONLY_PRINTED = frozenset(field.name for field in options_of(Messages, without=("verbose",)))
"""Options of commands that mean nothing to functions, which give back what commands print."""
