"""Agreement of predictions with human coding: frames and events, per unit and per video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_transforms.abaw.keys import match_names
from emo_transforms.metrics import BinarySums, MomentSums
from emo_transforms.studies.comparing import AgreeConfig, Comparison, EventPair, compare_track
from emo_transforms.studies.human import HumanCoding, HumanTrack
from emo_transforms.studies.matching import median_or_nan
from emo_transforms.studies.reliability import (
    binary_figures,
    bootstrap_groups,
    continuous_figures,
    draws,
    event_figures,
    interval,
)
from emo_transforms.studies.rules import note_of
from emo_transforms.studies.spans import Spans
from emo_transforms.studies.study import Study, StudyTrace
from schemas.records import EmobeamError

Cell = tuple[str, int]
"""(video, block of time): the smallest thing that the bootstrap draws."""


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


def compare(study: Study, coding: HumanCoding, config: AgreeConfig, coded: Spans | None = None) -> Agreement:
    """Compares all that was coded with all that was predicted.

    Args:
        coded: stretches that coders looked at; None: they looked at all of every video they name.
    """
    config.check()
    result = Agreement(unmatched=list(coding.unmatched))
    tracks = _by_video(study, coding.tracks, result)
    for faces in study.traces():
        for track, side in tracks.pop(faces[0].trace.video, []) if faces else []:
            found = _compared(study, faces, track, side, config, coded, result)
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
    found: dict[str, tuple[str, str]] = {}
    tried: set[str] = set()
    for track in tracks:
        for name in (track.video, *track.names):
            if name not in tried:
                tried.add(name)
                try:
                    found |= match_names([name], study.source.parts).found
                except EmobeamError as error:
                    result.tell(f"{track.source}: {error}")
            if name in found:
                by_video[found[name][0]].append((track, found[name][1]))
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
    if any((c.video, c.subject, c.face, c.unit) == key for c in result.comparisons):
        result.tell(f"{track.source}: {video} was coded for {track.who.unit} twice; the first one counts")
        return None
    column = study.source.task.outputs.index(track.who.unit)
    group = next(group for group in study.source.task.groups if track.who.unit in group.outputs)
    rule = next((rule for rule in study.rules.all if rule.unit == track.who.unit), None)
    if group.kind == "value":
        rule = None
        if track.events is not None:
            result.tell(f"{track.source}: {track.who.unit} is a value, and needs one per frame or time")
            return None
    stretches = None
    if coded is not None:
        stretches = [(span.start, span.end) for span in coded.of(*each.trace.key)]
    return compare_track(each, track, rule, column, config, span=(group.low, group.high), coded=stretches)


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
    owners, over = _owners(study, mine, config)
    row: dict[str, Any] = {
        "task": study.source.task.name,
        "unit": unit,
        "kind": "continuous" if continuous else "active or not",
        "moments": sum(len(each.times) for each in mine),
        "not_seen": sum(each.not_seen for each in mine),
        "not_coded": sum(each.not_coded for each in mine),
        "videos": len({each.video for each in mine}),
        "persons": len({each.person for each in mine}),
        "interval_over": over if intervals else "",
        "interval_units": len(owners) if intervals else None,
        "baseline": study.config.baseline.text,
        "note": note_of(unit, untrained=study.source.untrained),
    }
    enough = intervals and len(owners) >= config.min_units
    weights = draws(len(owners), config.resamples, config.seed) if enough else None
    row |= (_continuous if continuous else _binary)(mine, owners, weights, config)
    if not continuous:
        row |= {"match": config.match.text, **_events(mine, owners, weights, config)}
    return row


def _owners(study: Study, mine: Sequence[Comparison], config: AgreeConfig) -> tuple[dict[Cell, int], str]:
    """Number of the bootstrap's unit of each cell, and what the units are."""
    cells = sorted({cell for each in mine for cell in _cells_of(each, config)})
    person = {each.video: each.person for each in mine}
    named = bool(study.config.persons)
    people = [person[video] if named else video for video, _ in cells]
    if len(set(people)) >= config.min_units:
        order = {name: index for index, name in enumerate(sorted(set(people)))}
        owners = {cell: order[name] for cell, name in zip(cells, people, strict=True)}
        return _Units(owners), "persons" if named else "videos"
    return _Units({cell: index for index, cell in enumerate(cells)}), f"blocks of {config.block:g} s"


class _Units(dict[Cell, int]):
    """Units by cell; its length is the number of units."""

    def __len__(self) -> int:
        return max(self.values(), default=-1) + 1


def _cells_of(each: Comparison, config: AgreeConfig) -> set[Cell]:
    moments = {(each.video, int(block)) for block in np.unique(each.times // config.block)}
    return moments | {_cell(each, pair, config) for pair in each.pairs}


def _cell(each: Comparison, pair: EventPair, config: AgreeConfig) -> Cell:
    event = pair.human or pair.program
    assert event is not None
    return each.video, int(event[0] // config.block)


def _unit_of_moments(each: Comparison, owners: Mapping[Cell, int], config: AgreeConfig) -> NDArray[np.int64]:
    blocks, rows = np.unique(each.times // config.block, return_inverse=True)
    return np.array([owners[each.video, int(block)] for block in blocks], np.int64)[rows]


def _binary(
    mine: Sequence[Comparison], owners: Mapping[Cell, int], weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    counts = np.zeros((len(owners), 2, 2))
    for each in mine:
        unit = _unit_of_moments(each, owners, config)
        np.add.at(counts, (unit, each.human.astype(int), each.program.astype(int)), 1)
    assert BinarySums(counts.sum(axis=0)[None]).rows == sum(len(each.times) for each in mine)
    row = {name: float(value) for name, value in binary_figures(counts.sum(axis=0)).items()}
    if weights is not None:
        drawn = binary_figures(np.tensordot(weights.astype(float), counts, 1))
        for name in ("kappa", "pabak", "f1"):
            row[f"{name}_low"], row[f"{name}_high"] = interval(drawn[name])
    return row


def _continuous(
    mine: Sequence[Comparison], owners: Mapping[Cell, int], weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    human = np.concatenate([each.human for each in mine])
    program = np.concatenate([each.program for each in mine])
    unit = np.concatenate([_unit_of_moments(each, owners, config) for each in mine])
    row = {
        name: float(value[0])
        for name, value in continuous_figures(MomentSums.of(human[:, None], program[:, None])).items()
    }
    if weights is not None:
        parts = [
            MomentSums.of(human[unit == index][:, None], program[unit == index][:, None])
            for index in range(len(owners))
        ]
        drawn = continuous_figures(MomentSums.weighted(parts, weights.astype(float)))
        for name in ("icc2_1", "icc3_1", "ccc"):
            row[f"{name}_low"], row[f"{name}_high"] = interval(drawn[name][:, 0])
    return row


def _events(
    mine: Sequence[Comparison], owners: Mapping[Cell, int], weights: NDArray[np.int64] | None, config: AgreeConfig
) -> dict[str, Any]:
    kinds = {"matched": 0, "missed": 1, "extra": 2}
    counts = np.zeros((len(owners), 3))
    lags: dict[str, list[list[float]]] = {
        name: [[] for _ in range(len(owners))] for name in ("onset_lag", "offset_lag")
    }
    left_out = {"not seen": 0, "not coded": 0}
    for each in mine:
        for pair in each.pairs:
            if pair.outcome in left_out:
                left_out[pair.outcome] += 1
                continue
            unit = owners[_cell(each, pair, config)]
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
