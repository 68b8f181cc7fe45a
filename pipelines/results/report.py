"""The job ``report``: output folder -> one HTML page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.cache.stored_crops import all_caches
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.prediction.prediction_tables import Part
from emobeam.emo_transforms.results.report.content import Sprite, pack_video
from emobeam.emo_transforms.results.report.gather import Gathered, VideoInfo, gather
from emobeam.emo_transforms.results.report.page import PageData, VideoOnPage, render_page
from emobeam.emo_transforms.results.report.series import (
    SAMPLED,
    PartSeries,
    count_values,
    distributions_of,
    read_series,
)
from emobeam.emo_transforms.results.report.thumbnails import Pictures, pictures_per_face
from emobeam.emo_transforms.results.report.truth import TaskTruth, read_truth, truth_of_metrics
from emobeam.pipelines.console import Ui
from emobeam.runners.own_version import own_version
from emobeam.schemas.records import EmobeamError, InputError, UsageError, Video

PICTURES_BUDGET = 8_000_000
"""Bytes of a page that face pictures may take."""

DECODING = 120.0
"""Seconds that decoding videos for face pictures may take in all."""

LARGE = 100_000_000
"""Bytes from which a page is slow to open."""


@dataclass(frozen=True)
class ReportRequest:
    """What the user asked for.

    Attributes:
        output: folder that ``annotate`` or ``predict`` wrote.
        destination: the page; default ``report.html`` in that folder.
        truth, partition: labels, as for ``emobeam score``.
        only: names of videos, separated by commas.
        videos: where the videos lie now, if not where they lay.
        thumbnails: show pictures of faces.
        rate: rows shown a second and face, at most; 0 shows all that were sampled.
    """

    output: str
    destination: str = ""
    truth: str = ""
    partition: str = ""
    only: str = ""
    videos: str = ""
    thumbnails: bool = True
    rate: float = 10.0


@dataclass(frozen=True)
class ReportResult:
    """What was written: where, how many bytes, and how many videos, faces and pictures are in it.

    Attributes:
        failed: videos with tables that can't be used, and why; the page shows what others there are.
    """

    path: str
    bytes: int
    videos: int
    faces: int
    pictures: int
    seconds: float
    failed: Mapping[str, str] = field(default_factory=dict)


def run_report(request: ReportRequest, ui: Ui) -> ReportResult:
    """Makes the page and writes it as a whole.

    Raises:
        EmobeamError: the folder is no output, no table in it can be used, labels don't fit.
        UsageError: ``only`` or ``partition`` make no sense.
    """
    began = time.monotonic()
    if request.partition and not request.truth:
        raise UsageError("--partition belongs to --truth; name the labels")
    found = gather(request.output, only=request.only)
    if request.truth:
        found = replace(found, metrics={})  # of other labels, perhaps
    truths = _truths(request, found, ui)
    distributions = {task.name: distributions_of(task) for task in found.tasks}
    page: list[VideoOnPage] = []
    failed = dict(found.failed)
    clips: dict[str, list[tuple[str, str, Sequence[float | None]]]] = {}
    sources = [0, 0, 0, 0]
    thinned = pictures_made = 0
    ui.start("report", len(found.videos), len(found.videos), "videos", measure="videos")
    try:
        with ExitStack() as stack:
            pictures = _pictures(request, found, stack, ui)
            for done, info in enumerate(found.videos):
                parts, damaged = _parts(found, info, request.rate)
                if damaged:
                    failed[info.id] = "; ".join([*([failed[info.id]] if info.id in failed else []), *damaged])
                for part in parts:
                    count_values([part], distributions[part.task.name])
                    for clip in part.clips:
                        shown = (part.video, clip.subject, [_known(float(value)) for value in clip.values])
                        clips.setdefault(part.task.name, []).append(shown)
                first = next((part for part in parts if part.faces), None)
                for face in first.faces if first else ():
                    thinned += face.thinned
                    if face.face == 0:
                        sources = [total + rows for total, rows in zip(sources, face.rows, strict=True)]
                sprites, note = _sprites(pictures, found, info, first, len(found.videos) - done)
                pictures_made += sum(len(sprite.at) for sprite in sprites)
                notes = " ".join(filter(None, [note, failed.get(info.id, "")]))
                page.append(_on_page(info, parts, truths, pack_video(parts, truths, sprites, notes) if parts else ""))
                ui.event("frames", {"frames": 1})
                ui.event("failed" if info.id in failed else "done", {"key": info.id})
    finally:
        ui.finish()
    made = f"Made by emobeam {own_version()} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    html = render_page(PageData(found, page, distributions, sources, truths, made, clips, thinned, failed)).encode()
    destination = request.destination or storage.join(found.output, "report.html")
    storage.write_bytes(destination, html)
    if len(html) > LARGE:
        ui.warn(f"{destination}: {len(html) / 1e6:.0f} MB open slowly; --only NAMES or --rate 2 make a smaller page")
    if failed:
        ui.warn(f"{len(failed)} videos have tables that can't be used: {'; '.join(list(failed.values())[:5])}")
    faces = sum(video.faces for video in page)
    return ReportResult(destination, len(html), len(page), faces, pictures_made, time.monotonic() - began, failed)


def _truths(request: ReportRequest, found: Gathered, ui: Ui) -> dict[str, TaskTruth]:
    if not request.truth:
        videos = [video.id for video in found.videos]
        return {
            task.name: truth_of_metrics(found.metrics[task.name], videos)
            for task in found.tasks
            if isinstance(found.metrics.get(task.name), dict)
        }
    truths, problems = {}, []
    for task in found.tasks:
        try:
            tables = found.listing.parts[task.name].values()
            truths[task.name] = read_truth(tables, task, request.truth, request.partition, warn=ui.warn)
        except EmobeamError as error:
            problems.append(f"task {task.name}: {error}")
    if not truths:
        raise EmobeamError(f"--truth {request.truth}: no labels for what was predicted; {'; '.join(problems)}")
    for problem in problems:
        ui.warn(f"no truth shown for {problem}")
    return truths


def _parts(found: Gathered, info: VideoInfo, rate: float) -> tuple[list[PartSeries], list[str]]:
    """The tables of one video, and what is wrong with those that can't be read."""
    tables: list[Part] = [own[info.id] for own in found.parts.values() if info.id in own]
    read, damaged = [], []
    for table in tables:
        try:
            read.append(read_series(table, rate=rate))
        except EmobeamError as error:
            damaged.append(str(error))
    return read, damaged


