"""The command ``overlay``. ``cli`` puts it beside the others; nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from typing import Any

import click

from emobeam.pipelines.commands.options import task_option
from emobeam.schemas.records import InputError


@click.command(short_help="The clip again, with boxes, landmarks and live bars.")
@click.argument("clip", metavar="CLIP")
@click.argument("output", metavar="OUT")
@click.option(
    "--output",
    "target",
    default="",
    show_default=False,
    metavar="FILE.mp4",
    help="The file to write.  [default: in OUT/overlay/, called as the video's table: NAME-DIGEST.mp4]",
)
@click.option(
    "--video",
    default="",
    show_default=False,
    metavar="ID",
    help="Which video of OUT the clip is.  [default: the one that the clip's path ends in]",
)
@task_option(multiple=True, text="Whose bars are shown; repeatable.  [default: all in OUT]")
@click.option("--faces", default="all", metavar="all|main|N,...", help="Which faces are drawn.")
@click.option("--start", type=click.FloatRange(min=0), default=0.0, help="s of the clip at which to begin.")
@click.option("--end", type=click.FloatRange(min=0), default=0.0, help="s at which to end; 0: at its end.")
@click.option(
    "--features",
    default="",
    show_default=False,
    metavar="FEATURES",
    help="The cache with the boxes.  [default: the one OUT was made from]",
)
@click.option("--crf", type=click.IntRange(0, 51), default=20, help="Quality of x264; smaller is better and larger.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
@click.pass_context
def overlay(ctx: click.Context, /, clip: str, output: str, **args: Any) -> None:
    """Makes the clip again with boxes, landmarks, face numbers and live bars of the outputs; sound is kept.

    CLIP is a video that was annotated into OUT. The new file is h264 in mp4, as browsers play it, with the clip's own
    presentation times. The bars stand in a panel beside the picture, one colour per face; where no face was seen in
    that very frame, values and boxes between neighbouring frames are dimmed, and where there is no value there is no
    bar. Values of untrained networks are marked in the picture.

    \b
    Examples:
      emobeam overlay talk.mp4 out/
      emobeam overlay videos/day1/pair.mp4 out/ --task au --faces 0,1 --start 60 --end 90 --output pair.mp4
    """
    from emobeam.emo_transforms.results.overlay.video_file import Encoding
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.results.overlay import OverlayRequest, overlay_text, run_overlay

    as_json, quiet = args.pop("as_json"), args.pop("quiet")
    encoding = Encoding(crf=args.pop("crf"))
    try:
        result = run_overlay(OverlayRequest(clip, output, encoding=encoding, **args), make_ui(quiet=quiet))
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        ctx.exit(1)
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(overlay_text(result))
    ctx.exit(1 if result["failed"] else 0)
