"""What a run of stage 2 is asked for, and what can be known of it before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.submissions.templates import template_names, template_of
from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.folder import check_head
from emobeam.emo_transforms.networks.heads.fresh_configs import dropped_scores, has_ready_head
from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED, shipped, shipped_head
from emobeam.emo_transforms.prediction.predict_job import HeadSpec
from emobeam.emo_transforms.prediction.subjects import read_overrides
from emobeam.emo_transforms.prediction.video_parts import PredictTools, load_tools
from emobeam.pipelines.console import Ui, command
from emobeam.runners.children.settings import LocalConfig
from emobeam.runners.engines.presets import EngineConfig
from emobeam.schemas.config import NO_BACKBONE
from emobeam.schemas.predict_config import ChallengeOptions, HeadOptions, PredictConfig
from emobeam.schemas.records import EmobeamError, UsageError, Video
from emobeam.schemas.tasks import Task, task_named


@dataclass(frozen=True)
class Caller:
    """The job that a run of stage 2 is a part of, and what it takes upon itself.

    Attributes:
        job: its name in ``run.json``.
        owns_output: the folder is the job's own: tables that the run has not made are nobody else's, and go.
        checks_places: it has asked an engine's workers about the places before, with those of its other parts.
    """

    job: str
    owns_output: bool = False
    checks_places: bool = False


PREDICT = Caller("predict")


@dataclass(frozen=True)
class PredictRequest(HeadOptions, ChallengeOptions):
    """What the user asked for.

    Attributes:
        videos: the inputs of the run, None for all videos of the cache.
        only: restricts the videos (names separated by commas), where ``videos`` doesn't.
        engine: where the run takes place; None is this machine, as ``local`` says.
        caller: the job it is for.
        faces_given: the user has said whose faces are written, so nobody is taken over from earlier tables.
    """

    features: str
    output: str
    config: PredictConfig = field(default_factory=PredictConfig)
    videos: Sequence[Video] | None = None
    only: str = ""
    local: LocalConfig = field(default_factory=LocalConfig)
    beam_args: Sequence[str] = ()
    engine: EngineConfig | None = None
    caller: Caller = PREDICT
    faces_given: bool = False


def head_specs(request: PredictRequest, dataset: Dataset, ui: Ui) -> tuple[tuple[HeadSpec, ...], PredictTools]:
    """The heads of a run with their digests, loaded once to check them.

    Args:
        ui: gets a line where a head has to be prepared first, and a warning of what it was not made for.

    Raises:
        EmobeamError: a head can't be read, or doesn't fit the cache (see ``.networks.heads.files.check_head``).
        UsageError: an unknown task, one that the edition lacks, a head of a task that isn't asked for, or a task that
            has no head.
    """
    if dataset.config.backbone.name == NO_BACKBONE.name:
        raise UsageError(
            f"{request.features}: crops of faces alone are stored there, and heads read what a backbone makes of them: "
            f"{command('extract', request.features, '--output', 'FEATURES')}, then predict from FEATURES"
        )
    specs = [HeadSpec(task="", uri=uri) for uri in request.heads if uri not in STAND_INS]
    loaded, engine = [], request.config.engine
    for spec in specs:
        head = next(iter(load_tools([spec], dataset, engine, ui.say).heads.values()))[0]
        loaded.append(HeadSpec(head.config.task, spec.uri, head.weights_sha256))
    _check_named(request, loaded)
    named = list(request.tasks) or sorted({spec.task for spec in loaded}) or ["au"]
    wanted = dict.fromkeys(task_named(name).name for name in named)
    check_tasks(request, wanted)
    loaded += _stand_ins(request, dataset, [task for task in wanted if task not in {spec.task for spec in loaded}])
    tools = load_tools(loaded, dataset, engine, ui.say)
    for head in (head for heads in tools.heads.values() for head in heads):
        for text in (*check_head(head, dataset.offer), dropped_scores(head.config, dataset.offer)):
            if text:
                ui.warn(text)
    specs = []
    for spec in loaded:
        digest = spec.sha256 or tools.heads[spec.task][0].weights_sha256
        specs.append(replace(spec, sha256=digest))
    return tuple(specs), tools


STAND_INS = (SHIPPED, UNTRAINED)
"""What ``--head`` takes beside folders."""


def head_places(heads: Iterable[str]) -> list[str]:
    """Those of the heads that lie somewhere, the others being a part of emobeam."""
    return [uri for uri in heads if uri not in STAND_INS]


def _stand_ins(request: PredictRequest, dataset: Dataset, tasks: Sequence[str]) -> list[HeadSpec]:
    """The heads of tasks for which no folder was named."""
    asked = [name for name in STAND_INS if name in request.heads]
    if asked and not tasks:
        raise UsageError(f"--head {asked[0]}: every task has a head already; say by --task which others are wanted")
    found = []
    for name in tasks:
        task, offer = task_named(name), dataset.offer
        ours = shipped_head(name)
        if SHIPPED in asked and (ours is not None or UNTRAINED not in asked):
            uri = SHIPPED
        elif UNTRAINED in asked:
            uri = UNTRAINED
        elif ours is not None and ours.features_id in (offer.features_id, offer.maps_id):
            uri = SHIPPED
        elif has_ready_head(task, offer):
            uri = ""
        else:
            raise UsageError(_no_head(task, dataset))
        found.append(HeadSpec(task=name, uri=uri))
    return found


def _no_head(task: Task, dataset: Dataset) -> str:
    """Why a task has no head, and what to do."""
    found, backbone = shipped(), dataset.config.backbone
    if task.name in found.heads:
        why = (
            f"the head that comes with emobeam reads features {found.heads[task.name].features_id} "
            f"({found.architecture}, {found.name}), these are {dataset.config.features_id} ({backbone.name}, "
            f"{backbone.weights}); extract without --backbone and --backbone-weights, or"
        )
    else:
        why = (
            f"emobeam comes with a head of {', '.join(found.heads)} alone. For {_WHAT.get(task.name, task.title)} "
            "there is no clean teacher, neither a model nor data whose licence allows it, and nothing is made up:"
        )
    published = ""
    if task.name in _PUBLISHED:
        published = (
            ", take a published backbone for research that gives it (emobeam models; emobeam models fetch "
            f"{_PUBLISHED[task.name]} --accept-licence, then extract with --backbone-weights {_PUBLISHED[task.name]})"
        )
    return (
        f"--task {task.name}: no head: {why} train one (emobeam train FEATURES --task {task.name} --labels LABELS "
        f"--output HEAD) and name it by --head HEAD{published}, or try the machinery with --head untrained, whose "
        "values mean nothing"
    )


_WHAT = dict.fromkeys(("va", "expr", "mtl", "ce"), "expressions and valence-arousal")
_PUBLISHED = {"va": "enet_b0_8_va_mtl", "expr": "enet_b0_8_va_mtl"}
"""Backbones whose own scores answer a task without a head."""


def _check_named(request: PredictRequest, heads: Sequence[HeadSpec]) -> None:
    """A head that would stay unused is a mistake, either in ``--head`` or in ``--task``."""
    asked = ", ".join(request.tasks)
    for head in heads:
        if request.tasks and head.task not in request.tasks:
            raise UsageError(
                f"--head {head.uri}: is a head of task {head.task}, but --task asks for {asked}; "
                f"add --task {head.task}, or leave that head out"
            )


def check_request(request: PredictRequest) -> None:
    """Finds mistakes that can be known before stage 1 has run.

    Raises:
        UsageError: an unknown task, an edition without it, a template without edition, an output that is a cache.
        EmobeamError: an unreadable template or subjects file.
    """
    if request.template and not request.edition:
        raise UsageError("--template needs --edition N, the ABAW edition whose rules the submission follows")
    check_output(request)
    check_tasks(request, request.tasks)
    if request.truth and not storage.exists(request.truth):
        raise EmobeamError(f"--truth {request.truth}: no such file or folder")
    if request.subjects:
        read_overrides(request.subjects)
    for uri in request.heads:
        if uri not in STAND_INS and not storage.exists(storage.join(uri, "head.json")):
            raise EmobeamError(f"--head {uri}: not a head folder (no head.json)")


def check_output(request: PredictRequest) -> None:
    """Tables don't go into a folder of features.

    Raises:
        UsageError: the output is a feature cache, or will be one.
    """
    output = request.output
    if output.rstrip("/") == request.features.rstrip("/") or storage.exists(storage.join(output, "dataset.json")):
        raise UsageError(f"--output {output}: is a feature cache; choose another folder for the predictions")


def check_tasks(request: PredictRequest, names: Iterable[str]) -> None:
    """Checks edition and template against the tasks of a run; see :func:`check_request` for what it raises."""
    asked = [task_named(name) for name in names]
    for task in asked:
        if request.edition:
            task.forms_of(request.edition)
        try:
            if template := template_of(request.template, task, request.edition):
                template_names(template, task, request.edition)
        except EmobeamError as error:
            if len(asked) < 2:
                raise
            raise EmobeamError(
                f"{error}. There are several tasks: name a --template for each, or a folder of them; or leave it out, "
                "and run emobeam submit --task TASK --template FILE for each afterwards"
            ) from error
