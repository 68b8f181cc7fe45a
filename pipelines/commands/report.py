"""The command ``emobeam report``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command(short_help="One self-contained HTML page with the timelines.")
@click.argument("out", metavar="OUT")
@click.option(
    "--output", default="", show_default=False, metavar="FILE", help="The page to write.  [default: OUT/report.html]"
)
@click.option(
    "--truth", default="", show_default=False, metavar="LABELS", help="Labels to show beside: root, folder or file."
)
@click.option(
    "--partition", default="", show_default=False, help="train, validation or test, where LABELS hold several."
)
@click.option("--only", default="", show_default=False, metavar="NAMES", help="Only these videos, separated by commas.")
@click.option(
    "--videos",
    default="",
    show_default=False,
    metavar="PATH",
    help="Where the videos lie now, for face pictures.  [default: where extract found them]",
)
@click.option("--thumbnails/--no-thumbnails", default=True, help="Small pictures of the faces along the time axis.")
@click.option(
    "--rate", type=click.FloatRange(0, 1000), default=10.0, help="Rows shown per second and face, at most; 0: all."
)
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.pass_context
def report(
    ctx: click.Context,
    /,
    out: str,
    output: str,
    truth: str,
    partition: str,
    only: str,
    videos: str,
    thumbnails: bool,
    rate: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Makes one HTML page from the output of annotate or predict, to look at and to hand on; it needs no network.

    The page shows the run (outcomes, distributions, time, weights, warnings) and, per video, zoomable timelines of
    all outputs with pictures of the faces. With --truth, labels and the figure of each video stand beside. Damaged
    tables are left out and told, and the exit code is 1.

    \b
    Examples:
      emobeam report out/
      emobeam report out/ --truth "8th ABAW Annotations/" --partition validation --output va.html
    """
    from emobeam.pipelines.console import make_ui, size_text
    from emobeam.pipelines.results.report import ReportRequest, run_report

    request = ReportRequest(out, output, truth, partition, only, videos, thumbnails, rate)
    result = run_report(request, make_ui(quiet=quiet))
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(f"{result.path} ({size_text(result.bytes)}, {result.videos} videos)")
    ctx.exit(1 if result.failed else 0)
