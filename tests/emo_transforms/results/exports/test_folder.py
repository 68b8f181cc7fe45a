"""An export appears as a whole, and never costs anybody a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from emobeam.emo_transforms.results.exports.folder import MARKER, whole_folder
from emobeam.emo_transforms.storage import OutputError, file_system
from emobeam.schemas.records import UsageError


def write(uri: Path | str, **files: str) -> None:
    with whole_folder(str(uri), {"format": "csv"}) as folder:
        for name, text in files.items():
            (folder / f"{name}.csv").write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file() and path.name != MARKER}


def test_it_appears_and_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "x", a="1", b="2")
    assert content(tmp_path / "deep" / "x") == {"a.csv": "1", "b.csv": "2"}
    write(tmp_path / "deep" / "x", a="3")
    assert content(tmp_path / "deep" / "x") == {"a.csv": "3"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "x", a="1")

    def fail() -> None:
        with whole_folder(str(tmp_path / "x"), {}) as folder:
            (folder / "a.csv").write_text("2")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert content(tmp_path / "x") == {"a.csv": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    write(tmp_path / "x", a="1")
    assert content(tmp_path / "x") == {"a.csv": "1"}


@pytest.mark.parametrize("what", ["changed", "added", "foreign", "file"])
def test_nothing_of_anybodys_is_lost(tmp_path: Path, what: str) -> None:
    place = tmp_path / "x"
    if what in ("changed", "added"):
        write(place, a="1")
        (place / ("a.csv" if what == "changed" else "note.txt")).write_text("mine")
    elif what == "foreign":
        place.mkdir()
        (place / "thesis.docx").write_text("mine")
    else:
        place.write_text("mine")
    with pytest.raises(UsageError, match=r"choose another folder|name a folder"):
        write(place, a="2")
    assert "mine" in (place.read_text() if what == "file" else "".join(content(place).values()))


def test_a_link_stays_one_and_the_folder_is_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "x").symlink_to(tmp_path / "real")
    write(tmp_path / "x", a="1")
    assert (tmp_path / "x").is_symlink()
    assert content(tmp_path / "real") == {"a.csv": "1"}
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "real").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, UsageError), match="file"):
        write(tmp_path / "file" / "x", a="1")


def test_object_stores(tmp_path: Path) -> None:
    uri = f"memory://exports/{tmp_path.name}"
    write(uri, a="1", b="2")
    write(uri, a="3")
    fs, path = file_system(uri)
    assert {name.rsplit("/", 1)[-1] for name in fs.find(path)} == {"a.csv", MARKER}
    with fs.open(f"{path}/mine.txt", "wb") as file:
        file.write(b"mine")
    with pytest.raises(UsageError, match=r"mine\.txt was changed or added"):
        write(uri, a="4")
