"""The job ``predict``: feature cache -> predictions tables, faces, videos, submissions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import heads_thresholds
from emobeam.emo_transforms.abaw.scoring.fitted_videos import fitted_by
from emobeam.emo_transforms.abaw.submissions.templates import template_names, template_of
from emobeam.emo_transforms.abaw.submissions.writing import SubmissionReport, drop_submission
from emobeam.emo_transforms.cache.dataset import Dataset, read_dataset
from emobeam.emo_transforms.cache.failures import read_failures
from emobeam.emo_transforms.cache.index import as_shown, make_index
from emobeam.emo_transforms.prediction.predict_job import HeadSpec, VideoJob
from emobeam.emo_transforms.prediction.subjects import Subjects, gather_subjects, read_overrides
from emobeam.emo_transforms.prediction.video_parts import PredictTools
from emobeam.emo_transforms.storage.run_mailbox import Exchange, sweep_output
from emobeam.pipelines.challenge.score import run_score
from emobeam.pipelines.challenge.submit import RefusedSubmission, run_submit, submission_folder
from emobeam.pipelines.console import Ui
from emobeam.pipelines.run_origin import new_run_id
from emobeam.pipelines.stages.graphs.stage_progress import PredictProgress
from emobeam.pipelines.stages.graphs.stage_run import Place, StageRun, run_here, run_there
from emobeam.pipelines.stages.input_notes import unknown_geometry, video_notes
from emobeam.pipelines.stages.output_folder import (
    check_earlier,
    keep_people,
    list_earlier,
    people_notes,
    settle,
    tell_what_stays,
    to_do,
    with_people,
)
from emobeam.pipelines.stages.predict_request import PredictRequest, check_output, head_places, head_specs
from emobeam.pipelines.stages.run_record import (
    PredictResult,
    heads_data,
    untrained_warning,
    weights_data,
    write_record,
)
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import RunStopped
from emobeam.runners.engines.checks import check_engine
from emobeam.schemas.records import UsageError, VideoFeatures
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import task_named
from emobeam.schemas.wording import counted, did_you_mean

if TYPE_CHECKING:
    from emobeam.emo_transforms.extraction.beam_records import Ends


def run_predict(request: PredictRequest, ui: Ui, pool: LocalPool | None = None) -> PredictResult:
    """Brings the predictions in ``output`` up to date with the cache and the heads.

    Raises:
        EmobeamError: the cache or a head can't be used, or the run can't go on.
        UsageError: the request makes no sense, or other heads made what the output holds of other videos.
    """
    began = time.monotonic()
    dataset = read_dataset(request.features)
    check_output(request)
    _check_places(request, ui)
    specs, tools = head_specs(request, dataset, ui)
    untrained = tuple(
        task for task, heads in tools.heads.items() if any(h.config.weights == "untrained" for h in heads)
    )
    for task in untrained:
        ui.warn(untrained_warning(task))
    marks = {task: tools.marks(task) for task in tools.heads}
    segments, every = make_index(request.features)
    table = _wanted(request, every)
    about = set(table["video"].to_pylist())
    of_videos = dataset.config.source == "video"
    for text in (*video_notes(table), *(unknown_geometry(table) if of_videos else [])):
        ui.warn(text)
    earlier = list_earlier(request)
    check_earlier(request, tools, about, earlier)
    items = _items(request, table, segments, tools)
    kept = keep_people(request, earlier, tools, items, ui)
    items = with_people(items, kept)
    request = replace(request, config=replace(request.config, faces=kept.faces))
    tell_what_stays(earlier, about, ui)
    _prepare(request)
    todo = to_do(request, tools, items, earlier)
    ran = _predict(request, specs, dataset, todo, ui, pool)
    if ran.error is not None:
        with suppress(OSError):  # children that were ended in the middle of a table leave its beginning
            sweep_output(request.output)
        raise ran.error
    failed = {record.video: record.error for record in ran.records.get("predicted", ()) if record.error}
    done = {item.video for item in items if item.video not in failed}
    settled = settle(request, tools, table, done, every, earlier)
    if gone := {video for task in tools.heads for video in done - settled.listing.parts.get(task, {}).keys()}:
        what = f"tables of {counted(len(gone), 'video')} ({', '.join(sorted(gone)[:3])})"
        raise RunStopped(f"{request.output}: {what} are no longer there; was it removed while the run went on?")
    submissions, refused = _submissions(request, tools, ui)
    figures = _scores(request, tools, ui)
    rows = {task: settled.rows[task] for task in tools.heads}
    notes = tuple(people_notes(request, tools, settled.listing, done))
    seconds = time.monotonic() - began
    weights = {"backbone": weights_data(dataset.config.backbone), "heads": heads_data(tools)}
    result = PredictResult(
        table, rows, untrained, submissions, figures, failed, seconds, notes, weights, marks, refused
    )
    try:
        write_record(request, dataset, specs, tools, result, settled, ui.warned, ran.metrics)
    except storage.OutputError:
        if todo:
            raise  # else nothing was left to do, of which nobody needs a record where none can be written
    sweep_output(request.output)
    return result


def _predict(
    request: PredictRequest,
    specs: tuple[HeadSpec, ...],
    dataset: Dataset,
    todo: Sequence[VideoFeatures],
    ui: Ui,
    pool: LocalPool | None,
) -> StageRun:
    threads = request.local.threads if request.engine is None else 1
    job = VideoJob(specs, dataset, request.features, request.output, request.config, threads)
    place = Place(request.local, request.engine, request.beam_args, pool, request.output, new_run_id())

    def graph(pipeline: Any, ends: Ends, exchange: Exchange | None) -> None:
        from emobeam.pipelines.stages.graphs.predict_graph import predict_graph

        predict_graph(pipeline, ends, job)

    def progress() -> PredictProgress:
        return PredictProgress(ui, sum(item.sampled for item in todo), len(todo))

    if not todo:
        progress().finish()
        return StageRun()
    if request.engine is not None:
        return run_there(graph, lambda: todo, place, request.engine, progress, ui)
    ran = StageRun()
    run_here(graph, [job], todo, place, ran, progress())
    return ran


def _check_places(request: PredictRequest, ui: Ui) -> None:
    if request.engine is not None and not request.caller.checks_places:
        places = [request.features, *head_places(request.heads)]
        check_engine(request.engine, inputs=places, outputs=[request.output], warn=ui.warn)


def _prepare(request: PredictRequest) -> None:
    if request.output.startswith("memory://"):
        raise UsageError("--output memory:// lives in one process only, and workers are processes of their own")
    try:
        storage.make_folder(storage.join(request.output, "predictions"))
    except storage.OutputError as error:
        raise UsageError(f"--output {error}") from error
    sweep_output(request.output)


def _wanted(request: PredictRequest, table: pa.Table) -> pa.Table:
    """The rows of ``videos.parquet`` that this run is about."""
    ids = table["video"].to_pylist()
    if request.videos is not None:
        wanted = {video.id for video in request.videos}
    elif request.only:
        names = [name.strip() for name in request.only.split(",") if name.strip()]
        if not names:
            raise UsageError("--only names no video")
        matches = match_names(names, ids)
        if matches.missing:
            meant = did_you_mean(matches.missing[0], ids)
            raise UsageError(f"--only: the cache has no video called {', '.join(matches.missing)}{meant}")
        wanted = {video for video, _ in matches.found.values()}
    else:
        wanted = set(ids)
    return table.filter(pc.is_in(table["video"], pa.array(sorted(wanted), pa.string())))


def _items(
    request: PredictRequest, table: pa.Table, segments: Sequence[dict[str, Any]], tools: PredictTools
) -> list[VideoFeatures]:
    """One element per video that has shards, in the order of ids."""
    current = {row["video"]: (row["size"], row["digest"]) for row in table.to_pylist()}
    shards: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in segments:
        if current.get(row["video"]) == (row["size"], row["digest"]):
            shards[row["video"]].append(row)
    subjects = _subjects(request, sorted(shards), tools)
    without_shard: dict[str, dict[int, float | None]] = defaultdict(dict)
    for failure in read_failures(request.features).values():
        if (failure.size, failure.digest) == current.get(failure.video):
            without_shard[failure.video] |= dict(zip_longest(failure.native_frames, failure.native_times))
    items = []
    for video in sorted(shards):
        rows = sorted(as_shown(shards[video]), key=lambda row: row["segment"])
        sampled = sum(row["sampled"] for row in rows)
        who = subjects[video]
        gone = without_shard[video]
        times = [gone[frame] for frame in sorted(gone)]
        items.append(
            VideoFeatures(
                video,
                tuple(row["shard"] for row in rows),
                who.names,
                who.persons,
                missing_frames=tuple(sorted(gone)),
                missing_times=tuple(time for time in times if time is not None),
                sampled=sampled,
            )
        )
    return items


def _subjects(request: PredictRequest, videos: Sequence[str], tools: PredictTools) -> dict[str, Subjects]:
    names: list[str] = []
    if request.template:
        for task in map(task_named, tools.heads):
            names += template_names(template_of(request.template, task, request.edition), task, request.edition)
    overrides = read_overrides(request.subjects) if request.subjects else {}
    return gather_subjects(videos, inputs=request.videos or (), template_names=names, overrides=overrides)


def _submissions(
    request: PredictRequest, tools: PredictTools, ui: Ui
) -> tuple[dict[str, SubmissionReport], dict[str, str]]:
    """Reports of what was written by task, and why nothing was."""
    submissions: dict[str, SubmissionReport] = {}
    refused: dict[str, str] = {}
    if not request.edition:
        return submissions, refused
    predicted = _predicted(request, tools, ui)
    for task in map(task_named, set(tools.heads).difference(predicted)):
        drop_submission(task, request.edition, submission_folder(request.output, task))
    for name in predicted:
        task = task_named(name)
        try:
            submissions[name] = run_submit(
                request.output,
                task,
                request.edition,
                ui=ui,
                template=template_of(request.template, task, request.edition),
                fitted=fitted_by(head.config for head in tools.heads[name]),
                thresholds=heads_thresholds(head.config.thresholds for head in tools.heads[name]),
            )
        except RefusedSubmission as error:  # the tables are there, and most of the work is done
            refused[name] = str(error)
            ui.warn(f"no submission of task {name}: {error}")
    return submissions, refused


def _scores(request: PredictRequest, tools: PredictTools, ui: Ui) -> dict[str, dict[str, Any]]:
    """The figures of ``metrics.json`` by task, where labels were given."""
    if not request.truth:
        return {}
    scores = {}
    for name in _predicted(request, tools, ui):
        scores[name] = run_score(
            task_named(name),
            request.truth,
            [request.output],
            ui=ui,
            edition=request.edition,
            partition=request.partition,
            fitted=fitted_by(head.config for head in tools.heads[name]),
            thresholds=heads_thresholds(head.config.thresholds for head in tools.heads[name]),
        )
    return scores


def _predicted(request: PredictRequest, tools: PredictTools, ui: Ui) -> list[str]:
    """Tasks that have predictions."""
    there = []
    for name in tools.heads:
        if storage.names(storage.join(request.output, "predictions", name), ".parquet"):
            there.append(name)
        else:
            ui.warn(f"task {name}: no video gave predictions, so there is neither submission nor score")
    return there
