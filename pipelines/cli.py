"""The console script ``emobeam``. Options it doesn't own follow ``--`` and go to Beam.

Exit codes: 0 all inputs fine, 1 some input failed or the run had to stop, 2 the command made no sense; 130 stopped by
Ctrl-C, 143 by SIGTERM, which ends a job in the same way.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from emobeam.pipelines.commands import (
    challenge,
    compare,
    models,
    options,
    overlay,
    plan,
    pretrain,
    pseudo_label,
    render,
    report,
    results,
    studies,
    train,
)
from emobeam.pipelines.commands.help_text import JOBS, SectionedCommand, finish
from emobeam.pipelines.stopping import Stops
from emobeam.runners.beam_noise import quieten
from emobeam.runners.own_version import own_version
from emobeam.schemas.records import EmobeamError

_SETTINGS = {"show_default": True, "max_content_width": 110, "help_option_names": ["-h", "--help"]}


def _tell_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"emobeam, version {own_version()}")
        ctx.exit()


@click.group(context_settings=_SETTINGS)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_tell_version, help="Show the version."
)
def cli() -> None:
    """Turns videos into per-frame facial-affect annotations.

    Stage 1 finds faces and caches feature maps (extract), stage 2 runs temporal heads over the cache (predict);
    annotate does both. Paths may be URIs (gs://, s3://). Options after -- go to Apache Beam.

    \b
    Example:
      emobeam annotate talk.mp4 --output out/
    """


@cli.command(cls=SectionedCommand, sections=JOBS, short_help="Both stages: videos to annotations, the main job.")
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
      emobeam annotate videos/ --output out/ --head heads/va --head heads/expr --workers 4
      emobeam annotate videos/ --output out/ --task au --edition 8 --template sample.txt
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import extract_request, predict_request
    from emobeam.pipelines.stages.annotate import run_annotate
    from emobeam.pipelines.stages.run_summary import annotate_summary, show

    args["features"] = args["features"] or args["output"].rstrip("/") + "/features"
    stage1 = extract_request(args, args["features"], ctx.obj, named=_named(ctx))
    stage2 = predict_request(args, args["features"], ctx.obj, "annotate", named=_named(ctx))
    ui = make_ui(quiet=args["quiet"], fps=stage1.dataset.config.sampling.fps)
    result = run_annotate(stage1, stage2, ui)
    show(annotate_summary(result, args["output"], args["features"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.extract.some_failed or result.predict.failed else 0)


@cli.command(cls=SectionedCommand, sections=JOBS, short_help="Stage 1: videos to a feature cache.")
@options.inputs
@click.option("--output", required=True, metavar="FEATURES", help="Folder of the cache.")
@options.extraction
@options.detach
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
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import extract_request
    from emobeam.pipelines.stages.extract import run_extract
    from emobeam.pipelines.stages.run_summary import extract_summary, show

    request = extract_request(args, args["output"], ctx.obj, named=_named(ctx))
    result = run_extract(request, make_ui(quiet=args["quiet"], fps=request.dataset.config.sampling.fps))
    show(extract_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.some_failed else 0)


@cli.command(cls=SectionedCommand, sections=JOBS, short_help="Stage 2: a feature cache to predictions.")
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
    from emobeam.emo_transforms.cache.dataset import read_dataset
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import predict_request
    from emobeam.pipelines.stages.predict import run_predict
    from emobeam.pipelines.stages.predict_request import check_request
    from emobeam.pipelines.stages.run_summary import predict_summary, show

    request = predict_request(args, args["features"], ctx.obj, named=_named(ctx))
    check_request(request)
    fps = read_dataset(request.features).config.sampling.fps
    result = run_predict(request, make_ui(quiet=args["quiet"], fps=fps))
    show(predict_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.failed or result.some_failed else 0)


@cli.command(name="inspect", short_help="What a cache, a head, an output, annotations or people folders hold.")
@click.argument("path", metavar="PATH")
@options.task_option(text="Of annotations: only this task.")
@click.option("--rebuild", is_flag=True, help="Read all footers again and rewrite the indexes of a cache.")
@click.option(
    "--features", default="", show_default=False, metavar="FEATURES", help="Of a head: does it fit this cache?"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def inspect_(path: str, task: str | None, rebuild: bool, features: str, as_json: bool) -> None:
    """Prints versions, settings, counts, outcomes, distributions and sizes, then what is missing, stale or failed.

    Each problem comes with the command that mends it. Of annotations it prints what the data sets' papers tabulate,
    of people folders (emobeam render) how many people and crops there are and how often each action unit is.

    \b
    Examples:
      emobeam inspect out/
      emobeam inspect out/features --rebuild
      emobeam inspect heads/au --features out/features
      emobeam inspect shipped
      emobeam inspect "8th ABAW Annotations/" --task au
    """
    from emobeam.pipelines.inspect.describe import describe
    from emobeam.pipelines.inspect.text import print_description

    description = describe(path, rebuild=rebuild, task=task or "", features=features)
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        print_description(description)


for command in (
    challenge.submit,
    challenge.validate,
    challenge.score,
    challenge.tune,
    train.train,
    compare.compare,
    plan.plan,
    pretrain.pretrain,
    render.render,
    pseudo_label.pseudo_label,
    models.models,
    report.report,
    results.export,
    overlay.overlay,
    studies.events,
    studies.summarise,
    studies.agree,
):
    cli.add_command(command)
finish(cli)


def _named(ctx: click.Context) -> frozenset[str]:
    """The options that the user has set."""
    source = click.core.ParameterSource.COMMANDLINE
    return frozenset(name for name in ctx.params if ctx.get_parameter_source(name) is source)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    args = list(sys.argv[1:] if argv is None else argv)
    split = args.index("--") if "--" in args else len(args)
    ours, beam_args = args[:split], args[split + 1 :]
    # Beam logs while it is imported, so this can't wait until the command has parsed its flags.
    verbose = "-v" in ours or "--verbose" in ours
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)
    quieten()
    if not verbose:
        warnings.simplefilter("ignore")
    stops = Stops()
    try:
        with stops.heard():
            code = cli.main(ours, prog_name="emobeam", standalone_mode=False, obj=tuple(beam_args))
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; the same command goes on where this one ended", err=True)
        code = stops.code
    except EmobeamError as error:
        code = _exit_code(error)
        click.echo(f"error: {error}" if code else str(error), err=True)
    sys.exit(code or 0)


def _exit_code(error: EmobeamError) -> int:
    from emobeam.emo_transforms.storage import OutputError
    from emobeam.runners.engines.dataflow import Detached
    from emobeam.runners.local import RunStopped

    if isinstance(error, Detached):
        return 0
    return 1 if isinstance(error, (OutputError, RunStopped)) else 2
