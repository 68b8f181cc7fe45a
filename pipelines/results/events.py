"""The job ``events``: predictions tables -> one row per event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from emobeam.emo_transforms.inputs.user_tables import MEDIA_OFFSET
from emobeam.emo_transforms.results.studies.event_rules import Rule, note_of
from emobeam.emo_transforms.results.studies.events import Event
from emobeam.emo_transforms.results.studies.study import Study, StudyConfig, StudyTrace, open_study
from emobeam.emo_transforms.results.studies.tables import (
    EVENTS,
    TableFile,
    check_destination,
    table_file,
    table_of,
    write_settings,
)
from emobeam.pipelines.console import Ui


@dataclass(frozen=True)
class StudyResult:
    """What a job about an output folder found.

    Attributes:
        table: rows, see ``emobeam.emo_transforms.results.studies.tables``.
        summary: plain JSON data: settings, counts, warnings, files.
        failed: videos that could not be read, with the reason.
    """

    table: pa.Table
    summary: dict[str, Any]
    failed: dict[str, str]


def run_events(
    output: str,
    config: StudyConfig | None = None,
    *,
    destination: str = "",
    keep: bool = True,
    ui: Ui | None = None,
) -> StudyResult:
    """Finds the events of every video, subject and face.

    Args:
        output: folder of ``emobeam annotate`` or ``predict``.
        destination: ``.csv`` or ``.parquet`` file to write; ``""``: none.
        keep: hold all rows in the result's table, too; otherwise it is empty, and memory doesn't grow with the number
            of videos.
        ui: told about progress.

    Raises:
        EmobeamError: no predictions there, or a file that can't be used.
        UsageError: settings that make no sense.
    """
    if destination:
        check_destination(destination)
    study = opened(output, config, ui)
    counts: Counter[str] = Counter()
    videos = 0

    def pieces() -> Iterator[pa.Table]:
        nonlocal videos
        for faces in study.traces():
            videos += 1
            rows = [_row(study, each, rule, event) for each in faces for rule, event in each.events]
            counts.update(row["unit"] for row in rows)
            yield table_of(rows, EVENTS)

    with watched(study, ui, "events"), Collected(destination, EVENTS, keep) as collected:
        for table in pieces():
            collected.add(table)
        summary = {
            "settings": study.settings(),
            "videos": videos,
            "events": collected.rows,
            "by_unit": {rule.unit: counts[rule.unit] for rule in study.rules.all},
        }
        done = collected.finish(study, summary)
    tell(study, ui)
    return done


def opened(output: str, config: StudyConfig | None, ui: Ui | None) -> Study:
    """Opens a study and tells a Ui about what takes long in it: finding out about many tables, making baselines."""
    if ui is None:
        return open_study(output, config or StudyConfig())
    under_way = ""

    def progress(work: str, done: int, total: int) -> None:
        nonlocal under_way
        if total < _MANY:
            return
        if work != under_way:
            if under_way:
                ui.finish()
            under_way = work
            ui.start(work, total, total, "tables", "tables")
        ui.event("frames", {"key": str(done), "frames": 1})
        ui.event("done", {"key": str(done)})

    try:
        return open_study(output, config or StudyConfig(), progress)
    finally:
        if under_way:
            ui.finish()


def tell(study: Study, ui: Ui | None) -> None:
    """Tells a Ui what people have to be told of a study."""
    if ui is None:
        return
    for text in study.warnings:
        if text in study.standing:
            ui.note(text, study.source.output)
        else:
            ui.warn(text)


_MANY = 50
"""Tables that can be gone through without a word."""


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


class Collected:
    """The rows of a study as they come: written to a file, kept, or both.

    The file appears as a whole when the block ends well.

    Args:
        destination: ``.csv`` or ``.parquet`` file to write; ``""``: none.
        keep: hold the rows in memory for :class:`StudyResult`.
    """

    def __init__(self, destination: str, schema: pa.Schema, keep: bool) -> None:
        self.rows = 0
        self._destination, self._schema, self._keep = destination, schema, keep
        self._kept: list[pa.Table] = []
        self._stack = ExitStack()
        self._file: TableFile | None = None

    def __enter__(self) -> Collected:
        if self._destination:
            self._file = self._stack.enter_context(table_file(self._destination, self._schema))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, table: pa.Table) -> None:
        """Adds rows."""
        self.rows += len(table)
        if self._keep:
            self._kept.append(table)
        if self._file is not None:
            self._file.add(table)

    def finish(self, study: Study, summary: dict[str, Any]) -> StudyResult:
        """Says what was found, and with what settings."""
        summary |= {"warnings": study.warnings, "failed": study.failed, "files": []}
        if self._file is not None:
            self._file.settings = {**summary["settings"], "warnings": study.warnings, "failed": study.failed}
            self._stack.close()
            settings = write_settings(self._destination, self._file.settings)
            summary["files"] = [self._destination, settings]
        table = pa.concat_tables([self._schema.empty_table(), *self._kept])
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
        MEDIA_OFFSET: study.offsets.get(event.video),
        "note": note_of(event.unit, untrained=study.source.untrained, marks=study.source.marks),
    }
