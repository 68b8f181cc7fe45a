"""The job ``overlay``: a clip and an output folder -> the clip again, with what was found in it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import checked_thresholds, heads_thresholds
from emobeam.emo_transforms.cache.dataset import Dataset, read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.prediction.prediction_tables import (
    part_name,
    part_uri,
    predicted_tasks,
    read_part_footer,
    read_run,
)
from emobeam.emo_transforms.results.overlay.content import FaceKey, TaskValues, read_boxes, read_values, video_item
from emobeam.emo_transforms.results.overlay.drawing import Canvas
from emobeam.emo_transforms.results.overlay.scene import Block, Story, make_block, make_faces
from emobeam.emo_transforms.results.overlay.video_file import Encoding, Remade, chosen_frames, remake
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.emo_transforms.video.frames import probe_video
from emobeam.pipelines.console import Ui
from emobeam.pipelines.stages.run_record import weights_line
from emobeam.schemas.config import DecoderConfig
from emobeam.schemas.records import EmobeamError, Probe, UsageError
from emobeam.schemas.row_keys import match_names
from emobeam.schemas.tasks import task_named

MOST_FACES = 8
"""So many faces have bars; all have boxes."""


@dataclass(frozen=True)
class OverlayRequest:
    """What the user asked for.

    Attributes:
        clip: URI of the video.
        output: folder that ``annotate`` or ``predict`` wrote.
        target: the mp4 to write; ``""``: in ``output/overlay``, called as the video's tables are.
        video: id of the clip in ``output``; ``""``: the one whose path ends as the clip's does.
        features: the cache; ``""``: the one that ``run.json`` names, else ``output/features``.
        tasks: whose values are shown; empty: all there are.
        faces: ``all``, ``main``, or numbers separated by commas.
        start, end: seconds of the clip; 0 for ``end``: to the end.
    """

    clip: str
    output: str
    target: str = ""
    video: str = ""
    features: str = ""
    tasks: tuple[str, ...] = ()
    faces: str = "all"
    start: float = 0.0
    end: float = 0.0
    encoding: Encoding = field(default_factory=Encoding)


def run_overlay(request: OverlayRequest, ui: Ui) -> dict[str, Any]:
    """Writes the new clip; returns what there is to tell of it, as plain data.

    Raises:
        EmobeamError: the output folder or its cache can't be used, or doesn't hold the clip.
        InputError: the clip can't be read.
        UsageError: the request makes no sense.
    """
    began = time.monotonic()
    if request.end and request.end <= request.start:
        raise UsageError(f"--end {request.end:g} is not after --start {request.start:g}")
    if not storage.exists(request.clip):
        raise EmobeamError(f"{request.clip}: no such file")
    run = _read_run(request.output)
    video = request.video or _find_video(request.clip, _videos(request.output))
    target = request.target or storage.join(
        request.output, "overlay", part_name(video).removesuffix(".parquet") + ".mp4"
    )
    _check_target(request.clip, target)
    tables, failed = _tables(request, video)
    for reason in failed.values():
        ui.warn(reason)
    with storage.local_copy(request.clip) as clip:
        probe = probe_video(clip, _decoder(request, run))
        story, backbone_untrained = _story(request, run, video, clip, probe, tables, ui)
        untrained = backbone_untrained or any(block.untrained for block in story.blocks)
        canvas = Canvas(probe.width, probe.height, story.predicted, story.blocks, untrained=untrained)
        total = len(chosen_frames(probe, request.start, request.end))
        ui.start("overlay", total, 1, "clips")

        def alive() -> None:
            ui.event("frames", {"frames": 1})

        try:
            with storage.atomic_file(target) as path:
                done = remake(
                    clip,
                    path,
                    probe,
                    lambda frame, time, picture: canvas.paint(picture, story.scene(frame, time)),
                    start=request.start,
                    end=request.end,
                    encoding=request.encoding,
                    comment=f"emobeam overlay; {weights_line(run)}",
                    progress=alive,
                )
            ui.event("done", {"key": video})
        finally:
            ui.finish()
    if done.lost:
        ui.warn(f"{request.clip}: {done.lost} of {total} frames can't be decoded and are missing in the overlay")
    return _result(request, video, target, story, done, untrained, time.monotonic() - began) | {"failed": failed}


def overlay_text(result: Mapping[str, Any]) -> str:
    """The result for people."""
    faces = ", ".join(result["faces"]) or "none"
    lines = [
        (
            f"{result['output']}: {result['frames']} frames of {result['video']}, "
            f"{result['width']}x{result['height']}, sound {result['audio']}"
        ),
        f"tasks {', '.join(result['tasks'])}; faces {faces}",
    ]
    if result["untrained"]:
        lines.append("UNTRAINED: these values mean nothing; the picture says so")
    return "\n".join(lines)


def _result(
    request: OverlayRequest, video: str, target: str, story: Story, done: Remade, untrained: bool, seconds: float
) -> dict[str, Any]:
    return {
        "clip": request.clip,
        "video": video,
        "output": target,
        "tasks": [block.task for block in story.blocks],
        "faces": [face.label for face in story.faces],
        "frames": done.frames,
        "frames_lost": done.lost,
        "width": done.width,
        "height": done.height,
        "audio": done.audio,
        "bytes": storage.size(target),
        "untrained": untrained,
        "seconds": round(seconds, 1),
    }


def _read_run(output: str) -> dict[str, Any]:
    if (run := read_run(output)) is None:
        raise EmobeamError(f"{output}: holds no run.json; name the folder that emobeam annotate or predict wrote")
    return run


def _videos(output: str) -> list[str]:
    try:
        ids: list[str] = read_parquet(storage.join(output, "videos.parquet"))["video"].to_pylist()
    except FileNotFoundError as error:
        raise EmobeamError(f"{output}: holds no videos.parquet; run emobeam predict again") from error
    return ids


def _find_video(clip: str, ids: Sequence[str]) -> str:
    """The id that a clip's path ends in, the longest such end first.

    Raises:
        EmobeamError: there is none, or several fit.
    """
    path = clip if "://" in clip else os.path.abspath(clip)
    parts = [part for part in path.split("/") if part]
    for begin in range(len(parts)):
        name = "/".join(parts[begin:])
        try:
            found = match_names([name], ids).found.get(name)
        except EmobeamError as error:
            raise EmobeamError(f"{clip}: {error}, or say which with --video ID") from error
        if found is not None and not found[1]:
            return found[0]
    known = ", ".join(sorted(ids)[:5]) + (" ..." if len(ids) > 5 else "")
    raise EmobeamError(f"{clip}: is none of the videos of the output folder ({known}); say which with --video ID")


def _check_target(clip: str, target: str) -> None:
    if storage.is_local(clip) and storage.is_local(target):
        ours, theirs = storage.local_path(target), storage.local_path(clip)
        if ours.exists() and theirs.exists() and ours.samefile(theirs):
            raise UsageError(f"--output {target}: is the clip itself; name another file")


def _tables(request: OverlayRequest, video: str) -> tuple[list[TaskValues], dict[str, str]]:
    """Tables of the tasks asked for, faces restricted to those asked for; and why others are left out."""
    names = [task_named(name).name for name in request.tasks] or predicted_tasks(request.output)
    tables, failed = [], {}
    for name in names:
        try:
            table = read_values(request.output, name, video)
        except EmobeamError as error:
            if request.tasks:
                raise
            failed[name] = str(error)
            continue
        if table is not None:
            tables.append(_chosen(table, request.faces))
        elif request.tasks:
            raise EmobeamError(f"{request.output}: has no predictions of task {name} for {video}")
    if tables and not any(table.faces for table in tables):
        raise UsageError(f"--faces {request.faces}: none of these is among the predicted faces of {video}")
    if not tables:
        if failed:
            raise EmobeamError("; ".join(failed.values()))
        raise EmobeamError(
            f"{request.output}: has no predictions for {video}; videos.parquet says what became of it, and emobeam "
            "inspect what to do"
        )
    return tables, failed


def _chosen(table: TaskValues, faces: str) -> TaskValues:
    keep = {key: values for key, values in table.faces.items() if _wanted(key, faces)}
    return TaskValues(table.task, table.outputs, keep)


def _wanted(key: FaceKey, faces: str) -> bool:
    if faces == "all":
        return True
    if faces == "main":
        return key[1] == 0
    try:
        return key[1] in {int(part) for part in faces.split(",")}
    except ValueError:
        raise UsageError(f"--faces {faces}: expected all, main, or numbers separated by commas") from None


def _story(
    request: OverlayRequest,
    run: Mapping[str, Any],
    video: str,
    clip: str,
    probe: Probe,
    tables: Sequence[TaskValues],
    ui: Ui,
) -> tuple[Story, bool]:
    """The story of the clip, and whether its features come from an untrained backbone."""
    features = _features(request, run)
    boxes: dict[Any, Any] = {}
    scale = (1.0, 1.0)
    if features:
        dataset = read_dataset(features)
        segments = _segments(features, video, ui)
        if segments:
            _compare(request, run, features, dataset, segments, clip, ui)
            boxes, scale = _boxes(request, run, features, dataset, video, segments, tables, probe, ui)
    else:
        ui.warn(f"{request.output}: its feature cache is gone, so there are no boxes; say where it is with --features")
    boxes = {key: value for key, value in boxes.items() if _wanted(key, request.faces)}
    predicted = sorted({key for table in tables for key in table.faces})
    if len(predicted) > MOST_FACES:
        ui.warn(f"bars of {MOST_FACES} of {len(predicted)} faces; choose others with --faces 0,3,...")
        predicted = predicted[:MOST_FACES]
    heads = run.get("heads") or {}
    blocks = tuple(_block(table, heads.get(table.task) or []) for table in tables)
    story = Story(make_faces(list(boxes), predicted), blocks, boxes, tuple(tables), scale)
    return story, (run.get("backbone") or {}).get("weights") == "untrained"


def _block(table: TaskValues, heads: Sequence[Mapping[str, Any]]) -> Block:
    limits = checked_thresholds(task_named(table.task), heads_thresholds(head.get("thresholds") for head in heads))
    untrained = any(head.get("weights") == "untrained" for head in heads)
    return make_block(table, untrained=untrained, thresholds=limits.tolist())


def _decoder(request: OverlayRequest, run: Mapping[str, Any]) -> DecoderConfig:
    """That of the cache: the clip is looked at as it was then."""
    features = _features(request, run)
    return read_dataset(features).config.decoder if features else DecoderConfig()


def _features(request: OverlayRequest, run: Mapping[str, Any]) -> str:
    if request.features:
        return request.features
    for candidate in (str(run.get("features") or ""), storage.join(request.output, "features")):
        if candidate and storage.exists(storage.join(candidate, "dataset.json")):
            return candidate
    return ""


def _segments(features: str, video: str, ui: Ui) -> list[dict[str, Any]]:
    """The index rows of the video's current content."""
    segments, table = make_index(features)
    current = {row["video"]: (row["size"], row["digest"]) for row in table.to_pylist()}
    found = [row for row in segments if row["video"] == video and current[video] == (row["size"], row["digest"])]
    if not found:
        ui.warn(f"{features}: holds no shards of {video}, so there are no boxes")
    return found


