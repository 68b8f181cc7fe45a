from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.schemas.records import EmobeamError
from emobeam.schemas.row_keys import (
    Key,
    NameMatches,
    format_key,
    format_name,
    match_names,
    parse_key,
    row_key,
    split_row,
    without_layout,
)
from emobeam.schemas.tasks import TASKS, Task

VA, AU, EMI, AH, AHV, LSD = (TASKS[name] for name in ("va", "au", "emi", "ah", "ah-video", "lsd"))
FRAME_TASKS = [VA, AU, AH]


@pytest.mark.parametrize(
    ("task", "key", "name", "frame"),
    [
        (AU, "14-30-1920x1080/00001.jpg", "14-30-1920x1080", 1),
        (VA, "video49_left/12345.jpg", "video49_left", 12345),
        (VA, "video45_1/100000.jpg", "video45_1", 100000),
        (VA, "new vids/a, b/00007.jpg", "new vids/a, b", 7),
        (AH, "90003/Visite_1/x_Video.mp4/frame-0.jpg", "90003/Visite_1/x_Video.mp4", 1),
        (AH, "90004/Visite 1/x 14-00-00.mp4/frame-1041.jpg", "90004/Visite 1/x 14-00-00.mp4", 1042),
        (EMI, "00012", "00012", None),
        (AHV, "Videos/90005/Visite_1/x_Video.mp4", "Videos/90005/Visite_1/x_Video.mp4", None),
        (LSD, "0.jpg", "0.jpg", None),
    ],
)
def test_known_keys(task: Task, key: str, name: str, frame: int | None) -> None:
    assert parse_key(task, key) == Key(name, frame)
    assert format_key(task, name, frame) == key
    for tail in ("", ",", ",0", ",0.5,-0.5"):
        assert row_key(task, key + tail) == key


@pytest.mark.parametrize(
    ("task", "key"),
    [
        (AU, ""),
        (AU, "14-30-1920x1080"),
        (AU, "/00001.jpg"),
        (AU, "00001.jpg"),
        (AU, "video/00000.jpg"),
        (AU, "video/-0001.jpg"),
        (AU, "video/.jpg"),
        (AU, "video/00001.png"),
        (AU, "video/0000\u0661.jpg"),
        (AU, "video/99999999999999999999999999.jpg"),
        (AU, "x.mp4/frame-0.jpg"),
        (AH, "x.mp4/00001.jpg"),
        (AH, "x.mp4/frame-.jpg"),
        (EMI, ""),
        (EMI, "video/00001.jpg"),
        (AHV, "x.mp4/frame-0.jpg"),
        (AHV, ".mp4"),
        (LSD, "0"),
    ],
)
def test_other_texts_are_refused(task: Task, key: str) -> None:
    with pytest.raises(EmobeamError, match=f"no key of task {task.name}"):
        parse_key(task, key)


def test_files_of_one_video_each_have_no_keys() -> None:
    with pytest.raises(EmobeamError, match="task vd has one file per video and no keys"):
        parse_key(TASKS["vd"], "0001")


@pytest.mark.parametrize(
    ("task", "row", "split"),
    [
        (VA, "v/00001.jpg,0.5,1", ("v/00001.jpg", "0.5,1")),
        (VA, "v/00001.jpg", ("v/00001.jpg", "")),
        (VA, "v/00001.jpg ,0.5,1", ("v/00001.jpg", "0.5,1")),
        (EMI, "00012 ,0.5", ("00012", "0.5")),
        (AHV, "Videos/1/2.mp4,0.25,0.75,1", ("Videos/1/2.mp4", "0.25,0.75,1")),
    ],
)
def test_rows_are_split_behind_their_key(task: Task, row: str, split: tuple[str, str]) -> None:
    assert split_row(task, row) == split


def test_format_key_refuses_what_has_no_key() -> None:
    for task, frame in ((VA, None), (VA, 0), (AH, 0), (EMI, 1)):
        with pytest.raises(ValueError, match="a key names"):
            format_key(task, "x", frame)


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(lambda name: name == name.strip())


@given(st.sampled_from(FRAME_TASKS), NAMES, st.integers(1, 2**31 - 2), st.sampled_from(["", ",", ",1", ",0.25,-1"]))
def test_frame_keys_round_trip(task: Task, name: str, frame: int, tail: str) -> None:
    assert parse_key(task, row_key(task, format_key(task, name, frame) + tail)) == (name, frame)


@given(NAMES.filter(lambda name: "," not in name and not name.endswith(".jpg")), st.sampled_from(["", ",", ",.1,.2"]))
def test_clip_keys_round_trip(name: str, tail: str) -> None:
    assert parse_key(EMI, row_key(EMI, format_key(EMI, name, None) + tail)) == (name, None)


