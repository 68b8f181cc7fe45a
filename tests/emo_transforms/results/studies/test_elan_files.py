"""ELAN files written by pympi-ling, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from pympi.Elan import Eaf

from emobeam.emo_transforms.results.studies.elan_files import ElanFile, Medium, read_eaf
from emobeam.schemas.records import EmobeamError


def test_tiers_media_and_values(tmp_path: Path) -> None:
    eaf = Eaf(author="coder")
    eaf.add_linked_file("file:///data/talk.mp4", relpath="./talk.mp4", mimetype="video/mp4")
    eaf.add_tier("AU12")
    eaf.add_tier("empty")
    eaf.add_annotation("AU12", 2000, 3500, "C")
    eaf.add_annotation("AU12", 500, 900, " ")
    eaf.to_file(str(tmp_path / "talk.eaf"))
    file = read_eaf(str(tmp_path / "talk.eaf"))
    assert file.media == (Medium("./talk.mp4", "video/mp4"),)
    assert [(each.start, each.end, each.value) for each in file.tiers["AU12"]] == [(0.5, 0.9, ""), (2.0, 3.5, "C")]
    assert file.tiers["empty"] == ()
    assert file.untimed == {}


def linked(tmp_path: Path, *media: tuple[str, str, int | None]) -> ElanFile:
    eaf = Eaf(author="coder")
    for name, kind, origin in media:
        eaf.add_linked_file(f"file:///data/{name}", mimetype=kind, time_origin=origin)
    eaf.to_file(str(tmp_path / "linked.eaf"))
    return read_eaf(str(tmp_path / "linked.eaf"))


def test_where_a_medium_begins(tmp_path: Path) -> None:
    cameras = ("left.mp4", "video/mp4", None), ("right.v2.mp4", "video/mp4", 5250)
    file = linked(tmp_path, *cameras, ("right.v2.wav", "audio/x-wav", 100))
    assert [each.origin for each in file.media] == [0.0, 5.25, 0.1]
    assert (file.origin("left"), file.origin("right.v2"), file.origin("s1/right.v2.mp4")) == (0.0, 5.25, 5.25)
    assert file.origin("session1") is None
    assert linked(tmp_path, cameras[1], ("talk.wav", "audio/x-wav", 0)).origin("session1") == 5.25
    assert linked(tmp_path, ("a.wav", "audio/x-wav", 300)).origin("session1") == 0.3
    assert linked(tmp_path).origin("session1") == 0.0


def test_referring_tiers_take_their_parents_times(tmp_path: Path) -> None:
    eaf = Eaf(author="coder")
    eaf.add_linguistic_type("assoc", constraints="Symbolic_Association", timealignable=False)
    eaf.add_tier("smile")
    eaf.add_tier("AU12", ling="assoc", parent="smile")
    eaf.add_annotation("smile", 1000, 2000)
    eaf.add_annotation("smile", 4000, 5000)
    eaf.add_ref_annotation("AU12", "smile", 1500, "B")
    eaf.add_ref_annotation("AU12", "smile", 4500, "D")
    eaf.to_file(str(tmp_path / "a.eaf"))
    found = read_eaf(str(tmp_path / "a.eaf")).tiers["AU12"]
    assert [(each.start, each.end, each.value) for each in found] == [(1.0, 2.0, "B"), (4.0, 5.0, "D")]


CHAIN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="t2"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="900"/></TIME_ORDER>
<TIER TIER_ID="last"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a3">
<ANNOTATION_VALUE>x</ANNOTATION_VALUE>
</REF_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="words">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="a3"/></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="a2"/></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1"/></ANNOTATION></TIER>
<TIER TIER_ID="top"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t3">
<ANNOTATION_VALUE>w</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a9" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2"/></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>"""


def test_chains_subdivisions_and_slots_without_time(tmp_path: Path) -> None:
    path = tmp_path / "chain.eaf"
    path.write_text(CHAIN)
    file = read_eaf(str(path))
    words = [(round(each.start, 6), round(each.end, 6)) for each in file.tiers["words"]]
    assert words == [(0.0, 0.3), (0.3, 0.6), (0.6, 0.9)]
    assert [(round(each.start, 6), round(each.end, 6)) for each in file.tiers["last"]] == [(0.3, 0.6)]
    assert file.untimed == {"top": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an ELAN file"),
        ("<html/>", "its root is html"),
        ('<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="NTSC-frames"/></ANNOTATION_DOCUMENT>', "NTSC-frames"),
        ("<ANNOTATION_DOCUMENT><TIER/></ANNOTATION_DOCUMENT>", "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.eaf"
    path.write_text(text)
    with pytest.raises(EmobeamError, match=message):
        read_eaf(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=r"none\.eaf: no such file"):
        read_eaf(str(tmp_path / "none.eaf"))
