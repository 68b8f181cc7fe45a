"""Human coding as studies have it: ELAN tiers, lists of events, or one value per frame, named after our outputs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emobeam.emo_transforms.abaw.text_files import is_file
from emobeam.emo_transforms.inputs.user_tables import MEDIA_OFFSET, number_in, read_table
from emobeam.emo_transforms.results.media_clock import on_media_clock
from emobeam.emo_transforms.results.studies.elan_files import Annotation, ElanFile, read_eaf
from emobeam.emo_transforms.results.studies.spans import Interval, files_below, stem, who_in
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.row_keys import SUBJECTS

Floats = NDArray[np.float64]

NOT_ACTIVE = frozenset(("0", "0.0", "absent", "none", "no", "off", "false"))
"""Values of an annotation that say that the unit was not active; nothing, or anything else, says that it was."""

NOT_CODED = frozenset(("?", "na", "n/a", "nan", "uncodable", "not coded", "not visible"))
"""Values of an annotation that say that nobody could tell: the stretch is left out of every comparison."""


@dataclass(frozen=True)
class Who:
    """What a name of a tier or column means. ``subject`` and ``face`` are None where it doesn't say."""

    unit: str
    subject: str | None = None
    face: int | None = None


@dataclass(frozen=True, eq=False)
class HumanTrack:
    """What a coder said of one unit of one person in one video.

    Attributes:
        video: as the file names it.
        names: other names of the video (file, medium of an ELAN file), tried in turn where ``video`` means none.
        events: half-open stretches in which the unit was active, in s; or None where there are samples.
        not_coded: stretches nobody could tell.
        by: ``frame`` or ``time``: what places the samples.
        places, values: ``[n]`` of samples; NaN was not coded.
        source: file and tier or column, for messages.
        on_media: times are on the media's own clock, else from the first frame.
        origin: what has to be added to its times to have times of the video of a name, in s; None: unclear.
    """

    video: str
    who: Who
    source: str
    names: tuple[str, ...] = ()
    events: tuple[Interval, ...] | None = None
    not_coded: tuple[Interval, ...] = ()
    by: str = ""
    places: Floats | None = None
    values: Floats | None = None
    on_media: bool = True
    origin: Callable[[str], float | None] = lambda name: 0.0

    @property
    def samples(self) -> tuple[Floats, Floats]:
        """Places and values; raises ``ValueError`` where there are events instead."""
        if self.places is None or self.values is None:
            raise ValueError(f"{self.source}: events, no samples")
        return self.places, self.values

    def later(self, seconds: float) -> HumanTrack:
        """The same events, or samples by time, so much later."""
        if not seconds:
            return self
        if self.events is None:
            if self.by != "time" or self.places is None:
                return self
            return replace(self, places=np.array([on_media_clock(place, seconds) for place in self.places]))

        def moved(spans: tuple[Interval, ...]) -> tuple[Interval, ...]:
            return tuple((on_media_clock(start, seconds), on_media_clock(end, seconds)) for start, end in spans)

        events, not_coded = moved(self.events), moved(self.not_coded)
        return replace(self, events=events, not_coded=not_coded)


@dataclass(frozen=True)
class HumanCoding:
    """All that was read.

    Attributes:
        unmatched: what could not be used and why, for people.
    """

    tracks: tuple[HumanTrack, ...]
    unmatched: tuple[str, ...]


