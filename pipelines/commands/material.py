"""Material to train on without a data set: render, pseudo-label. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.printing import echo
from emobeam.schemas.wording import counted


@click.command(short_help="Faces with known action units, rendered.")
@click.argument("model", metavar="MODEL.npz")
@click.option("--output", required=True, metavar="FOLDER", help="Folder of the renders.")
@click.option("--people", type=click.IntRange(min=1), default=100, help="How many people.")
@click.option(
    "--first", type=click.IntRange(min=0), default=0, help="Number of the first; keep test people apart by it."
)
@click.option("--pictures", type=click.IntRange(min=0), default=20, help="Single pictures of each; 0 with --clips.")
@click.option("--clips", type=click.IntRange(min=0), default=0, help="Moving clips of each.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=10.0, help="Length of a clip in s.")
@click.option("--fps", type=click.FloatRange(min=1), default=6.0, help="Frames per second of a clip.")
@click.option("--size", type=click.IntRange(32, 512), default=128, help="Edge of a crop in px.")
@click.option("--clean", is_flag=True, help="Without noise, blur, compression and things in front of the face.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of everything; the same gives the same bytes.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes; 0 is one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def render(**args: Any) -> None:
    """Renders crops of people who never were, for training where no data set may be used.

    MODEL.npz is ICT-FaceKit's light model (MIT licence) as arrays: neutral [v,3], quads [q,4], mat and mats
    (materials), I [100,v,3], E [57,v,3] and enames. Each person becomes one Parquet file with JPEG crops, activations
    of the action units in [0, 1], the weights of all shapes, and the pose. AU23 is null: the model has no shape for
    it. The same command goes on where it was stopped.

    \b
    Example:
      emobeam render ict_light.npz --people 500 --pictures 40 --output renders/
    """
    from emobeam.emo_transforms.training.material.rendering.people import RenderConfig
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.training.render import RenderRequest, run_render

    config = RenderConfig(
        args["size"], args["pictures"], args["clips"], args["seconds"], args["fps"], not args["clean"], args["seed"]
    )
    request = RenderRequest(args["model"], args["output"], args["first"], args["people"], config, args["workers"])
    done = run_render(request, make_ui(quiet=args["quiet"]))
    if args["as_json"]:
        echo(json.dumps(done, indent=2))
    elif not args["quiet"]:
        rates = ", ".join(f"{unit} {rate:.0%}" for unit, rate in done["base_rates"].items() if rate is not None)
        made = f"{counted(done['crops'], 'crop')} of {counted(done['people'], 'person', 'people')}"
        echo(f"{done['output']}: {made}; shown at 0.3 or more: {rates}")


@click.command("pseudo-label", short_help="Real faces, labelled by a teacher.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--teacher", required=True, metavar="FILE.task", help="MediaPipe's face landmarker.")
@click.option("--output", required=True, metavar="FOLDER", help="Folder of the labelled crops.")
@click.option(
    "--person",
    default="",
    show_default=False,
    metavar="REGEX",
    help="Group 1, in a picture's path below INPUT or a video's id, is who it shows.  [default: each is a person]",
)
@click.option(
    "--only", default="", show_default=False, metavar="NAMES|FILE", help="Only these people: names, or a file of them."
)
@click.option("--size", type=click.IntRange(32, 512), default=160, help="Edge of a crop in px.")
@click.option("--clips", type=click.IntRange(min=0), default=0, help="Moving clips made of each photograph.")
@click.option("--model", default="", show_default=False, metavar="FILE.npz", help="ICT-FaceKit's, for --clips.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=10.0, help="Length of a clip in s.")
@click.option("--fps", type=click.FloatRange(min=1), default=6.0, help="Frames per second of a clip.")
@click.option("--clean", is_flag=True, help="Clips without noise, blur, compression and things in front of the face.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the clips; the same gives the same clips.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes; 0 is one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.pass_context
def pseudo_label(ctx: click.Context, /, **args: Any) -> None:
    """Labels real faces with the action units that a teacher sees, for training where no labels are to be had.

    INPUT is a folder, a glob or a file of photographs (.jpg, .png), or a feature cache that stores crops. The teacher
    is MediaPipe's face landmarker; it needs the package mediapipe. Each person becomes one Parquet file with JPEG
    crops as stage 1 cuts them and activations in [0, 1]. AU6, AU15, AU23 and AU24 are null, for the teacher hardly
    knows them, and the brows' units where the head is turned far. The same command goes on where it was stopped.

    With --clips each photograph is also set in motion: the face is warped as ICT-FaceKit's shapes move, and the
    teacher labels what has come of it.

    \b
    Examples:
      emobeam pseudo-label london/ --teacher face_landmarker.task --person '(\\d+)_' --output labelled/
      emobeam pseudo-label portraits/ --teacher face_landmarker.task --clips 4 --model ict_light.npz --output moving/
      emobeam pseudo-label features/ --teacher face_landmarker.task --output labelled-clips/
    """
    from emobeam.emo_transforms.training.material.labelling.labelled_people import LabelConfig
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.training.pseudo_label import PseudoLabelRequest, run_pseudo_label

    config = LabelConfig(args["size"], args["clips"], args["seconds"], args["fps"], not args["clean"], args["seed"])
    request = PseudoLabelRequest(
        tuple(args["inputs"]),
        args["teacher"],
        args["output"],
        args["person"],
        args["only"],
        args["model"],
        config,
        args["workers"],
    )
    done = run_pseudo_label(request, make_ui(quiet=args["quiet"]))
    if args["as_json"]:
        echo(json.dumps(done, indent=2, ensure_ascii=False))
    elif not args["quiet"]:
        means = ", ".join(f"{unit} {mean:.2f}" for unit, mean in done["mean"].items() if mean is not None)
        made = f"{counted(done['crops'], 'crop')} of {counted(done['people'], 'person', 'people')}"
        echo(f"{done['output']}: {made}; mean activations: {means or 'none'}")
        echo(
            f"{counted(done['pictures'], 'picture')}: {done['no_face']} without a face, {done['unseen']} with a face "
            f"that the teacher doesn't see, {len(done['unreadable'])} unreadable"
        )
    ctx.exit(1 if done["unreadable"] else 0)
