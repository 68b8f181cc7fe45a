from __future__ import annotations

from emobeam.schemas.wording import counted, noun


def test_one_and_many() -> None:
    assert [counted(n, "video") for n in (0, 1, 2, 1200)] == ["0 videos", "1 video", "2 videos", "1,200 videos"]
    assert [counted(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]
    assert [noun(n, "means", "mean") for n in (1, 2)] == ["means", "mean"]
