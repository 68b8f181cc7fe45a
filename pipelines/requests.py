"""From the options of a command to what a run is asked for; the console script and the Python interface share it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emobeam.pipelines.job_options import CropsOptions
from emobeam.runners.engines.dataflow import DataflowConfig
from emobeam.runners.engines.presets import EngineConfig, check_master, worker_environment
from emobeam.schemas.config import MAKE_CROPS, AlignConfig, ExtractConfig
from emobeam.schemas.options import from_options, options_of, values_of
from emobeam.schemas.predict_config import ChallengeOptions, HeadOptions, PredictConfig
from emobeam.schemas.records import UsageError

if TYPE_CHECKING:
    from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig
    from emobeam.emo_transforms.results.studies.study import StudyConfig
    from emobeam.pipelines.stages.extract import ExtractRequest
    from emobeam.pipelines.stages.predict_request import PredictRequest
    from emobeam.runners.children.settings import LocalConfig
    from emobeam.schemas.records import Video


def extract_request(
    args: Mapping[str, Any], output: str, beam_args: Sequence[str] = (), *, named: Collection[str] = ()
) -> ExtractRequest:
    """What stage 1 is asked for.

    Args:
        args: values of the options of ``emobeam extract`` by their names, see ``emobeam.pipelines.job_options``.
        output: folder of the cache.
        beam_args: what goes to Beam.
        named: those of the options that the user has set; the others hold their defaults.

    Raises:
        UsageError, EmobeamError: the options contradict each other, or an input can't be found.
    """
    videos, notes = _found(args, output, named)
    return _extract_request(args, output, beam_args, named, videos, notes)


def _found(args: Mapping[str, Any], output: str, named: Collection[str]) -> tuple[list[Video], list[str]]:
    """The videos that are meant, and what to tell of them. Mistakes are told before anything heavy is loaded."""
    from emobeam.emo_transforms.cache.stored_crops import same_place
    from emobeam.emo_transforms.extraction.video_plans import find_videos
    from emobeam.emo_transforms.storage.object_stores import check_endpoint

    crops = args["crops"]
    if not crops and (args["videos"] or args["crops_fps"]):
        raise UsageError("--videos and --crops-fps belong to folders of crops; add --crops affwild2|emi|bah")
    if crops == "people" and args["crops_fps"]:
        raise UsageError("--crops-fps: the rows of a people folder hold their own times; leave it out")
    for place in (*args["inputs"], output):
        check_endpoint(place)
    notes: list[str] = []
    videos = find_videos(args["inputs"], crops or "video", only=args["only"], videos=args["videos"], warn=notes.append)
    _check_files(args["inputs"], videos)
    if _stored(videos):
        _check_stored(args["inputs"][0], same_place(output, args["inputs"]), named)
    return videos, notes


def _stored(videos: Sequence[Video]) -> bool:
    """Whether inputs are crops that another cache holds."""
    return bool(videos) and videos[0].kind == "cache"


def _local(args: Mapping[str, Any]) -> LocalConfig:
    """Processes of this machine; ``plan`` has no option for their patience."""
    from emobeam.runners.children.settings import local_config

    given = {"stall_timeout": args["stall_timeout"]} if "stall_timeout" in args else {}
    return local_config(args["workers"], verbose=args["verbose"], **given)


def _extract_request(
    args: Mapping[str, Any],
    output: str,
    beam_args: Sequence[str],
    named: Collection[str],
    videos: list[Video],
    notes: Sequence[str],
) -> ExtractRequest:
    crops, store, stored = args["crops"], args["store"] or (), _stored(videos)
    if store == ("crops",) and {"backbone", "backbone_weights", "input_size"} & set(named):
        raise UsageError("--store crops alone runs no backbone; leave the backbone's options out, or add what it gives")

    from emobeam.emo_transforms.cache.stored_crops import config_from, origin_of
    from emobeam.emo_transforms.networks.backbones import named as named_backbone
    from emobeam.emo_transforms.networks.engines import resolve_engine
    from emobeam.emo_transforms.networks.prepared.ensuring import on_stderr
    from emobeam.pipelines.stages.extract import ExtractRequest, resolve_config
    from emobeam.runners.beam_options import check_beam_args

    engine = engine_config(args)
    check_beam_args(beam_args, engine.runner if engine else "direct")
    if engine is None and args["detector"] == "facenet" and not crops and not stored:
        from emobeam.emo_transforms.faces.detection.facenet_detector import check_facenet

        check_facenet()  # workers of another engine look for themselves
    device = concrete_device(args["device"], engine)
    name, weights = named_backbone(args["backbone"], args["backbone_weights"])
    if engine is not None and Path(weights).is_file():
        weights = _place(weights, engine)
    found = {
        "backbone": name,
        "backbone_weights": weights,
        "input_size": args["input_size"] or 0,
        "fps": 0.0 if crops and args["fps"] is None else args["fps"],
        "decoder": None if args["decoder"] == "auto" else args["decoder"],
        "device": device,
        "engine": resolve_engine(args["engine"], device),
        "store": store,
    }
    settings = from_options(ExtractConfig, {**args, **found})
    settings = replace(settings, kernel_batch=16 if device == "cpu" else 128)
    if stored:
        origin = origin_of(args["inputs"])
        given = {field.path[-1]: field.of(settings.align) for field in options_of(AlignConfig) if field.name in named}
        align = replace(origin[0].align, **given)
        settings = config_from(origin, replace(settings, align=align))
    return ExtractRequest(
        videos=videos,
        output=_place(output, engine),
        dataset=resolve_config(settings, _silent if args.get("quiet") else on_stderr),
        inputs=args["inputs"],
        notes=tuple(notes),
        local=_local(args),
        beam_args=tuple(beam_args),
        engine=engine,
    )


def _check_files(inputs: Sequence[str], videos: Sequence[Video]) -> None:
    """A file that the command names must be there; one that a table names may fail as any other input."""
    from emobeam.emo_transforms.inputs.listing import asked
    from emobeam.emo_transforms.storage import locate
    from emobeam.emo_transforms.storage.object_stores import uri_of

    uris = {video.uri for video in videos}
    missing = []
    for text in inputs:
        fs, path = locate(text)
        if {uri_of(fs, path), text.rstrip("/")} & uris and not asked(text, partial(fs.exists, path)):
            missing.append(text)
    if missing:
        raise UsageError(f"{', '.join(missing)}: no such file")


def _check_stored(features: str, into_itself: bool, named: Collection[str]) -> None:
    if into_itself:
        raise UsageError(f"--output: {features} is the cache the crops come from; choose another output")
    made = [field for field in options_of(ExtractConfig) if field.path[0] in MAKE_CROPS]
    idle = [field.flag for field in (*made, *options_of(CropsOptions)) if field.name in named]
    if idle:
        raise UsageError(
            f"{', '.join(idle)}: {features} is a feature cache, whose crops are made already; leave it out, or name "
            "the videos"
        )


def predict_request(
    args: Mapping[str, Any], features: str, beam_args: Sequence[str] = (), *, named: Collection[str] = ()
) -> PredictRequest:
    """What stage 2 is asked for; see :func:`extract_request`.

    Args:
        named: options that the user has set; ``faces`` among them takes nobody over from earlier tables.
    """
    from emobeam.emo_transforms.storage.object_stores import check_endpoint

    for place in (features, args["output"], *args["heads"]):
        check_endpoint(place)

    from emobeam.emo_transforms.networks.engines import head_engine
    from emobeam.pipelines.stages.predict_request import PredictRequest
    from emobeam.runners.beam_options import check_beam_args

    engine = engine_config(args)
    check_beam_args(beam_args, engine.runner if engine else "direct")
    device = concrete_device(args["device"], engine)
    asked = {**args, "heads": tuple(_head_place(head, engine) for head in args["heads"])}
    return PredictRequest(
        features=_place(features, engine),
        output=_place(args["output"], engine),
        config=from_options(PredictConfig, {**args, "device": device, "engine": head_engine(args["engine"], device)}),
        only=args["only"],
        local=_local(args),
        beam_args=tuple(beam_args),
        engine=engine,
        faces_given="faces" in named,
        **values_of(HeadOptions, asked),
        **values_of(ChallengeOptions, asked),
    )


def _silent(text: str) -> None:
    """Where only warnings are wanted."""


def cache_of(args: Mapping[str, Any]) -> str:
    """The folder of the cache of ``annotate``: in its output where none is named."""
    return str(args["features"] or args["output"].rstrip("/") + "/features")


def annotate_requests(
    args: Mapping[str, Any], beam_args: Sequence[str] = (), *, named: Collection[str] = ()
) -> tuple[ExtractRequest, PredictRequest]:
    """What both stages are asked for, see :func:`extract_request` and :func:`predict_request`."""
    features = cache_of(args)
    videos, notes = _found(args, features, named)

    from emobeam.pipelines.stages.predict_request import check_request

    second = predict_request(args, features, beam_args, named=named)
    check_request(second)  # before a backbone is looked at, which may have to be prepared
    return _extract_request(args, features, beam_args, named, videos, notes), second


def engine_config(args: Mapping[str, Any]) -> EngineConfig | None:
    """The engine that a command names, None for this machine.

    Raises:
        UsageError: options of one engine with another, or none where one is needed.
    """
    runner = args.get("runner", "direct")
    _check_engine_options(runner, args)
    if runner == "direct":
        return None
    here = {**args, "worker_environment": None}  # what it names depends on the rest
    if runner == "dataflow":
        return replace(from_options(EngineConfig, here), dataflow=from_options(DataflowConfig, args))
    config = from_options(EngineConfig, here)
    check_master(config)  # first: what else is missing depends on which cluster it is
    environment = worker_environment(args["worker_environment"], embedded=config.embedded)
    return replace(config, environment=environment)


def _place(uri: str, engine: EngineConfig | None) -> str:
    """Workers of another engine start in another folder, so what is below this one is named in full for them."""
    from emobeam.emo_transforms.storage import is_local, local_path

    return str(local_path(uri).absolute()) if engine is not None and is_local(uri) else uri


def _head_place(head: str, engine: EngineConfig | None) -> str:
    from emobeam.emo_transforms.networks.shipped import SHIPPED, UNTRAINED

    return head if head in (SHIPPED, UNTRAINED) else _place(head, engine)


def _check_engine_options(runner: str, args: Mapping[str, Any]) -> None:
    for field in (*options_of(EngineConfig), *options_of(DataflowConfig)):
        owners = field.option.runners
        # Those with a default of their own are let pass.
        if owners and not field.unset and args.get(field.name) and runner not in owners:
            raise UsageError(f"{field.flag} belongs to --runner {' or '.join(owners)}, not to {runner}")


def study_config(args: Mapping[str, Any]) -> StudyConfig:
    """What events and summaries are asked for, by the names of ``emobeam.pipelines.commands.studies``."""
    from emobeam.emo_transforms.results.studies.baseline import BaselineConfig
    from emobeam.emo_transforms.results.studies.study import StudyConfig

    names = ("min_duration", "merge_gap", "persons", "speech", "speech_tier", "only", "fps")
    return StudyConfig(
        task=args["task"] or "",
        thresholds=tuple(args["thresholds"]),
        off=tuple(args["off"]),
        baseline=BaselineConfig(
            method=args["baseline"],
            quantile=args["baseline_quantile"],
            scale=args["baseline_scale"],
            segments=args["baseline_segments"],
        ),
        **{name: args[name] for name in names},
    )


def agree_config(args: Mapping[str, Any]) -> AgreeConfig:
    """How predictions are compared with human coding, by the names of ``emobeam.pipelines.commands.studies``."""
    from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig
    from emobeam.emo_transforms.results.studies.agreement.matching import MatchConfig

    return AgreeConfig(
        match=MatchConfig(by=args["match"], iou=args["iou"], tolerance=args["tolerance"]),
        **{name: args[name] for name in ("grid", "human_on", "human_range", "block", "resamples", "seed")},
    )


def concrete_device(name: str, engine: EngineConfig | None = None) -> str:
    """The concrete device; ``auto`` must not mean another one on each worker.

    On another engine ``auto`` is the CPU, unless an accelerator is asked for there.
    """
    from emobeam.emo_transforms.networks.devices import cuda_is_available

    if engine is not None:
        accelerated = engine.dataflow is not None and engine.dataflow.accelerator
        return ("cuda" if accelerated else "cpu") if name == "auto" else name
    if name == "auto":
        return "cuda" if cuda_is_available() else "cpu"
    if name == "cuda" and not cuda_is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return name
