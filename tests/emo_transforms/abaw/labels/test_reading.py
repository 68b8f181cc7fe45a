from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.labels.label_statistics import labelled_tasks
from emobeam.emo_transforms.abaw.labels.reading import partitions, read_labels
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS, Task

VA, EXPR, AU, MTL, CE, EMI, AH, AHV, VD = (
    TASKS[name] for name in ("va", "expr", "au", "mtl", "ce", "emi", "ah", "ah-video", "vd")
)
EXPR_HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
AU_HEADER = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
BAH = "90001/Visite 1/90001_Question_1_2024-11-14 09-00-00_Video.mp4"


def put(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())
    return str(root)


def names(uri: str, task: Task, partition: str = "") -> list[str]:
    return [video.name for video in read_labels(uri, task, partition=partition, warn=pytest.fail)]


@pytest.mark.parametrize("edition", ["Third ABAW Annotations", "8th_ABAW_Annotations"])
@pytest.mark.parametrize("task_folder", ["EXPR_Recognition_Challenge", "EXPR Classification Challenge"])
@pytest.mark.parametrize("train", ["Train_Set", "train set"])
def test_folders_in_all_spellings(tmp_path: Path, edition: str, task_folder: str, train: str) -> None:
    root = tmp_path / edition
    put(
        root / task_folder,
        {
            f"{train}/video49_left.txt": f"{EXPR_HEADER}\n4\n-1\n",
            f"{train}/10-60-1280x720.txt": f"{EXPR_HEADER}\r\n7\r\n",
            f"{train}/.DS_Store": "junk",
            "Validation_Set/video45_1.txt": f"\ufeff{EXPR_HEADER}\n-1.0\n0",
        },
    )
    for uri in (root, root / task_folder):
        assert partitions(str(uri), EXPR) == ["train", "validation"]
        assert names(str(uri), EXPR) == ["10-60-1280x720", "video45_1", "video49_left"]
        assert (
            names(str(uri), EXPR, "train") == names(str(uri), EXPR, "Train_Set") == ["10-60-1280x720", "video49_left"]
        )
        assert names(str(uri), EXPR, "validation") == ["video45_1"]
    assert partitions(str(root / task_folder / train), EXPR) == ["train"]
    assert names(str(root / task_folder / train / "video49_left.txt"), EXPR) == ["video49_left"]
    (video,) = read_labels(str(root), EXPR, partition="validation", edition=8, warn=pytest.fail)
    np.testing.assert_array_equal(video.values, [[-1], [0]])
    np.testing.assert_array_equal(video.valid, [[False], [True]])


def test_invalid_markers(tmp_path: Path) -> None:
    va = put(tmp_path / "va", {"a.txt": "valence,arousal\n-5,-5\n-5.0,0.25\n0.5,-5.00\n-1,1\n"})
    (video,) = read_labels(va, VA, warn=pytest.fail)
    np.testing.assert_array_equal(video.valid[:, 0], [False, False, False, True])
    au = put(tmp_path / "au", {"a.txt": f"{AU_HEADER}\n" + "0," * 11 + "-1\n" + "1," * 11 + "1.0\n"})
    (video,) = read_labels(au, AU, warn=pytest.fail)
    np.testing.assert_array_equal(video.valid[:, 0], [False, True])
    row = "0.1,0.3,-1" + ",0" * 12
    mtl = put(tmp_path / "mtl", {"train_set.txt": f"image,valence,arousal,expression,aus\nv/00008.jpg,{row}\n"})
    (video,) = read_labels(mtl, MTL, warn=pytest.fail)
    np.testing.assert_array_equal(video.valid, [[True, False, True]])
    vd = put(tmp_path / "vd", {"Training/1.csv": "Frame_Number,Label\n2,-1\n1,1\n"})
    (video,) = read_labels(vd, VD, warn=pytest.fail)
    np.testing.assert_array_equal(video.frames, [1, 2])
    np.testing.assert_array_equal(video.valid[:, 0], [True, False])