@pytest.mark.parametrize(
    ("name", "videos", "expected"),
    [
        ("14-30-1920x1080", ["batch1/14-30-1920x1080", "batch2/114-30-1920x1080"], ("batch1/14-30-1920x1080", "")),
        ("00012", ["raw/00012", "raw/12"], ("raw/00012", "")),
        ("a/b/c.mp4", ["x/a/b/c", "x/d/b/c"], ("x/a/b/c", "")),
        ("c", ["x/c.mp4"], ("x/c.mp4", "")),
        # The closer spelling wins.
        ("c", ["c", "x/c"], ("c", "")),
        ("c.mp4", ["c", "x/c.mp4"], ("c", "")),
        ("c.mp4", ["x/c", "y/c.mp4"], ("y/c.mp4", "")),
        # One of two people.
        ("video49_left", ["batch1/video49"], ("batch1/video49", "left")),
        ("10-60-1280x720_right", ["10-60-1280x720"], ("10-60-1280x720", "right")),
        ("video49_left", ["video49", "video49_left"], ("video49_left", "")),
        ("video49_left", ["video49", "x/video49_left"], ("x/video49_left", "")),
        ("video10_1_left", ["video10_1", "video10"], ("video10_1", "left")),
        # BAH's names of editions 10 and 11.
        ("Videos/1/a/x.mp4", ["1/a/x"], ("1/a/x", "")),
        ("Videos/1/a/x.mp4", ["1/a/x", "Videos/1/a/x"], ("Videos/1/a/x", "")),
        ("0.jpg", ["0"], ("0", "")),
        # No such end of a name.
        ("video45_1", ["video45"], None),
        ("video_left_2", ["video", "video_2"], None),
        ("left", [""], None),
        ("_left", [""], None),
        # Suffixes are whole components, extensions are those of videos, and only one side loses its own.
        ("4-30", ["14-30"], None),
        ("b/c", ["a-b/c"], None),
        ("take.1", ["take"], None),
        ("c.avi", ["c.mp4"], None),
        (".mp4", [""], None),
        ("x/batch1/c", ["batch1/c"], None),
    ],
)
def test_match_names(name: str, videos: list[str], expected: tuple[str, str] | None) -> None:
    for order in (videos, videos[::-1]):
        found = {name: expected} if expected is not None else {}
        assert match_names([name, name], order) == NameMatches(found, [] if expected else [name])


@pytest.mark.parametrize(
    ("name", "videos"),
    [
        ("c", ["x/c", "y/c"]),
        ("c.mp4", ["x/c", "y/c"]),
        ("c", ["c.mp4", "c.avi"]),
        ("video49_left", ["x/video49", "y/video49"]),
    ],
)
def test_ambiguity_names_the_candidates(name: str, videos: list[str]) -> None:
    with pytest.raises(EmobeamError) as error:
        match_names([name], [*videos, "other"])
    assert all(part in str(error.value) for part in (repr(name), *videos))
    assert "other" not in str(error.value)


def test_missing_names_keep_their_order() -> None:
    assert match_names(["z", "a", "m", "z"], ["x/a"]) == NameMatches({"a": ("x/a", "")}, ["z", "m"])


PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)


@given(PATHS, st.lists(PATHS, unique=True, max_size=8))
def test_match_names_against_components(name: str, videos: list[str]) -> None:
    wanted = name.split("/")
    expected = [name] if name in videos else [v for v in videos if v.split("/")[-len(wanted) :] == wanted]
    if len(expected) > 1:
        with pytest.raises(EmobeamError):
            match_names([name], videos)
    else:
        assert list(match_names([name], videos).found.values()) == [(video, "") for video in expected]


def test_many_videos_of_one_file_name() -> None:
    names = [f"{subject}/visit/video.mp4" for subject in range(20_000)]
    start = time.process_time()
    matches = match_names(names, [f"raw/{subject}/visit/video" for subject in range(20_000)])
    assert time.process_time() - start < 10  # comparing each with each would take minutes
    assert matches.found["123/visit/video.mp4"] == ("raw/123/visit/video", "")
    assert len(matches.found) == 20_000


@pytest.mark.parametrize(
    ("video", "name"),
    [
        ("abaw_x/foo_data/clip", "abaw_x/foo_data/clip"),
        ("ABAW 10 Test_Data/raw/clip", "clip"),
        ("abawX_data/c/d", "c/d"),
    ],
)
def test_layouts_are_told_folder_by_folder(video: str, name: str) -> None:
    assert without_layout(video) == name


@given(
    st.sampled_from(list(TASKS.values())),
    st.text("ab._/", min_size=1).filter(lambda video: not video.endswith(("/", "left", "right"))),
    st.sampled_from(["", "left", "right"]),
)
def test_own_names_lead_back(task: Task, video: str, subject: str) -> None:
    if subject and task.form.key.extension:
        return  # BAH shows one person at a time, and so do single images
    name = format_name(task, video, subject)
    assert match_names([name], [video]).found == {name: (video, subject)}
