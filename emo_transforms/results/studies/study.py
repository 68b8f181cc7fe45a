"""An output folder as a study sees it: traces above their baseline, rules, people, speech."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.results.media_clock import media_offsets
from emobeam.emo_transforms.results.studies.baseline import BaselineConfig, Baselines, make_baselines
from emobeam.emo_transforms.results.studies.event_rules import Rule, Rules, make_rules, thresholds_data, trace_events
from emobeam.emo_transforms.results.studies.events import Event
from emobeam.emo_transforms.results.studies.face_series import Source, Trace, frame_tasks_in, open_source, read_traces
from emobeam.emo_transforms.results.studies.persons import Persons, read_persons
from emobeam.emo_transforms.results.studies.spans import Interval, Spans, overlap, read_spans, settle
from emobeam.schemas.records import EmobeamError, InputError, UsageError
from emobeam.schemas.tasks import task_named


@dataclass(frozen=True)
class StudyConfig:
    """What a user asks of an output folder.

    Attributes:
        task: a frame-level task; ``""``: the only one that was predicted, else ``au``.
        thresholds, off: see :func:`emobeam.emo_transforms.results.studies.event_rules.make_rules`.
        min_duration, merge_gap: s.
        baseline: see :class:`BaselineConfig`.
        persons: URI of names of people, see :func:`read_persons`.
        speech: URI of stretches of speech, see :func:`read_spans`.
        speech_tier: of ELAN files, the tier of speech.
        only: names of videos, separated by commas.
        fps: frames per second where tables have no times.
    """

    task: str = ""
    thresholds: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    min_duration: float = 0.2
    merge_gap: float = 0.2
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    persons: str = ""
    speech: str = ""
    speech_tier: str = "speech"
    only: str = ""
    fps: float = 0.0


@dataclass(frozen=True, eq=False)
class StudyTrace:
    """A trace and what the study knows of it.

    Attributes:
        values: ``[n, K]`` above the baseline (the plain ones without one), NaN where there is none.
        events: by unit and time.
        persons, person: names of the people in it, and which of them each row is.
        speech: stretches of speech that hold for it; None: nobody said when there is any.
    """

    trace: Trace
    values: NDArray[np.float32]
    events: Sequence[tuple[Rule, Event]]
    persons: list[str]
    person: NDArray[np.int64]
    speech: list[Interval] | None

    def person_at(self, frame: int) -> str:
        """Who is seen in a frame."""
        row = min(int(np.searchsorted(self.trace.frames, frame)), len(self.person) - 1)
        return self.persons[int(self.person[row])]

    def speech_share(self, event: Event) -> float | None:
        """How much of an event overlaps speech, from 0 to 1."""
        if self.speech is None:
            return None
        seconds = overlap(np.array([event.onset]), np.array([event.offset]), self.speech)[0]
        return float(min(seconds / event.duration, 1.0)) if event.duration > 0 else 0.0


@dataclass
class Study:
    """An opened output folder; videos are read one at a time.

    Attributes:
        failed: videos that could not be read, with the reason: those with a damaged table from the start, others as
            :meth:`traces` goes on.
        progress: called with every video that is done, and whether it could be read.
        warnings: what people have to be told.
        standing: those of them that say no more than what the output's own summary said: marks of single outputs.
        offsets: place of the first frame on the media's own clock in s by video, where it is known.
    """

    config: StudyConfig
    source: Source
    rules: Rules
    persons: Persons
    baselines: Baselines
    speech: Spans | None
    warnings: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    standing: Sequence[str] = ()
    progress: Callable[[str, bool], None] = lambda video, fine: None
    offsets: Mapping[str, float] = field(default_factory=dict)

    def traces(self, videos: Collection[str] | None = None) -> Iterator[list[StudyTrace]]:
        """The faces of each video, in the order of ids.

        Args:
            videos: ids of those to read, in this order if it is a list; default: all.
        """
        for video in self.source.parts if videos is None else videos:
            faces = self.faces(video)
            if faces is not None:
                yield faces

    def faces(self, video: str) -> list[StudyTrace] | None:
        """The faces of one video; None where it could not be read, which stands in :attr:`failed` then."""
        try:
            return [self._study(trace) for trace in read_traces(self.source, video, self.config.fps)]
        except InputError as error:
            self.failed[video] = str(error)
            return None
        finally:
            self.progress(video, video not in self.failed)

    def _study(self, trace: Trace) -> StudyTrace:
        names, rows = self.persons.of(trace)
        values = self.baselines.applied(trace, names, rows)
        if self.persons.mixed(trace):
            self.warn(
                f"{trace.video}: face {trace.face} is not one person all the time (see faces.parquet), and all of it "
                "counts as the one that --persons names; name people by the column number instead"
            )
        spoken = self.speech.of(*trace.key) if self.speech is not None else None
        intervals = [(span.start, span.end) for span in spoken] if spoken is not None else None
        return StudyTrace(trace, values, trace_events(trace, values, self.rules, rows), names, rows, intervals)

    def warn(self, text: str) -> None:
        """Remembers what people have to be told, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def settings(self) -> dict[str, Any]:
        """What made a table, as plain JSON data."""
        config = self.config
        return {
            "output": self.source.output,
            "task": self.source.task.name,
            "heads": list(self.source.heads),
            "untrained": self.source.untrained,
            **self.source.marks.to_json(),
            "thresholds": thresholds_data(self.rules),
            "min_duration": config.min_duration,
            "merge_gap": config.merge_gap,
            "baseline": config.baseline.text,
            "baseline_seconds": {name: round(value, 3) for name, value in self.baselines.seconds.items()},
            "persons": config.persons,
            "speech": config.speech,
        }