def name_parser(
    outputs: Sequence[str], mapping: Mapping[str, Who] | None = None, subjects: Iterable[str] = ()
) -> Callable[[str], Who | None]:
    """Makes what tells which output the name of a tier or column means.

    Capitals, blanks, ``_``, ``-`` and leading zeros of a number don't matter, and a subject and a face may follow:
    ``AU12``, ``AU 12``, ``au_12``, ``AU12_face0``, ``AU12 (face 1)``, ``AU12@left``, ``Happiness_right_face0``.

    Args:
        mapping: names in small letters that mean something else; they win.
        subjects: names of subjects besides ``left`` and ``right``.
    """
    known = {_plain(name): name for name in outputs}
    people = {name.lower(): name for name in (*SUBJECTS, *subjects) if name}
    mapping = mapping or {}
    listed = "|".join(re.escape(name) for name in sorted(people, key=len, reverse=True))
    between = r"[\s_@:.(\[-]+"
    pattern = re.compile(
        rf"(?P<unit>.*?)(?:{between}(?P<subject>{listed}))?(?:{between}face[\s_#-]*(?P<face>\d+))?[\s)\]]*",
        re.IGNORECASE | re.DOTALL,
    )

    def parse(name: str) -> Who | None:
        if name.strip().lower() in mapping:
            return mapping[name.strip().lower()]
        match = pattern.fullmatch(name.strip())
        unit = known.get(_plain(match["unit"])) if match else None
        if match is None or unit is None:
            return None
        subject = people[match["subject"].lower()] if match["subject"] else None
        return Who(unit, subject, int(match["face"]) if match["face"] else None)

    return parse


def _plain(name: str) -> str:
    letters = re.sub(r"[\s_-]+", "", name).lower()
    return re.sub(r"(?<=\D)0+(?=\d)", "", letters)


def read_tier_map(uri: str, outputs: Sequence[str]) -> dict[str, Who]:
    """Reads CSV ``tier,unit[,subject,face]``; the unit ``*`` says that a tier's annotations name units by their values,
    an empty one that the tier isn't meant for us.

    Raises:
        UsageError: a unit that the task doesn't have; names the line.
    """
    plain = name_parser(outputs)
    mapping = {}
    for row in read_table(uri, "--tier-map", ("tier", "unit")):
        subject, face = who_in(row, uri, "--tier-map")
        unit = row["unit"]
        if unit not in ("*", ""):
            found = plain(unit)
            if found is None:
                listed = ", ".join(outputs)
                raise UsageError(f"--tier-map {uri}, line {row['']}: no output is called {unit}; there are {listed}")
            unit = found.unit
        mapping[row["tier"].lower()] = Who(unit, subject, face)
    return mapping


def read_human(
    uri: str,
    outputs: Sequence[str],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    subjects: Iterable[str] = (),
    style: str = "",
    tier_map: str = "",
) -> HumanCoding:
    """Reads human coding.

    Args:
        uri: an ELAN file, a CSV file, or a folder of either (walked).
        outputs: names of the task's outputs.
        groups: classes by the name of a tier whose annotations name one of them each (``expr``).
        subjects: names of subjects that may stand in names of tiers, besides ``left`` and ``right``.
        style: ``elan`` or ``csv``; ``""``: by the extension.
        tier_map: URI of a file for :func:`read_tier_map`.

    Raises:
        EmobeamError, UsageError: nothing usable there; names file and line.
    """
    mapping = read_tier_map(tier_map, outputs) if tier_map else {}
    parse = name_parser([*outputs, *(groups or {})], mapping, subjects)
    tracks: list[HumanTrack] = []
    unmatched: list[str] = []
    for file, name in _files(uri, style):
        elan = style == "elan" or (style != "csv" and file.lower().endswith(".eaf"))
        found, left = _from_elan(read_eaf(file), name, parse, groups or {}) if elan else _from_csv(file, parse, outputs)
        tracks += found
        unmatched += left
    if not tracks:
        reasons = "; ".join(unmatched[:5])
        raise EmobeamError(
            f"--human {uri}: nothing in it is about {', '.join(outputs)} ({reasons}); name tiers by --tier-map"
        )
    return HumanCoding(tuple(tracks), tuple(unmatched))


def _files(uri: str, style: str) -> list[tuple[str, str]]:
    """Files and their names below ``uri`` without extension."""
    ends = {"elan": (".eaf",), "csv": (".csv", ".tsv")}.get(style, (".eaf", ".csv", ".tsv"))
    try:
        return [(uri, stem(uri))] if is_file(uri) else files_below(uri, ends)
    except EmobeamError as error:
        raise EmobeamError(f"--human {error}") from error


