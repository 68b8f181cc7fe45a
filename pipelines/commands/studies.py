"""Commands about what studies need: events, summarise, agree. Imports nothing heavy: ``--help`` stays fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from emobeam.pipelines.commands.options import FRACTION, task_option
from emobeam.pipelines.printing import echo
from emobeam.schemas.wording import counted

if TYPE_CHECKING:
    from emobeam.emo_transforms.results.studies.study import StudyConfig
    from emobeam.pipelines.results.events import StudyResult

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = click.FloatRange(min=0)
_OPEN_FRACTION = click.FloatRange(0, 1, min_open=True, max_open=True)


def _text(*names: str, metavar: str, text: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, default="", show_default=False, metavar=metavar, help=text, **more)


_COMMON: list[Callable[[Any], Any]] = [
    task_option(text="Frame-level task.  [default: au, else the only one predicted]"),
    click.option(
        "--threshold",
        "thresholds",
        multiple=True,
        metavar="NAME=NUMBER",
        help="Where an event of that output begins, repeatable; a number alone is for all action units. Valence and "
        "arousal make events only where named, a negative number means at most.  [default: the head's, else 0.5]",
    ),
    click.option(
        "--off",
        multiple=True,
        metavar="NAME=NUMBER",
        help="Where an event ends (hysteresis), as --threshold.  [default: the threshold]",
    ),
    click.option("--min-duration", type=_SECONDS, default=0.2, help="Shorter events are left out, s."),
    click.option("--merge-gap", type=_SECONDS, default=0.2, help="Events at most so far apart become one, s."),
    click.option(
        "--baseline",
        type=click.Choice(["none", "median", "quantile"]),
        default="none",
        help="What is taken from every value of a person: over the time seen, or --baseline-segments.",
    ),
    click.option("--baseline-quantile", type=_OPEN_FRACTION, default=0.1, help="With --baseline quantile."),
    click.option(
        "--baseline-scale",
        type=click.Choice(["subtract", "standardise"]),
        default="subtract",
        help="Standardise: also divide by the robust spread; then values are in standard deviations.",
    ),
    _text("--baseline-segments", metavar="FILE", text="Neutral stretches: CSV video,start,end in s, or ELAN."),
    _text("--persons", metavar="FILE", text="Names of people: CSV video,person and subject, face or number."),
    _text("--speech", metavar="FILE", text="Stretches of speech: CSV video,start,end in s, or ELAN."),
    click.option("--speech-tier", default="speech", metavar="TIER", help="With --speech of ELAN."),
    _text("--only", metavar="NAMES", text="Only these videos, separated by commas."),
    click.option(
        "--fps",
        type=click.FloatRange(min=0, max=1000),
        default=0.0,
        show_default=False,
        help="Frames per second where tables have no times (folders of crops).",
    ),
]


def _common(command: F) -> F:
    for option in reversed(_COMMON):
        command = option(command)
    return command


_TALK: list[Callable[[Any], Any]] = [
    click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output."),
    click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only."),
]


def _talk(command: F) -> F:
    for option in reversed(_TALK):
        command = option(command)
    return command


_file = click.option(
    "--output", "destination", required=True, metavar="FILE", help="A .csv or .parquet file; FILE.json holds settings."
)


@click.command(short_help="When and how strongly units were active: onset, offset, peak.")
@click.argument("output", metavar="OUT")
@_file
@_common
@_talk
@click.pass_context
def events(ctx: click.Context, /, output: str, destination: str, as_json: bool, quiet: bool, **args: Any) -> None:
    """Writes one row per event of every unit, face and video: onset, offset, duration, peak, mean.

    Action units by threshold, expressions where one wins, valence and arousal beyond a threshold that is named. An
    event is half-open: its offset is the time of the first frame after it; cut says which end was not seen.

    \b
    Examples:
      emobeam events out/ --output events.csv
      emobeam events out/ --threshold AU12=0.6 --off AU12=0.4 --baseline median --output events.parquet
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.results.events import run_events

    result = run_events(output, _config(args), destination=destination, keep=False, ui=make_ui(quiet=quiet))
    lines = [
        f"{counted(result.summary['events'], 'event')} in {counted(result.summary['videos'], 'video')}: {destination}"
    ]
    if not as_json and not quiet:
        counts = ", ".join(f"{name} {count}" for name, count in result.summary["by_unit"].items())
        lines.append(f"  {counts}")
    _finish(ctx, result, lines, as_json=as_json, quiet=quiet)


