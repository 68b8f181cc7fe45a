"""The console script ``emobeam``. Options it doesn't own follow ``--`` and go to Beam.

Exit codes: 0 all inputs fine, 1 some input failed or the run had to stop, 2 the command made no sense.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from pipelines import cli_abaw, cli_compare, cli_models, cli_pretrain, cli_train, options
from schemas.records import EmobeamError, UsageError

if TYPE_CHECKING:
    from pipelines.extract import ExtractRequest
    from pipelines.predict_request import PredictRequest

_SETTINGS = {"show_default": True, "max_content_width": 110, "help_option_names": ["-h", "--help"]}


@click.group(context_settings=_SETTINGS)
@click.version_option(package_name="emobeam", prog_name="emobeam")
def cli() -> None:
    """Turns videos into per-frame facial-affect annotations.

    Stage 1 finds faces and caches feature maps (extract), stage 2 runs temporal heads over the cache (predict);
    annotate does both. Paths may be URIs (gs://, s3://). Options after -- go to Apache Beam.

    \b
    Example:
      emobeam annotate talk.mp4 --output out/
    """


@cli.command(short_help="Both stages: videos to annotations, the main job.")
@options.inputs
@click.option("--output", required=True, metavar="OUT", help="Folder for tables and submission.")
@click.option(
    "--features",
    default="",
    show_default=False,
    metavar="FEATURES",
    help="Folder of the cache.  [default: OUT/features]",
)
@options.extraction
@options.prediction
@options.running
@click.pass_context
def annotate(ctx: click.Context, /, **args: Any) -> None:
    """Decodes videos, finds faces, caches feature maps, runs heads and writes predictions.

    INPUT is a video file, a folder (walked), a glob, or a table (.csv, .parquet) with a column video and
    optionally path and subject. What is done already is left as it is.

    \b
    Examples:
      emobeam annotate talk.mp4 --output out/
      emobeam annotate videos/ --output out/ --task va --task au --workers 4
      emobeam annotate videos/ --output out/ --task au --edition 8 --template sample.txt
    """
    from pipelines.annotate import run_annotate
    from pipelines.console import make_ui
    from pipelines.summary import annotate_summary, show

    args["features"] = args["features"] or args["output"].rstrip("/") + "/features"
    extract_request = _extract_request(args, args["features"], ctx.obj)
    predict_request = _predict_request(args, args["features"], ctx.obj, "annotate")
    result = run_annotate(extract_request, predict_request, make_ui(quiet=args["quiet"]))
    show(annotate_summary(result, args["output"], args["features"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.extract.some_failed or result.predict.failed else 0)


@cli.command(short_help="Stage 1: videos to a feature cache.")
@options.inputs
@click.option("--output", required=True, metavar="FEATURES", help="Folder of the cache.")
@options.extraction
@options.running
@click.pass_context
def extract(ctx: click.Context, /, **args: Any) -> None:
    """Decodes videos, finds faces at 6 frames per second and caches multi-scale feature maps.

    INPUT is a video file, a folder (walked), a glob, or a table (.csv, .parquet) with a column video and
    optionally path and subject; with --crops, folders of cropped faces; or a feature cache that stores crops, for
    another backbone without decoding and detecting again.

    \b
    Examples:
      emobeam extract videos/ --output features/
      emobeam extract cropped_aligned/ --crops affwild2 --videos raw/ --output features/
      emobeam extract videos/ --store maps,crops --output features/
      emobeam extract features/ --backbone-weights enet_b0_8_va_mtl --output features2/
    """
    from pipelines.console import make_ui
    from pipelines.extract import run_extract
    from pipelines.summary import extract_summary, show

    result = run_extract(_extract_request(args, args["output"], ctx.obj), make_ui(quiet=args["quiet"]))
    show(extract_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.some_failed else 0)


@cli.command(short_help="Stage 2: a feature cache to predictions.")
@click.argument("features", metavar="FEATURES")
@click.option("--output", required=True, metavar="OUT", help="Folder for tables and submission.")
@click.option("--only", default="", show_default=False, metavar="NAMES", help="Only these videos, separated by commas.")
@options.prediction
@options.running
@click.pass_context
def predict(ctx: click.Context, /, **args: Any) -> None:
    """Runs temporal heads over a feature cache and writes predictions for every native frame.

    Several heads of one task are averaged, heads of different tasks each write their own table.

    \b
    Example:
      emobeam predict features/ --head heads/au --output out/ --edition 8
    """
    from pipelines.console import make_ui
    from pipelines.predict import run_predict
    from pipelines.predict_request import check_request
    from pipelines.summary import predict_summary, show

    request = _predict_request(args, args["features"], ctx.obj, "predict")
    check_request(request)
    result = run_predict(request, make_ui(quiet=args["quiet"]))
    show(predict_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.failed or result.some_failed else 0)


@cli.command(name="inspect", short_help="What a cache, an output folder or annotations hold.")
@click.argument("path", metavar="PATH")
@options.task_option(text="Of annotations: only this task.")
@click.option("--rebuild", is_flag=True, help="Read all footers again and rewrite the indexes of a cache.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def inspect_(path: str, task: str | None, rebuild: bool, as_json: bool) -> None:
    """Prints versions, settings, counts, outcomes and sizes; of annotations what the data sets' papers tabulate.

    \b
    Examples:
      emobeam inspect out/features
      emobeam inspect "8th ABAW Annotations/" --task au
    """
    from pipelines.inspect import describe, print_description

    description = describe(path, rebuild=rebuild, task=task or "")
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        print_description(description)


for command in (
    cli_abaw.submit,
    cli_abaw.validate,
    cli_abaw.score,
    cli_abaw.tune,
    cli_train.train,
    cli_compare.compare,
    cli_pretrain.pretrain,
    cli_models.models,
):
    cli.add_command(command)


def _extract_request(args: dict[str, Any], output: str, beam_args: Sequence[str]) -> ExtractRequest:
    from emo_transforms.planning import find_videos
    from emo_transforms.stored_crops import config_from, origin_of, same_place

    # Mistakes in the inputs are told before anything heavy is loaded.
    crops = args["crops"]
    if not crops and (args["videos"] or args["crops_fps"]):
        raise UsageError("--videos and --crops-fps belong to folders of crops; add --crops affwild2|emi|bah")
    videos = find_videos(args["inputs"], crops or "video", only=args["only"], videos=args["videos"])
    stored = bool(videos) and videos[0].kind == "cache"
    if stored:
        _check_stored(args["inputs"][0], same_place(output, args["inputs"]))
    store = args["store"] or ()
    if store == ("crops",) and _named("backbone", "backbone_weights", "input_size"):
        raise UsageError("--store crops alone runs no backbone; leave the backbone's options out, or add what it gives")

    from emo_transforms.backbones import named
    from emo_transforms.engines import resolve_engine
    from pipelines.extract import ExtractRequest, resolve_config
    from runners.beam_options import check_beam_args
    from runners.local import local_config
    from schemas import config

    check_beam_args(beam_args)
    device = _device(args["device"])
    fps = args["fps"] if args["fps"] is not None else (0.0 if crops else 6.0)
    name, weights = named(args["backbone"], args["backbone_weights"])
    backbone = config.BackboneConfig(name=name, weights=weights, input_size=args["input_size"] or 0)
    settings = config.ExtractConfig(
        source=crops or "video",
        backbone=backbone,
        sampling=config.SamplingConfig(fps, args["segment_seconds"], args["crops_fps"]),
        decoder=config.DecoderConfig(
            name="pyav" if args["decoder"] == "auto" else args["decoder"],
            timeout=args["decode_timeout"],
            memory_mb=args["decode_memory"],
        ),
        detector=config.DetectorConfig(min_face=args["min_face"], keep=args["min_score"], mode=args["detector"]),
        align=config.AlignConfig(style=args["align"], margin=args["margin"]),
        device=device,
        engine=resolve_engine(args["engine"], device),
        kernel_batch=16 if device == "cpu" else 128,
        maps=args["maps"],
        store=store,
        views=args["views"],
    )
    if stored:
        origin = origin_of(args["inputs"])
        given = {field: getattr(settings.align, field) for field in ("style", "margin") if _named(_ALIGN[field])}
        align = replace(origin[0].align, **given)
        settings = config_from(origin, replace(settings, align=align))
    return ExtractRequest(
        videos=videos,
        output=output,
        dataset=resolve_config(settings),
        inputs=args["inputs"],
        local=local_config(args["workers"], verbose=args["verbose"]),
        beam_args=tuple(beam_args),
    )


def _named(*names: str) -> list[str]:
    """Those of a command's options that the user has named."""
    ctx = click.get_current_context()
    return [name for name in names if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]


_ALIGN = {"style": "align", "margin": "margin"}
"""Options by the setting they make."""

_OF_THE_CROPS = (
    *("fps", "segment_seconds", "crops_fps", "decoder", "decode_timeout", "decode_memory", "min_face", "min_score"),
    *("detector", "videos"),
)
"""Options that say how crops are made from videos, and mean nothing once they are made."""


def _check_stored(features: str, into_itself: bool) -> None:
    if into_itself:
        raise UsageError(f"--output: {features} is the cache the crops come from; choose another output")
    named = [f"--{name.replace('_', '-')}" for name in _named(*_OF_THE_CROPS)]
    if named:
        raise UsageError(
            f"{', '.join(named)}: {features} is a feature cache, whose crops are made already; leave it out, or name "
            "the videos"
        )


def _predict_request(args: dict[str, Any], features: str, beam_args: Sequence[str], command: str) -> PredictRequest:
    from pipelines.predict_request import PredictRequest
    from runners.beam_options import check_beam_args
    from runners.local import local_config
    from schemas.config import PredictConfig

    check_beam_args(beam_args)
    return PredictRequest(
        features=features,
        output=args["output"],
        heads=args["heads"],
        tasks=args["tasks"],
        config=PredictConfig(
            faces=args["faces"],
            max_gap=args["max_gap"],
            window_gap=args["window_gap"],
            stride=args["stride"],
            device=_device(args["device"]),
        ),
        only=args["only"] if command == "predict" else "",
        subjects=args["subjects"],
        edition=args["edition"] or 0,
        template=args["template"],
        truth=args["truth"],
        partition=args["partition"],
        local=local_config(args["workers"], verbose=args["verbose"]),
        beam_args=tuple(beam_args),
        command=command,
    )


def _device(name: str) -> str:
    """The concrete device; ``auto`` must not mean another one on each worker."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return name


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    args = list(sys.argv[1:] if argv is None else argv)
    split = args.index("--") if "--" in args else len(args)
    ours, beam_args = args[:split], args[split + 1 :]
    # Beam logs while it is imported, so this can't wait until the command has parsed its flags.
    verbose = "-v" in ours or "--verbose" in ours
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    try:
        code = cli.main(ours, prog_name="emobeam", standalone_mode=False, obj=tuple(beam_args))
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the same command goes on where this one ended", err=True)
        code = 130
    except EmobeamError as error:
        click.echo(f"error: {error}", err=True)
        code = _exit_code(error)
    sys.exit(code or 0)


def _exit_code(error: EmobeamError) -> int:
    from emo_transforms.storage import OutputError
    from runners.local import RunStopped

    return 1 if isinstance(error, (OutputError, RunStopped)) else 2