def _from_elan(
    file: ElanFile, own: str, parse: Callable[[str], Who | None], groups: Mapping[str, Sequence[str]]
) -> tuple[list[HumanTrack], list[str]]:
    media = tuple(stem(name) for name in (file.uri, *(each.name for each in file.media)))
    rows: dict[Who, list[tuple[Interval, str]]] = {}
    sources: dict[Who, list[str]] = defaultdict(list)
    unmatched = []
    for tier, stretches in file.tiers.items():
        who = parse(tier)
        if who is None:
            unmatched.append(f"{file.uri}: tier '{tier}' is no output of the task")
            continue
        if lost := file.untimed.get(tier):
            unmatched.append(f"{file.uri}: tier '{tier}': {lost} annotations without time")
        if not who.unit:
            continue
        if who.unit == "*" or who.unit in groups:
            found, told = _named_by_values(who, stretches, parse, groups)
            unmatched += [f"{file.uri}: tier '{tier}', {text}" for text in told]
        else:
            found = {who: [((each.start, each.end), each.value) for each in stretches]}
        for meant, spans in found.items():
            rows.setdefault(meant, []).extend(spans)
            sources[meant].append(tier)
    tracks = []
    for who, spans in rows.items():
        events, not_coded = _sorted_out(spans)
        source = f"{file.uri}: {', '.join(dict.fromkeys(sources[who]))}"
        track = HumanTrack(own, who, source, names=media, events=events, not_coded=not_coded, origin=file.origin)
        tracks.append(track)
    return tracks, unmatched


def _named_by_values(
    tier: Who,
    stretches: Iterable[Annotation],
    parse: Callable[[str], Who | None],
    groups: Mapping[str, Sequence[str]],
) -> tuple[dict[Who, list[tuple[Interval, str]]], list[str]]:
    """Stretches by what the annotations of a tier name, and what they name that is no output.

    A coder who writes ``?`` or a word of their own has not said that our outputs were inactive: there nothing that the
    tier is about is coded.
    """
    # Whoever names one class of a group has looked for all of them.
    found: dict[Who, list[tuple[Interval, str]]] = {
        Who(unit, tier.subject, tier.face): [] for unit in groups.get(tier.unit, ())
    }
    unknown: list[Interval] = []
    told = []
    for each in stretches:
        word = each.value.strip().lower()
        named = parse(each.value)
        if named is not None and named.unit not in ("*", "", *groups):
            face = tier.face if named.face is None else named.face
            meant = Who(named.unit, named.subject or tier.subject, face)
            found.setdefault(meant, []).append(((each.start, each.end), ""))
        elif word not in NOT_ACTIVE:
            unknown.append((each.start, each.end))
            if word not in NOT_CODED:
                told.append(f"{each.start:g} s: '{each.value}' is no output of the task; taken as not coded")
    for spans in found.values():
        spans += [(interval, "?") for interval in unknown]
    return found, told


def _sorted_out(spans: Iterable[tuple[Interval, str]]) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
    active, unknown = [], []
    for interval, value in spans:
        word = value.strip().lower()
        if word in NOT_CODED:
            unknown.append(interval)
        elif word not in NOT_ACTIVE:
            active.append(interval)
    return tuple(sorted(active)), tuple(sorted(unknown))


def _from_csv(
    uri: str, parse: Callable[[str], Who | None], outputs: Sequence[str]
) -> tuple[list[HumanTrack], list[str]]:
    rows = read_table(uri, "--human", ())
    if not rows:
        return [], [f"{uri}: has no rows"]
    columns = [name for name in rows[0] if name]
    for row in rows:
        row.setdefault("video", stem(uri))
    if {"unit", "onset", "offset"} <= set(columns):
        return _from_event_rows(uri, rows, parse, outputs)
    by = next((name for name in ("frame", "time") if name in columns), "")
    if not by:
        raise UsageError(
            f"--human {uri}: needs video, unit, onset and offset (s), or video, frame or time (s) and a column per "
            f"output; it has {', '.join(columns)}"
        )
    return _from_sample_rows(uri, rows, columns, by, parse, outputs)


