"""The page itself: what the template shows, and the one HTML text that comes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from emobeam.emo_transforms.prediction.prediction_tables import marks_of_parts
from emobeam.emo_transforms.results.report.gather import Gathered, VideoInfo, seconds_by_step, warnings_of
from emobeam.emo_transforms.results.report.names import output_title
from emobeam.emo_transforms.results.report.series import BINS, Distribution, groups_of
from emobeam.emo_transforms.results.report.truth import TaskTruth
from emobeam.schemas.tasks import Task
from emobeam.schemas.wording import data_without_secrets, told

NO_VALUE, MINUS = "\u2013", "\u2212"
OUTCOMES = ("ok", "partial", "no_face", "failed", "unknown")
_BARS = 40


@dataclass
class VideoOnPage:
    """What the list of videos tells of one video; ``packed`` is its content (see ``content``), ``""`` if it has none.

    Attributes:
        faces: faces with rows in the tables.
        scores: figure of each task with a truth.
    """

    info: VideoInfo
    packed: str = ""
    faces: int = 0
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PageData:
    """All that a page shows.

    Attributes:
        made: when and by what, for the foot of the page.
        distributions: of every output, by task.
        sources: native rows of face 0 by source, over all videos, for one task.
        truths: figures by task.
        clips: rows of clip-level tasks: video, subject and values as text.
        thinned: sampled rows that are left out of the page.
        failed: videos with tables that can't be used, and why.
    """

    found: Gathered
    videos: Sequence[VideoOnPage]
    distributions: Mapping[str, Sequence[Distribution]]
    sources: Sequence[int]
    truths: Mapping[str, TaskTruth]
    made: str
    clips: Mapping[str, Sequence[tuple[str, str, Sequence[float | None]]]] = field(default_factory=dict)
    thinned: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)


def render_page(data: PageData) -> str:
    """The page as HTML.

    Text from outside (ids, messages, names) passes Jinja's escaping; data for the script is JSON in which ``<``, ``>``
    and ``&`` are escaped. A content security policy lets no request out and runs no script but the page's own.
    """
    # Whoever hands a page on hands on uPlot, whose licence asks for its text to go along.
    licence = f"/*! uPlot\n{_file('vendor/uPlot-LICENSE.txt').strip()}\n*/"
    script = "\n".join([licence, _file("vendor/uPlot.iife.min.js"), *map(_file, _SCRIPTS)])
    found = data.found
    untrained, others = warnings_of(found)
    context = {
        "found": found,
        "run": found.run,
        "title": found.output.rstrip("/").rpartition("/")[2] or found.output,
        "untrained": untrained,
        "warnings": others,
        "experimental": [text for text in others if "experimental" in text.lower()],
        "cards": _cards(data),
        "outcomes": _outcomes(data),
        "not_ok": [v.info for v in data.videos if v.info.outcome in ("failed", "partial", "no_face")],
        "not_predicted": dict(found.run.get("not_predicted") or {}),
        "failed": dict(data.failed),
        "sources": _shares(zip(_SOURCE_TITLES, data.sources, strict=True)),
        "frames": _frames(data),
        "tasks": [_task(task, data) for task in found.tasks],
        "steps": _steps(found),
        "models": _models(found),
        "settings": _settings(found),
        "versions": found.run.get("versions") or {},
        "videos": [_row(index, video) for index, video in enumerate(data.videos)],
        "scored": [task.name for task in found.tasks if task.name in data.truths],
        "made": data.made,
        "thinned": data.thinned,
        "css": Markup(_file("vendor/uPlot.min.css") + "\n" + _file("templates/page.css")),
        "script": Markup(script),
        "policy": _policy(script),
        "data": _json_for_script(data_without_secrets(_for_script(data))),
    }
    return _environment().get_template("page.html.j2").render(context)


_SCRIPTS = ("templates/unpack.js", "templates/charts.js", "templates/page.js")
_SOURCE_TITLES = ("looked at", "interpolated", "nearest value", "absent")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("emobeam.emo_transforms.results.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "whole": _whole, "span": _span, "percent": _percent, "figure": _figure}
    return environment


@cache
def _file(name: str) -> str:
    return resources.files("emobeam.emo_transforms.results.report").joinpath(name).read_text("utf-8")


def _policy(script: str) -> str:
    # A browser digests what stands between the tags, so the template puts nothing there but the script.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json_for_script(data: Any) -> Markup:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text.encode("utf-8", "replace").decode())


def _for_script(data: PageData) -> dict[str, Any]:
    tasks = []
    for task in data.found.tasks:
        marks = marks_of_parts(task.name, data.found.parts[task.name].values())
        outputs = [
            {
                "name": output,
                "title": output_title(output),
                "low": group.low,
                "high": group.high,
                "kind": group.kind,
                "group": group.name,
                "mark": marks.of(output),
            }
            for output, group in zip(task.outputs, groups_of(task), strict=True)
        ]
        tasks.append({"name": task.name, "title": task.title, "scope": task.scope, "outputs": outputs})
    videos = [
        {"id": v.info.id, "outcome": v.info.outcome, "message": data.failed.get(v.info.id, v.info.message)}
        for v in data.videos
    ]
    return {"version": 1, "tasks": tasks, "videos": videos}


def _cards(data: PageData) -> list[tuple[str, str, str]]:
    infos = [video.info for video in data.videos]
    seconds = sum(info.duration or 0.0 for info in infos)
    sampled = sum(info.sampled for info in infos)
    with_face = sum(info.with_face for info in infos)
    ok = sum(info.outcome == "ok" for info in infos)
    cards = [("Videos", _whole(len(infos)), f"{_whole(ok)} without anything to report")]
    if seconds:
        cards.append(("Video", _span(seconds), f"{_whole(sum(info.frames for info in infos))} native frames"))
    if sampled:
        cards.append(("Frames looked at", _whole(sampled), f"{_percent(with_face / sampled)} of them with a face"))
    cards.append(("Faces followed", _whole(sum(video.faces for video in data.videos)), "over all videos"))
    return cards


def _outcomes(data: PageData) -> list[dict[str, Any]]:
    counts = Counter(video.info.outcome for video in data.videos)
    titles = {"ok": "ok", "partial": "partly damaged", "no_face": "no face", "failed": "failed", "unknown": "unknown"}
    known = [(outcome, counts[outcome]) for outcome in OUTCOMES if counts[outcome]]
    shares = _shares((titles[outcome], count) for outcome, count in known)
    return [share | {"key": outcome} for share, (outcome, _) in zip(shares, known, strict=True)]


def _frames(data: PageData) -> list[dict[str, Any]]:
    infos = [video.info for video in data.videos]
    sampled, lost = sum(info.sampled for info in infos), sum(info.lost for info in infos)
    with_face = sum(info.with_face for info in infos)
    named = [("with a face", with_face), ("without a face", sampled - lost - with_face), ("could not be decoded", lost)]
    return _shares(named) if sampled else []


def _shares(counts: Any) -> list[dict[str, Any]]:
    named = [(title, int(count)) for title, count in counts]
    total = sum(count for _, count in named)
    return [
        {"title": title, "count": count, "share": count / total if total else 0.0, "place": place}
        for place, (title, count) in enumerate(named)
    ]


def _task(task: Task, data: PageData) -> dict[str, Any]:
    truth = data.truths.get(task.name)
    groups = groups_of(task)
    heads = (data.found.run.get("heads") or {}).get(task.name) or []
    marks = marks_of_parts(task.name, data.found.parts[task.name].values())
    return {
        "name": task.name,
        "title": task.title,
        "scope": task.scope,
        "outputs": task.outputs,
        "plots": [
            _plot(distribution, group.kind) | {"mark": marks.of(distribution.output)}
            for distribution, group in zip(data.distributions[task.name], groups, strict=True)
        ],
        "heads": heads,
        "truth": truth,
        "metrics": data.found.metrics.get(task.name) or {},
        "clips": data.clips.get(task.name, ()),
        "tables": len(data.found.parts[task.name]),
    }


def _plot(distribution: Distribution, kind: str) -> dict[str, Any]:
    counts = distribution.counts.reshape(_BARS, BINS // _BARS).sum(axis=1)
    highest = max(int(counts.max()), 1)
    # Rare values stay visible beside a heap at one end.
    heights = [max(int(count) / highest * 36, 0.7) if count else 0.0 for count in counts]
    return {
        "output": distribution.output,
        "title": output_title(distribution.output),
        "low": distribution.low,
        "high": distribution.high,
        "bars": [(index, round(40 - height, 2), round(height, 2)) for index, height in enumerate(heights) if height],
        "rows": distribution.rows,
        "mean": distribution.mean,
        "deviation": distribution.deviation,
        "p5": distribution.quantile(0.05),
        "median": distribution.quantile(0.5),
        "p95": distribution.quantile(0.95),
        "share": distribution.share_from(0.5) if kind == "binary" else None,
    }


def _steps(found: Gathered) -> list[dict[str, Any]]:
    times = seconds_by_step(found)
    longest = max(times.values(), default=0.0) or 1.0
    return [{"name": name, "seconds": seconds, "share": seconds / longest} for name, seconds in times.items()]


def _models(found: Gathered) -> list[dict[str, str]]:
    rows = []
    models: Mapping[str, Any] = found.dataset.get("models") or {}
    backbone = found.run.get("backbone") or models.get("backbone") or {}
    if backbone:
        name = str(backbone.get("name") or backbone.get("id") or "")
        rows.append(_model("backbone", name, backbone))
    if detector := (models.get("detector") or {}).get("id"):
        rows.append(_model("detector", str(detector), {}))
    for task, heads in sorted((found.run.get("heads") or {}).items()):
        rows += [_model(f"head, task {task}", str(head.get("name") or ""), head) for head in heads]
    return rows


def _model(role: str, name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "role": role,
        "name": name,
        "weights": str(entry.get("weights") or ""),
        "sha": str(entry.get("sha256") or ""),
    }


def _settings(found: Gathered) -> list[tuple[str, str]]:
    """The settings of both stages as flat pairs, and what the run was asked."""
    rows: list[tuple[str, str]] = []
    for key in ("job", "run", "features", "features_id", "cache_id"):
        if found.run.get(key):
            rows.append((key, str(found.run[key])))
    inputs = [text for record in found.extracts for text in record.get("inputs") or []]
    if inputs:
        shown = list(dict.fromkeys(map(str, inputs)))
        rows.append(("inputs", ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")))
    rows += [(f"predict.{key}", value) for key, value in _flat(found.run.get("config") or {})]
    rows += [(f"extract.{key}", value) for key, value in _flat(found.dataset.get("config") or {})]
    rows += [(f"machine.{key}", value) for key, value in _flat(found.run.get("machine") or {})]
    return rows


def _flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{key}", ", ".join(map(str, value))))
        elif value not in ("", None):
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def _row(index: int, video: VideoOnPage) -> dict[str, Any]:
    info = video.info
    return {
        "index": index,
        "info": info,
        "packed": Markup(video.packed),  # base64 only
        "faces": video.faces,
        "share": info.with_face / info.sampled if info.sampled else None,
        "scores": video.scores,
    }


def _shown(value: Any) -> Any:
    """Texts without control characters, which HTML forbids, and without secrets; markup is emobeam's own."""
    return told(value) if type(value) is str else value


def _number(value: float | None, digits: int = 3) -> str:
    return NO_VALUE if value is None or not math.isfinite(value) else f"{value:.{digits}f}".replace("-", MINUS)


def _figure(value: float | None) -> str:
    return _number(value, 3)


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\u202f")


def _percent(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{100 * value:.0f} %" if value in (0.0, 1.0) or 0.01 <= value <= 0.99 else f"{100 * value:.1f} %"


def _span(seconds: float | None) -> str:
    """A time for people: ``0:42``, ``1:02:03``; below ten seconds with a decimal."""
    if seconds is None:
        return NO_VALUE
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
