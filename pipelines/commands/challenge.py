"""Commands about the organisers' files: submit, validate, score, tune. ``cli`` puts them beside the others."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands.help_text import SCORING, SectionedCommand
from emobeam.pipelines.commands.options import FRACTION, task_option
from emobeam.pipelines.printing import echo

_edition = click.option(
    "--edition", type=click.IntRange(3, 11), required=True, help="ABAW edition whose rules to follow."
)
_some_edition = click.option(
    "--edition", type=click.IntRange(3, 11), help="ABAW edition.  [default: 8 where it has the task, else the latest]"
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
_predictions = click.option(
    "--predictions",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Output folder, folder of tables, or submission; tables of several runs are averaged.",
)
_gate = click.option(
    "--gate",
    default="",
    show_default=False,
    metavar="OUT",
    help="Expressions: tables that win where they are confident.",
)
_partition = click.option(
    "--partition",
    default="",
    show_default=False,
    metavar="NAME",
    help="train, validation, test or all, where LABELS hold several.  [default: validation where there is one]",
)
_fit_partition = click.option(
    "--partition", default="", show_default=False, metavar="NAME", help="Where LABELS hold several.  [default: train]"
)


@click.command(cls=SectionedCommand, sections=SCORING, short_help="Predictions to the submission file of a challenge.")
@click.argument("output", metavar="OUT")
@task_option(required=True)
@_edition
@click.option(
    "--template", default="", show_default=False, metavar="FILE", help="Organisers' rows, or a folder of such files."
)
@click.option("--threshold", "thresholds", type=FRACTION, multiple=True, help="Binary outputs: one or one each.")
@click.option(
    "--post", default="", show_default=False, metavar="FILE", help="Post-processing as emobeam tune writes it."
)
@_gate
@_as_json
@_quiet
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    output: str,
    task: str,
    edition: int,
    template: str,
    thresholds: tuple[float, ...],
    post: str,
    gate: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Writes OUT/submission/TASK/ from the tables in OUT, every row filled.

    A row without a value takes the nearest one of its video, and the task's neutral value where there is none. A file
    of neutral rows alone is refused, and an older one stays; where more than half are neutral, the exit code is 1.

    \b
    Example:
      emobeam submit out/ --task au --edition 8 --template CVPR_8th_ABAW_AU_test_set_sample.txt
    """
    from emobeam.pipelines.challenge.submit import keep_counts, run_submit, submission_data, submission_text
    from emobeam.pipelines.console import make_ui
    from emobeam.schemas.tasks import task_named

    ui, known = make_ui(quiet=quiet), task_named(task)
    report = run_submit(output, known, edition, ui=ui, template=template, thresholds=thresholds, post=post, gate=gate)
    keep_counts(output, known, report, ui)
    if as_json:
        echo(json.dumps({**submission_data(report), "warnings": ui.warned}, indent=2))
    elif not quiet:
        echo(submission_text(report))
    ctx.exit(1 if report.mostly_neutral else 0)


@click.command(cls=SectionedCommand, sections=SCORING, short_help="Would an organiser's scorer read this submission?")
@click.argument("file", metavar="FILE")
@task_option(required=True)
@_edition
@click.option(
    "--template", default="", show_default=False, metavar="FILE", help="Organisers' rows that have to be there."
)
@_as_json
@click.pass_context
def validate(ctx: click.Context, /, file: str, task: str, edition: int, template: str, as_json: bool) -> None:
    """Checks a submission: header, rows, order, ranges, integers, probabilities. Exit code 1 where it has errors.

    \b
    Example:
      emobeam validate predictions.txt --task au --edition 8 --template CVPR_8th_ABAW_AU_test_set_sample.txt
    """
    from emobeam.pipelines.challenge.validate import print_validation, run_validate
    from emobeam.schemas.tasks import task_named

    code, result = run_validate(file, task_named(task), edition, template=template)
    if as_json:
        echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print_validation(result)
    ctx.exit(code)


@click.command(
    cls=SectionedCommand, sections=SCORING, short_help="The challenge's figure of predictions or a submission."
)
@task_option(required=True)
@click.option("--truth", required=True, metavar="LABELS", help="The organisers' annotations: root, folder or file.")
@_predictions
@_some_edition
@_partition
@click.option(
    "--post", default="", show_default=False, metavar="FILE", help="Post-processing as emobeam tune writes it."
)
@_gate
@click.option(
    "--head",
    default="",
    show_default=False,
    metavar="HEAD",
    help="Head that made them: thresholds, what it was fitted on.",
)
@click.option("--threshold", "thresholds", type=FRACTION, multiple=True, help="Second figure of binary outputs.")
@click.option(
    "--output",
    default="",
    show_default=False,
    metavar="OUT",
    help="Folder for metrics.json.  [default: OUT of --predictions]",
)
@click.option("--resamples", type=click.IntRange(min=0), default=1000, help="Of the bootstrap; 0 leaves it out.")
@click.option("--seed", type=int, default=0, help="Of the bootstrap.")
@click.option("--per-video", is_flag=True, help="List the figures of all videos.")
@_as_json
def score(per_video: bool, as_json: bool, **args: Any) -> None:
    """Scores predictions with intervals, per output and per video, beside published figures; writes metrics.json.

    \b
    Example:
      emobeam score --task va --truth "8th ABAW Annotations/" --partition validation --predictions out/
    """
    from emobeam.pipelines.challenge.score import print_score, run_score
    from emobeam.pipelines.console import make_ui
    from emobeam.schemas.tasks import task_named

    task, truth, predictions = task_named(args.pop("task")), args.pop("truth"), list(args.pop("predictions"))
    data = run_score(task, truth, predictions, ui=make_ui(quiet=True), edition=args.pop("edition") or 0, **args)
    if as_json:
        echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        print_score(data, per_video=per_video)


@click.command(
    cls=SectionedCommand, sections=SCORING, short_help="Fit thresholds and smoothing on labelled predictions."
)
@task_option(required=True)
@click.option("--truth", required=True, metavar="LABELS", help="The organisers' annotations: root, folder or file.")
@_predictions
@click.option("--output", required=True, metavar="FILE", help="JSON file for --post of submit and score.")
@_some_edition
@_fit_partition
@click.option(
    "--holdout-of",
    default="",
    show_default=False,
    metavar="HEAD",
    help="Fit on the videos that this head, which made the predictions, held out of its training.",
)
@click.option(
    "--smoothing", type=click.Choice(["none", "box", "gaussian", "median"]), default="box", help="Kind of smoothing."
)
@_gate
@_as_json
@_quiet
def tune(as_json: bool, quiet: bool, **args: Any) -> None:
    """Fits post-processing by the task's own measure and notes the videos used, so that score can tell.

    Fit on what the head held out of its training data, never on the official validation set that you report.

    \b
    Example:
      emobeam tune --task au --truth labels/ --holdout-of heads/au --predictions out/ --output au_post.json
    """
    from emobeam.emo_transforms import storage
    from emobeam.pipelines.challenge.tune import run_tune, tune_summary
    from emobeam.pipelines.console import make_ui
    from emobeam.schemas.tasks import task_named

    task, truth, predictions = task_named(args.pop("task")), args.pop("truth"), list(args.pop("predictions"))
    output = args.pop("output")
    ui = make_ui(quiet=True)
    config = run_tune(task, truth, predictions, output, ui=ui, edition=args.pop("edition") or 0, **args)
    if as_json:
        echo(storage.read_bytes(output).decode().rstrip())
    elif not quiet:
        echo(tune_summary(config, output))
