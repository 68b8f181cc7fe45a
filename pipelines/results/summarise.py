"""The job ``summarise``: predictions tables -> figures per video, person or segment."""

from __future__ import annotations

from itertools import groupby

import pyarrow as pa

from emobeam.emo_transforms.results.studies.spans import read_spans, settle
from emobeam.emo_transforms.results.studies.study import StudyConfig
from emobeam.emo_transforms.results.studies.summaries import By, summarise
from emobeam.emo_transforms.results.studies.tables import SUMMARIES, check_destination, table_of
from emobeam.pipelines.console import Ui
from emobeam.pipelines.results.events import Collected, StudyResult, opened, tell, watched
from emobeam.schemas.records import UsageError


def run_summarise(
    output: str,
    config: StudyConfig | None = None,
    *,
    by: By = "video",
    segments: str = "",
    segments_tier: str = "segments",
    destination: str = "",
    keep: bool = True,
    ui: Ui | None = None,
) -> StudyResult:
    """Summarises every output of a task.

    Args:
        output: folder of ``emobeam annotate`` or ``predict``.
        by: the unit of analysis.
        segments: of ``by="segment"``: CSV ``video,start,end,label`` or ELAN files, see
            :func:`emobeam.emo_transforms.results.studies.spans.read_spans`.
        segments_tier: of ELAN files, the tier of segments.
        destination: ``.csv`` or ``.parquet`` file to write; ``""``: none.
        keep: hold all rows in the result's table, too; otherwise it is empty, and memory doesn't grow with the number
            of videos (by ``person``: only little).
        ui: told about progress.

    Raises:
        EmobeamError: no predictions there, or a file that can't be used.
        UsageError: settings that make no sense.
    """
    if destination:
        check_destination(destination)
    if (by == "segment") != bool(segments):
        raise UsageError("--by segment and --segments FILE belong together")
    study = opened(output, config, ui)
    spans = None
    if segments:
        videos = {*study.source.every, *study.source.damaged}
        spans = settle(read_spans(segments, "--segments", tier=segments_tier), videos, study.offsets)
        if spans.missing:
            study.warn(
                f"--segments: {len(spans.missing)} names mean no video of the output: {', '.join(spans.missing[:5])}"
            )
        if spans.by_video.keys().isdisjoint(study.source.parts):
            raise UsageError(f"--segments {segments}: names no video of the output")
    units = 0
    with watched(study, ui, "summarise"), Collected(destination, SUMMARIES, keep) as collected:
        people: list[tuple[str, pa.Table]] = []
        for rows in summarise(study, by, spans):
            units += len({tuple(row.get(key) for key in _UNIT) for row in rows})
            if by == "person":  # who come as they are complete, and stand in the order of their names
                by_name = groupby(rows, key=lambda row: str(row["person"]))
                people += [(name, table_of(list(own), SUMMARIES)) for name, own in by_name]
            else:
                collected.add(table_of(rows, SUMMARIES))
        for _, table in sorted(people, key=lambda person: person[0]):
            collected.add(table)
        if not collected.rows:
            study.warn("nothing to summarise: no face in the videos that were asked for")
        settings = {**study.settings(), "by": by, "segments": segments}
        done = collected.finish(study, {"settings": settings, "units": units, "rows": collected.rows})
    tell(study, ui)
    return done


_UNIT = ("video", "subject", "face", "person", "segment", "start")
