"""Agreement of predictions with human coding: frames and events, per unit and per video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.scoring.partial_sums import MomentSums
from emobeam.emo_transforms.results.studies.agreement.comparing import AgreeConfig, Comparison, compare_track
from emobeam.emo_transforms.results.studies.agreement.event_pairs import EventPair
from emobeam.emo_transforms.results.studies.agreement.human_coding import HumanCoding, HumanTrack
from emobeam.emo_transforms.results.studies.agreement.matching import median_or_nan
from emobeam.emo_transforms.results.studies.agreement.reliability import (
    binary_figures,
    bootstrap_groups,
    continuous_figures,
    draws,
    event_figures,
    interval,
)
from emobeam.emo_transforms.results.studies.event_rules import note_of
from emobeam.emo_transforms.results.studies.spans import Spans
from emobeam.emo_transforms.results.studies.study import Study, StudyTrace
from emobeam.schemas.row_keys import match_names

Cell = tuple[str, str, int, int]
"""(video, subject, face, block of time): the smallest thing that belongs to one unit of the bootstrap."""


@dataclass(frozen=True)
class Units:
    """What the bootstrap draws.

    Attributes:
        of: number of the unit, from 0, of each cell.
        count: of units.
        over: what they are, for tables.
    """

    of: Mapping[Cell, int]
    count: int
    over: str


@dataclass
class Agreement:
    """What was compared.

    Attributes:
        comparisons: by video, subject, face and unit.
        unmatched: what was coded or predicted and could not be compared, and why.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """Remembers what could not be compared, once."""
        if text not in self.unmatched:
            self.unmatched.append(text)


def compare(
    study: Study,
    coding: HumanCoding,
    config: AgreeConfig,
    coded: Spans | None = None,
    watch: Callable[[Study], AbstractContextManager[object]] = nullcontext,
) -> Agreement:
    """Compares all that was coded with all that was predicted; reads only videos that were coded.

    Args:
        coded: stretches that coders looked at; None: they looked at all of every video they name.
        watch: told of the study of the coded videos alone, entered while they are read.
    """
    config.check()
    result = Agreement(unmatched=list(coding.unmatched))
    tracks = _by_video(study, coding.tracks, result)
    parts = {video: uri for video, uri in study.source.parts.items() if video in tracks}
    narrowed = replace(study, source=replace(study.source, parts=parts))
    done: set[tuple[str, str, int, str]] = set()
    with watch(narrowed):
        for faces in narrowed.traces():
            for track, side in tracks[faces[0].trace.video] if faces else []:
                found = _compared(study, faces, track, side, config, coded, result, done)
                if found is not None:
                    result.comparisons.append(found)
    without = sorted(set(study.source.parts) - {each.video for each in result.comparisons} - set(study.failed))
    if without:
        named = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
        result.tell(f"{len(without)} predicted videos have no human coding that could be compared: {named}")
    return result


def _by_video(study: Study, tracks: Sequence[HumanTrack], result: Agreement) -> dict[str, list[tuple[HumanTrack, str]]]:
    by_video: dict[str, list[tuple[HumanTrack, str]]] = defaultdict(list)
    lost: dict[str, int] = defaultdict(int)
    names = [name for track in tracks for name in (track.video, *track.names)]
    # What was coded in a video that can't be read is told as the video's failure.
    matches = match_names(names, sorted({*study.source.parts, *study.failed}), strict=False)
    for track in tracks:
        for name in (track.video, *track.names):
            if name in matches.unclear:
                result.tell(f"{track.source}: {matches.unclear[name]}")
            if name in matches.found:
                video, side = matches.found[name]
                later = track.origin(name)
                if later is None:
                    result.tell(
                        f"{track.source}: its media begin at different times; name the file after the one that is meant"
                    )
                else:
                    since = later - study.offsets.get(video, 0.0) if track.on_media else 0.0
                    by_video[video].append((track.later(since), side))
                break
        else:
            lost[track.video] += 1
    for video, count in lost.items():
        result.tell(f"{video}: coded ({count} tracks), but not among the predicted videos")
    return by_video