def _from_event_rows(
    uri: str, rows: Sequence[Mapping[str, str]], parse: Callable[[str], Who | None], outputs: Sequence[str]
) -> tuple[list[HumanTrack], list[str]]:
    spans: dict[tuple[str, Who], list[tuple[Interval, str]]] = defaultdict(list)
    unknown: dict[str, int] = defaultdict(int)
    whole: dict[str, set[tuple[str | None, int | None]]] = defaultdict(set)
    units: dict[str, None] = {}
    for row in rows:
        who = parse(row["unit"])
        subject, face = who_in(row, uri, "--human")
        if who is None or who.unit not in outputs:
            unknown[row["unit"]] += 1
            continue
        who = Who(who.unit, subject or who.subject, who.face if face is None else face)
        whole[row["video"]].add((who.subject, who.face))
        units[who.unit] = None
        key = (row["video"], who)
        if not row["onset"] and not row["offset"]:
            spans[key] += []  # an empty row says that the unit was coded and never active
            continue
        onset, offset = (number_in(row, column, uri, "--human") for column in ("onset", "offset"))
        if not onset < offset:
            raise UsageError(f"--human {uri}, line {row['']}: ends at {offset:g} s, before it starts at {onset:g} s")
        spans[key].append(((onset, offset), row.get("value", "")))
    unmatched = [f"{uri}: unit '{name}' ({count} rows) is no output of the task" for name, count in unknown.items()]
    silent = 0
    for video, people in whole.items():
        for subject, face in people:
            for unit in units:
                silent += (video, Who(unit, subject, face)) not in spans
                spans[video, Who(unit, subject, face)] += []
    if silent:
        unmatched.append(
            f"{uri}: {silent} times a unit of the file has no row in a video of the file; taken as coded and never "
            "active"
        )
    on_media = MEDIA_OFFSET not in rows[0]
    tracks = []
    for (video, who), found in spans.items():
        events, not_coded = _sorted_out(found)
        source = f"{uri}: {who.unit}"
        tracks.append(HumanTrack(video, who, source, events=events, not_coded=not_coded, on_media=on_media))
    return tracks, unmatched


def _from_sample_rows(
    uri: str,
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    by: str,
    parse: Callable[[str], Who | None],
    outputs: Sequence[str],
) -> tuple[list[HumanTrack], list[str]]:
    plain = {"video", "subject", "face", "frame", "time", MEDIA_OFFSET}
    meant = {name: parse(name) for name in columns if name not in plain}
    unmatched = [f"{uri}: column '{name}' is no output of the task" for name, who in meant.items() if who is None]
    groups: dict[tuple[str, str | None, int | None], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        groups[row["video"], *who_in(row, uri, "--human")].append(row)
    tracks = []
    for (video, subject, face), held in groups.items():
        places = np.array([number_in(row, by, uri, "--human") for row in held])
        order = np.argsort(places, kind="stable")
        if len(np.unique(places)) < len(places):
            raise UsageError(f"--human {uri}: {video} has two rows of one {by}; add the columns subject or face")
        for name, who in meant.items():
            if who is None or who.unit not in outputs:
                continue
            values = np.array([_sample(row, name, uri) for row in held])
            mine = Who(who.unit, subject or who.subject, who.face if face is None else face)
            source = f"{uri}: {name}"
            samples = HumanTrack(video, mine, source, by=by, places=places[order], values=values[order])
            tracks.append(replace(samples, on_media=MEDIA_OFFSET not in rows[0]))
    return tracks, unmatched


def _sample(row: Mapping[str, str], column: str, uri: str) -> float:
    if not row[column] or row[column].lower() in NOT_CODED:
        return float("nan")
    return number_in(row, column, uri, "--human")
