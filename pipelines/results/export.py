"""The job ``export``: predictions tables -> folders that other programs read."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.results.exports import elan, hf_datasets, openface, tables
from emobeam.emo_transforms.results.exports.folder import check_destination, whole_folder
from emobeam.emo_transforms.results.exports.gather import (
    OutputFolder,
    Rate,
    at_rate,
    clip_rows,
    clip_schema,
    frame_rows,
    frame_schema,
    open_output,
    thresholds_of,
    video_traces,
)
from emobeam.emo_transforms.results.exports.names import FileNames
from emobeam.emo_transforms.results.media_clock import media_offsets
from emobeam.emo_transforms.results.studies.persons import read_persons
from emobeam.pipelines.console import Ui
from emobeam.schemas.config import to_json
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.wording import without_secrets

Format = Literal["csv", "openface", "elan", "datasets"]

USUAL_RATES: dict[Format, Rate] = {"csv": "sampled", "openface": "native", "elan": "native", "datasets": "sampled"}
"""OpenFace has a row for every frame; spans are as exact as the frames they are cut at."""

_CLIPS = "clips.csv"


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked for.

    Attributes:
        output: folder of ``emobeam annotate`` or ``predict``.
        destination: folder to write.
        format: ``csv``, ``openface``, ``elan`` or ``datasets``.
        tasks: default: all that were predicted.
        rate: ``sampled``, ``native`` or ``""`` for the format's usual one.
        only: restricts the videos (names separated by commas).
        media: of ``elan``: where the clips lie. Default: the inputs of the run, if they are still there.
        min_duration, merge_gap: of ``elan``, seconds: shorter spans are left out, closer ones merged first.
    """

    output: str
    destination: str
    format: Format
    tasks: Sequence[str] = ()
    rate: str = ""
    only: str = ""
    media: str = ""
    min_duration: float = 0.2
    merge_gap: float = 0.2


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        videos, files, rows: how many; of ``elan`` rows are spans.
        skipped: videos that could not be written in this form, with the reason.
        warnings: what the run had to warn of.
    """

    format: str
    destination: str
    videos: int
    files: int
    rows: int
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return to_json(self)


def run_export(request: ExportRequest, ui: Ui) -> ExportResult:
    """Writes the export, as a whole or not at all.

    Raises:
        EmobeamError: no predictions, or none that fit the format.
        UsageError: the request makes no sense, or the destination holds something else.
    """
    if request.format not in get_args(Format):
        raise UsageError(f"--format {request.format}: choose one of {', '.join(get_args(Format))}")
    if request.rate not in ("", *get_args(Rate)):
        raise UsageError(f"--rate {request.rate}: choose sampled or native")
    if request.format == "elan" and request.rate == "sampled":
        raise UsageError("--rate sampled: spans are always cut at native frames; leave --rate out")
    check_destination(request.destination)
    names = [name.strip() for name in request.only.split(",") if name.strip()]
    if request.only and not names:
        raise UsageError("--only names no video")
    output = opened_output(request, names, ui)
    if request.format in ("openface", "elan") and not output.frame_tasks:
        raise EmobeamError(f"{request.output}: only clip-level tasks were predicted; take --format csv")
    job = _Job(request, output, request.rate or USUAL_RATES[request.format], ui, dict(output.failed))
    count = len(output.videos) + len(output.failed)
    facts: dict[str, Any] = {"format": request.format, "of": request.output, "rate": job.rate}
    facts["run"] = output.run.get("run", "")
    writers: dict[str, Callable[[_Job, Path], int]] = {
        "csv": _write_csv,
        "openface": _write_openface,
        "elan": _write_elan,
        "datasets": _write_datasets,
    }
    # Tables of numbers alone can't say what made them; the file beside them does.
    facts |= {"notes": list(output.warnings), **{key: output.run.get(key) or {} for key in ("backbone", "heads")}}
    with whole_folder(request.destination, facts | {"tasks": [task.name for task in output.tasks]}) as folder:
        ui.start("export", len(output.videos), len(output.videos), "videos", "videos")
        try:
            rows = writers[request.format](job, folder)
        finally:
            ui.finish()
        if len(job.skipped) == count:
            raise EmobeamError(f"{request.output}: no video can be written as {request.format}: {_first(job.skipped)}")
        files = sum(1 for path in folder.rglob("*") if path.is_file())
    for video, reason in job.skipped.items():
        ui.warn(f"{video}: left out, {reason}")
    for text in output.warnings:
        if "untrained" not in text:
            ui.note(text, request.output)
    written = count - len(job.skipped)
    return ExportResult(request.format, request.destination, written, files, rows, job.skipped, output.warnings)


def opened_output(request: ExportRequest, only: Sequence[str], ui: Ui) -> OutputFolder:
    """The tables to export; a Ui is told while there are many to find out about."""
    begun = False

    def progress(done: int, total: int) -> None:
        nonlocal begun
        if total < _MANY:
            return
        if not begun:
            begun = True
            ui.start("tables", total, total, "tables", "tables")
        ui.event("frames", {"key": str(done), "frames": 1})
        ui.event("done", {"key": str(done)})

    try:
        return open_output(request.output, tasks=request.tasks, only=only, tolerant=True, progress=progress)
    finally:
        if begun:
            ui.finish()


_MANY = 50
"""Tables that can be found out about without a word."""


@dataclass(frozen=True)
class _Job:
    request: ExportRequest
    output: OutputFolder
    rate: Any
    ui: Ui
    skipped: dict[str, str] = field(default_factory=dict)

    def each(self, write: Callable[[str], int]) -> int:
        """Calls ``write`` for every video; one that fails is left out. Returns the sum of the rows."""
        rows = 0
        for video in self.output.videos:
            if video in self.skipped:  # its clip-level table is damaged
                continue
            try:
                rows += write(video)
            except storage.OutputError:
                raise
            except EmobeamError as error:
                self.skipped[video] = str(error)
            self.ui.event("frames", {"key": video, "frames": 1})
            self.ui.event("done", {"key": video})
        return rows


def _first(skipped: dict[str, str]) -> str:
    return "; ".join(f"{video}: {reason}" for video, reason in list(skipped.items())[:1])


def _write_csv(job: _Job, folder: Path) -> int:
    names = FileNames(".csv")
    names.of(_CLIPS.removesuffix(".csv"), "\0clips")  # its name is taken
    rows = 0
    if job.output.clip_tasks:
        clips = clip_rows(job.output, job.skipped)
        tables.write_csv(clips, folder / _CLIPS)
        rows += len(clips)
    if job.output.frame_tasks:

        def write(video: str) -> int:
            count = 0
            # A subject nobody saw has a table, too: one without rows.
            for subject, own in tables.by_subject(frame_rows(job.output, video)):
                kept = at_rate(own, job.output.frame_tasks, job.rate)
                tables.write_csv(kept, folder / names.of(video, subject))
                count += len(kept)
            return count

        rows += job.each(write)
    return rows


def _write_openface(job: _Job, folder: Path) -> int:
    names = FileNames(".csv")
    tasks = job.output.frame_tasks
    openface.units_task(tasks)

    def write(video: str) -> int:
        count = 0
        for subject, own in tables.by_subject(frame_rows(job.output, video)):
            kept = at_rate(own, tasks, job.rate)
            table = openface.openface_rows(kept, tasks, job.output.faces.get(video, ()), job.output.run)
            openface.write_openface(table, folder / names.of(video, subject))
            count += len(table)
        return count

    return job.each(write)


def _write_elan(job: _Job, folder: Path) -> int:
    names = FileNames(".eaf")
    tasks = [task for task in job.output.frame_tasks if any(group.kind != "value" for group in task.groups)]
    if not tasks:
        raise EmobeamError(f"{job.request.output}: only traces were predicted, which have no spans; take --format csv")
    clips = _clips(job.request, job.output)
    persons = read_persons(job.output.uri, job.output.videos)
    offsets = media_offsets(job.output.uri)
    properties = {"emobeam run": str(job.output.run.get("run", ""))}
    if job.output.warnings:
        properties["emobeam warnings"] = "; ".join(job.output.warnings)

    def write(video: str) -> int:
        tiers = elan.unit_tiers(
            video_traces(job.output, video),
            job.output.frame_tasks,
            job.output.run,
            persons,
            min_duration=job.request.min_duration,
            merge_gap=job.request.merge_gap,
            first_frame=offsets.get(video, 0.0),
        )
        name = names.of(video)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        document = elan.eaf_document(
            tiers,
            date=_date(job.output),
            media=_media(clips.get(video, ""), job.request.destination, name),
            vocabularies=elan.vocabularies_of(tasks),
            properties=properties,
        )
        path.write_bytes(document)
        return sum(len(tier.spans) for tier in tiers)

    return job.each(write)


def _write_datasets(job: _Job, folder: Path) -> int:
    output = job.output
    configurations = []
    clips = clip_rows(output, job.skipped) if output.clip_tasks else None
    if output.frame_tasks:
        schema = frame_schema(output.frame_tasks)
        configurations.append(
            hf_datasets.write_configuration(folder, "frames", schema, _arrow_tables(job, schema), split="train")
        )
    if clips is not None:
        schema = clip_schema(output.clip_tasks)
        table = pa.Table.from_pandas(clips, schema, preserve_index=False)
        configurations.append(hf_datasets.write_configuration(folder, "clips", schema, [table], split="train"))
    videos = len(output.videos) + len(output.failed) - len(job.skipped)
    facts = hf_datasets.CardFacts(
        title=f"Facial affect in {videos} videos",
        tasks=output.tasks,
        videos=videos,
        rate=job.rate,
        split="train",
        run=output.run,
        extraction=_extraction(output),
        thresholds={task.name: thresholds_of(output.run, task) for task in output.tasks},
        warnings=output.warnings,
        marks=output.marks,
    )
    (folder / "README.md").write_text(hf_datasets.data_card(configurations, facts), encoding="utf-8")
    return sum(each.rows for each in configurations)


def _arrow_tables(job: _Job, schema: pa.Schema) -> Iterator[pa.Table]:
    for video in job.output.videos:
        if video in job.skipped:
            continue
        try:
            table = pa.Table.from_pandas(frame_rows(job.output, video, job.rate), schema, preserve_index=False)
        except EmobeamError as error:
            job.skipped[video] = str(error)
        else:
            yield table.replace_schema_metadata(None)
        job.ui.event("frames", {"key": video, "frames": 1})
        job.ui.event("done", {"key": video})


def features_of(output: OutputFolder) -> str:
    """The cache that the predictions were made from, ``""`` where it can't be found any more."""
    for place in (str(output.run.get("features", "")), storage.join(output.uri, "features")):
        if place and storage.exists(storage.join(place, "dataset.json")):
            return place
    return ""


