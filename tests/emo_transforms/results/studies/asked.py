"""What tests ask of an output folder: its events, rows of its summary."""

from __future__ import annotations

from typing import Any

from emobeam.emo_transforms.results.studies.spans import Spans
from emobeam.emo_transforms.results.studies.study import Study, StudyConfig, open_study
from emobeam.emo_transforms.results.studies.summaries import By
from emobeam.emo_transforms.results.studies.summaries import summarise as summarise_


def summarise(study: Study, by: By, segments: Spans | None = None) -> list[dict[str, Any]]:
    return [row for rows in summarise_(study, by, segments) for row in rows]


def events_of(output: str, **config: object) -> list[tuple[str, int, str, float, float]]:
    study = open_study(output, StudyConfig(**config))  # type: ignore[arg-type]
    return [
        (each.trace.video, each.trace.face, event.unit, round(event.onset, 6), round(event.offset, 6))
        for faces in study.traces()
        for each in faces
        for _, event in each.events
    ]


def row_of(rows: list[dict[str, object]], unit: str, **where: object) -> dict[str, object]:
    found = [row for row in rows if row["unit"] == unit and all(row.get(k) == v for k, v in where.items())]
    assert len(found) == 1
    return found[0]