def default_task(output: str, task: str = "") -> str:
    """The task named, else the only one that was predicted, else ``au``; raises where several others are there."""
    if task:
        return task
    there = frame_tasks_in(output)
    if not there:
        raise EmobeamError(f"{output}: no predictions of a frame-level task; run emobeam annotate or predict first")
    if len(there) > 1 and "au" not in there:
        raise UsageError(f"{output} holds predictions of {', '.join(there)}: choose one by --task")
    return "au" if "au" in there else there[0]


def open_study(output: str, config: StudyConfig, progress: Callable[[str, int, int], None] | None = None) -> Study:
    """Opens an output folder; where a baseline is asked for, reads all tables once for it.

    Args:
        progress: told the work (``tables`` that are found out about, ``baselines`` read from videos), how much of it is
            done and how much there is.

    Raises:
        EmobeamError: no predictions, or a file that can't be used.
        UsageError: settings that make no sense.
    """
    config.baseline.check()
    if config.fps < 0 or not np.isfinite(config.fps):
        raise UsageError(f"--fps is {config.fps}, expected frames per second")
    task = task_named(default_task(output, config.task))
    tell = progress or (lambda work, done, total: None)
    source = open_source(output, task, config.only, lambda done, total: tell("tables", done, total))
    rules = make_rules(
        source.task,
        source.thresholds,
        config.thresholds,
        config.off,
        min_duration=config.min_duration,
        merge_gap=config.merge_gap,
        standardised=config.baseline.scale == "standardise",
    )
    warnings: list[str] = []
    # Names mean the same whichever videos are asked for: they are looked up among all.
    videos = sorted({*source.every, *source.damaged})
    persons = read_persons(output, videos, config.persons)
    _tell(warnings, "--persons", persons.missing)
    offsets = media_offsets(output)
    neutral = _spans(config.baseline.segments, "--baseline-segments", "neutral", videos, warnings, offsets)
    speech = _spans(config.speech, "--speech", config.speech_tier, videos, warnings, offsets)
    needed = _needed(source, persons) if config.baseline.method != "none" else []
    unread: list[str] = []
    read = _reader(source, config.fps, unread, lambda done: tell("baselines", done, len(needed)))
    baselines = make_baselines(source.task, read, needed, persons, config.baseline, neutral)
    if unread := [video for video in unread if video not in source.parts and video not in source.failed]:
        warnings.append(f"baselines are made without {', '.join(unread[:5])}, whose tables can't be read")
    if source.untrained:
        warnings.append(f"task {source.task.name}: an untrained head made these predictions; the values mean nothing")
    standing = source.marks.notes(source.task.name)
    warnings += standing
    if not source.heads and rules.rules and not config.thresholds:
        warnings.append(
            f"run.json of {output} doesn't name the heads of task {source.task.name}, so their thresholds are unknown: "
            "0.5 is used; name --threshold"
        )
    for name in baselines.without:
        warnings.append(f"{name}: not seen in the time the baseline is taken from; left without values")
    if config.baseline.method != "none" and config.baseline.scale == "subtract" and not config.thresholds:
        warnings.append("thresholds are the head's and apply to what is left above the baseline; see --threshold")
    failed = dict(source.failed)
    return Study(config, source, rules, persons, baselines, speech, warnings, failed, standing, offsets=offsets)


def _needed(source: Source, persons: Persons) -> list[str]:
    """The videos asked for, and all others in which the same people are: a baseline is one of a person."""
    wanted = set(source.parts)
    for videos in persons.given().values():
        if not videos.isdisjoint(source.parts):
            wanted |= videos
    return sorted(wanted)


def _reader(source: Source, fps: float, unread: list[str], tell: Callable[[int], None]) -> Callable[[str], list[Trace]]:
    """Reads the traces of a video, none where that isn't possible: then ``unread`` gets its id."""
    done = 0

    def read(video: str) -> list[Trace]:
        nonlocal done
        done += 1
        tell(done)
        try:
            if video in source.every:
                return read_traces(source, video, fps)
        except InputError:  # of videos asked for, told when they are gone through themselves
            pass
        unread.append(video)
        return []

    return read


def _spans(
    uri: str, option: str, tier: str, videos: Sequence[str], warnings: list[str], offsets: Mapping[str, float]
) -> Spans | None:
    if not uri:
        return None
    spans = settle(read_spans(uri, option, tier=tier), videos, offsets)
    _tell(warnings, option, spans.missing)
    return spans


def _tell(warnings: list[str], option: str, missing: Sequence[str]) -> None:
    if missing:
        named = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        warnings.append(f"{option}: {len(missing)} names mean no video of the output: {named}")
