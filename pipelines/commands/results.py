"""The command ``emobeam export``. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands.options import task_option
from emobeam.schemas.wording import counted

_DURATION = click.FloatRange(min=0)


@click.command(short_help="Predictions for other programs: CSV, OpenFace, ELAN, datasets.")
@click.argument("output", metavar="OUT")
@click.option(
    "--format",
    type=click.Choice(["csv", "openface", "elan", "datasets"]),
    required=True,
    help="Tidy CSV; CSV as OpenFace names it; ELAN documents; a folder for Hugging Face datasets.",
)
@click.option("--output", "destination", required=True, metavar="FOLDER", help="Folder to write, as a whole.")
@task_option(multiple=True, text="Repeatable.  [default: all that were predicted]")
@click.option(
    "--rate",
    type=click.Choice(["sampled", "native"]),
    default=None,
    help="Rows with a face seen in that very frame, or every frame.  [default: sampled; openface and elan: native]",
)
@click.option("--only", default="", show_default=False, metavar="NAMES", help="Only these videos, separated by commas.")
@click.option(
    "--media",
    default="",
    show_default=False,
    metavar="INPUT",
    help="With elan: file, folder or glob of the clips.  [default: the inputs of the run]",
)
@click.option("--min-duration", type=_DURATION, default=0.2, help="With elan: shortest span in s.")
@click.option("--merge-gap", type=_DURATION, default=0.2, help="With elan: spans at most so many s apart become one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.pass_context
def export(ctx: click.Context, /, as_json: bool, quiet: bool, **args: Any) -> None:
    """Writes the tables of OUT, the folder of annotate or predict, in a form that other programs read.

    csv: a file per video and subject, a row per face and frame, all tasks side by side. openface: AU01_p
    (probability) and AU01_c (presence). elan: a document per video, spans of active units. datasets: Parquet and a
    data card. FOLDER appears as a whole; only an export that nobody has changed since is replaced.

    \b
    Example:
      emobeam export out/ --format csv --rate native --output tables/
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.results.export import ExportRequest, run_export

    args["rate"] = args["rate"] or ""
    result = run_export(ExportRequest(**args), make_ui(quiet=quiet))
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        what = "spans" if result.format == "elan" else "rows"
        click.echo(
            f"{result.destination}: {counted(result.videos, 'video')}, {counted(result.files, 'file')}, "
            f"{result.rows} {what}"
        )
        untrained = [text for text in result.warnings if "untrained" in text]
        if untrained:
            click.echo(f"UNTRAINED: {'; '.join(untrained)}; these values mean nothing")
    ctx.exit(1 if result.skipped else 0)