def _known(value: float) -> float | None:
    return value if value == value else None


def _on_page(info: VideoInfo, parts: Sequence[PartSeries], truths: Mapping[str, TaskTruth], packed: str) -> VideoOnPage:
    faces = {(face.subject, face.face) for part in parts for face in part.faces if (face.sources == SAMPLED).any()}
    scores = {}
    for name, truth in truths.items():
        figures = [
            figure.score
            for (video, _), figure in truth.figures.items()
            if video == info.id and figure.score is not None
        ]
        if figures:
            scores[name] = sum(figures) / len(figures)
    return VideoOnPage(info, packed, len(faces), scores)


def _pictures(request: ReportRequest, found: Gathered, stack: ExitStack, ui: Ui) -> Pictures | None:
    if not request.thumbnails or not found.features:
        return None
    try:
        features, dataset, inputs = found.features, read_dataset(found.features), {}
        if "crops" not in dataset.config.store:
            inputs = _inputs(request, found, dataset.config.source)
            caches = {video.uri for video in inputs.values() if video.kind == "cache"}
            if len(caches) == 1:  # the crops lie in the cache that this one was made from
                features = caches.pop()
                dataset = read_dataset(features)
        segments, _ = make_index(features)
    except EmobeamError as error:
        if request.videos:
            raise
        ui.warn(f"no face pictures: {error}")
        return None
    prints = {video.id: (video.size, video.digest) for video in found.videos}
    shards: dict[str, list[str]] = {}
    for row in segments:
        if prints.get(row["video"]) in ((row["size"], row["digest"]), (None, None)):
            shards.setdefault(row["video"], []).append(row["shard"])
    count = sum(len({row["face"] for row in found.faces.get(video.id, ())}) or 1 for video in found.videos)
    per_face = pictures_per_face(count, PICTURES_BUDGET)
    return stack.enter_context(Pictures(features, dataset.config, shards, inputs, per_face, DECODING))


def _inputs(request: ReportRequest, found: Gathered, source: str) -> dict[str, Video]:
    """Where the videos lie: where the user says, else where the cache's runs found them."""
    places = [[request.videos]] if request.videos else [list(run.get("inputs") or []) for run in found.extracts]
    known: dict[str, Video] = {}
    for inputs in places:
        try:
            caches = source != "video" and all_caches(inputs)
            known |= {video.id: video for video in find_videos(inputs, "video" if caches else source)} if inputs else {}
        except (EmobeamError, InputError):
            if request.videos:
                raise
            # Moved or gone since; the page tells so where the pictures would be.
    return known


def _sprites(
    pictures: Pictures | None, found: Gathered, info: VideoInfo, part: PartSeries | None, left: int
) -> tuple[list[Sprite], str]:
    """The pictures of one video, ``left`` videos being still to do."""
    if pictures is None or part is None:
        return [], ""
    faces = [face for face in part.faces if (face.sources == SAMPLED).any()]
    print_ = (info.size, info.digest)
    return pictures.of_video(info.id, print_, faces, found.faces.get(info.id, ()), pictures.share(left))