def _compared(
    study: Study,
    faces: Sequence[StudyTrace],
    track: HumanTrack,
    side: str,
    config: AgreeConfig,
    coded: Spans | None,
    result: Agreement,
    done: set[tuple[str, str, int, str]],
) -> Comparison | None:
    video = faces[0].trace.video
    subject, face = side or track.who.subject, track.who.face or 0
    subjects = sorted({each.trace.subject for each in faces})
    if subject is None and len(subjects) > 1:
        listed = ", ".join(name or "the main face" for name in subjects)
        result.tell(f"{track.source}: {video} has several people ({listed}); say which one is meant")
        return None
    wanted = subjects[0] if subject is None else subject
    each = next((each for each in faces if (each.trace.subject, each.trace.face) == (wanted, face)), None)
    if each is None:
        who = f"subject {wanted}, face {face}" if wanted else f"face {face}"
        result.tell(f"{track.source}: nothing was predicted for {who} of {video}")
        return None
    key = (video, each.trace.subject, each.trace.face, track.who.unit)
    if key in done:
        result.tell(f"{track.source}: {video} was coded for {track.who.unit} twice; the first one counts")
        return None
    if track.who.unit in study.source.marks.unknown:
        result.tell(f"{track.who.unit}: was coded, but nobody taught it to the head; there is nothing to compare")
        return None
    column = study.source.task.outputs.index(track.who.unit)
    group = next(group for group in study.source.task.groups if track.who.unit in group.outputs)
    rule = next((rule for rule in study.rules.all if rule.unit == track.who.unit), None)
    if group.kind == "value":
        rule = None
        if track.events is not None:
            result.tell(f"{track.source}: {track.who.unit} is a value, and needs one per frame or time")
            return None
    done.add(key)
    stretches = None
    if coded is not None:
        stretches = [(span.start, span.end) for span in coded.of(*each.trace.key)]
    return compare_track(
        each,
        track,
        rule,
        column,
        config,
        span=(group.low, group.high),
        coded=stretches,
        shortest=study.rules.min_duration,
    )


def unit_rows(study: Study, comparisons: Sequence[Comparison], config: AgreeConfig) -> list[dict[str, Any]]:
    """One row per unit over all videos, with 95 % intervals."""
    rows = []
    for unit in study.source.task.outputs:
        mine = [each for each in comparisons if each.unit == unit]
        if mine:
            rows.append(_row(study, unit, mine, config, intervals=True))
    return rows


def video_rows(study: Study, comparisons: Sequence[Comparison], config: AgreeConfig) -> list[dict[str, Any]]:
    """One row per unit and face of a video, without intervals."""
    return [
        {
            "video": each.video,
            "subject": each.subject,
            "face": each.face,
            "person": each.person,
            **_row(study, each.unit, [each], config, intervals=False),
        }
        for each in comparisons
    ]


def pair_rows(comparisons: Iterable[Comparison]) -> list[dict[str, Any]]:
    """One row per event of the coder, the program or both."""
    rows = []
    for each in comparisons:
        for pair in each.pairs:
            human, program = pair.human or (None, None), pair.program or (None, None)
            rows.append(
                {
                    "video": each.video,
                    "subject": each.subject,
                    "face": each.face,
                    "unit": each.unit,
                    "outcome": pair.outcome,
                    "human_onset": human[0],
                    "human_offset": human[1],
                    "program_onset": program[0],
                    "program_offset": program[1],
                    "onset_lag": pair.onset_lag,
                    "offset_lag": pair.offset_lag,
                }
            )
    return rows


def _row(
    study: Study, unit: str, mine: Sequence[Comparison], config: AgreeConfig, *, intervals: bool
) -> dict[str, Any]:
    continuous = mine[0].continuous
    units = _units(study, mine, config)
    row: dict[str, Any] = {
        "task": study.source.task.name,
        "unit": unit,
        "kind": "continuous" if continuous else "active or not",
        "moments": sum(len(each.times) for each in mine),
        "not_seen": sum(each.not_seen for each in mine),
        "not_coded": sum(each.not_coded for each in mine),
        "videos": len({each.video for each in mine}),
        "persons": len({each.person for each in mine}),
        "interval_over": units.over if intervals else "",
        "interval_units": units.count if intervals else None,
        "baseline": study.config.baseline.text,
        "note": note_of(unit, untrained=study.source.untrained, marks=study.source.marks),
    }
    enough = intervals and units.count >= config.min_units
    weights = draws(units.count, config.resamples, config.seed) if enough else None
    row |= (_continuous if continuous else _binary)(mine, units, weights, config)
    if not continuous:
        row |= {"match": config.match.text, **_events(mine, units, weights, config)}
    return row


def _units(study: Study, mine: Sequence[Comparison], config: AgreeConfig) -> Units:
    """People, or videos where nobody is named; blocks of time of a video where there are too few of those."""
    named = bool(study.config.persons)
    owner = {cell: each.person if named else each.video for each in mine for cell in _cells_of(each, config)}
    if len(set(owner.values())) >= config.min_units:
        return _numbered(owner, "persons" if named else "videos")
    # People who were recorded together are no independent blocks.
    return _numbered({cell: (cell[0], cell[-1]) for cell in owner}, f"blocks of {config.block:g} s")


