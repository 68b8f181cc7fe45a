"""The command ``emobeam pretrain``. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from emobeam.pipelines.commands.help_text import TRAINING, SectionedCommand
from emobeam.pipelines.printing import echo
from emobeam.schemas.records import UsageError

if TYPE_CHECKING:
    from emobeam.pipelines.console import Ui


@click.command(cls=SectionedCommand, sections=TRAINING, short_help="A backbone, trained on labelled face images.")
@click.argument("data", nargs=-1, required=True, metavar="DATA...")
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
    metavar="untrained|timm|shipped|FILE",
    help="Weights to start from; 'timm' lets timm fetch its own, 'shipped' is what comes with emobeam.  "
    "[default: timm; authors, units: untrained]",
)
@click.option(
    "--loss", type=click.Choice(["expression", "expression+va"]), help="What is learned.  [default: what is labelled]"
)
@click.option(
    "--recipe",
    type=click.Choice(["emobeam", "authors", "hsemotion", "units"]),
    help="How it is trained.  [default: emobeam; crops of people: units]",
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

    DATA may also be folders of 'emobeam render' and 'emobeam pseudo-label': then it learns action units, and the
    blendshapes beneath them, as far as each crop's are known. A twentieth of the people selects the epoch; equal
    numbers in several folders of renders are one person, and so they are in several folders of labelled photographs.

    \b
    Examples:
      emobeam pretrain AffectNet/ --output affectnet-mnv4/
      emobeam pretrain faces.csv --output b0/ --backbone tf_efficientnet_b0.ns_jft_in1k --recipe hsemotion
      emobeam pretrain renders/ pseudo/ --output units-128/
      emobeam pretrain renders/ pseudo/ --start units-128/backbone.safetensors --input-size 224 --output units/
    """
    from emobeam.emo_transforms.inputs.people_folders import is_people_folder
    from emobeam.pipelines.console import make_ui

    quiet, as_json = args.pop("quiet"), args.pop("as_json")
    direct = {"input_size": "input_size", "batch": "batch", "epochs": "epochs", "sam": "sam", "precision": "precision"}
    given = [f"{field}={args.pop(name)}" for name, field in direct.items() if args[name] is not None]
    for name in direct:
        args.pop(name, None)
    twice = {text.partition("=")[0] for text in given} & {text.partition("=")[0] for text in args["settings"]}
    if twice:
        raise UsageError(f"--set {', '.join(sorted(twice))}: given as an option of its own as well")
    args["settings"] = (*args["settings"], *given)
    ui = make_ui(quiet=quiet)
    folders = [uri for uri in args["data"] if is_people_folder(uri)]
    if folders:
        result, show = _units(folders, args, ui)
    else:
        result, show = _expressions(args, ui)
    if as_json:
        echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif not quiet:
        show(result, args["output"])
    ctx.exit(1 if result.get("unreadable", {}).get("count") else 0)


_Show = Callable[[Mapping[str, Any], str], None]


def _expressions(args: dict[str, Any], ui: Ui) -> tuple[dict[str, Any], _Show]:
    from emobeam.pipelines.training.pretrain import PretrainRequest, print_pretrained, run_pretrain

    if len(args["data"]) > 1:
        raise UsageError("DATA: only folders of crops of people (people/*.parquet) can be several; name one")
    if args["recipe"] == "units":
        raise UsageError("--recipe units: is for crops of people with action units, which DATA doesn't hold")
    recipe = args["recipe"] or "emobeam"
    start = args["start"] or ("untrained" if recipe == "authors" else "timm")
    changed = {"data": args["data"][0], "loss": args["loss"] or "", "recipe": recipe, "start": start}
    return run_pretrain(PretrainRequest(**{**args, **changed}), ui), print_pretrained


def _units(folders: list[str], args: dict[str, Any], ui: Ui) -> tuple[dict[str, Any], _Show]:
    from emobeam.pipelines.training.pretrain_units import (
        PretrainUnitsRequest,
        print_pretrained_units,
        run_pretrain_units,
    )

    if others := sorted(set(args["data"]) - set(folders)):
        raise UsageError(f"DATA {others[0]}: holds no crops of people, but the other does; they can't go together")
    pictures = {"loss": None, "validation": "", "images": "", "classes": "auto"}
    if wrong := [name for name, default in pictures.items() if args.pop(name) != default]:
        raise UsageError(f"--{wrong[0]}: is for labelled images; crops of people bring their labels with them")
    if args["recipe"] not in (None, "units"):
        raise UsageError(f"--recipe {args['recipe']}: learns expressions; crops of people have action units: units")
    request = PretrainUnitsRequest(**{**args, "recipe": "units", "start": args["start"] or "untrained"})
    return run_pretrain_units(request, ui), print_pretrained_units
