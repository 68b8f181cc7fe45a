"""The command ``emobeam pseudo-label``. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.schemas.wording import counted


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
        click.echo(json.dumps(done, indent=2, ensure_ascii=False))
    elif not args["quiet"]:
        means = ", ".join(f"{unit} {mean:.2f}" for unit, mean in done["mean"].items() if mean is not None)
        made = f"{counted(done['crops'], 'crop')} of {counted(done['people'], 'person', 'people')}"
        click.echo(f"{done['output']}: {made}; mean activations: {means or 'none'}")
        click.echo(
            f"{counted(done['pictures'], 'picture')}: {done['no_face']} without a face, {done['unseen']} with a face "
            f"that the teacher doesn't see, {len(done['unreadable'])} unreadable"
        )
    ctx.exit(1 if done["unreadable"] else 0)
