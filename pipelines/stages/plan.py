"""The job ``plan``: what stage 1 over a data set will take, before any of it is done."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psutil

from emobeam.emo_transforms.cache.segment_codec import compacted, encode_segment
from emobeam.emo_transforms.extraction.estimate import (
    WORKER_BYTES,
    Estimate,
    Measured,
    Probed,
    Range,
    draw,
    estimate,
    wall_seconds,
)
from emobeam.emo_transforms.extraction.segments import Tools, extract_segment
from emobeam.emo_transforms.extraction.video_plans import fingerprint_of, plan_video
from emobeam.emo_transforms.inputs.listing import sizes_of
from emobeam.emo_transforms.storage.leftovers import scratch_folder
from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.pipelines.console import Ui, duration_text, size_text
from emobeam.pipelines.job_options import PlanOptions
from emobeam.pipelines.stages.extract import ExtractRequest
from emobeam.pipelines.stages.remaining_work import PACKED
from emobeam.schemas.records import InputError, Segment, UsageError, Video
from emobeam.schemas.wording import counted

START_SECONDS = {"direct": 10.0, "flink": 30.0, "spark": 30.0, "dataflow": 240.0}
"""Until the first segment is worked on: processes start, on Dataflow machines and their images."""

_MEASURED_SEGMENTS = 5
_MEASURED_BATCHES = 2
"""Frames of a measured stretch, in batches of the backbone: whole ones, since padding costs as much as faces do."""

_OFTEN = (16, 64, 256)


@dataclass(frozen=True)
class PlanRequest(PlanOptions):
    """What is asked for.

    Attributes:
        extract: the run to be planned; its output is not looked at.
    """

    extract: ExtractRequest


@dataclass(frozen=True)
class PlanResult:
    """What a run will take.

    Attributes:
        walls: time by the clock in s, by number of workers.
        worker_bytes: memory of a worker with its decoding process.
        problems: videos of the sample that can't be read, with the reason.
        warnings: what weakens the figures.
    """

    estimate: Estimate
    runner: str
    walls: dict[int, float]
    worker_bytes: int
    seconds: float
    problems: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What ``emobeam plan --json`` prints; times in s, memory in bytes."""
        found = self.estimate
        return {
            "runner": self.runner,
            **asdict(found),
            "core_hours": {name: value / 3600 for name, value in asdict(found.core_seconds).items()},
            "worker_bytes": self.worker_bytes,
            "wall_seconds": {str(workers): round(seconds, 1) for workers, seconds in self.walls.items()},
            "requests": requests_of(found),
            "problems": self.problems,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 1),
        }


def run_plan(request: PlanRequest, ui: Ui) -> PlanResult:
    """Looks at a sample and carries it over to all inputs.

    Raises:
        UsageError: the inputs are no videos, or none of the sample can be read.
    """
    began = time.monotonic()
    videos = request.extract.videos
    config = request.extract.dataset.config
    if any(video.kind != "video" for video in videos):
        raise UsageError("plan is for videos; for folders of crops and caches, extract says what is to be done at once")
    sizes = sizes_of([video.uri for video in videos])
    stratum, chosen = draw(sizes, request.sample, request.seed)
    with DecoderProcess(config.decoder) as decoder:
        looked = _look(request, ui, [(videos[i], int(stratum[i])) for i in chosen], decoder.probe)
    probed = [video for video, _ in looked]
    problems = {videos[i].id: video.problem for i, (video, _) in zip(chosen, looked, strict=True) if video.problem}
    if not any(video.segments for video in probed):
        reason = next(iter(problems.values()), "they hold no frames")
        what = "the only video" if len(probed) == 1 else f"none of the {len(probed)} videos looked at"
        can = "can't" if len(probed) == 1 else "can"
        raise UsageError(f"{what} {can} be read: {reason}")
    warnings = []
    measured: list[Measured] = []
    worker_bytes = WORKER_BYTES
    if request.measure:
        measured, worker_bytes = _measure(request, ui, [segments for _, segments in looked if segments])
    if not measured:
        warnings.append("no time was measured here: core-hours are those of another machine (docs/speed.md)")
    elif not any(each.rows for each in measured):
        warnings.append("no face in what was measured: the backbone's share and the size of the cache are guesses")
    if request.runner != "direct":
        warnings.append("times are those of a core of this machine; other machines have other cores")
    if problems:
        example = next(iter(problems))
        warnings.append(
            f"{len(problems)} of {counted(len(probed), 'video')} looked at can't be read, for example {example}"
        )
    found = estimate(
        sizes,
        stratum,
        probed,
        measured,
        segment_seconds=config.sampling.segment_seconds,
        row_bytes=_row_bytes(request.extract),
        seed=request.seed,
    )
    walls = {n: wall_seconds(found, n, START_SECONDS[request.runner]) for n in _workers(request)}
    return PlanResult(found, request.runner, walls, worker_bytes, time.monotonic() - began, problems, tuple(warnings))


