"""The command ``emobeam pretrain``. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from typing import Any

import click

from pipelines.commands.help_text import TRAINING, SectionedCommand
from schemas.records import UsageError


@click.command(cls=SectionedCommand, sections=TRAINING, short_help="A backbone, trained on labelled face images.")
@click.argument("data", metavar="DATA")
@click.option("--output", required=True, metavar="FOLDER", help="Folder of the trained backbone.")
@click.option(
    "--backbone",
    default="mobilenetv4_conv_small",
    metavar="NAME",
    help="Any classifier of timm, with or without a tag.",
)
@click.option(
    "--start",
    default="",
    show_default=False,
    metavar="untrained|timm|FILE",
    help="Weights to start from; 'timm' lets timm fetch its own.  [default: timm; recipe authors: untrained]",
)
@click.option(
    "--loss", type=click.Choice(["expression", "expression+va"]), help="What is learned.  [default: what is labelled]"
)
@click.option(
    "--recipe", type=click.Choice(["emobeam", "authors", "hsemotion"]), default="emobeam", help="How it is trained."
)
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of the recipe; repeatable.")
@click.option(
    "--classes", default="auto", metavar="auto|8|7|folders|NAMES", help="auto: 8 emotions, 7 without Contempt."
)
@click.option(
    "--validation", default="", show_default=False, metavar="PATH", help="Official split, where it lies elsewhere."
)
@click.option(
    "--images", default="", show_default=False, metavar="DIR", help="Where paths in tables start.  [default: the table]"
)
@click.option(
    "--input-size",
    type=click.IntRange(32, 1024),
    metavar="PX",
    help="Edge of the pictures.  [default: the recipe's, 224]",
)
@click.option("--batch", type=click.IntRange(min=2), help="Images of a step.  [default: the recipe's, 256]")
@click.option("--epochs", type=click.IntRange(min=1), help="With all layers.  [default: the recipe's, 15]")
@click.option("--sam", type=click.FloatRange(min=0), help="Radius of sharpness-aware steps; 0: none.")
@click.option("--precision", type=click.Choice(["float32", "bf16"]), help="Of the network.  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of weights, order and augmentation.")
@click.option("--workers", type=click.IntRange(min=-1), default=-1, help="Processes reading images; -1: one per core.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For the network.")
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0),
    default=5.0,
    metavar="MINUTES",
    help="Between checkpoints in an epoch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.pass_context
def pretrain(ctx: click.Context, /, **args: Any) -> None:
    """Trains a backbone to tell expressions (and valence, arousal) in face images, for extract --backbone-weights.

    DATA is a folder with train/<class>/*.jpg and val/<class>/*, a folder of AffectNet (images/ and annotations/, or
    train_set/ and val_set/ with both, or its training.csv and validation.csv), or a CSV or Parquet file with path,
    expression and optionally valence, arousal, split, subject. Classes are names or AffectNet's numbers.

    A twentieth of the training images selects the best epoch; the official validation split is looked at once, at the
    end. The same command goes on where a broken-off one ended. Images of a test split, and those that can't be read,
    are left out and counted.

    \b
    Examples:
      emobeam pretrain AffectNet/ --output affectnet-mnv4/
      emobeam pretrain faces.csv --output b0/ --backbone tf_efficientnet_b0.ns_jft_in1k --recipe hsemotion
    """
    from pipelines.console import make_ui
    from pipelines.pretrain import PretrainRequest, print_pretrained, run_pretrain

    quiet, as_json = args.pop("quiet"), args.pop("as_json")
    direct = {"input_size": "input_size", "batch": "batch", "epochs": "epochs", "sam": "sam", "precision": "precision"}
    given = [f"{field}={args.pop(name)}" for name, field in direct.items() if args[name] is not None]
    for name in direct:
        args.pop(name, None)
    twice = {text.partition("=")[0] for text in given} & {text.partition("=")[0] for text in args["settings"]}
    if twice:
        raise UsageError(f"--set {', '.join(sorted(twice))}: given as an option of its own as well")
    settings = (*args.pop("settings"), *given)
    args["loss"] = args["loss"] or ""
    args["start"] = args["start"] or ("untrained" if args["recipe"] == "authors" else "timm")
    request = PretrainRequest(settings=settings, **args)
    result = run_pretrain(request, make_ui(quiet=quiet))
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif not quiet:
        print_pretrained(result, request.output)
    ctx.exit(1 if result["unreadable"]["count"] else 0)
