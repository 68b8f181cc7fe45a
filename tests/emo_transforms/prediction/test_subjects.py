from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from emobeam.emo_transforms.prediction.subjects import Subjects, gather_subjects, read_overrides
from emobeam.schemas.records import EmobeamError, UsageError, Video


def test_a_video_no_one_speaks_of_has_its_main_face() -> None:
    assert gather_subjects(["b", "a"]) == {"b": Subjects(("",), ()), "a": Subjects(("",), ())}
    assert gather_subjects([]) == {}


def test_subjects_of_input_tables() -> None:
    inputs = [Video("a", "a.mp4", subject="right, left"), Video("b", "b.mp4"), Video("c", "c.mp4", subject=",Ann")]
    found = gather_subjects(["a", "b", "c", "d"], inputs=inputs, overrides={"c": {"Ann": 1}})
    assert {video: subjects.names for video, subjects in found.items()} == {
        "a": ("left", "right"),
        "b": ("",),
        "c": ("", "Ann"),
        "d": ("",),
    }


def test_subjects_that_nobody_knows_are_refused() -> None:
    """They got a table without a single value."""
    for name, hint in (("Right", "; did you mean 'right'?"), ("lefft", "; did you mean 'left'?"), ("Ann", "")):
        with pytest.raises(UsageError) as refusal:
            gather_subjects(["a"], inputs=[Video("a", "a.mp4", subject=name)])
        text = f"a: unknown subject '{name}': left and right are known; --subjects FILE says who other names mean{hint}"
        assert str(refusal.value) == text


def test_subjects_of_templates() -> None:
    names = ["video49_left", "video49", "video5_left", "nowhere"]
    found = gather_subjects(["batch/video49", "batch/video5_left", "c"], template_names=names)
    assert {video: subjects.names for video, subjects in found.items()} == {
        "batch/video49": ("", "left"),
        "batch/video5_left": ("",),  # a video of that name: its main face
        "c": ("",),
    }


def test_subjects_of_all_sources_are_gathered() -> None:
    found = gather_subjects(
        ["x/a"],
        inputs=[Video("x/a", "a.mp4", subject="left")],
        template_names=["a_right", "a"],
        overrides={"a": {"Ann": 3, "left": 0}},
    )
    assert found == {"x/a": Subjects(("", "Ann", "left", "right"), (("Ann", 3), ("left", 0)))}


def test_overrides_of_other_videos_are_left_alone() -> None:
    assert gather_subjects(["a"], overrides={"z": {"Ann": 1}}) == {"a": Subjects()}


def test_names_that_may_mean_several_videos_are_refused() -> None:
    with pytest.raises(EmobeamError, match="clip"):
        gather_subjects(["x/clip", "y/clip"], template_names=["clip"])
    with pytest.raises(EmobeamError, match="clip"):
        gather_subjects(["x/clip", "y/clip"], overrides={"clip": {"Ann": 0}})


def test_a_subjects_file(tmp_path: Path) -> None:
    path = tmp_path / "subjects.csv"
    text = "person,video,comment,subject\r\n2,a/clip,,left\r\n0,a/clip,quite sure,\r\n1,007,,Zoë\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    wanted = {"a/clip": {"left": 2, "": 0}, "007": {"Zoë": 1}}
    assert read_overrides(str(path)) == wanted
    fsspec.filesystem("memory").pipe_file("/emobeam-subjects.csv", path.read_bytes())
    assert read_overrides("memory://emobeam-subjects.csv") == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("video,subject\na,left\n", "no column person"),
        ("a,left,0\n", "no column video, subject, person"),
        ("video,subject,person\na,left,0\na,right,first\n", "line 3: person 'first'"),
        ("video,subject,person\na,left,Ann\n", "looks like a file of people's names, which is for --persons"),
        ("video,subject,person\na,left,-1\n", "line 2: person '-1'"),
        ("video,subject,person\na,left,²\n", "line 2: person '²'"),
        ("video,subject,person\na,left,\n", "line 2: person ''"),
        ("", "no column video, subject, person; it has none"),
        ('video,subject,person\n"a,left,0\n', "line 2: person ''"),
    ],
)
def test_a_subjects_file_that_makes_no_sense_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "subjects.csv").write_text(content)
    with pytest.raises(UsageError, match=f"subjects.csv.*{words}"):
        read_overrides(str(tmp_path / "subjects.csv"))


def test_a_subjects_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "subjects.csv").write_bytes(b"video,subject,person\n\xff\xfe\xfa,left,0\n")
    with pytest.raises(UsageError, match=r"subjects\.csv.*not a CSV file"):
        read_overrides(str(tmp_path / "subjects.csv"))


def test_a_missing_subjects_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=r"subjects\.csv: no such file"):
        read_overrides(str(tmp_path / "subjects.csv"))