def _workers(request: PlanRequest) -> Sequence[int]:
    if request.workers:
        return (request.workers,)
    return (request.extract.local.workers,) if request.runner == "direct" else _OFTEN


def _row_bytes(request: ExtractRequest) -> float:
    shapes = request.dataset.map_shapes.values()
    maps = sum(2 * math.prod(shape) for shape in shapes) * PACKED
    crops = 60_000 if "crops" in request.dataset.config.store else 0
    vectors = 4 * (request.dataset.embedding + request.dataset.scores)
    return (maps + vectors + crops + 200) * (1 + request.dataset.config.views)


def _look(
    request: PlanRequest, ui: Ui, videos: Sequence[tuple[Video, int]], probe: Callable[[str], Any]
) -> list[tuple[Probed, list[Segment]]]:
    config = request.extract.dataset.config
    ui.start("probe", len(videos), len(videos), "videos", measure="videos")
    found: list[tuple[Probed, list[Segment]]] = []
    for video, stratum in videos:
        began = time.monotonic()
        try:
            content = fingerprint_of(video, config)
        except InputError as error:
            found.append((Probed(stratum, 0, problem=str(error)), []))
        else:
            try:
                segments = plan_video(video, content, config, probe)
                found.append((_probed(stratum, content.size, segments, time.monotonic() - began), segments))
            except InputError as error:
                found.append((Probed(stratum, content.size, problem=str(error)), []))
        ui.event("frames", {"frames": 1})
        ui.event("done", {"key": video.id})
    ui.finish()
    return found


def _probed(stratum: int, size: int, segments: Sequence[Segment], seconds: float) -> Probed:
    # What is too long to travel lies in a file meanwhile; here nobody will ask for it.
    encoded = tuple(len(encode_segment(compacted(segment, lambda name, data: name))) for segment in segments)
    last = segments[-1].times[-1] if segments and segments[-1].times else 0.0
    return Probed(
        stratum,
        size,
        seconds=last,
        native=sum(len(segment.frames) for segment in segments),
        sampled=sum(len(segment.sampled) for segment in segments),
        segments=len(segments),
        pixels=segments[0].width * segments[0].height if segments else 0,
        encoded=encoded,
        probe_seconds=seconds,
    )