def test_tables(tmp_path: Path) -> None:
    header = "image,valence,arousal,expression,aus"
    row = "0,0,1" + ",1" * 12
    uri = put(
        tmp_path / "mtl",
        {
            "MTL_Challenge/training_set_annotations.txt": (
                f"{header}\nw/00017.jpg,{row}\nv/1.jpg,{row}\n\nw/00008.jpg,{row}\n"
            ),
            "MTL_Challenge/validation_set_annotations.txt": f"{header}\nx_left/00008.jpg,{row}\n",
        },
    )
    assert partitions(uri, MTL) == ["train", "validation"]
    assert [(video.name, video.frames.tolist()) for video in read_labels(uri, MTL, warn=pytest.fail)] == [
        ("v", [1]), ("w", [8, 17]), ("x_left", [8]),
    ]  # fmt: skip
    header = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    uri = put(
        tmp_path / "emi",
        {"train_split.csv": f"{header}\n00012{',0.5' * 6}\n", "valid_split.csv": f"{header}\n00003{',1' * 6}"},
    )
    assert names(uri, EMI) == ["00003", "00012"]
    assert names(uri, EMI, "train") == ["00012"]
    own = put(tmp_path / "ce", {"mine.txt": f"{CE.form.header}\n01/00002.jpg,6\n01/00001.jpg,-1\n"})
    (video,) = read_labels(f"{own}/mine.txt", CE, warn=pytest.fail)
    assert (video.values[:, 0].tolist(), video.valid[:, 0].tolist()) == ([-1, 6], [False, True])
    with pytest.raises(EmobeamError, match="ce: no annotations of task ce; expected a file"):
        names(own, CE)


def bah_files(place: str) -> dict[str, str]:
    other = BAH.replace("90001", "90002")
    annotation = "".join(
        f"{name}:\n  fr_detailed_ah: [[1, {{a: b}}], []]\n  frame_annotation:\n"
        f"  - - {name}/frame-1.jpg\n    - 1\n  - [{name}/frame-0.jpg, 0]\n  global_ah: 1\n  time_detailed_ah: null\n"
        for name in (other, BAH)
    )
    return {
        place: annotation,
        "default-split/train.txt": f"{BAH},1,well, I would, but\n",
        "default-split/val.txt": f"{other},0,\n90009/1/x.mp4,0,never annotated\n",
        "transcription/90001/x.yml": "text: a",
    }


@pytest.mark.parametrize("place", ["annotation.yml", "default-split/annotation.yml", "video_annotation.yaml"])
def test_bah_frames(tmp_path: Path, place: str) -> None:
    put(tmp_path / "ABAW-8th-BAH-train-data", bah_files(place))
    for uri in (tmp_path, tmp_path / "ABAW-8th-BAH-train-data", tmp_path / "ABAW-8th-BAH-train-data" / "default-split"):
        videos = list(read_labels(str(uri), AH, warn=pytest.fail))
        assert [video.name for video in videos] == [BAH, BAH.replace("90001", "90002")]
        assert (videos[0].frames.tolist(), videos[0].values[:, 0].tolist()) == ([1, 2], [0, 1])
        assert partitions(str(uri), AH) == ["train", "validation"]
        assert names(str(uri), AH, "train") == [BAH]
    told: list[str] = []
    found = read_labels(str(tmp_path), AH, partition="validation", warn=told.append)
    assert [video.name for video in found] == [BAH.replace("90001", "90002")]
    (text,) = told
    assert "1 video of partition validation has no labels there, for example '90009/1/x.mp4'" in text


def test_bah_clips(tmp_path: Path) -> None:
    uri = put(
        tmp_path,
        {
            "video-level/split-0/train.txt": f"Videos/{BAH},1,well, I would, but\n",
            "video-level/split-0/test.txt": "a.mp4,0,\n",
        },
    )
    assert partitions(uri, AHV) == ["train", "test"]
    videos = read_labels(uri, AHV, warn=pytest.fail)
    assert [(video.name, video.frames.tolist(), video.values.tolist()) for video in videos] == [
        (f"Videos/{BAH}", [1], [[1]]), ("a.mp4", [1], [[0]]),
    ]  # fmt: skip
    put(tmp_path, {"video-level/split-1/train.txt": "b.mp4,0,\n"})
    with pytest.raises(EmobeamError, match="split-0 and split-1 may all be meant; name one"):
        names(uri, AHV)
    assert names(f"{uri}/video-level/split-1", AHV) == ["b.mp4"]


