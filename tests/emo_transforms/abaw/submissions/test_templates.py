from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from emobeam.emo_transforms.abaw.submissions.templates import (
    TemplateRow,
    read_template,
    read_video_list,
    template_names,
)
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS, Task
from tests.emo_transforms.abaw.examples import (
    AU_HEADER,
    BAH_FRAMES,
    CLIPS,
    EMI_HEADER,
    FRAMES,
    SHARED,
    VA_HEADER,
    bah_keys,
    image_keys,
    write_lines,
)

TEST_NAMES = ["910-30-640x360", "video911_left"]
VA, AU, EMI, AH = (TASKS[name] for name in ("va", "au", "emi", "ah"))


@pytest.mark.parametrize(("newline", "bom"), [("\n", False), ("\r\n", True), ("\r", False)])
@pytest.mark.parametrize(
    ("task", "header", "tail"),
    [
        (VA, VA_HEADER, ","),
        (VA, VA_HEADER, ",0.5,-0.5"),
        (VA, VA_HEADER, ""),
        (AU, AU_HEADER, ",1" * 12),
        (AU, None, ","),
    ],
)
def test_image_templates(tmp_path: Path, task: Task, header: str | None, tail: str, newline: str, bom: bool) -> None:
    keys = image_keys()
    uri = write_lines(tmp_path / "t.txt", keys, header=header, tail=tail, newline=newline, bom=bom)
    rows = list(read_template(uri, task))
    assert [row.key for row in rows] == keys
    first = 1 if header is None else 2
    assert rows[0] == TemplateRow(first, "14-30-1920x1080/00001.jpg", "14-30-1920x1080", 1)
    assert rows[-1] == TemplateRow(first + len(keys) - 1, "video49_left/00003.jpg", "video49_left", 3)
    assert template_names(uri, task) == list(FRAMES)


@pytest.mark.parametrize("tail", ["", ",", ",0"])
def test_ah_templates(tmp_path: Path, tail: str) -> None:
    uri = write_lines(tmp_path / "trial-1.txt", bah_keys(), tail=tail, last_newline=False)
    rows = list(read_template(uri, AH))
    assert [row.key for row in rows] == bah_keys()
    assert [row.frame for row in rows] == [1, 2, 3, 1, 2]
    assert template_names(uri, AH) == list(BAH_FRAMES)


@pytest.mark.parametrize("header", [EMI_HEADER, None])
@pytest.mark.parametrize("tail", ["", ",", ",0.5,0,0,0,0,1"])
def test_emi_templates(tmp_path: Path, header: str | None, tail: str) -> None:
    uri = write_lines(tmp_path / "test_split.csv", CLIPS, header=header, tail=tail)
    assert template_names(uri, EMI) == ["12660", "00012", "17245"]
    assert {row.frame for row in read_template(uri, EMI)} == {None}


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(f"\n{VA_HEADER}\n\nv/00001.jpg,\n  \nv/00002.jpg,\n\n")
    assert [(row.line, row.frame) for row in read_template(str(path), VA)] == [(4, 1), (6, 2)]


def test_other_file_systems() -> None:
    with fsspec.open("memory://templates/va.txt", "wb") as file:
        file.write(f"{VA_HEADER}\nv/00001.jpg,\n".encode())
    assert template_names("memory://templates/va.txt", VA) == ["v"]


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (VA, "", "t.txt: no rows"),
        (VA, VA_HEADER + "\n", "t.txt: no rows"),
        (VA, AU_HEADER + "\nv/00001.jpg,\n", r"t.txt, line 1: task va has 'image_location,valence.*task au's"),
        (AH, VA_HEADER + "\nv/00001.jpg,\n", "t.txt, line 1: task ah has no header.*task va's"),
        (EMI, VA_HEADER + "\nv/00001.jpg,\n", "t.txt, line 1: task emi has 'Filename.*task va's"),
        (AU, "image_location,Neutral,Anger\nv/00001.jpg,\n", "t.txt, line 1: task au has"),
        (EMI, "image,valence,arousal,expression,aus\nv/00001.jpg,\n", "t.txt, line 1: task emi has.*task mtl's"),
        (VA, f"{VA_HEADER}\nv/00001.jpg,\nv\n", "t.txt, line 3: 'v' is no key of task va"),
        (AH, "x.mp4/frame-0.jpg\nx.mp4/00001.jpg\n", "t.txt, line 2: 'x.mp4/00001.jpg' is no key of task ah"),
        (VA, f"{VA_HEADER}\nv/00001.jpg,\nw/00001.jpg,\nv/00001.jpg,\n", "t.txt: 'v/00001.jpg' .* line 2 .* line 4"),
        (EMI, "00012\n12\n00012\n", "t.txt: '00012' stands on line 1 and again on line 3"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(tmp_path: Path, task: Task, text: str, message: str) -> None:
    path = tmp_path / "t.txt"
    path.write_text(text)
    with pytest.raises(EmobeamError, match=message):
        list(read_template(str(path), task))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match=r"absent\.txt: no such file"):
        template_names(str(tmp_path / "absent.txt"), VA)
    with pytest.raises(EmobeamError, match="can't be read"):
        template_names(str(tmp_path), VA)
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftyp\xff\xfe\xfd")
    with pytest.raises(EmobeamError, match=r"clip.mp4, line 1: not UTF-8"):
        template_names(str(tmp_path / "clip.mp4"), VA)


