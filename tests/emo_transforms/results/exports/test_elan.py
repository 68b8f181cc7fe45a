"""ELAN documents, read back with pympi and checked against the order that the format's schema asks for."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from math import floor
from pathlib import Path

import numpy as np
import pympi
import pytest

from emobeam.emo_transforms.results.exports.elan import Media, Tier, eaf_document, unit_tiers, vocabularies_of
from emobeam.emo_transforms.results.exports.gather import frame_rows, open_output, video_traces
from emobeam.emo_transforms.results.studies.persons import Persons, Stretch, read_persons
from emobeam.emo_transforms.results.studies.study import StudyConfig, open_study
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.results.exports.made import frame_table, frame_times, put, write_run
from tests.emo_transforms.results.studies.outputs import Face, steps, write_output

DATE = "2026-11-21T10:19:40+00:00"


def document(output: Path, video: str, tmp_path: Path, persons: Persons | None = None, **options: float) -> Path:
    found = open_output(str(output))
    limits = {"min_duration": 0.0, "merge_gap": 0.0} | options
    tiers = unit_tiers(video_traces(found, video), found.frame_tasks, found.run, persons or Persons({}), **limits)
    path = tmp_path / "document.eaf"
    media = Media("file:///clips/pair%201.mp4", "../clips/pair 1.mp4")
    words = vocabularies_of(found.frame_tasks)
    path.write_bytes(eaf_document(tiers, date=DATE, media=media, vocabularies=words, properties={"note": "a<b&\x00"}))
    return path


def slow_spans(times: list[float], active: list[bool]) -> list[tuple[int, int]]:
    """Spans of active frames in ms, frame by frame; the last frame lasts as long as the median one."""
    ends = [*times[1:], times[-1] + float(np.median(np.diff(times)))]
    spans: list[tuple[int, int]] = []
    for index, on in enumerate(active):
        if on and index and active[index - 1]:
            spans[-1] = (spans[-1][0], floor(ends[index] * 1000))
        elif on:
            spans.append((floor(times[index] * 1000), floor(ends[index] * 1000)))
    return spans


def test_spans_of_units_are_the_active_frames(output: Path, tmp_path: Path) -> None:
    eaf = pympi.Elan.Eaf(str(document(output, "day 1/pair", tmp_path)))
    rows = frame_rows(open_output(str(output)), "day 1/pair")
    found = 0
    for face in (0, 1):
        own = rows[rows["face"] == face]
        for unit in task_named("au").outputs:
            limit = np.float32(0.3 if unit == "AU1" else 0.6)
            spans = sorted(eaf.get_annotation_data_for_tier(f"{unit}_face{face}"))
            assert [span[:2] for span in spans] == slow_spans(own["time"].tolist(), (own[unit] >= limit).tolist())
            for start, end, text in spans:
                inside = own[(own["time"] >= start / 1000) & (own["time"] < end / 1000)]
                assert float(text) == pytest.approx(float(inside[unit].max()), abs=0.0051)
            found += len(spans)
    assert found > 10


def test_classes_are_the_winners(output: Path, tmp_path: Path) -> None:
    eaf = pympi.Elan.Eaf(str(document(output, "talk", tmp_path)))
    rows = frame_rows(open_output(str(output)), "talk")
    classes = list(task_named("expr").outputs)
    winner = rows[classes].fillna(-1).to_numpy().argmax(axis=1)
    seen = rows["expr_source"] != "absent"
    expected = [
        (*span, name)
        for index, name in enumerate(classes)
        for span in slow_spans(rows["time"].tolist(), ((winner == index) & seen).tolist())
    ]
    assert sorted(eaf.get_annotation_data_for_tier("expr_face0")) == sorted(expected)
    assert {word for _, word in _vocabulary(eaf)} == set(classes)


def _vocabulary(eaf: pympi.Elan.Eaf) -> list[tuple[str, str]]:
    entries = eaf.get_cv_entries("expr")
    return [(key, values[0][0]) for key, (values, _) in entries.items()]


def test_tiers_of_everybody_and_none_of_traces(output: Path, tmp_path: Path) -> None:
    names = set(pympi.Elan.Eaf(str(document(output, "sides", tmp_path))).get_tier_names())
    assert {"AU12_left_face0", "AU12_right_face0"} <= names
    assert not [name for name in names if "valence" in name]
    assert len(pympi.Elan.Eaf(str(document(output, "day 1/pair", tmp_path))).get_tier_names()) == 2 * (12 + 1)


def test_short_spans_and_gaps(output: Path, tmp_path: Path) -> None:
    def count(**options: float) -> int:
        eaf = pympi.Elan.Eaf(str(document(output, "talk", tmp_path, **options)))
        return sum(len(eaf.get_annotation_data_for_tier(name)) for name in eaf.get_tier_names())

    assert count(min_duration=0.2) < count()
    assert count(merge_gap=0.3) < count()


def test_the_document_is_as_the_schema_asks(output: Path, tmp_path: Path) -> None:
    root = ET.parse(document(output, "day 1/pair", tmp_path)).getroot()
    order = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LANGUAGE", "CONSTRAINT", "CONTROLLED_VOCABULARY"]
    places = [order.index(child.tag) for child in root]
    assert places == sorted(places)
    assert set(places) == set(range(len(order)))
    assert root.attrib["FORMAT"] == root.attrib["VERSION"] == "3.0"
    assert root.attrib["DATE"] == DATE
    ids = [e.get(key) for e in root.iter() for key in ("TIME_SLOT_ID", "ANNOTATION_ID", "CVE_ID") if e.get(key)]
    assert len(ids) == len(set(ids))
    slots = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    assert list(slots.values()) == sorted(slots.values())
    kinds = {kind.attrib["LINGUISTIC_TYPE_ID"] for kind in root.iter("LINGUISTIC_TYPE")}
    entries = {entry.attrib["CVE_ID"] for entry in root.iter("CV_ENTRY_ML")}
    for tier in root.iter("TIER"):
        assert tier.attrib["LINGUISTIC_TYPE_REF"] in kinds
        last = 0
        for span in tier.iter("ALIGNABLE_ANNOTATION"):
            start, end = slots[span.attrib["TIME_SLOT_REF1"]], slots[span.attrib["TIME_SLOT_REF2"]]
            assert last <= start < end
            last = end
            assert span.get("CVE_REF") is None or span.attrib["CVE_REF"] in entries
    properties = {p.attrib["NAME"]: p.text for p in root.iter("PROPERTY")}
    assert properties["lastUsedAnnotationId"] == str(len(list(root.iter("ALIGNABLE_ANNOTATION"))))
    assert properties["note"] == "a<b&_"


def test_the_clip_is_linked(output: Path, tmp_path: Path) -> None:
    eaf = pympi.Elan.Eaf(str(document(output, "talk", tmp_path)))
    (media,) = eaf.media_descriptors
    assert media["RELATIVE_MEDIA_URL"] == "../clips/pair 1.mp4"
    assert media["MIME_TYPE"] == "video/mp4"


def test_a_span_lasts_at_least_a_millisecond() -> None:
    root = ET.fromstring(eaf_document([Tier("AU1_face0", "face0", ((5, 6, "0.5"), (6, 7, "0.6")))], date=DATE))
    assert [int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")] == [5, 6, 6, 7]


def test_a_span_ends_where_another_person_comes(output: Path, tmp_path: Path) -> None:
    changes = {("talk", "", 0): [Stretch(1, 20, 0), Stretch(21, 90, 1)]}
    one = pympi.Elan.Eaf(str(document(output, "talk", tmp_path)))
    two = pympi.Elan.Eaf(str(document(output, "talk", tmp_path, Persons(changes))))
    edge = floor(frame_times()[20] * 1000)

    def across(eaf: pympi.Elan.Eaf) -> int:
        tiers = [eaf.get_annotation_data_for_tier(name) for name in eaf.get_tier_names()]
        return sum(start < edge < end for spans in tiers for start, end, _ in spans)

    assert across(one) > 0
    assert across(two) == 0


def test_spans_are_the_events_of_the_events_command(tmp_path: Path) -> None:
    times = np.arange(60) / 25
    smile = steps(60, [(0, 30), (50, 60)], high=0.65)
    leaves = Face({"AU12": steps(20, [(5, 20)])}, face=1, first_frame=10)
    write_output(tmp_path, {"talk": (times, [Face({"AU12": smile}, person=[0] * 12 + [4] * 48), leaves])})
    heads = [{"name": "a", "weights": "a", "thresholds": []}, {"name": "b", "weights": "b", "thresholds": [0.7] * 12}]
    (tmp_path / "run.json").write_text(json.dumps({"heads": {"au": heads}}))
    for limits in ([0.7] * 12, [0.6] * 12):
        heads[1]["thresholds"] = limits
        (tmp_path / "run.json").write_text(json.dumps({"heads": {"au": heads}}))
        study = open_study(str(tmp_path), StudyConfig())
        expected = sorted(
            (event.face, floor(event.onset * 1000), floor(event.offset * 1000))
            for faces in study.traces()
            for each in faces
            for _, event in each.events
        )
        found = open_output(str(tmp_path))
        persons = read_persons(str(tmp_path), ["talk"])
        traces = video_traces(found, "talk")
        tiers = unit_tiers(traces, found.frame_tasks, found.run, persons, min_duration=0.2, merge_gap=0.2)
        spans = [(int(tier.name[-1]), start, end) for tier in tiers for start, end, _ in tier.spans]
        assert sorted(spans) == expected
        assert len(spans) == (1 if limits[0] == 0.7 else 4)


def test_frames_without_time_have_no_document(tmp_path: Path) -> None:
    put(tmp_path, "au", "crops", frame_table("au", "crops", timed=False))
    write_run(tmp_path)
    with pytest.raises(EmobeamError, match="no times"):
        document(tmp_path, "crops", tmp_path)
