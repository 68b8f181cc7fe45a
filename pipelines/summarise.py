"""The job ``summarise``: predictions tables -> figures per video, person or segment."""

from __future__ import annotations

from emo_transforms.studies.spans import read_spans, settle
from emo_transforms.studies.study import StudyConfig, open_study
from emo_transforms.studies.summaries import By, summarise
from emo_transforms.studies.tables import SUMMARIES, check_destination, table_of
from pipelines.console import Ui
from pipelines.events import StudyResult, finish, watched
from schemas.records import UsageError


def run_summarise(
    output: str,
    config: StudyConfig | None = None,
    *,
    by: By = "video",
    segments: str = "",
    segments_tier: str = "segments",
    destination: str = "",
    ui: Ui | None = None,
) -> StudyResult:
    """Summarises every output of a task.

    Args:
        output: folder of ``emobeam annotate`` or ``predict``.
        by: the unit of analysis.
        segments: of ``by="segment"``: CSV ``video,start,end,label`` or ELAN files, see
            :func:`emo_transforms.studies.spans.read_spans`.
        segments_tier: of ELAN files, the tier of segments.
        destination: ``.csv`` or ``.parquet`` file to write; ``""``: none.
        ui: told about progress.

    Raises:
        EmobeamError: no predictions there, or a file that can't be used.
        UsageError: settings that make no sense.
    """
    if destination:
        check_destination(destination)
    if (by == "segment") != bool(segments):
        raise UsageError("--by segment and --segments FILE belong together")
    study = open_study(output, config or StudyConfig())
    spans = None
    if segments:
        spans = settle(read_spans(segments, "--segments", tier=segments_tier), study.source.parts)
        if spans.missing:
            study.warn(
                f"--segments: {len(spans.missing)} names mean no video of the output: {', '.join(spans.missing[:5])}"
            )
        if not spans.by_video:
            raise UsageError(f"--segments {segments}: names no video of the output")
    with watched(study, ui, "summarise"):
        rows = summarise(study, by, spans)
    table = table_of(rows, SUMMARIES)
    if not rows:
        study.warn("nothing to summarise: no face in the videos that were asked for")
    keys = ("video", "subject", "face", "person", "segment", "start")
    units = {tuple(row.get(key) for key in keys) for row in rows}
    summary = {"settings": {**study.settings(), "by": by, "segments": segments}, "units": len(units), "rows": len(rows)}
    return finish(study, table, summary, destination)