def _measure(request: PlanRequest, ui: Ui, looked: Sequence[Sequence[Segment]]) -> tuple[list[Measured], int]:
    """Stage 1 on a few seconds from the middle of some videos, with one thread; and the memory of doing so."""
    config = request.extract.dataset.config
    step = max(1, len(looked) // _MEASURED_SEGMENTS)
    chosen = [segments[len(segments) // 2] for segments in looked[::step]][:_MEASURED_SEGMENTS]
    frames = _MEASURED_BATCHES * config.kernel_batch
    stretches = [stretch(segment, frames) for segment in chosen]
    measured = []
    if config.engine == "torch":
        import torch

        torch.set_num_threads(1)
    ui.start("measure", sum(len(part.sampled) for part in stretches), len(stretches), "segments")
    tools = Tools(config)
    memory = 0
    try:
        with scratch_folder("plan") as folder:
            (folder / "shards").mkdir()
            # The first call compiles and warms what later ones find ready.
            for number, part in enumerate([stretch(stretches[0], 4), *stretches] if stretches else []):
                before = _cpu_seconds()
                try:
                    record = extract_segment(replace(part, shard=f"{number}"), tools, str(folder))
                except InputError:
                    continue
                memory = max(memory, _resident())
                if number:
                    # Time by the clock says which step it went into, CPU time how much it was: others use the machine.
                    scale = (_cpu_seconds() - before) / max(sum(record.seconds.values()), 1e-6)
                    seconds = {step: scale * clock for step, clock in record.seconds.items()}
                    measured.append(Measured(record.sampled, record.rows, record.bytes, seconds))
                    ui.event("frames", {"frames": record.sampled})
                    ui.event("done", {"key": part.shard})
    finally:
        tools.close()
        ui.finish()
    return measured, memory or WORKER_BYTES


def stretch(segment: Segment, frames: int) -> Segment:
    """The first ``frames`` sampled frames of a segment with all native frames among them."""
    if len(segment.sampled) <= frames:
        return segment
    last = segment.sampled[frames - 1]
    end = segment.frames.index(last) + 1
    return replace(
        segment,
        frames=segment.frames[:end],
        times=segment.times[:end],
        pts=segment.pts[:end],
        sampled=segment.sampled[:frames],
    )


def _resident() -> int:
    return sum(_of_family(lambda process: process.memory_info().rss))


def _cpu_seconds() -> float:
    return float(sum(_of_family(lambda process: process.cpu_times().user + process.cpu_times().system)))


def _of_family(ask: Callable[[psutil.Process], Any]) -> list[Any]:
    """What this process and those it started answer."""
    answers = []
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            answers.append(ask(process))
    return answers


def requests_of(found: Estimate) -> dict[str, int]:
    """Requests to object stores, about (docs/object-storage.md): reads and lists, and writes."""
    segments = found.segments.value
    parts = found.nbytes / (16 << 20)
    reads = found.videos * 4 + parts + segments * 2
    writes = segments * (2 if found.cache_bytes.value / max(segments, 1) >= 5 << 20 else 1)
    return {"reads": round(reads), "writes": round(writes)}


def plan_text(result: PlanResult) -> str:
    """The result for people."""
    found = result.estimate
    how = "all" if found.probed >= found.videos else f"{found.probed} looked at, the rest from their sizes"
    lines = [
        ("videos", f"{found.videos:,} ({how}), {size_text(found.nbytes)}"),
        ("length", _ranged(found.hours.value * 3600, found.hours.low * 3600, found.hours.high * 3600, duration_text)),
        ("segments", _count(found.segments)),
        ("frames to look at", f"{_count(found.frames)} of {_count(found.native_frames)}"),
        _core_time(found.core_seconds),
    ]
    total = sum(found.by_step.values()) or 1.0
    lines.append(("  of it", ", ".join(f"{step} {100 * s / total:.0f} %" for step, s in found.by_step.items())))
    lines += [
        ("cache", _ranged(found.cache_bytes.value, found.cache_bytes.low, found.cache_bytes.high, size_text)),
        ("memory", f"{size_text(result.worker_bytes)} a worker"),
    ]
    if result.runner != "direct":
        sent = f"{size_text(found.shuffle_bytes.value)} on the way to workers, at most {size_text(found.element_bytes)}"
        lines.append(("network", f"{sent} for a segment; videos and cache come on top"))
    where = "this machine" if result.runner == "direct" else result.runner
    for workers, seconds in result.walls.items():
        lines.append((counted(workers, "worker"), f"about {duration_text(seconds)} on {where}"))
    asked = requests_of(found)
    lines.append(("to be paid for", _paid(result)))
    lines.append(("object store", f"about {asked['reads']:,} reads and {asked['writes']:,} writes"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def _paid(result: PlanResult) -> str:
    seconds = result.estimate.core_seconds.value
    unit, size = _unit(seconds)
    cores, memory = seconds / size, seconds / size * result.worker_bytes / 1e9
    return f"{_short(cores)} core-{unit}, {_short(memory)} GB-{unit} of memory, and the cache"


def _core_time(seconds: Range) -> tuple[str, str]:
    """Name and text of the line: hours, or minutes or seconds where it is less than one."""
    unit, size = _unit(seconds.value)
    return f"core-{unit}", _ranged(seconds.value / size, seconds.low / size, seconds.high / size, _short)


def _unit(seconds: float) -> tuple[str, int]:
    return next(((name, size) for name, size in (("hours", 3600), ("minutes", 60)) if seconds >= size), ("seconds", 1))


def _short(value: float) -> str:
    return f"{value:,.1f}" if value < 10 else f"{value:,.0f}"


def _ranged(value: float, low: float, high: float, text: Callable[[float], str]) -> str:
    return text(value) if low == high else f"{text(value)} ({text(low)} to {text(high)})"


def _count(value: Any) -> str:
    return _ranged(value.value, value.low, value.high, lambda number: f"{round(number):,}")
