from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path
from random import Random

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.cache.stored_crops import is_cache
from emobeam.emo_transforms.inputs import videos
from emobeam.emo_transforms.inputs.videos import files_left_out, keep_only, resolve_inputs, unique_videos
from emobeam.emo_transforms.storage import locate
from emobeam.emo_transforms.storage.fingerprints import fingerprint
from emobeam.emo_transforms.storage.object_stores import uri_of
from emobeam.schemas.records import EmobeamError, InputError, UsageError, Video


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def ids(*inputs: object, only: str = "") -> list[str]:
    return [video.id for video in resolve_inputs([str(each) for each in inputs], only=only)]


def test_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    make(tmp_path, "raw/00012.mp4")
    [video] = resolve_inputs([str(tmp_path / "raw/00012.mp4")])
    assert video == Video(id="00012", uri=str(tmp_path / "raw/00012.mp4"))


def test_a_named_file_may_have_any_extension(tmp_path: Path) -> None:
    make(tmp_path, "clip.bin", "00012")
    assert ids(tmp_path / "clip.bin", tmp_path / "00012") == ["00012", "clip"]


def test_a_folder_is_walked(tmp_path: Path) -> None:
    make(
        tmp_path,
        "b.mp4",
        "batch1/14-30-1920x1080.MP4",
        "batch1/deep/er/102.avi",
        "notes.txt",
        ".hidden.mp4",
        ".trash/x.mp4",
        "batch1/._b.mp4",
    )
    expected = ["b", "batch1/14-30-1920x1080", "batch1/deep/er/102"]
    assert ids(tmp_path) == expected
    assert ids(f"{tmp_path}/") == expected
    assert ids(f"file://{tmp_path}") == expected


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "here/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert resolve_inputs(["here"]) == resolve_inputs(["./here/../here"]) == resolve_inputs([f"{tmp_path}/here"])


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/a.mp4", "elsewhere/more/b.mp4")
    farm = tmp_path / "farm"
    farm.mkdir()
    (farm / "one.mp4").symlink_to(tmp_path / "elsewhere/a.mp4")
    (farm / "all").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/more/up").symlink_to(farm)
    assert ids(farm) == ["all/a", "all/more/b", "one"]


def test_globs(tmp_path: Path) -> None:
    make(tmp_path, "x/1.mp4", "x/2.avi", "x/y/3.mp4", "x/note.txt", "x/4.dat", "x/.h.mp4", "z/x5.mp4")
    assert ids(f"{tmp_path}/x/*") == ["1", "2"]
    assert ids(f"{tmp_path}/x/*.mp4") == ["1"]
    assert ids(f"{tmp_path}/x/**") == ["1", "2", "y/3"]
    assert ids(f"{tmp_path}/**/*.mp4") == ["x/1", "x/y/3", "z/x5"]
    assert ids(f"{tmp_path}/x/[12].*") == ["1", "2"]
    assert ids(f"{tmp_path}/x/?.dat") == ["4"]
    assert ids(f"{tmp_path}/?/x5*") == ["z/x5"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "take [1].mp4")
    assert ids(tmp_path / "take [1].mp4") == ["take [1]"]


@pytest.mark.parametrize(
    ("names", "given", "text"),
    [
        (["a.txt"], "{}", "holds no video"),
        (["a.mp4"], "{}/missing", "no such file or folder"),
        (["a.mp4"], "{}/*.avi", "no video matches"),
        (["x/a.mp4"], "{}/*", "folders only"),
        (["a.mp4"], "{}/missing.csv", "no such file"),
        (["a.mp4"], "nowhere://bucket/a.mp4", "nowhere"),
    ],
)
def test_what_stands_for_nothing_is_refused(tmp_path: Path, names: list[str], given: str, text: str) -> None:
    make(tmp_path, *names)
    with pytest.raises(UsageError, match=text):
        resolve_inputs([given.format(tmp_path)])


def test_no_input() -> None:
    with pytest.raises(UsageError, match="no input"):
        resolve_inputs([])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_folder_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "shut/b.mp4")
    (tmp_path / "shut").chmod(0)
    try:
        with pytest.raises(EmobeamError, match="shut"):
            resolve_inputs([str(tmp_path)])
    finally:
        (tmp_path / "shut").chmod(0o755)