def test_lists_of_names(tmp_path: Path) -> None:
    uri = write_lines(tmp_path / "names.txt", list(FRAMES), newline="\r\n", bom=True)
    assert template_names(uri, VA, 3) == list(FRAMES)
    assert read_video_list(uri, VA, VA.forms_of(3)[0]) == dict.fromkeys(FRAMES)
    for text, message in (
        ("v\nv\n", r"names.txt, line 2: 'v' stands there twice"),
        ("v\nv/00001.jpg\n", r"names.txt, line 2: 'v/00001.jpg' is no name"),
        ("valence,arousal\n", r"names.txt, line 1: 'valence,arousal' is no name"),
        ("\n", r"names.txt: no names"),
    ):
        (tmp_path / "names.txt").write_text(text)
        with pytest.raises(EmobeamError, match=message):
            template_names(uri, VA, 3)


def test_folders_of_examples(tmp_path: Path) -> None:
    for name, count in FRAMES.items():
        write_lines(tmp_path / f"{name}.txt", ["0.5,0.5"] * count, header="valence,arousal")
    assert read_video_list(str(tmp_path), VA, VA.forms_of(3)[0]) == dict(sorted(FRAMES.items()))
    write_lines(tmp_path / "z.txt", ["1"], header="Neutral")
    with pytest.raises(EmobeamError, match=r"z.txt, line 1: expected 'valence,arousal', found 'Neutral'"):
        template_names(str(tmp_path), VA, 3)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared example files are not beside the repository")
@pytest.mark.parametrize(
    ("task", "file", "names"),
    [
        (VA, "templates/prediction_files_format/ABAW_VA_test_set_sample.txt", ["910-30-640x360", "video911_left"]),
        (VA, "templates/test_set_examples/ABAW_VA_test_set_example.txt", ["910-30-640x360", "video911_left"]),
        (AU, "templates/prediction_files_format/ABAW_AU_test_set_sample.txt", ["910-30-640x360"]),
        (AU, "templates/test_set_examples/ABAW_AU_test_set_example.txt", ["910-30-640x360"]),
        (EMI, "submissions/EMI_6th-8th-10th/predictions.csv", ["12660", "12661"]),
        (EMI, "annotations/EMI_Hume-Vidmimic2/train_split.csv", ["00000", "00001", "00002"]),
        (TASKS["expr"], "templates/prediction_files_format/ABAW_Expr_test_set_sample.txt", TEST_NAMES),
        (TASKS["expr"], "templates/test_set_examples/ABAW_Expr_test_set_example.txt", TEST_NAMES),
        (TASKS["ce"], "templates/test_set_examples/CE_CER.txt", ["01"]),
        (TASKS["mtl"], "templates/test_set_examples/MTL.txt", ["video912_1"]),
        (
            AH,
            "submissions/AH_8th_frame-level/trial-1.txt",
            [
                "90003/Visite_1/90003_Question_1_2024-11-14_09-00-00_Video.mp4",
                "90004/Visite 1/90004_Question_3_2024-08-22 14-00-00_Video.mp4",
            ],
        ),
    ],
)
def test_shared_templates(task: Task, file: str, names: list[str]) -> None:
    assert template_names(str(SHARED / file), task) == names
