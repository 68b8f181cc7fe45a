"""``inspect`` of a folder that ``predict`` or ``annotate`` wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.abaw.decisions import checked_thresholds, heads_thresholds
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.cache.index import make_index
from emobeam.emo_transforms.prediction.prediction_tables import Listing, list_parts, marks_of_parts, part_name, read_run
from emobeam.emo_transforms.storage.parquet_files import read_parquet
from emobeam.pipelines.challenge.score import edition_of
from emobeam.pipelines.console import command
from emobeam.pipelines.inspect.problems import (
    Problem,
    changed_at,
    extract_command,
    named,
    predict_command,
    run_records,
)
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tables import SOURCES
from emobeam.schemas.tasks import TASKS, task_named

_LATE = 1.0  # s; two files of one run may be written in either order


def describe_output(path: str) -> dict[str, Any]:
    """A folder of predictions as plain data; see :func:`emobeam.pipelines.inspect.describe.describe`."""
    run = read_run(path) or {}
    features = _features(path, run)
    again = predict_command(run, features or "FEATURES", path)
    videos = _table(storage.join(path, "videos.parquet"))
    stretches = _table(storage.join(path, "faces.parquet"))
    listing = list_parts(path)
    names = [name for name in TASKS if name in listing.tasks or name in (run.get("rows") or {})]
    tasks, damaged = _tasks(listing, names, run, again)
    problems = [
        *damaged,
        *_run_problems(run, again),
        *_marks(listing),
        *_missing(path, names, run, videos, again),
        *_cache_problems(path, run, features, videos, again),
        *_late_files(path, names, run),
    ]
    rows = videos.to_pylist() if videos is not None else []
    return {
        "kind": "output",
        "path": path,
        **run,
        "videos": len(rows),
        "native_frames": sum(row["frames"] for row in rows),
        "sampled_frames": sum(row["sampled"] for row in rows),
        "frames_with_face": sum(row["with_face"] for row in rows),
        "seconds_of_video": round(sum(row["duration"] or 0.0 for row in rows), 3),
        "tasks": tasks,
        "face_stretches": stretches.num_rows if stretches is not None else 0,
        "faces_per_video": _faces_per_video(stretches),
        "bytes_by_part": storage.sizes_below(path),
        "not_ok": [
            {key: row[key] for key in ("video", "outcome", "stage", "reason", "message")}
            for row in rows
            if row["outcome"] != "ok"
        ],
        "problems": [problem.to_json() for problem in problems],
    }


def _features(path: str, run: Mapping[str, Any]) -> str:
    for candidate in (str(run.get("features") or ""), storage.join(path, "features")):
        if candidate and storage.exists(storage.join(candidate, "dataset.json")):
            return candidate
    return ""


def _table(uri: str) -> pa.Table | None:
    try:
        return read_parquet(uri)
    except (FileNotFoundError, pa.ArrowException):
        return None


def _faces_per_video(stretches: pa.Table | None) -> dict[str, int]:
    """Number of videos by number of faces seen in them."""
    if stretches is None:
        return {}
    persons: dict[str, set[int]] = {}
    for row in stretches.select(["video", "person"]).to_pylist():
        persons.setdefault(row["video"], set()).add(row["person"])
    return {str(key): value for key, value in sorted(Counter(len(each) for each in persons.values()).items())}


def _tasks(
    listing: Listing, names: Sequence[str], run: Mapping[str, Any], again: str
) -> tuple[dict[str, Any], list[Problem]]:
    """Distributions by task, and tables that can't be read."""
    found: dict[str, Any] = {}
    damaged = [each.uri for each in listing.damaged]
    for task in names:
        heads = (run.get("heads") or {}).get(task) or ()
        summary = _Summary(task, heads_thresholds(head.get("thresholds") for head in heads))
        for part in listing.parts.get(task, {}).values():
            try:
                summary.add(read_parquet(part.uri))
            except (OSError, pa.ArrowException, KeyError, ValueError):
                damaged.append(part.uri)
        found[task] = summary.to_json()
        marks = marks_of_parts(task, listing.parts.get(task, {}).values())
        for name, entry in found[task]["outputs"].items():
            if marks.of(name):
                entry["mark"] = marks.of(name)
    if not damaged:
        return found, []
    what = f"{len(damaged)} predictions tables are damaged: {named(damaged)}"
    return found, [Problem("error", "damaged", what, again, tuple(damaged))]


