from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from emobeam.emo_transforms.training.material.labelling.sources import find_people
from emobeam.schemas.records import UsageError


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("neutral/001_03.jpg", "smiling/001_08.JPG", "neutral/017_03.png", "neutral/.hidden.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.lower().endswith(("jpg", "png")):
            Image.new("RGB", (4, 4)).save(tmp_path / name)
        else:
            (tmp_path / name).write_text("no picture")
    return tmp_path


def test_people_are_named_by_the_expression(album: Path) -> None:
    people = find_people([str(album)], r"(\d+)_")
    assert [(person.name, person.names) for person in people] == [
        ("001", ("neutral/001_03", "smiling/001_08")),
        ("017", ("neutral/017_03",)),
    ]
    assert [person.number for person in people] == [1, 17]
    assert [person.file for person in people] == ["001", "017"]
    by_folder = find_people([str(album)], r"^[^/]+")
    assert [(person.name, len(person.pictures)) for person in by_folder] == [("neutral", 2), ("smiling", 1)]


def test_without_an_expression_each_picture_is_a_person(album: Path) -> None:
    people = find_people([str(album / "neutral"), str(album / "smiling" / "001_08.JPG")])
    assert [person.name for person in people] == ["001_03", "001_08", "017_03"]
    assert len({person.number for person in people}) == 3
    assert all(0 <= person.number < 2**31 for person in people)
    (odd,) = find_people([str(album / "smiling")], "s?.*")
    assert odd.file == odd.name == "001_08"
    assert find_people([str(album)])[0].file == "neutral%2F001_03"


def test_globs_and_overlapping_inputs_count_a_picture_once(album: Path) -> None:
    people = find_people([str(album / "*" / "*_03.*"), str(album / "neutral")], r"(\d+)_")
    assert [len(person.pictures) for person in people] == [1, 1]


def test_only_takes_names_or_a_file_of_them(album: Path) -> None:
    assert [person.name for person in find_people([str(album)], r"(\d+)_", "017, ")] == ["017"]
    (album / "train.txt").write_text("001\n017\n\n")
    assert len(find_people([str(album)], r"(\d+)_", str(album / "train.txt"))) == 2
    with pytest.raises(UsageError, match=r"no pictures of 002, 003; people are called like '001'"):
        find_people([str(album)], r"(\d+)_", "001,002,003")


@pytest.mark.parametrize(
    ("person", "message"), [("(", "not a regular expression"), (r"(\d{5})", "finds nobody in 'neutral/001_03'")]
)
def test_expressions_that_do_not_work(album: Path, person: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_people([str(album)], person)


def test_inputs_without_pictures(album: Path) -> None:
    (album / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures there"):
        find_people([str(album / "empty")])
    with pytest.raises(UsageError, match="no such file or folder"):
        find_people([str(album / "nowhere")])
    with pytest.raises(UsageError, match="no input"):
        find_people([])
