"""What is made of an output folder: events, summaries, a page, files for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

from emobeam.arguments import Place, checked, given
from emobeam.results import Exported, Findings

if TYPE_CHECKING:
    from emobeam.pipelines.results.agree import AgreeResult
    from emobeam.pipelines.results.events import StudyResult
    from emobeam.pipelines.results.report import ReportResult

Limits = Mapping[str, float] | Sequence[str] | float
"""Thresholds: by output, as texts ``AU12=0.6``, or one number."""


def export(
    output: Place,
    *,
    format: Literal["csv", "openface", "elan", "datasets"],  # noqa: A002 - as the option is called
    destination: Place,
    tasks: str | Sequence[str] = (),
    rate: Literal["sampled", "native"] | None = None,
    only: str | Sequence[str] = "",
    media: Place = "",
    min_duration: float = 0.2,
    merge_gap: float = 0.2,
    progress: bool = False,
) -> Exported:
    """Predictions for other programs, as ``emobeam export``.

    Args:
        output: the folder of :func:`annotate` or :func:`predict`.
        destination: folder to write, as a whole; the command calls it ``--output``.

    The other options are those of the command, see ``emobeam export --help``.

    Raises:
        UsageError, EmobeamError: see ``emobeam.pipelines.results.export.run_export``.
    """
    args, _ = checked("export", given(locals()))
    from emobeam.pipelines.results.export import ExportRequest, run_export
    from emobeam.telling import Telling

    fields = ("output", "destination", "format", "tasks", "only", "media", "min_duration", "merge_gap")
    request = ExportRequest(**{key: args[key] for key in fields}, rate=args["rate"] or "")
    done = run_export(request, Telling(progress=progress))
    return Exported(done.format, done.destination, done.videos, done.files, done.rows, done.skipped)


def report(
    output: Place,
    *,
    destination: Place = "",
    truth: Place = "",
    partition: str = "",
    only: str | Sequence[str] = "",
    videos: Place = "",
    thumbnails: bool = True,
    rate: float = 10.0,
    progress: bool = False,
) -> ReportResult:
    """One self-contained HTML page with the timelines, as ``emobeam report``.

    Args:
        output: the folder of :func:`annotate` or :func:`predict`.
        destination: the page. Default: ``report.html`` in that folder; the command calls it ``--output``.

    The other options are those of the command, see ``emobeam report --help``.

    Returns:
        Where the page lies (``path``), and what is in it.

    Raises:
        UsageError, EmobeamError: see ``emobeam.pipelines.results.report.run_report``.
    """
    told = given(locals())
    destination, told["out"] = told.pop("destination"), told["output"]
    args, _ = checked("report", told | {"output": destination})
    from emobeam.pipelines.results.report import ReportRequest, run_report
    from emobeam.telling import Telling

    names = ("output", "truth", "partition", "only", "videos", "thumbnails", "rate")
    request = ReportRequest(args["out"], *(args[name] for name in names))
    return run_report(request, Telling(progress=progress))


def events(
    output: Place,
    *,
    task: str | None = None,
    thresholds: Limits = (),
    off: Limits = (),
    min_duration: float = 0.2,
    merge_gap: float = 0.2,
    only: str | Sequence[str] = "",
    destination: Place = "",
    progress: bool = False,
    **more: Any,
) -> Findings:
    """Onset, offset, duration and peak of every event, as ``emobeam events``.

    Args:
        output: the folder of :func:`annotate` or :func:`predict`.
        thresholds, off: where events begin and end: ``{"AU12": 0.6}``, one number for all action units, or texts as on
            the command line. Default: the head's thresholds.
        min_duration, merge_gap: s.
        destination: a ``.csv`` or ``.parquet`` file to write, too; the command calls it ``--output``.
        progress: show a progress bar.
        more: the command's other options (``baseline``, ``persons``, ``speech`` ...), with ``_`` for ``-``.

    Raises:
        UsageError, EmobeamError: see ``emobeam.pipelines.results.events.run_events``.
    """
    told = given(locals())
    args, _ = checked("events", told | {"thresholds": _limits(thresholds), "off": _limits(off)})
    from emobeam.pipelines.requests import study_config
    from emobeam.pipelines.results.events import run_events
    from emobeam.telling import Telling

    ui = Telling(progress=progress)
    done = run_events(args["output"], study_config(args), destination=args["destination"] or "", ui=ui)
    return _findings(done)


def summarise(
    output: Place,
    *,
    by: Literal["video", "person", "segment"] = "video",
    segments: Place = "",
    task: str | None = None,
    thresholds: Limits = (),
    off: Limits = (),
    only: str | Sequence[str] = "",
    destination: Place = "",
    progress: bool = False,
    **more: Any,
) -> Findings:
    """Means, share of time active, events per minute and time seen, as ``emobeam summarise``.

    Args:
        by: what a row is about.
        segments: with ``by="segment"``: CSV ``video,start,end,label`` in s, or ELAN.

    Other arguments and errors are as for :func:`events`.
    """
    told = given(locals())
    args, _ = checked("summarise", told | {"thresholds": _limits(thresholds), "off": _limits(off)})
    from emobeam.pipelines.requests import study_config
    from emobeam.pipelines.results.summarise import run_summarise
    from emobeam.telling import Telling

    ui = Telling(progress=progress)
    done = run_summarise(
        args["output"],
        study_config(args),
        by=args["by"],
        segments=args["segments"],
        segments_tier=args["segments_tier"],
        destination=args["destination"] or "",
        ui=ui,
    )
    return _findings(done)


def agree(
    output: Place,
    human: Place,
    *,
    format: Literal["elan", "csv"] | None = None,  # noqa: A002 - as the option is called
    tier_map: Place = "",
    coded: Place = "",
    task: str | None = None,
    thresholds: Limits = (),
    off: Limits = (),
    only: str | Sequence[str] = "",
    destination: Place = "",
    progress: bool = False,
    **more: Any,
) -> AgreeResult:
    """Agreement of predictions with human coding, as ``emobeam agree``.

    Args:
        human: ELAN documents or CSV files, one file or a folder.
        destination: folder for the tables, too; the command calls it ``--output``.

    Other arguments and errors are as for :func:`events`.

    Returns:
        Arrow tables ``units``, ``videos`` and ``pairs`` (matched events); ``summary["unmatched"]`` lists what could not
        be compared.
    """
    told = given(locals())
    told["style"] = told.pop("format")
    args, _ = checked("agree", told | {"thresholds": _limits(thresholds), "off": _limits(off)})
    from emobeam.pipelines.requests import agree_config, study_config
    from emobeam.pipelines.results.agree import run_agree
    from emobeam.telling import Telling

    ui = Telling(progress=progress)
    return run_agree(
        args["output"],
        args["human"],
        study_config(args),
        agree_config(args),
        style=args["style"] or "",
        tier_map=args["tier_map"],
        coded=args["coded"],
        destination=args["destination"],
        ui=ui,
    )


def _findings(done: StudyResult) -> Findings:
    return Findings(done.table, done.summary, done.failed)


def _limits(limits: Limits) -> list[str]:
    """Thresholds as the command line takes them."""
    if isinstance(limits, Mapping):
        return [f"{name}={_exactly(limit)}" for name, limit in limits.items()]
    if isinstance(limits, str):
        return [limits]
    if not isinstance(limits, Sequence):
        return [_exactly(limits)]
    return [limit if isinstance(limit, str) else _exactly(limit) for limit in limits]


def _exactly(limit: SupportsFloat) -> str:
    """All digits of a number: a threshold taken from a table has to reach that very value."""
    return repr(float(limit))
