"""What is made of an output: export, report, overlay. ``cli`` puts them beside the others; nothing heavy is imported
before a command runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from emobeam.pipelines.commands.options import task_option
from emobeam.pipelines.printing import echo
from emobeam.schemas.records import InputError
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
        echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    elif not quiet:
        what = "spans" if result.format == "elan" else "rows"
        echo(
            f"{result.destination}: {counted(result.videos, 'video')}, {counted(result.files, 'file')}, "
            f"{result.rows} {what}"
        )
        untrained = [text for text in result.warnings if "untrained" in text]
        if untrained:
            echo(f"UNTRAINED: {'; '.join(untrained)}; these values mean nothing")
    ctx.exit(1 if result.skipped else 0)


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
        echo(json.dumps(asdict(result), indent=2, ensure_ascii=False))
    elif not quiet:
        echo(f"{result.path} ({size_text(result.bytes)}, {result.videos} videos)")
    ctx.exit(1 if result.failed else 0)


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
        echo(f"error: {error}", err=True)
        ctx.exit(1)
    if as_json:
        echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif not quiet:
        echo(overlay_text(result))
    ctx.exit(1 if result["failed"] else 0)