def _extraction(output: OutputFolder) -> dict[str, Any]:
    features = features_of(output)
    return to_json(read_dataset(features).config) if features else {}


def _clips(request: ExportRequest, output: OutputFolder) -> dict[str, str]:
    """Where the clips lie, by id, as far as that is known."""
    if request.media:
        return {video.id: video.uri for video in find_videos([request.media])}
    features = features_of(output)
    found: dict[str, str] = {}
    if features:
        runs = storage.join(features, "runs")
        for name in sorted(storage.names(runs, ".json")):
            record = storage.read_json(storage.join(runs, f"{name}.json"))
            # Inputs may have moved since; a document without a clip is still a document.
            with suppress(EmobeamError, OSError):
                found |= {
                    video.id: video.uri for video in find_videos(record.get("inputs") or []) if video.kind == "video"
                }
    return found


def _media(uri: str, destination: str, name: str) -> elan.Media | None:
    if not uri:
        return None
    mime = mimetypes.guess_type(uri)[0] or "video/*"
    if not storage.is_local(uri):
        return elan.Media(without_secrets(uri), mime=mime)
    clip = storage.local_path(uri).absolute()
    if not storage.is_local(destination):
        return elan.Media(clip.as_uri(), mime=mime)
    document = storage.local_path(destination).absolute() / name
    return elan.Media(clip.as_uri(), Path(os.path.relpath(clip, document.parent)).as_posix(), mime)


def _date(output: OutputFolder) -> str:
    """When the predictions were made: the same tables give the same document."""
    stamp = str(output.run.get("run", "")).partition("-")[0]
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%S%z").isoformat()
    except ValueError:
        return "1970-01-01T00:00:00+00:00"
