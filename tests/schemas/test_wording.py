from __future__ import annotations

from emobeam.schemas.wording import counted, did_you_mean, noun


def test_one_and_many() -> None:
    assert [counted(n, "video") for n in (0, 1, 2, 1200)] == ["0 videos", "1 video", "2 videos", "1,200 videos"]
    assert [counted(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]
    assert [noun(n, "means", "mean") for n in (1, 2)] == ["means", "mean"]


def test_what_somebody_may_have_meant() -> None:
    known = ("train", "validation", "")
    assert did_you_mean("Validaton", known) == "; did you mean 'validation'?"
    assert did_you_mean("TRAIN", known) == "; did you mean 'train'?"
    assert did_you_mean("joy", known) == did_you_mean("", known) == ""
