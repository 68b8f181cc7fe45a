"""The command ``train``. ``cli`` puts it beside the others; nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from emobeam.pipelines.commands.help_text import TRAINING, SectionedCommand
from emobeam.pipelines.commands.options import task_option
from emobeam.pipelines.printing import echo
from emobeam.schemas.records import UsageError

if TYPE_CHECKING:
    from emobeam.schemas.tasks import Task


@click.command(cls=SectionedCommand, sections=TRAINING, short_help="Fit a head on a feature cache.")
@click.argument("features", metavar="FEATURES")
@task_option(required=True)
@click.option(
    "--labels",
    required=True,
    multiple=True,
    metavar="DIR",
    help="The organisers' annotations: root, folder or file; or people folders (emobeam render), repeatable.",
)
@click.option("--output", required=True, metavar="HEAD", help="Folder for the head.")
@click.option(
    "--recipe",
    default="",
    show_default=False,
    metavar="NAME|FILE",
    help="paper, emobeam, soft, hsemotion, authors, or a JSON file with fields of a recipe.  [default: emobeam; soft "
    "where labels are people folders]",
)
@click.option(
    "--architecture",
    type=click.Choice(["tam", "tcn", "frame", "clip-statistics"]),
    help="Instead of the recipe's, with its usual window (tam 8, tcn 48, others 1) and hidden layer.",
)
@click.option("--levels", type=click.IntRange(1, 3), help="Maps a mixer reads: 1 is s32 alone.")
@click.option("--form", type=click.Choice(["clip", "frame"]), help="One vector per window, or per time patch.")
@click.option("--window", metavar="N|1.5s", help="Sampled frames of a window, or seconds (1.5s).")
@click.option("--epochs", type=click.IntRange(min=1), help="At most so many.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Any field of the recipe; repeatable.")
@click.option("--seeds", default="1", metavar="N|A,B,...", help="How many (from 1), or which: one run each.")
@click.option(
    "--holdout",
    default="",
    show_default=False,
    metavar="FRACTION|FILE",
    help="What selects and tunes: a fraction of the training rows, cut by person where names or --subjects tell, or a "
    "file of ids.  [default: 0.1]",
)
@click.option("--partition", default="", show_default=False, metavar="NAME", help="Of LABELS.  [default: train]")
@click.option("--allow-official-validation", "allow_official", is_flag=True, help="Train on validation or test labels.")
@click.option(
    "--subjects",
    default="",
    show_default=False,
    metavar="FILE",
    help="CSV video,subject: videos of one subject are held out together.",
)
@click.option(
    "--experimental",
    default="",
    show_default=False,
    metavar="NAMES",
    help="Outputs measured too weak to rely on, separated by commas: the head marks them.",
)
@click.option(
    "--backbone",
    default="",
    show_default=False,
    metavar="NAME",
    help="Recipe authors: what trains beside the head.  [default: that of the cache, else mobilenetv4_conv_small]",
)
@click.option(
    "--backbone-weights",
    default="",
    show_default=False,
    metavar="FILE|URI|timm",
    help="Of the cache's backbone, for the final layer.  [default: where they lay when it was made]",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For the head.")
@click.option(
    "--buffer-mb", type=click.IntRange(min=16), default=2048, metavar="MB", help="Rows in memory; all fit: read once."
)
@click.option(
    "--readers",
    type=click.IntRange(min=0),
    default=0,
    help="Threads that read, with recipe authors workers that decode crops; 0: one per core, at most 16.",
)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="Threads of torch; 0: its own choice.")
@click.option("--restart", is_flag=True, help="Throw away what an earlier run left in HEAD.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def train(features: str, **args: Any) -> None:
    """Fits a head on cached features and labels; HEAD becomes a folder for --head of predict and annotate.

    A part of the training videos, cut by person where names or --subjects tell who is who, selects the best epoch and
    tunes thresholds and smoothing; the official validation set is never touched. Figures are told untuned (at 0.5,
    without smoothing) and as tuned on the hold-out. HEAD/seeds/N holds the head of seed N, HEAD that of the best one,
    summary.json mean and standard deviation. The same command goes on where an earlier one was broken off.

    \b
    Examples:
      emobeam train features/ --task au --labels "8th ABAW Annotations/" --output heads/au --seeds 3
      emobeam train features/ --task va --labels labels/ --output heads/va --architecture tcn --window 20s
      emobeam train clips-features/ --task au --labels clips/ --output heads/au --experimental AU15,AU24
      emobeam train features/ --task expr --labels labels/ --output heads/expr --recipe paper --set batch=64
    """
    from emobeam.emo_transforms.cache.dataset import read_dataset
    from emobeam.emo_transforms.inputs.people_folders import people_below
    from emobeam.emo_transforms.training.heads.recipe import recipe_named, window_length
    from emobeam.pipelines.console import command, make_ui
    from emobeam.pipelines.training.train import resolve_device, run_train
    from emobeam.pipelines.training.train_output import TrainRequest, train_text
    from emobeam.schemas.tasks import task_named

    settings = list(args.pop("settings"))
    for key in ("architecture", "levels", "form", "epochs"):
        value = args.pop(key)
        if value is not None:
            settings.append(f"{key}={value}")
    holdout = args.pop("holdout")
    if is_number(holdout):
        settings.append(f"holdout={holdout}")
        holdout = ""
    labels = args.pop("labels")
    task, window = args.pop("task"), args.pop("window")
    name = args.pop("recipe") or ("soft" if people_below(labels[0]) else "emobeam")
    experimental = outputs_of(args.pop("experimental"), task_named(task))
    recipe = recipe_named(name, task, settings)
    if window:
        rate = read_dataset(features).config.sampling.fps
        recipe = recipe_named(name, task, [*settings, f"window={window_length(window, rate, recipe.time_patch)}"])
    output, as_json, quiet = args.pop("output"), args.pop("as_json"), args.pop("quiet")
    request = TrainRequest(
        features,
        task_named(task),
        labels if len(labels) > 1 else labels[0],
        output,
        recipe,
        seeds=seeds_of(args.pop("seeds")),
        holdout=holdout,
        device=resolve_device(args.pop("device")),
        experimental=experimental,
        **args,
    )
    result = run_train(request, make_ui(quiet=quiet))
    if as_json:
        echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    elif not quiet:
        echo(train_text(result, output))
        echo(f"use it: {command('predict', features, '--head', output, '--output', 'OUT')}")


def outputs_of(text: str, task: Task) -> tuple[str, ...]:
    """Outputs from ``--experimental``, in the task's order; raises :class:`UsageError` where one is none."""
    names = {part.strip() for part in text.split(",") if part.strip()}
    if strange := sorted(names - set(task.outputs)):
        raise UsageError(
            f"--experimental: no output {', '.join(strange)}; task {task.name} has {', '.join(task.outputs)}"
        )
    return tuple(name for name in task.outputs if name in names)


def seeds_of(text: str) -> tuple[int, ...]:
    """Seeds from ``--seeds``: how many (from 1), or which; raises :class:`UsageError` where it is neither."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--seeds {text}: expected how many, or numbers separated by commas") from None
    if "," not in text and len(numbers) == 1:
        numbers = list(range(1, numbers[0] + 1))
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UsageError(f"--seeds {text}: expected at least one, and each once")
    return tuple(numbers)


def is_number(text: str) -> bool:
    """Whether ``--holdout`` names a fraction, not a file."""
    try:
        float(text)
    except ValueError:
        return False
    return True