@click.command(short_help="Means, activity and events per video, person or segment.")
@click.argument("output", metavar="OUT")
@click.option("--by", type=click.Choice(["video", "person", "segment"]), default="video", help="Unit of analysis.")
@_text("--segments", metavar="FILE", text="With --by segment: CSV video,start,end,label in s, or ELAN.")
@click.option("--segments-tier", default="segments", metavar="TIER", help="With --segments of ELAN.")
@_file
@_common
@_talk
@click.pass_context
def summarise(
    ctx: click.Context,
    /,
    output: str,
    by: Any,
    segments: str,
    segments_tier: str,
    destination: str,
    as_json: bool,
    quiet: bool,
    **args: Any,
) -> None:
    """Writes mean, sd, median, share of time active, events per minute and time seen of every output.

    Every frame counts for as long as it is shown and only while a face was seen: missing time is never zero, and
    coverage tells how much was seen. With --persons, sessions of one person are one unit.

    \b
    Examples:
      emobeam summarise out/ --by video --output videos.csv
      emobeam summarise out/ --by person --persons people.csv --output people-au.csv
      emobeam summarise out/ --by segment --segments tasks.csv --speech speech.csv --output tasks-au.parquet
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.results.summarise import run_summarise

    result = run_summarise(
        output,
        _config(args),
        by=by,
        segments=segments,
        segments_tier=segments_tier,
        destination=destination,
        keep=False,
        ui=make_ui(quiet=quiet),
    )
    text = f"{result.summary['rows']} rows of {result.summary['units']} units (by {by}): {destination}"
    _finish(ctx, result, [text], as_json=as_json, quiet=quiet)


@click.command(short_help="Agreement with human coding: kappa, ICC, F1, event lag.")
@click.argument("output", metavar="OUT")
@click.option("--human", required=True, metavar="PATH", help="ELAN or CSV file, or a folder of them.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["elan", "csv"]),
    help="What --human holds.  [default: by the extension]",
)
@_text("--tier-map", metavar="FILE", text="CSV tier,unit[,subject,face] where tiers have other names.")
@_text("--coded", metavar="FILE", text="What coders looked at: CSV video,start,end.  [default: all of a coded video]")
@click.option(
    "--grid",
    type=click.FloatRange(min=0, max=1000),
    default=0.0,
    show_default=False,
    metavar="HZ",
    help="Moments per second that are compared.  [default: the sampled frames]",
)
@click.option(
    "--match",
    type=click.Choice(["iou", "onset"]),
    default="iou",
    help="Events are the same by overlap or by onset.",
)
@click.option("--iou", type=FRACTION, default=0.5, help="With --match iou: least intersection over union.")
@click.option("--tolerance", type=_SECONDS, default=0.5, help="With --match onset: s between onsets.")
@click.option("--human-on", type=float, default=0.5, help="A coder's value of at least this much is active.")
@click.option(
    "--human-range",
    type=(float, float),
    metavar="LOW HIGH",
    help="The coder's scale of valence and arousal.  [default: that of the output]",
)
@click.option("--block", type=click.FloatRange(min=0, min_open=True), default=10.0, help="Bootstrap blocks, s.")
@click.option("--resamples", type=click.IntRange(min=0), default=1000, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, help="Of the bootstrap.")
@click.option(
    "--output", "destination", default="", show_default=False, metavar="FOLDER", help="Write tables and JSON there."
)
@_common
@_talk
@click.pass_context
def agree(
    ctx: click.Context,
    /,
    output: str,
    human: str,
    style: str | None,
    tier_map: str,
    coded: str,
    destination: str,
    as_json: bool,
    quiet: bool,
    **args: Any,
) -> None:
    """Compares predictions with human coding, by frames and by events, and says what could not be compared.

    CSV: video, unit, onset, offset (s), or video, frame or time (s) and a column per output. ELAN: a tier per unit,
    named AU12, AU 12, AU12_face1 or AU12_left; the file is named after the video or names it as its medium.

    \b
    Examples:
      emobeam agree out/ --human coding/ --output agreement/
      emobeam agree out/ --human coder1.csv --task va --human-range 1 9 --json
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.requests import agree_config
    from emobeam.pipelines.results.agree import print_agreement, run_agree

    result = run_agree(
        output,
        human,
        _config(args),
        agree_config(args),
        style=style or "",
        tier_map=tier_map,
        coded=coded,
        destination=destination,
        ui=make_ui(quiet=quiet),
    )
    for text in result.summary["unmatched"]:
        echo(f"not compared: {text}", err=True)
    _tell_failed(result.summary)
    if as_json:
        echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    elif not quiet:
        print_agreement(result.summary)
        if destination:
            echo(f"tables: {destination}")
    ctx.exit(1 if result.failed else 0)


def _config(args: Mapping[str, Any]) -> StudyConfig:
    from emobeam.pipelines.requests import study_config

    return study_config(args)


def _tell_failed(summary: Mapping[str, Any]) -> None:
    for video, text in summary["failed"].items():
        echo(f"failed: {video}: {text}", err=True)


def _finish(ctx: click.Context, result: StudyResult, lines: list[str], *, as_json: bool, quiet: bool) -> None:
    _tell_failed(result.summary)
    if as_json:
        echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    elif not quiet:
        echo("\n".join(lines))
    ctx.exit(1 if result.failed else 0)