class _Summary:
    """Counts over the tables of one task, a table at a time."""

    def __init__(self, task: str, thresholds: Sequence[float]) -> None:
        self._groups = TASKS[task].groups
        try:
            self._thresholds = checked_thresholds(TASKS[task], thresholds)
        except UsageError:  # a record that doesn't fit is no reason to tell nothing
            self._thresholds = checked_thresholds(TASKS[task])
        self.rows = self.tables = 0
        self.sources: Counter[str] = Counter()
        self._outputs: tuple[str, ...] = ()
        self._count = self._sum = self._squares = self._active = np.zeros(0)
        self._lowest = self._highest = np.zeros(0)
        self._classes: dict[str, Counter[str]] = {group.name: Counter() for group in self._groups}

    def add(self, table: pa.Table) -> None:
        keys = ("video", "subject", "face", "frame", "time", "source")
        outputs = tuple(name for name in table.column_names if name not in keys)
        if not self._outputs:
            self._outputs = outputs
            count = len(outputs)
            self._count, self._sum, self._squares, self._active = (np.zeros(count) for _ in range(4))
            self._lowest, self._highest = np.full(count, np.inf), np.full(count, -np.inf)
        self.tables += 1
        self.rows += len(table)
        if "source" in table.column_names:
            for entry in pc.value_counts(table["source"].cast(pa.string())).to_pylist():
                self.sources[entry["values"]] += entry["counts"]
        values = np.stack([table[name].cast(pa.float64()).to_numpy() for name in self._outputs], axis=1)
        valid = values[~np.isnan(values).all(axis=1)]
        if not len(valid):
            return
        self._count += np.isfinite(valid).sum(axis=0)
        self._sum += np.nansum(valid, axis=0)
        self._squares += np.nansum(np.square(valid), axis=0)
        self._active += (valid >= self._thresholds).sum(axis=0)
        self._lowest = np.fmin(self._lowest, np.fmin.reduce(valid, axis=0))
        self._highest = np.fmax(self._highest, np.fmax.reduce(valid, axis=0))
        for group in self._groups:
            columns = [index for index, name in enumerate(self._outputs) if name in group.outputs]
            if group.kind == "class" and columns:
                scores = np.nan_to_num(valid[:, columns], nan=-np.inf)
                best = np.bincount(scores.argmax(axis=1), minlength=len(columns))
                for column, count in zip(columns, best.tolist(), strict=True):
                    self._classes[group.name][self._outputs[column]] += count

    def to_json(self) -> dict[str, Any]:
        binary = {name for group in self._groups if group.kind == "binary" for name in group.outputs}
        outputs: dict[str, dict[str, float]] = {}
        for index, name in enumerate(self._outputs):
            count = int(self._count[index])
            if not count:
                outputs[name] = {"values": 0}
                continue
            mean = self._sum[index] / count
            outputs[name] = {
                "values": count,
                "mean": float(mean),
                "std": float(np.sqrt(max(self._squares[index] / count - mean**2, 0.0))),
                "min": float(self._lowest[index]),
                "max": float(self._highest[index]),
            } | ({"active": int(self._active[index])} if name in binary else {})
        return {
            "tables": self.tables,
            "rows": self.rows,
            "sources": {name: self.sources[name] for name in SOURCES if self.sources[name]},
            "outputs": outputs,
            "classes": {
                name: {output: counts[output] for output in self._outputs if output in counts}
                for name, counts in self._classes.items()
                if counts
            },
        }


def _run_problems(run: Mapping[str, Any], again: str) -> list[Problem]:
    problems = []
    failed = tuple(sorted(run.get("not_predicted") or {}))
    if failed:
        reasons = [f"{video} ({run['not_predicted'][video]})" for video in failed]
        what = f"{len(failed)} videos were not predicted: {named(reasons)}"
        problems.append(Problem("error", "failed", what, again, failed))
    heads = run.get("heads") or {}
    untrained = [task for task, each in heads.items() if any(head.get("weights") == "untrained" for head in each)]
    if (run.get("backbone") or {}).get("weights") == "untrained":
        what = "the backbone is untrained: no value of this folder means anything"
        problems.append(Problem("warning", "untrained", what))
    if untrained:
        what = f"untrained heads: values of {', '.join(untrained)} mean nothing"
        problems.append(Problem("warning", "untrained", what, f"{again} --head HEAD"))
    return problems


def _marks(listing: Listing) -> list[Problem]:
    """What is said of single outputs of the heads."""
    texts = [text for task, own in listing.parts.items() for text in marks_of_parts(task, own.values()).notes(task)]
    return [Problem("note", "marked", text) for text in texts]