def test_a_missing_file_is_left_to_probing(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    assert ids(tmp_path / "a.mp4", tmp_path / "gone.mp4") == ["a", "gone"]


def test_two_files_with_one_id(tmp_path: Path) -> None:
    make(tmp_path, "x/a.mp4", "y/a.avi")
    with pytest.raises(UsageError) as error:
        resolve_inputs([f"{tmp_path}/x", f"{tmp_path}/y"])
    assert str(tmp_path / "x/a.mp4") in str(error.value)
    assert str(tmp_path / "y/a.avi") in str(error.value)
    assert ids(f"{tmp_path}/x", f"{tmp_path}/x/a.mp4") == ["a"]
    assert ids(tmp_path) == ["x/a", "y/a"]


def write_csv(path: Path, rows: list[list[str]], bom: bool = False) -> str:
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        csv.writer(file, lineterminator="\r\n" if bom else "\n").writerows(rows)
    return str(path)


def test_a_csv_table(tmp_path: Path) -> None:
    make(tmp_path, "raw/00012.mp4", "raw/NA.mp4")
    rows = [["path", "video", "subject"], ["raw/00012.mp4", "00012", ""], ["raw/NA.mp4", "visit 1/NA", "left"]]
    assert resolve_inputs([write_csv(tmp_path / "t.csv", rows, bom=True)]) == [
        Video(id="00012", uri=str(tmp_path / "raw/00012.mp4")),
        Video(id="visit 1/NA", uri=str(tmp_path / "raw/NA.mp4"), subject="left"),
    ]


def test_a_table_without_paths(tmp_path: Path) -> None:
    other = tmp_path / "other/b.mp4"
    (tmp_path / "in").mkdir()
    rows = [["video"], ["raw/00012.mp4"], [str(other)], ["../up.mp4"], ["memory://bucket/c.mp4"]]
    table = write_csv(tmp_path / "in/t.csv", rows)
    assert {video.id: video.uri for video in resolve_inputs([table])} == {
        "raw/00012": str(tmp_path / "in/raw/00012.mp4"),
        "b": str(other),
        "up": str(tmp_path / "up.mp4"),
        "c": "memory://bucket/c.mp4",
    }


def test_a_parquet_table_keeps_text(tmp_path: Path) -> None:
    table = pa.table({"video": ["00012", "7"], "path": ["a.mp4", None], "age": [3, 4]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert [(v.id, Path(v.uri).name) for v in resolve_inputs([str(tmp_path / "t.parquet")])] == [
        ("00012", "a.mp4"),
        ("7", "7"),
    ]


def test_subjects_of_one_video_are_joined(tmp_path: Path) -> None:
    rows = [["video", "path", "subject"], ["v", "a.mp4", "right"], ["v", "a.mp4", "left"], ["w", "b.mp4", ""]]
    rows += [["v", "a.mp4", "right"], ["w", "b.mp4", "left"]]
    videos = resolve_inputs([write_csv(tmp_path / "t.csv", rows)])
    assert [(video.id, video.subject) for video in videos] == [("v", "right,left"), ("w", ",left")]


def test_one_id_for_two_paths_of_a_table(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", [["video", "path"], ["v", "a.mp4"], ["v", "b.mp4"]])
    with pytest.raises(UsageError, match=r"a\.mp4.*b\.mp4"):
        resolve_inputs([table])


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([["name", "path"], ["v", "a.mp4"]], "no column video; it has name, path"),
        ([["video", "path"], ["v", "a.mp4"], ["", "b.mp4"]], "row 2 names no video"),
        ([["video"]], "has no rows"),
        ([], "no column video"),
    ],
)
def test_bad_tables(tmp_path: Path, rows: list[list[str]], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        resolve_inputs([write_csv(tmp_path / "t.csv", rows)])


def test_tables_of_spreadsheets(tmp_path: Path) -> None:
    """Semicolons and tabs, as programs write them where commas are decimal; a program's own file is refused."""
    for name, mark in (("t.csv", ";"), ("t.tsv", "\t")):
        (tmp_path / name).write_text(f"Video{mark}path{mark}Subject\nv{mark}0,5.mp4{mark}left\n")
        (video,) = resolve_inputs([str(tmp_path / name)])
        assert (video.id, video.uri, video.subject) == ("v", str(tmp_path / "0,5.mp4"), "left")
    for name in ("t.xlsx", "t.ods"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
        with pytest.raises(UsageError, match=rf"{name}: a spreadsheet program's own file; save it as CSV"):
            resolve_inputs([str(tmp_path / name)])
    (tmp_path / "u.csv").write_text("vidio,path\nv,a.mp4\n")
    with pytest.raises(UsageError, match="no column video; it has vidio, path; did you mean 'vidio'"):
        resolve_inputs([str(tmp_path / "u.csv")])


def test_a_folder_of_pictures_names_the_layout(tmp_path: Path) -> None:
    for layout, names in (("affwild2", "00001 00002"), ("emi", "0 1"), ("bah", "frame-0 frame-1"), ("", "a b")):
        folder = tmp_path / (layout or "others") / "v"
        folder.mkdir(parents=True)
        for name in names.split():
            (folder / f"{name}.jpg").touch()
        way = f"add --crops {layout}" if layout else r"--crops affwild2\|emi\|bah takes them if they are named so"
        with pytest.raises(
            UsageError, match=rf"holds no video .*, but 2 pictures like .*\.jpg: for crops of faces {way}"
        ):
            resolve_inputs([str(folder.parent)])


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(EmobeamError, match="can't be read as a table"):
        resolve_inputs([str(tmp_path / "t.parquet")])


def test_a_table_whose_quote_is_not_closed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('video,path\na,"1.mp4\n' + "b,2.mp4\n" * 20_000)
    with pytest.raises(UsageError, match=r"t\.csv, line \d+: field larger than .*; is a quote not closed\?"):
        resolve_inputs([str(tmp_path / "t.csv")])


def test_web_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without an ending were read as tables, and pages that list files as well."""
    for address in ("http://h/clip12345", "https://h/c/clip12345?id=5", "http://h/clip12345.bin?t=a.csv"):
        assert resolve_inputs([address]) == [Video(id="clip12345", uri=address)]
        assert files_left_out([address]) == []
    assert not is_cache("https://h/c/clip12345?id=5")
    web, rows = fsspec.filesystem("http"), [{"video": "a", "path": "a.mp4"}, {"video": "b"}]
    monkeypatch.setattr(videos, "locate", lambda text: (web, text))
    for name, read in (("t.parquet", "_parquet_rows"), ("t.CSV", "_csv_rows")):
        monkeypatch.setattr(videos, read, lambda text: (["video"], rows))
        assert [video.uri for video in resolve_inputs([f"http://h/c/{name}?sig=x/y"])] == [
            "http://h/c/a.mp4",
            "http://h/c/b",
        ]
    page = "http://h/c/"
    monkeypatch.setattr(
        videos, "walk_files", lambda text: (web, page, [f"{page}a.mp4", f"{page}d/b.mkv", f"{page}c.txt"])
    )
    assert [(video.id, video.uri) for video in resolve_inputs([page])] == [
        ("a", f"{page}a.mp4"),
        ("d/b", f"{page}d/b.mkv"),
    ]


def test_another_file_system(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    root = f"/inputs-{tmp_path.name}"
    try:
        store.pipe({f"{root}/a/1.mp4": b"1", f"{root}/2.mkv": b"2", f"{root}/t.csv": b"video\na/1.mp4\n"})
        uri = f"memory:/{root}"
        assert ids(uri) == ["2", "a/1"]
        assert ids(f"{uri}/*/*.mp4") == ["a/1"]
        [video] = resolve_inputs([f"{uri}/t.csv"])
        assert video.id == "a/1"
        assert fingerprint(video.uri).size == 1
        assert ids(f"{uri}/2.mkv") == ["2"]
        with pytest.raises(UsageError, match="no such"):
            resolve_inputs([f"{uri}/b"])
    finally:
        store.rm(root, recursive=True)


def test_only_names(tmp_path: Path) -> None:
    make(tmp_path, "batch1/14-30-1920x1080.mp4", "batch1/video49.mp4", "raw/00012.mp4", "x/a/b/c.mp4")
    assert ids(tmp_path, only="14-30-1920x1080") == ["batch1/14-30-1920x1080"]
    assert ids(tmp_path, only="video49_left, 00012.mp4") == ["batch1/video49", "raw/00012"]
    assert ids(tmp_path, only="a/b/c.mp4") == ["x/a/b/c"]
    with pytest.raises(UsageError, match="no input is called 13"):
        ids(tmp_path, only="00012,13")
    with pytest.raises(EmobeamError, match=r"'12' means no video, but is it 'raw/00012'\? .* drop their zeros"):
        ids(tmp_path, only="12")


def test_only_ambiguous(tmp_path: Path) -> None:
    make(tmp_path, "x/1.mp4", "y/1.mp4")
    with pytest.raises(EmobeamError, match="x/1, y/1"):
        ids(tmp_path, only="1")


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("00012\n\nvideo49_left\nvideo49_right\nnot here\n", ["raw/00012", "raw/video49"]),
        ("\ufeffimage_location,valence,arousal\r\n00012/00001.jpg,\r\n00012/00002.jpg,\r\n", ["raw/00012"]),
        ("00012/00001.jpg,0.5,-0.5\nvideo49/100000.jpg,0,0\n", ["raw/00012", "raw/video49"]),
        ("1/Visite 1/a b.mp4/frame-0.jpg,0\n1/Visite 1/a b.mp4/frame-1.jpg,1\n", ["raw/1/Visite 1/a b"]),
        ("Filename,Admiration,Empathic Pain\n00012,0.3,0.1\n", ["raw/00012"]),
        ("Videos/x.mp4,1,so, you know\nvideo49.mp4,0,well\n", ["raw/video49"]),
    ],
)
def test_only_from_a_file(tmp_path: Path, content: str, kept: list[str]) -> None:
    make(tmp_path, "raw/00012.mp4", "raw/video49.mp4", "raw/1/Visite 1/a b.mp4")
    names = tmp_path / "names.txt"
    names.write_text(content, encoding="utf-8")
    assert ids(tmp_path, only=str(names)) == kept


def test_only_from_a_file_that_is_missing_or_fits_nothing(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    (tmp_path / "n.txt").write_text("b\n")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"other\.txt: no such file"):
        ids(tmp_path, only=str(tmp_path / "other.txt"))
    with pytest.raises(UsageError, match="no input is called b"):
        ids(tmp_path, only=str(tmp_path / "n.txt"))
    with pytest.raises(UsageError, match="names nothing"):
        ids(tmp_path, only=str(tmp_path / "empty.txt"))


_parts = st.text("abc01 -_é", min_size=1, max_size=4).filter(lambda text: text == text.strip())


@given(st.sets(st.lists(_parts, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6), st.randoms())
def test_order_of_inputs_plays_no_part_and_full_ids_select(names: set[str], random: Random) -> None:
    videos = [Video(id=name, uri=f"/videos/{name}.mp4") for name in names]
    shuffled = list(videos)
    random.shuffle(shuffled)
    assert unique_videos(shuffled) == unique_videos(videos + shuffled)
    for video in videos:
        assert keep_only(unique_videos(videos), video.id) == [video]


@pytest.mark.parametrize("size", [0, 1, 1000, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 2_000_000])
def test_fingerprint(tmp_path: Path, size: int) -> None:
    data = bytes(i * i % 251 for i in range(1024)) * (size // 1024 + 1)
    data = data[:size]
    path = tmp_path / "v.mp4"
    path.write_bytes(data)
    seen = data if size <= 524288 else data[:262144] + data[size - 262144 :]
    found = fingerprint(str(path))
    assert (found.size, found.digest) == (size, hashlib.sha256(seen).hexdigest())


def test_fingerprint_of_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4") as missing:
        fingerprint(str(tmp_path / "gone.mp4"))
    assert (missing.value.stage, missing.value.reason, missing.value.permanent) == ("open", "missing", False)
    with pytest.raises(InputError) as folder:
        fingerprint(str(tmp_path))
    assert (folder.value.reason, folder.value.permanent) == ("io", False)


def test_locate_and_back(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "a b#[1]%20.mp4"), "memory:///bucket/a.mp4"):
        assert uri_of(*locate(uri)) == uri
