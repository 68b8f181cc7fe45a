"""What a run of stage 2 is asked for, and what can be known of it before it begins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from emo_transforms import storage
from emo_transforms.abaw.templates import template_names
from emo_transforms.cache import Dataset
from emo_transforms.heads.files import check_head
from emo_transforms.predict import HeadSpec, PredictTools, load_tools
from emo_transforms.subjects import read_overrides
from runners.local import LocalConfig
from runners.presets import EngineConfig
from schemas.config import PredictConfig
from schemas.records import EmobeamError, UsageError, Video
from schemas.tasks import task_named


@dataclass(frozen=True)
class PredictRequest:
    """What the user asked for.

    Attributes:
        heads: folders or URIs of heads; several of one task are averaged.
        tasks: names of tasks; those without a head get the untrained one. Default: those of the heads, else ``au``.
        videos: the inputs of the run, None for all videos of the cache.
        only: restricts the videos (names separated by commas).
        edition: 0 writes no submission.
        truth: labels to score the predictions with, ``""`` for none.
        engine: where the run takes place; None is this machine, as ``local`` says.
        template: organisers' template; ``""`` for none.
        faces_given: the user has said whose faces are written, so nobody is taken over from earlier tables.
    """

    features: str
    output: str
    heads: Sequence[str] = ()
    tasks: Sequence[str] = ()
    config: PredictConfig = field(default_factory=PredictConfig)
    videos: Sequence[Video] | None = None
    only: str = ""
    subjects: str = ""
    edition: int = 0
    template: str = ""
    truth: str = ""
    partition: str = ""
    local: LocalConfig = field(default_factory=LocalConfig)
    beam_args: Sequence[str] = ()
    engine: EngineConfig | None = None
    command: str = "predict"
    faces_given: bool = False


def head_specs(request: PredictRequest, dataset: Dataset) -> tuple[tuple[HeadSpec, ...], PredictTools, list[str]]:
    """The heads of a run with their digests, loaded once to check them, and warnings.

    Raises:
        EmobeamError: a head can't be read, or doesn't fit the cache (see ``emo_transforms.heads.files.check_head``).
        UsageError: an unknown task, one that the edition lacks, or a head of a task that isn't asked for.
    """
    specs = [HeadSpec(task="", uri=uri) for uri in request.heads]
    loaded = []
    for spec in specs:
        head = next(iter(load_tools([spec], dataset).heads.values()))[0]
        loaded.append(HeadSpec(head.config.task, spec.uri, head.weights_sha256))
    _check_named(request, loaded)
    named = list(request.tasks) or sorted({spec.task for spec in loaded}) or ["au"]
    wanted = dict.fromkeys(task_named(name).name for name in named)
    check_tasks(request, wanted)
    missing = [task for task in wanted if task not in {spec.task for spec in loaded}]
    loaded += [HeadSpec(task=task) for task in missing]
    tools = load_tools(loaded, dataset)
    warnings = [
        warning
        for heads in tools.heads.values()
        for head in heads
        for warning in check_head(
            head,
            features_id=dataset.config.features_id,
            map_shapes=dict(dataset.map_shapes),
            rate=dataset.config.sampling.fps,
            crop_style=dataset.config.align.style,
            vectors={"embedding": dataset.embedding, "scores": dataset.scores},
        )
    ]
    specs = []
    for spec in loaded:
        digest = spec.sha256 or tools.heads[spec.task][0].weights_sha256
        specs.append(replace(spec, sha256=digest))
    return tuple(specs), tools, list(dict.fromkeys(warnings))


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
        if not storage.exists(storage.join(uri, "head.json")):
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
    for name in names:
        task = task_named(name)
        if request.edition:
            task.forms_of(request.edition)
        if request.template:
            template_names(request.template, task, request.edition)
