"""The command ``compare``. ``cli`` puts it beside the others; nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands.help_text import TRAINING, SectionedCommand
from emobeam.pipelines.commands.options import task_option
from emobeam.pipelines.commands.train import is_number, seeds_of
from emobeam.pipelines.printing import echo


@click.command(
    cls=SectionedCommand,
    sections=TRAINING,
    short_help="Which head, how many maps: several seeds of each, and what it costs.",
)
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
@task_option(required=True)
@click.option("--labels", required=True, metavar="DIR", help="The organisers' annotations: root, folder or file.")
@click.option("--output", required=True, metavar="OUT", help="Folder for heads and results.")
@click.option("--levels", default="1,2,3", metavar="N,...", help="Maps that heads read: 1 is s32 alone.")
@click.option(
    "--architectures",
    default="",
    show_default=False,
    metavar="NAME,...",
    help="Among tam-clip, tam-frame, frame, tcn; clip-level tasks: tam-clip, clip-statistics.  [default: all that fit]",
)
@click.option("--seeds", default="3", metavar="N|A,B,...", help="How many (from 1), or which.")
@click.option("--recipe", default="emobeam", metavar="NAME|FILE", help="paper, emobeam, hsemotion, or a JSON file.")
@click.option("--epochs", type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[NAME.]FIELD=VALUE",
    help="Any field of the recipe, for one architecture if named; repeatable.",
)
@click.option(
    "--holdout",
    default="",
    show_default=False,
    metavar="FRACTION|FILE",
    help="As for train: a fraction of the training rows, cut by person, or a file of ids.  [default: 0.1]",
)
@click.option("--partition", default="", show_default=False, metavar="NAME", help="Of LABELS.  [default: train]")
@click.option(
    "--subjects",
    default="",
    show_default=False,
    metavar="FILE",
    help="CSV video,subject: videos of one subject are held out together.",
)
@click.option(
    "--truth",
    "--validation",
    default="",
    show_default=False,
    metavar="LABELS",
    help="Official annotations: every head is judged by their validation set too, after all training.",
)
@click.option("--truth-partition", default="validation", metavar="NAME", help="Of --truth.")
@click.option("--edition", type=click.IntRange(3, 11), help="ABAW edition whose rules count.  [default: 8]")
@click.option(
    "--backbone-weights",
    default="",
    show_default=False,
    metavar="FILE|URI|timm",
    help="Of the caches' backbone, for the final layer.  [default: where they lay when they were made]",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For training.")
@click.option("--buffer-mb", type=click.IntRange(min=16), default=2048, metavar="MB", help="Rows in memory.")
@click.option("--readers", type=click.IntRange(min=0), default=0, help="Threads that read; 0: one per core.")
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of torch; 0: its own choice.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes for --truth; 0 is one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def compare(features: tuple[str, ...], **args: Any) -> None:
    """Trains every architecture on every number of maps with several seeds, and measures what each costs.

    FEATURES are one or several caches of the same videos. OUT gets results.json (no paths, no names: it can be
    shared), results.md and results.png: the challenge's figure with its spread, parameters, multiplications, time of
    a window, memory, size as ONNX; OUT/heads/ what train would write. What is done is not done again: the same
    command goes on, and more seeds or another recipe add to it.

    A step of all architectures sees as many frames; a TCN has windows of 48 frames (--set tcn.window=96).

    \b
    Examples:
      emobeam compare features/ --task va --labels "8th ABAW Annotations/" --output table3/
      emobeam compare features/ --task au --labels labels/ --output au/ --levels 1 --architectures tam-clip,frame
      emobeam compare small/ large/ --task expr --labels labels/ --output expr/ --recipe paper --truth labels/
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.training.compare import CompareRequest, run_compare
    from emobeam.pipelines.training.comparison_text import print_results
    from emobeam.pipelines.training.train import resolve_device
    from emobeam.pipelines.training.train_output import TrainRequest
    from emobeam.runners.children.settings import local_config
    from emobeam.schemas.records import UsageError
    from emobeam.schemas.tasks import task_named

    settings = list(args["settings"])
    if args["epochs"] is not None:
        settings.append(f"epochs={args['epochs']}")
    holdout = args["holdout"]
    if is_number(holdout):
        settings.append(f"holdout={holdout}")
        holdout = ""
    try:
        levels = tuple(int(part) for part in args["levels"].split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--levels {args['levels']}: expected numbers separated by commas") from None
    from emobeam.emo_transforms.training.heads.recipe import RECIPES

    train = TrainRequest(
        features[0],
        task_named(args["task"]),
        args["labels"],
        args["output"],
        RECIPES["emobeam"],  # each cell has its own
        seeds=seeds_of(args["seeds"]),
        holdout=holdout,
        partition=args["partition"],
        subjects=args["subjects"],
        backbone_weights=args["backbone_weights"],
        device=resolve_device(args["device"]),
        buffer_mb=args["buffer_mb"],
        readers=args["readers"],
        threads=args["threads"],
    )
    request = CompareRequest(
        features,
        train,
        args["output"],
        recipe=args["recipe"],
        settings=tuple(settings),
        kinds=tuple(part.strip() for part in args["architectures"].split(",") if part.strip()),
        levels=levels,
        truth=args["truth"],
        truth_partition=args["truth_partition"],
        edition=args["edition"] or 0,
        local=local_config(args["workers"]),
    )
    results = run_compare(request, make_ui(quiet=args["quiet"]))
    if args["as_json"]:
        echo(json.dumps(results, indent=2, ensure_ascii=False))
    elif not args["quiet"]:
        print_results(results)