def _compare(
    request: OverlayRequest,
    run: Mapping[str, Any],
    features: str,
    dataset: Dataset,
    segments: Sequence[Mapping[str, Any]],
    clip: str,
    ui: Ui,
) -> None:
    """Says where clip, cache and tables may not belong together."""
    recorded = storage.read_json(storage.join(features, "dataset.json")).get("cache_id")
    if run.get("cache_id") not in (None, recorded):
        ui.warn(f"{features}: is not the cache the tables were made from; numbers of faces may differ")
    if dataset.config.source == "video":
        print_ = fingerprint(clip)
        if (print_.size, print_.digest) != (segments[0]["size"], segments[0]["digest"]):
            ui.warn(
                f"{request.clip}: is not the very file that was annotated; frames are matched by their number, which "
                "is right only if none was added or dropped"
            )


def _boxes(
    request: OverlayRequest,
    run: Mapping[str, Any],
    features: str,
    dataset: Dataset,
    video: str,
    segments: Sequence[Mapping[str, Any]],
    tables: Sequence[TaskValues],
    probe: Probe,
    ui: Ui,
) -> tuple[dict[FaceKey, Any], tuple[float, float]]:
    footers = [read_part_footer(part_uri(request.output, table.task, video)) for table in tables]
    item = video_item(video, segments, footers)
    max_gap = float((run.get("config") or {}).get("max_gap", 0.5))
    boxes = read_boxes(features, dataset, item, max_gap)
    if not boxes and dataset.config.source != "video":
        ui.warn(f"{features}: was made from cropped faces and knows no boxes")
    width, height = segments[0]["width"] or probe.width, segments[0]["height"] or probe.height
    return boxes, (probe.width / width, probe.height / height)
