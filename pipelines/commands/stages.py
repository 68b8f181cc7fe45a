"""The stages and what is told of them: annotate, extract, predict, plan, inspect; ``cli`` puts them beside the others.

Options are declared by the configs, see ``emobeam.pipelines.job_options``; nothing heavy is imported before a command
runs.
"""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands.help_text import JOBS, SectionedCommand
from emobeam.pipelines.commands.options import declared, inputs, task_option
from emobeam.pipelines.job_options import JOB_OPTIONS, PlanOptions
from emobeam.pipelines.printing import echo
from emobeam.schemas.options import values_of


@click.command(cls=SectionedCommand, sections=JOBS, short_help="Both stages: videos to annotations, the main job.")
@inputs
@declared(JOB_OPTIONS["annotate"])
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
    ctx.obj.load_lightly(args["runner"])
    from emobeam.pipelines.requests import annotate_requests, cache_of

    stage1, stage2 = annotate_requests(args, ctx.obj.beam_args, named=_named(ctx))

    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.stages.annotate import run_annotate
    from emobeam.pipelines.stages.run_summary import annotate_summary, show

    ui = make_ui(quiet=args["quiet"], fps=stage1.dataset.config.sampling.fps)
    result = run_annotate(stage1, stage2, ui)
    show(annotate_summary(result, args["output"], cache_of(args)), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.extract.some_failed or not result.predict.fine else 0)


@click.command(cls=SectionedCommand, sections=JOBS, short_help="Stage 1: videos to a feature cache.")
@inputs
@declared(JOB_OPTIONS["extract"])
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
    ctx.obj.load_lightly(args["runner"])
    from emobeam.pipelines.requests import extract_request

    request = extract_request(args, args["output"], ctx.obj.beam_args, named=_named(ctx))

    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.stages.extract import run_extract
    from emobeam.pipelines.stages.run_summary import extract_summary, show

    result = run_extract(request, make_ui(quiet=args["quiet"], fps=request.dataset.config.sampling.fps))
    show(extract_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if result.some_failed else 0)


@click.command(cls=SectionedCommand, sections=JOBS, short_help="Stage 2: a feature cache to predictions.")
@click.argument("features", metavar="FEATURES")
@declared(JOB_OPTIONS["predict"])
@click.pass_context
def predict(ctx: click.Context, /, **args: Any) -> None:
    """Runs temporal heads over a feature cache and writes predictions for every native frame.

    Several heads of one task are averaged, heads of different tasks each write their own table.

    \b
    Example:
      emobeam predict features/ --head heads/au --output out/ --edition 8
    """
    ctx.obj.load_lightly(args["runner"])
    from emobeam.emo_transforms.cache.dataset import read_dataset
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import predict_request
    from emobeam.pipelines.stages.predict import run_predict
    from emobeam.pipelines.stages.predict_request import check_request
    from emobeam.pipelines.stages.run_summary import predict_summary, show

    request = predict_request(args, args["features"], ctx.obj.beam_args, named=_named(ctx))
    check_request(request)
    fps = read_dataset(request.features).config.sampling.fps
    result = run_predict(request, make_ui(quiet=args["quiet"], fps=fps))
    show(predict_summary(result, args["output"]), as_json=args["as_json"], quiet=args["quiet"])
    ctx.exit(1 if not result.fine or result.some_failed else 0)


@click.command("inspect", short_help="What a cache, a head, an output, annotations or people folders hold.")
@click.argument("path", metavar="PATH")
@task_option(text="Of annotations: only this task.")
@click.option("--rebuild", is_flag=True, help="Read all footers again and rewrite the indexes of a cache.")
@click.option(
    "--features", default="", show_default=False, metavar="FEATURES", help="Of a head: does it fit this cache?"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.pass_context
def inspect_(ctx: click.Context, /, path: str, task: str | None, rebuild: bool, features: str, as_json: bool) -> None:
    """Prints versions, settings, counts, outcomes, distributions and sizes, then what is missing, stale or failed.

    Each problem comes with the command that mends it; where one of them is an error, the exit code is 1. Of annotations
    it prints what the data sets' papers tabulate, of people folders (emobeam render) how many people and crops there
    are and how often each action unit is.

    \b
    Examples:
      emobeam inspect out/
      emobeam inspect out/features --rebuild
      emobeam inspect heads/au --features out/features
      emobeam inspect shipped
      emobeam inspect "8th ABAW Annotations/" --task au
    """
    ctx.obj.load_lightly()
    from emobeam.pipelines.inspect.describe import describe
    from emobeam.pipelines.inspect.text import print_description

    description = describe(path, rebuild=rebuild, task=task or "", features=features)
    if as_json:
        echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        print_description(description)
    ctx.exit(1 if any(problem["level"] == "error" for problem in description.get("problems", ())) else 0)


@click.command(cls=SectionedCommand, sections=JOBS, short_help="What extract will take: hours, cache, memory.")
@inputs
@declared(JOB_OPTIONS["plan"])
@click.pass_context
def plan(ctx: click.Context, /, **args: Any) -> None:
    """Says what extract will take on a data set: segments, core-hours, size of the cache, memory, time.

    All files are listed; a sample of them is looked at, and stage 1 runs on a few seconds of some. What that gives is
    carried over by size, with the interval in which nine of ten samples would lie. Nothing is written.

    \b
    Example:
      emobeam plan videos/ --runner flink --workers 64
    """
    ctx.obj.load_lightly()
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import extract_request
    from emobeam.pipelines.stages.plan import PlanRequest, plan_text, run_plan

    ui = make_ui(quiet=args["quiet"])
    here = extract_request({**args, "runner": "direct", "verbose": False}, "", named=_named(ctx))
    result = run_plan(PlanRequest(here, **values_of(PlanOptions, args)), ui)
    for warning in (*here.notes, *result.warnings):
        ui.warn(warning)
    echo(json.dumps(result.to_json(), indent=2) if args["as_json"] else plan_text(result))
    ctx.exit(1 if result.problems else 0)


def _named(ctx: click.Context) -> frozenset[str]:
    """The options that the user has set."""
    source = click.core.ParameterSource.COMMANDLINE
    return frozenset(name for name in ctx.params if ctx.get_parameter_source(name) is source)