def _missing(
    path: str, names: Sequence[str], run: Mapping[str, Any], videos: pa.Table | None, again: str
) -> list[Problem]:
    if videos is None:
        return [Problem("error", "missing", "videos.parquet is missing or damaged", again)]
    problems = []
    skipped = set(run.get("not_predicted") or {})
    wanted = [row["video"] for row in videos.to_pylist() if row["segments_done"] and row["video"] not in skipped]
    for task in names:
        there = storage.names(storage.join(path, "predictions", task), ".parquet")
        gone = tuple(video for video in wanted if part_name(video).removesuffix(".parquet") not in there)
        if gone:
            what = f"task {task}: {len(gone)} of {len(wanted)} videos have no table: {named(gone)}"
            problems.append(Problem("error", "missing", what, again, gone))
    if not storage.exists(storage.join(path, "faces.parquet")):
        problems.append(Problem("error", "missing", "faces.parquet is missing", again))
    return problems


def _cache_problems(
    path: str, run: Mapping[str, Any], features: str, videos: pa.Table | None, again: str
) -> list[Problem]:
    """Whether the predictions are those of the cache as it is now."""
    if not features:
        what = f"the feature cache {run.get('features')} is gone: no thumbnails, overlays or further heads without it"
        return [Problem("note", "missing", what)]
    try:
        dataset = read_dataset(features)
        written = storage.read_json(storage.join(features, "dataset.json"))
        _, table = make_index(features)
    except EmobeamError as error:
        return [Problem("error", "damaged", f"the feature cache: {error}", command("inspect", features))]
    problems = []
    if run.get("features_id") != dataset.config.features_id:
        what = (
            f"made from features {run.get('features_id')}, the cache {features} now holds "
            f"{dataset.config.features_id}: another backbone or other weights"
        )
        problems.append(Problem("error", "stale", what, again))
    elif run.get("cache_id") != written.get("cache_id"):
        what = f"made from cache {run.get('cache_id')}, {features} is now {written.get('cache_id')}"
        problems.append(Problem("error", "stale", what, again))
    now = {row["video"]: row for row in table.to_pylist()}
    then = {row["video"]: row for row in videos.to_pylist()} if videos is not None else {}
    same = ("size", "digest", "segments_done", "rows")
    changed = tuple(v for v in then if v in now and any(now[v][key] != then[v][key] for key in same))
    gone = tuple(video for video in then if video not in now)
    new = tuple(video for video in now if video not in then)
    if changed:
        what = f"the cache has changed since: {len(changed)} videos have other shards now: {named(changed)}"
        problems.append(Problem("error", "stale", what, again, changed))
    if gone:
        what = f"{len(gone)} videos are no longer in the cache: {named(gone)}"
        problems.append(Problem("warning", "stale", what, "", gone))
    if new and then:
        what = f"{len(new)} videos of the cache have no predictions here: {named(new)}"
        problems.append(Problem("note", "missing", what, again, new))
    failed = tuple(row["video"] for row in now.values() if row["outcome"] in ("failed", "partial"))
    if failed:
        what = f"{len(failed)} videos failed or are damaged: {named(failed)}"
        mend = extract_command(features, dataset.config, run_records(features))
        problems.append(Problem("warning", "failed", what, f"{mend} && {again}", failed))
    return problems


def _submit(path: str, task: str, run: Mapping[str, Any]) -> str:
    """By the rules of the run's edition, else of the usual one."""
    edition = run.get("edition") or edition_of(task_named(task), 0)
    return command("submit", path, "--task", task, "--edition", str(edition))


def _late_files(path: str, names: Sequence[str], run: Mapping[str, Any]) -> list[Problem]:
    """Files made of the predictions that are older than these."""
    problems = []
    newest: dict[str, float] = {}
    for task in names:
        folder = storage.join(path, "predictions", task)
        times = [changed_at(storage.join(folder, f"{n}.parquet")) for n in storage.names(folder, ".parquet")]
        newest[task] = max(times, default=0.0)
    for task, report in (run.get("submissions") or {}).items():
        gone = [file for file in report.get("files") or () if not storage.exists(file)]
        if gone:
            mend = _submit(path, task, run)
            problems.append(Problem("warning", "missing", f"the submission of {task} is gone: {named(gone)}", mend))
    for task, when in newest.items():
        folder = storage.join(path, "submission", task)
        if not when or not storage.exists(folder):
            continue
        fs, root = storage.file_system(folder)
        files = [str(file) for file in fs.find(root)]
        old = tuple(file for file in files if 0 < changed_at(file) < when - _LATE)
        if old:
            mend = _submit(path, task, run)
            what = f"the submission of {task} is older than the predictions: {named(old)}"
            problems.append(Problem("error", "stale", what, mend, old))
    latest = max(newest.values(), default=0.0)
    for name, mend, level in (
        ("metrics.json", command("score", "--task", "TASK", "--truth", "LABELS", "--predictions", path), "error"),
        ("report.html", command("report", path), "warning"),
    ):
        when = changed_at(storage.join(path, name))
        if 0 < when < latest - _LATE:
            problems.append(Problem(level, "stale", f"{name} is older than the predictions", mend))  # type: ignore[arg-type]
    return problems
