"""The command ``plan``."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands import options
from emobeam.pipelines.commands.help_text import JOBS, SectionedCommand


@click.command(cls=SectionedCommand, sections=JOBS, short_help="What extract will take: hours, cache, memory.")
@options.inputs
@options.extraction
@click.option(
    "--runner",
    type=click.Choice(["direct", "flink", "spark", "dataflow"]),
    default="direct",
    help="Engine to plan for.",
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="How many at a time; 0: direct, one per core.")
@click.option("--sample", type=click.IntRange(min=1), default=20, help="Videos to look at; the others by their sizes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the draw.")
@click.option(
    "--no-measure", is_flag=True, help="Don't run stage 1 on a few seconds of the sample; take the figures of the docs."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For the networks.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Let libraries write to standard error.")
@click.pass_context
def plan(ctx: click.Context, /, **args: Any) -> None:
    """Says what extract will take on a data set: segments, core-hours, size of the cache, memory, time.

    All files are listed; a sample of them is looked at, and stage 1 runs on a few seconds of some. What that gives is
    carried over by size, with the interval in which nine of ten samples would lie. Nothing is written.

    \b
    Example:
      emobeam plan videos/ --runner flink --workers 64
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import extract_request
    from emobeam.pipelines.stages.plan import PlanRequest, plan_text, run_plan

    ui = make_ui(quiet=args["quiet"])
    named = [n for n in args if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE]
    here = {**args, "runner": "direct"}
    request = PlanRequest(
        extract_request(here, "", named=named),
        runner=args["runner"],
        workers=args["workers"],
        sample=args["sample"],
        measure=not args["no_measure"],
        seed=args["seed"],
    )
    result = run_plan(request, ui)
    for warning in result.warnings:
        ui.warn(warning)
    click.echo(json.dumps(result.to_json(), indent=2) if args["as_json"] else plan_text(result))
    ctx.exit(1 if result.problems else 0)