def test_labels_one_level_lower_are_named(tmp_path: Path) -> None:
    for task, kind in (
        (VA, "VA_Estimation_Challenge/Train_Set/a.txt"),
        (EMI, "train_split.csv"),
        (AH, "annotation.yml"),
    ):
        root = put(tmp_path / f"{task.name} data" / "inner", {kind: ""})
        with pytest.raises(EmobeamError, match=rf"they lie one level lower, name '{root}'"):
            partitions(str(tmp_path / f"{task.name} data"), task)
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(EmobeamError, match=r"t\.xlsx: a spreadsheet program's own file; save it as CSV"):
        names(str(tmp_path / "t.xlsx"), VA)


def by_name(header: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """A file as pandas saves it whose columns were sorted by name."""
    order = sorted(range(len(columns)), key=lambda place: columns[place])
    first = ",".join(columns[place] for place in order)
    assert first != header
    return f"{first}\n{','.join(str(row[place]) for place in order)}\n"


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    """Sorted columns were read by position, without a word: AU10 as AU2."""
    row = [1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1]
    values = [round(0.1 * place, 1) for place in range(1, 7)]
    files = {
        AU: by_name(AU_HEADER, AU.outputs, row),
        VA: "arousal, Valence\n0.25,-0.5\n",
        EMI: by_name(EMI.form.header or "", ["Filename", *EMI.outputs], ["00012", *values]),
        VD: "Label,Frame_Number\n1,3\n",
        MTL: by_name(MTL.form.header or "", ["image", *MTL.label_columns], ["v/00002.jpg", 0.5, -0.5, 3, *row]),
        EXPR: "expression\n3\n",
    }
    wanted = {AU: row, VA: [-0.5, 0.25], EMI: values, VD: [1], MTL: [0.5, -0.5, 3, *row], EXPR: [3]}
    for task, text in files.items():
        file = tmp_path / f"{task.name}.txt"
        file.write_text(text)
        (video,) = read_labels(str(file), task, warn=pytest.fail)
        assert video.values.tolist() == [pytest.approx(wanted[task])], task.name
        assert labelled_tasks(str(file)) == [task], task.name
        assert video.name == {EMI: "00012", MTL: "v"}.get(task, task.name)
    mtl = MTL.form.header or ""
    (tmp_path / "mtl.txt").write_text(f"image,aus,{mtl.removeprefix('image,').removesuffix(',aus')}\nv/00001.jpg,")
    with (tmp_path / "mtl.txt").open("a") as file:
        file.write(",".join(map(str, [*row, 0.5, -0.5, 3])))
    (video,) = read_labels(str(tmp_path / "mtl.txt"), MTL, warn=pytest.fail)
    assert video.values.tolist() == [[0.5, -0.5, 3, *row]]


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (VA, "", r"line 1: expected the header 'valence,arousal', found ''"),
        (VA, "valence,arousal\n", r"line 1: holds no labels of task va"),
        (VA, "0.5,0.5\n0,0\n", r"line 1: expected the header 'valence,arousal', found '0.5,0.5'"),
        (VA, "valence,arousal,0.5,0.5\n0,0\n", r"line 1: expected the header"),
        (EXPR, f"{EXPR_HEADER}4\n3\n", r"line 1: expected the header"),
        (EXPR, ",".join(sorted(EXPR.outputs)) + "\n3\n", r"line 1: .*the classes in another order, and whether"),
        (VA, "valence;arousal\n0,5;0,5\n", r"line 1: .*separated by ';': save it with commas, and points in numbers"),
        (VA, ",valence,arousal\n0,0,0\n", r"line 1: .*found ',valence,arousal'; it has "),
        (VA, "valence,joy\n0,0\n", r"line 1: .*; it lacks arousal and has joy"),
        (VA, "arousal,valence\n0\n", r"line 2: expected 2 values \(arousal, valence\), found 1"),
        (EMI, f"{','.join(sorted(EMI.form.header.split(',')))}\n{','.join('000000')}\n", "line 2: expected 7 values"),
        (VA, "valence,arousal\n0.5\n", r"line 2: expected 2 values \(valence, arousal\), found 1 value"),
        (VA, "valence,arousal\n0,0\n\n0,0\n", r"line 3: is empty"),
        (VA, "valence,arousal\n0,nan\n", r"line 2: arousal: 'nan' is not a number"),
        (VA, "valence,arousal\n1e400,0\n", r"line 2: valence: '1e400' is outside -1 to 1"),
        (VA, "valence,arousal\n-1,0\n-1.01,0\n", r"line 3: valence: '-1.01' is outside -1 to 1"),
        (EXPR, f"{EXPR_HEADER}\n8\n", r"line 2: expression: '8' is outside 0 to 7"),
        (EXPR, f"{EXPR_HEADER}\n1.5\n", r"line 2: expression: '1.5' has to be an integer"),
        (EXPR, f"{EXPR_HEADER}\n0,0,0,0,1,0,0,0\n", r"line 2: expected 1 value \(expression\), found 8 values"),
        (AU, f"{AU_HEADER}\n" + "0," * 11 + "2", r"line 2: AU26: '2' is outside 0 to 1"),
        (MTL, "image,valence,arousal,expression,aus\nv.jpg,0\n", r"line 2: 'v.jpg' is no key of task mtl"),
        (EMI, f"{EMI.form.header}\n1{',0' * 6}\n2{',0' * 6}\n1{',1' * 6}\n", r"line 4: '1' stands in .*line 2 already"),
        (VD, "Frame_Number,Label\n0,1\n", r"line 2: '0' is no frame number"),
        (VD, "Frame_Number,Label\n1,1\n1,0\n", r"line 3: frame 1 of 'a' stands in .*line 2 already"),
        (AHV, "x.mp4,2,text\n", r"line 1: expected '<id>.mp4,<0 or 1>,<transcript>', found 'x.mp4,2,text'"),
        (AHV, "x.mp4,1\n", r"line 1: expected '<id>.mp4"),
        (AH, f"{BAH}:\n  global_ah: 1\n", "line 1: .* has no frame_annotation"),
        (AH, f"{BAH}:\n  frame_annotation:\n  - - x.mp4/frame-0.jpg\n    - 1\n", "line 3: 'x.mp4/frame-0.jpg' is no"),
        (AH, f"{BAH}:\n  frame_annotation:\n  - - {BAH}/frame-0.jpg\n    - 5\n", "line 3: .* is labelled '5'"),
        (AH, f"{BAH}:\n  frame_annotation:\n  - [{BAH}/frame-0.jpg, 1\n", "line [34]: no valid YAML"),
        (AH, f"{BAH}:\n  frame_annotation: []\n{BAH}:\n  x: 1\n", "line 3: .* stands on line 1 already"),
        (AH, "- 1\n", "line 1: the file is no mapping"),
    ],
)  # fmt: skip
def test_errors_name_file_and_line(tmp_path: Path, task: Task, text: str, message: str) -> None:
    file = tmp_path / ("a.yml" if task is AH else "a.txt")
    file.write_bytes(text.encode())
    with pytest.raises(EmobeamError, match=rf"{file.name}, {message}"):
        names(str(file), task)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"valence,arousal\n0,0\n0,\xff0\n")
    with pytest.raises(EmobeamError, match=r"a.txt, line 3: not UTF-8 text"):
        names(str(tmp_path), VA)


def test_places_without_labels(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such file or folder"):
        names(str(tmp_path / "absent"), VA)
    with pytest.raises(
        EmobeamError, match=r"no annotations of task va; expected Train_Set, Validation_Set with a .txt"
    ):
        names(str(tmp_path), VA)
    with pytest.raises(EmobeamError, match=r"0 files of labels of task ah; expected one annotation.yml"):
        names(str(tmp_path), AH)
    with pytest.raises(UsageError, match="edition 9 has no task expr"):
        list(read_labels(str(tmp_path), EXPR, edition=9, warn=pytest.fail))
    uri = put(tmp_path, {"Train_Set/a.txt": "valence,arousal\n0,0\n", "Validation_Set/a.txt": "valence,arousal\n0,0\n"})
    with pytest.raises(EmobeamError, match=r"Train_Set/a.txt and .*Validation_Set/a.txt both hold 'a'"):
        names(uri, VA)
    with pytest.raises(EmobeamError, match=r"no partition 'test' of task va; there are train, validation"):
        names(uri, VA, "test")
