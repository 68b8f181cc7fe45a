"""The job ``agree``: predictions tables beside human coding -> agreement per unit, per video and per event."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig
from emobeam.emo_transforms.results.studies.agreement.figures import compare, pair_rows, unit_rows, video_rows
from emobeam.emo_transforms.results.studies.agreement.human_coding import read_human
from emobeam.emo_transforms.results.studies.agreement.tables import PAIRS, UNITS, VIDEOS
from emobeam.emo_transforms.results.studies.spans import read_spans, settle
from emobeam.emo_transforms.results.studies.study import StudyConfig
from emobeam.emo_transforms.results.studies.tables import table_of, write_file
from emobeam.pipelines.console import Terminal, Ui
from emobeam.pipelines.results.events import opened, tell, watched
from emobeam.schemas.records import EmobeamError


@dataclass(frozen=True)
class AgreeResult:
    """Agreement with human coding.

    Attributes:
        units, videos, pairs: tables, see ``emobeam.emo_transforms.results.studies.agreement.tables``.
        summary: plain JSON data: settings, rows of ``units``, what did not match, warnings, files.
        failed: videos that could not be read, with the reason.
    """

    units: pa.Table
    videos: pa.Table
    pairs: pa.Table
    summary: dict[str, Any]
    failed: dict[str, str]


def run_agree(
    output: str,
    human: str,
    config: StudyConfig | None = None,
    agree: AgreeConfig | None = None,
    *,
    style: str = "",
    tier_map: str = "",
    coded: str = "",
    destination: str = "",
    ui: Ui | None = None,
) -> AgreeResult:
    """Compares predictions with human coding.

    Args:
        output: folder of ``emobeam annotate`` or ``predict``.
        human: ELAN or CSV file, or a folder of them, see :func:`.results.studies.agreement.human_coding.read_human`.
        style: ``elan`` or ``csv``; ``""``: by the extension.
        tier_map: CSV ``tier,unit[,subject,face]``.
        coded: stretches that coders looked at (CSV ``video,start,end``); ``""``: all of every coded video.
        destination: folder for the tables; ``""``: none.
        ui: told about progress.

    Raises:
        EmobeamError: nothing could be compared, or a file can't be used.
        UsageError: settings that make no sense.
    """
    config, agree = config or StudyConfig(), agree or AgreeConfig()
    agree.check()
    study = opened(output, config, ui)
    task = study.source.task
    groups = {name: group.outputs for group in task.groups if group.kind == "class" for name in (task.name, group.name)}
    coding = read_human(
        human, task.outputs, groups=groups, subjects=study.source.subjects, style=style, tier_map=tier_map
    )
    looked = None
    if coded:
        looked = settle(read_spans(coded, "--coded", tier="coded"), study.source.parts, study.offsets)
        if looked.missing:
            study.warn(f"--coded: {len(looked.missing)} names mean no video: {', '.join(looked.missing[:5])}")
    found = compare(study, coding, agree, looked, watch=lambda coded_only: watched(coded_only, ui, "agree"))
    if not found.comparisons:
        reasons = "; ".join([*found.unmatched, *study.failed.values()][:5])
        raise EmobeamError(f"--human {human}: nothing could be compared with {output} ({reasons})")
    if any(row.unit in ("AU25", "AU26") for row in found.comparisons):
        study.warn(
            "AU25 and AU26 are active in speech too: did coders code them while people spoke? See docs/studies.md"
        )
    rows = unit_rows(study, found.comparisons, agree)
    units = table_of(rows, UNITS)
    videos = table_of(video_rows(study, found.comparisons, agree), VIDEOS)
    pairs = table_of(pair_rows(found.comparisons), PAIRS)
    settings = {**study.settings(), "human": human, "agree": asdict(agree), "match": agree.match.text}
    summary: dict[str, Any] = {
        "settings": settings,
        "units": units.to_pylist(),
        "unmatched": found.unmatched,
        "warnings": study.warnings,
        "failed": study.failed,
        "files": [],
    }
    if destination:
        for name, table in (("agreement", units), ("videos", videos), ("events", pairs)):
            for extension in ("csv", "parquet"):
                uri = storage.join(destination, f"{name}.{extension}")
                write_file(uri, table, settings)
                summary["files"].append(uri)
        uri = storage.join(destination, "agreement.json")
        summary["files"].append(uri)
        storage.write_record(uri, summary)
    tell(study, ui)
    return AgreeResult(units, videos, pairs, summary, study.failed)


def print_agreement(summary: dict[str, Any], console: Console | None = None) -> None:
    """Prints figures for people."""
    console = console or Terminal()
    binary = [row for row in summary["units"] if row["kind"] != "continuous"]
    continuous = [row for row in summary["units"] if row["kind"] == "continuous"]
    if binary:
        table = Table("unit", "kappa [95 %]", "PABAK", "F1", "coder", "program", "moments", title="frames")
        events = Table("unit", "F1 [95 %]", "matched", "missed", "extra", "onset lag s", "offset lag s", title="events")
        for row in binary:
            shares = (_share(row[name]) for name in ("human", "program"))
            table.add_row(
                row["unit"],
                _spread(row, "kappa"),
                _figure(row["pabak"]),
                _figure(row["f1"]),
                *shares,
                str(row["moments"]),
            )
            counts = (str(row[name]) for name in ("matched", "missed", "extra"))
            lags = (_spread(row, name) for name in ("onset_lag", "offset_lag"))
            events.add_row(row["unit"], _spread(row, "event_f1"), *counts, *lags)
        console.print(table, events)
    if continuous:
        table = Table("unit", "ICC(2,1) [95 %]", "ICC(3,1) [95 %]", "CCC", "moments")
        for row in continuous:
            iccs = (_spread(row, name) for name in ("icc2_1", "icc3_1"))
            table.add_row(row["unit"], *iccs, _figure(row["ccc"]), str(row["moments"]))
        console.print(table)
    first = summary["units"][0]
    over = f"{first['interval_units']} {first['interval_over']}"
    console.print(
        f"{first['videos']} videos; 95 % bootstrap over {over}; events match by {summary['settings']['match']}"
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _spread(row: dict[str, Any], name: str) -> str:
    text = _figure(row[name])
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return text if low is None or high is None else f"{text} [{low:.3f}, {high:.3f}]"