def _numbered(owner: Mapping[Cell, Any], over: str) -> Units:
    order = {name: index for index, name in enumerate(sorted(set(owner.values())))}
    return Units({cell: order[name] for cell, name in owner.items()}, len(order), over)


def _cells_of(each: Comparison, config: AgreeConfig) -> set[Cell]:
    moments = {_cell(each, float(block)) for block in np.unique(each.times // config.block)}
    return moments | {_cell_of(each, pair, config) for pair in each.pairs if pair.counts}


def _cell(each: Comparison, block: float) -> Cell:
    return each.video, each.subject, each.face, int(block)


def _cell_of(each: Comparison, pair: EventPair, config: AgreeConfig) -> Cell:
    return _cell(each, pair.begin // config.block)


def _unit_of_moments(each: Comparison, units: Units, config: AgreeConfig) -> NDArray[np.int64]:
    blocks, rows = np.unique(each.times // config.block, return_inverse=True)
    return np.array([units.of[_cell(each, block)] for block in blocks.tolist()], np.int64)[rows]


def _binary(
    mine: Sequence[Comparison], units: Units, weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    counts = np.zeros((units.count, 2, 2))
    for each in mine:
        unit = _unit_of_moments(each, units, config)
        np.add.at(counts, (unit, each.human.astype(int), each.program.astype(int)), 1)
    row = {name: float(value) for name, value in binary_figures(counts.sum(axis=0)).items()}
    if weights is not None:
        drawn = binary_figures(np.tensordot(weights.astype(float), counts, 1))
        for name in ("kappa", "pabak", "f1"):
            row[f"{name}_low"], row[f"{name}_high"] = interval(drawn[name])
    return row


def _continuous(
    mine: Sequence[Comparison], units: Units, weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    human = np.concatenate([each.human for each in mine])
    program = np.concatenate([each.program for each in mine])
    unit = np.concatenate([_unit_of_moments(each, units, config) for each in mine])
    row = {
        name: float(value[0])
        for name, value in continuous_figures(MomentSums.of(human[:, None], program[:, None])).items()
    }
    if weights is not None:
        parts = [
            MomentSums.of(human[unit == index][:, None], program[unit == index][:, None])
            for index in range(units.count)
        ]
        drawn = continuous_figures(MomentSums.weighted(parts, weights.astype(float)))
        for name in ("icc2_1", "icc3_1", "ccc"):
            row[f"{name}_low"], row[f"{name}_high"] = interval(drawn[name][:, 0])
    return row


def _events(
    mine: Sequence[Comparison], units: Units, weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    kinds = {"matched": 0, "missed": 1, "extra": 2}
    counts = np.zeros((units.count, 3))
    lags: dict[str, list[list[float]]] = {
        name: [[] for _ in range(units.count)] for name in ("onset_lag", "offset_lag")
    }
    left_out = {"not seen": 0, "not coded": 0}
    for each in mine:
        for pair in each.pairs:
            if pair.outcome in left_out:
                left_out[pair.outcome] += 1
                continue
            unit = units.of[_cell_of(each, pair, config)]
            counts[unit, kinds[pair.outcome]] += 1
            for name, lag in (("onset_lag", pair.onset_lag), ("offset_lag", pair.offset_lag)):
                if lag is not None:
                    lags[name][unit].append(lag)
    total = counts.sum(axis=0)
    row: dict[str, Any] = {
        "human_events": int(total[0] + total[1]),
        "program_events": int(total[0] + total[2]),
        "matched": int(total[0]),
        "missed": int(total[1]),
        "extra": int(total[2]),
        "human_events_not_seen": left_out["not seen"],
        "program_events_not_coded": left_out["not coded"],
        **{name: float(value) for name, value in _event_figures(total).items()},
    }
    for name, groups in lags.items():
        row[name] = median_or_nan([lag for group in groups for lag in group])
        if weights is not None:
            row[f"{name}_low"], row[f"{name}_high"] = bootstrap_groups(groups, median_or_nan, weights)
    if weights is not None:
        drawn = _event_figures(weights.astype(float) @ counts)
        row["event_f1_low"], row["event_f1_high"] = interval(drawn["event_f1"])
    return row


def _event_figures(counts: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    matched, missed, extra = counts[..., 0], counts[..., 1], counts[..., 2]
    return event_figures(matched, matched + missed, matched + extra)
