from __future__ import annotations

import pytest
from apache_beam.coders import registry
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.extraction import beam_records  # noqa: F401  (registers the coders)
from emobeam.schemas.plain_json import checked, from_text, parsed, to_text
from emobeam.schemas.records import Display, Fingerprint, Looked, Video, VideoFeatures, VideoPredicted, VideoTask

text = st.text(max_size=20)
prints = st.builds(Fingerprint, st.integers(), text)
videos = st.builds(Video, text, text, st.sampled_from(["video", "crops", "cache"]), text, text)
several = st.lists(text, max_size=3).map(tuple)
KINDS = {
    VideoTask: st.builds(
        VideoTask,
        videos,
        st.lists(prints, max_size=2).map(tuple),
        st.lists(prints, max_size=2).map(tuple),
        several,
        st.none() | prints,
        several,
    ),
    Looked: st.builds(Looked, text, st.none() | prints, st.integers(), st.integers(), st.integers(), text),
    VideoPredicted: st.builds(VideoPredicted, text, st.dictionaries(text, st.integers()), text),
    VideoFeatures: st.builds(
        VideoFeatures,
        text,
        several,
        several,
        st.lists(st.tuples(text, st.integers()), max_size=3).map(tuple),
        st.lists(st.integers(), max_size=3).map(tuple),
        st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
        st.integers(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_records_come_back(kind: type, data: st.DataObject) -> None:
    record = data.draw(KINDS[kind])
    assert from_text(kind, to_text(record)) == record
    assert "\n" not in to_text(record)
    coder = registry.get_coder(kind)
    assert coder.is_deterministic()
    assert coder.decode(coder.encode(record)) == record


def test_text_of_another_record_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values instead of 9"):
        from_text(Looked, to_text(VideoPredicted("a", {"au": 3}, "c")))


def test_the_last_field_may_be_younger_than_the_text() -> None:
    older = to_text(Display(mirrored=True)).replace(',"",false]', "]")
    assert older != to_text(Display(mirrored=True))
    assert from_text(Display, older) == Display(mirrored=True)


def test_json_that_nobody_can_have_meant_is_no_json() -> None:
    for text in ("[" * 100_000, '{"a":' * 100_000, "9" * 5000, b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            parsed(text)
    assert parsed('{"a": [1, null]}') == {"a": [1, None]}


def test_records_are_checked_by_their_types() -> None:
    shown = {"sizes": [{"frame": 1, "width": 2, "height": 3, "aspect": [4, 3]}], "clock": [[3, 40]], "tones": "PQ"}
    assert checked(Display, shown).sizes[0].aspect == (4, 3)
    for wrong, message in (
        ({**shown, "mirrored": 1}, "mirrored isn't true or false"),
        ({**shown, "clock": [[3]]}, "clock has 1 values instead of 2"),
        ({**shown, "stream": 1 << 70}, "stream is too large"),
        ({**shown, "colour": 1}, "Display has no colour"),
        ({**shown, "sizes": [{}]}, "frame is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            checked(Display, wrong)
