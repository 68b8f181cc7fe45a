"""ELAN documents (``.eaf``, EAF 3.0): when units were active and which expression scored highest, as spans on tiers.

A tier is one unit of one face: ``AU12_face0``, annotated with the peak of each span (``0.87``). A set of classes is one
tier, annotated with the winning class out of a controlled vocabulary. Valence and arousal are traces, not spans: they
are left out here, and ELAN shows them from the CSV export as a linked secondary file.

Format: EAFv3.0.xsd of the Max Planck Institute for Psycholinguistics (order of elements and attributes is its own).
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emobeam.emo_transforms.results.exports.gather import columns_of, limits_of
from emobeam.emo_transforms.results.media_clock import on_media_clock
from emobeam.emo_transforms.results.studies.event_rules import make_rules, trace_events
from emobeam.emo_transforms.results.studies.events import Event
from emobeam.emo_transforms.results.studies.face_series import Trace
from emobeam.emo_transforms.results.studies.persons import Persons
from emobeam.schemas.task_form import Task

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SPANS = "spans"

_CONSTRAINTS = (
    ("Time_Subdivision", "Time subdivision of parent annotation's time interval, no time gaps allowed"),
    ("Symbolic_Subdivision", "Symbolic subdivision of a parent annotation, ordered"),
    ("Symbolic_Association", "1-1 association with a parent annotation"),
    ("Included_In", "Time alignable annotations within the parent annotation's time interval, gaps are allowed"),
)
"""The stereotypes that ELAN expects in every document."""


@dataclass(frozen=True)
class Tier:
    """Spans of one unit of one face.

    Attributes:
        name: of the tier, unique in its document.
        participant: whose it is, for people.
        spans: onset and offset in ms and the text, in order of time, disjoint.
        vocabulary: name of the controlled vocabulary that its texts are from, or ``""``.
    """

    name: str
    participant: str
    spans: tuple[tuple[int, int, str], ...]
    vocabulary: str = ""


@dataclass(frozen=True)
class Media:
    """The clip a document is about.

    Attributes:
        url: ``file:///...`` or another URL.
        relative: path of the clip from the document, ``""`` if there is none.
        mime: its type, ``video/mp4``.
    """

    url: str
    relative: str = ""
    mime: str = "video/mp4"


def unit_tiers(
    traces: Mapping[str, Sequence[Trace]],
    tasks: Sequence[Task],
    run: Mapping[str, Any],
    persons: Persons,
    *,
    min_duration: float,
    merge_gap: float,
    first_frame: float = 0.0,
) -> list[Tier]:
    """Tiers of one video, for every face and every unit or set of classes, those without any span too.

    Spans are the events of ``emobeam events`` (:func:`.results.studies.event_rules.trace_events`).

    Args:
        traces: by name of the task, see ``gather.video_traces``.
        tasks: the frame-level tasks of the export.
        run: ``run.json``, for thresholds.
        persons: who is who: a span ends where a face is taken over by another person.
        first_frame: its place on the media's own clock in s, which ELAN shows.
        min_duration, merge_gap: seconds, see ``emobeam.emo_transforms.results.studies.events.find_events``.
    """
    tiers = []
    for subject, face in sorted({(trace.subject, trace.face) for own in traces.values() for trace in own}):
        who = f"{subject}_face{face}" if subject else f"face{face}"
        for task in tasks:
            columns = columns_of(tasks)[task.name]
            rules = make_rules(task, limits_of(run, task), min_duration=min_duration, merge_gap=merge_gap)
            own = [trace for trace in traces.get(task.name, ()) if (trace.subject, trace.face) == (subject, face)]
            found = [event for t in own for _, event in trace_events(t, t.values, rules, persons.of(t)[1])]
            for group in task.groups:
                if group.kind == "class":
                    won = sorted((event for event in found if event.unit in group.outputs), key=lambda each: each.onset)
                    tiers.append(Tier(f"{task.name}_{who}", who, _spans(won, first_frame, classes=True), task.name))
                elif group.kind == "binary":
                    for output in group.outputs:
                        mine = [event for event in found if event.unit == output]
                        tiers.append(Tier(f"{columns[output]}_{who}", who, _spans(mine, first_frame, classes=False)))
    return tiers


def _spans(events: Sequence[Event], first_frame: float, *, classes: bool) -> tuple[tuple[int, int, str], ...]:
    # Rounded down, both ends leave every frame on its side: none is counted in or out that wasn't.
    spans: list[tuple[int, int, str]] = []
    for event in events:
        onset = max(math.floor(on_media_clock(event.onset, first_frame) * 1000), spans[-1][1] if spans else 0)
        # ELAN has no annotation without a duration.
        offset = max(math.floor(on_media_clock(event.offset, first_frame) * 1000), onset + 1)
        spans.append((onset, offset, event.unit if classes else f"{event.peak:.2f}"))
    return tuple(spans)


def vocabularies_of(tasks: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """The classes of each task that has some, by the name of their vocabulary."""
    return {task.name: group.outputs for task in tasks for group in task.groups if group.kind == "class"}


def eaf_document(
    tiers: Sequence[Tier],
    *,
    date: str,
    media: Media | None = None,
    vocabularies: Mapping[str, Sequence[str]] | None = None,
    properties: Mapping[str, str] | None = None,
) -> bytes:
    """An ELAN document as UTF-8 XML.

    Args:
        date: ISO 8601 with time zone.
        media: the clip; None leaves it to the person who opens the document.
        vocabularies: the classes by name of the vocabulary.
        properties: notes for the header, for people and programs.
    """
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "emobeam",
            "DATE": date,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _XSI,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if media is not None:
        place = {"MEDIA_URL": media.url, "MIME_TYPE": media.mime}
        if media.relative:
            place["RELATIVE_MEDIA_URL"] = media.relative
        ET.SubElement(header, "MEDIA_DESCRIPTOR", {key: _clean(text) for key, text in place.items()})
    count = sum(len(tier.spans) for tier in tiers)
    for name, text in {**(properties or {}), "lastUsedAnnotationId": str(count)}.items():
        ET.SubElement(header, "PROPERTY", {"NAME": name}).text = _clean(text)
    slots = _add_time_order(root, tiers)
    annotation = 0
    for index, tier in enumerate(tiers):
        kind = tier.vocabulary or _SPANS
        attributes = {
            "LINGUISTIC_TYPE_REF": kind,
            "PARTICIPANT": _clean(tier.participant),
            "TIER_ID": _clean(tier.name),
        }
        element = ET.SubElement(root, "TIER", attributes)
        for position, (_, _, text) in enumerate(tier.spans):
            annotation += 1
            start, end = slots[index, position]
            attributes = {"ANNOTATION_ID": f"a{annotation}", "TIME_SLOT_REF1": start, "TIME_SLOT_REF2": end}
            if tier.vocabulary:
                attributes["CVE_REF"] = _entry_id(tier.vocabulary, text)
            span = ET.SubElement(ET.SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION", attributes)
            ET.SubElement(span, "ANNOTATION_VALUE").text = text
    _add_kinds(root, vocabularies or {})
    ET.indent(root, "    ")
    document: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return document + b"\n"


def _add_time_order(root: ET.Element, tiers: Sequence[Tier]) -> dict[tuple[int, int], tuple[str, str]]:
    """Adds a pair of time slots for every span, ascending; returns their names by tier and span."""
    ends = [
        (time, index, position, side)
        for index, tier in enumerate(tiers)
        for position, span in enumerate(tier.spans)
        for side, time in enumerate(span[:2])
    ]
    order = ET.SubElement(root, "TIME_ORDER")
    names: dict[tuple[int, int, int], str] = {}
    for number, (time, index, position, side) in enumerate(sorted(ends), start=1):
        names[index, position, side] = f"ts{number}"
        ET.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{number}", "TIME_VALUE": str(time)})
    return {
        (index, position): (names[index, position, 0], names[index, position, 1])
        for index, tier in enumerate(tiers)
        for position in range(len(tier.spans))
    }


def _add_kinds(root: ET.Element, vocabularies: Mapping[str, Sequence[str]]) -> None:
    for name in (_SPANS, *vocabularies):
        attributes = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": name, "TIME_ALIGNABLE": "true"}
        if name in vocabularies:
            attributes["CONTROLLED_VOCABULARY_REF"] = name
        ET.SubElement(root, "LINGUISTIC_TYPE", attributes)
    language = {"LANG_DEF": "http://cdb.iso.org/lg/CDB-00130975-001", "LANG_ID": "und"}
    ET.SubElement(root, "LANGUAGE", {**language, "LANG_LABEL": "undetermined (und)"})
    for stereotype, description in _CONSTRAINTS:
        ET.SubElement(root, "CONSTRAINT", {"DESCRIPTION": description, "STEREOTYPE": stereotype})
    for name, entries in vocabularies.items():
        vocabulary = ET.SubElement(root, "CONTROLLED_VOCABULARY", {"CV_ID": name})
        ET.SubElement(vocabulary, "DESCRIPTION", {"LANG_REF": "und"})
        for text in entries:
            entry = ET.SubElement(vocabulary, "CV_ENTRY_ML", {"CVE_ID": _entry_id(name, text)})
            ET.SubElement(entry, "CVE_VALUE", {"DESCRIPTION": "", "LANG_REF": "und"}).text = text


def _entry_id(vocabulary: str, text: str) -> str:
    return f"cve_{vocabulary}_{text.replace(' ', '_')}"


def _clean(text: str) -> str:
    """Text without the characters that XML can't hold."""
    return _NOT_XML.sub("_", text)
