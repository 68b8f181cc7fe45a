"""The job ``events``: predictions tables -> one row per event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from emo_transforms.events import Event
from emo_transforms.studies.rules import Rule, note_of
from emo_transforms.studies.study import Study, StudyConfig, StudyTrace, open_study
from emo_transforms.studies.tables import EVENTS, check_destination, table_of, write_table
from pipelines.console import Ui


@dataclass(frozen=True)
class StudyResult:
    """What a job about an output folder found.

    Attributes:
        table: rows, see ``emo_transforms.studies.tables``.
        summary: plain JSON data: settings, counts, warnings, files.
        failed: videos that could not be read, with the reason.
    """

    table: pa.Table
    summary: dict[str, Any]
    failed: dict[str, str]


def run_events(
    output: str, config: StudyConfig | None = None, *, destination: str = "", ui: Ui | None = None
) -> StudyResult:
    """Finds the events of every video, subject and face.

    Args:
        output: folder of ``emobeam annotate`` or ``predict``.
        destination: ``.csv`` or ``.parquet`` file to write; ``""``: none.
        ui: told about progress.

    Raises:
        EmobeamError: no predictions there, or a file that can't be used.
        UsageError: settings that make no sense.
    """
    if destination:
        check_destination(destination)
    study = open_study(output, config or StudyConfig())
    rows: list[dict[str, Any]] = []
    videos = 0
    with watched(study, ui, "events"):
        for faces in study.traces():
            videos += 1
            rows += [_row(study, each, rule, event) for each in faces for rule, event in each.events]
    table = table_of(rows, EVENTS)
    counts = Counter(row["unit"] for row in rows)
    summary = {
        "settings": study.settings(),
        "videos": videos,
        "events": len(rows),
        "by_unit": {rule.unit: counts[rule.unit] for rule in study.rules.all},
    }
    return finish(study, table, summary, destination)


@contextmanager
def watched(study: Study, ui: Ui | None, name: str) -> Iterator[None]:
    """Tells a Ui how far the videos of a study are."""
    if ui is None:
        yield
        return

    def progress(video: str, fine: bool) -> None:
        ui.event("frames", {"key": video, "frames": 1})
        ui.event("done" if fine else "failed", {"key": video})

    count = len(study.source.parts)
    study.progress = progress
    ui.start(name, count, count, "videos", "videos")
    try:
        yield
    finally:
        ui.finish()


def finish(study: Study, table: pa.Table, summary: dict[str, Any], destination: str) -> StudyResult:
    """Writes a table if asked to, and says what was found."""
    summary |= {"warnings": study.warnings, "failed": study.failed, "files": []}
    if destination:
        settings = {**summary["settings"], "warnings": study.warnings, "failed": study.failed}
        summary["files"] = write_table(destination, table, settings)
    return StudyResult(table, summary, study.failed)


def _row(study: Study, each: StudyTrace, rule: Rule, event: Event) -> dict[str, Any]:
    person = each.person_at(event.onset_frame)
    level = study.baselines.level.get(person)
    return {
        "video": event.video,
        "subject": event.subject,
        "face": event.face,
        "person": person,
        "task": study.source.task.name,
        "unit": event.unit,
        "direction": rule.direction,
        "onset": event.onset,
        "offset": event.offset,
        "duration": event.duration,
        "onset_frame": event.onset_frame,
        "offset_frame": event.offset_frame,
        "peak": event.peak,
        "peak_time": event.peak_time,
        "peak_frame": event.peak_frame,
        "mean": event.mean,
        "cut": event.cut,
        "on": rule.on,
        "off": rule.off,
        "baseline": study.config.baseline.text,
        "baseline_level": None if level is None else float(level[rule.column]),
        "speech": each.speech_share(event),
        "note": note_of(event.unit, untrained=study.source.untrained),
    }
