"""The example files handed out beside the repository: all are read, and made again byte for byte from what was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.labels.label_files import read_split
from emobeam.emo_transforms.abaw.labels.reading import label_sources, partitions, read_labels
from emobeam.emo_transforms.abaw.submissions.reading import find_submissions, read_submission
from emobeam.emo_transforms.abaw.submissions.templates import read_template, read_video_list
from emobeam.emo_transforms.abaw.submissions.validation import validate
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, write_submission
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.abaw.examples import SHARED, bah_text, label_files, outputs_of

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared example files are not beside the repository")


@pytest.mark.parametrize(
    ("name", "root", "parts"),
    [
        ("va", "8th_ABAW_Annotations", ["train", "validation"]),
        ("expr", "8th_ABAW_Annotations", ["train", "validation"]),
        ("au", "8th_ABAW_Annotations", ["train", "validation"]),
        ("mtl", "MTL_s-Aff-Wild2", ["train", "validation"]),
        ("emi", "EMI_Hume-Vidmimic2", ["train", "validation"]),
        ("vd", "VD_DVD", ["validation"]),
    ],
)
def test_annotations(name: str, root: str, parts: list[str]) -> None:
    task, uri = TASKS[name], str(SHARED / "annotations" / root)
    assert partitions(uri, task) == parts
    for part in parts:
        texts = label_files(task, list(read_labels(uri, task, partition=part, warn=pytest.fail)))
        files = {source.name: Path(source.uri).read_text() for source in label_sources(uri, task, partition=part)}
        assert texts == files


def test_bah_annotations() -> None:
    root = SHARED / "annotations" / "BAH_ABAW8"
    text = next(root.rglob("annotation.yml")).read_text()
    videos = list(read_labels(str(root), TASKS["ah"], warn=pytest.fail))
    assert len(videos) == sum(not line.startswith(" ") for line in text.splitlines())
    for video in videos:  # the file has a field more, of unknown content, with a comment
        assert bah_text(video) in text
        assert video.frames[0] == 1
        assert video.valid.all()
    assert [
        video.name
        for part in ("train", "validation")
        for video in read_labels(str(root), TASKS["ah"], partition=part, warn=pytest.fail)
    ]
    for split in root.rglob("default-split/*.txt"):
        rows = list(read_split(str(split), TASKS["ah"]))
        assert "".join(f"{row.name},{row.label},{row.transcript}\n" for row in rows) == split.read_text()


def test_bah_clips() -> None:
    root, task = SHARED / "annotations" / "BAH_ABAW10", TASKS["ah-video"]
    assert partitions(str(root), task) == ["train", "validation"]
    for part in ("train", "validation"):
        (source,) = label_sources(str(root), task, partition=part)
        rows = list(read_split(source.uri, task))
        assert "".join(f"{row.name},{row.label},{row.transcript}\n" for row in rows) == Path(source.uri).read_text()
        labels = list(read_labels(str(root), task, partition=part, warn=pytest.fail))
        assert [(video.name, video.values.tolist()) for video in labels] == [(row.name, [[row.label]]) for row in rows]
    assert "," in next(iter(read_split(label_sources(str(root), task, partition="train")[0].uri, task))).transcript


SUBMISSIONS = [
    ("va", 3, "submissions/VA_3rd", None),
    ("va", 8, "submissions/VA_5th-to-10th", 4),
    ("va", 10, "templates/test_set_examples/ABAW_VA_test_set_example.txt", None),
    ("expr", 3, "submissions/EXPR_3rd", None),
    ("expr", 8, "submissions/EXPR_5th-to-10th", 4),
    ("expr", 8, "templates/test_set_examples/ABAW_Expr_test_set_example.txt", 4),
    ("au", 3, "submissions/AU_3rd", 6),
    ("au", 10, "submissions/AU_5th-to-10th", 6),
    ("au", 8, "templates/test_set_examples/ABAW_AU_test_set_example.txt", 6),
    ("mtl", 7, "submissions/MTL_4th-7th-11th", 4),
    ("ce", 6, "submissions/CE_6th-to-9th", 4),
    ("emi", 8, "submissions/EMI_6th-8th-10th", 4),
    ("ah", 8, "submissions/AH_8th_frame-level", 4),
    ("ah-video", 10, "submissions/AH_10th-11th_video-level", 4),
    ("vd", 9, "submissions/VD_9th-10th", 4),
    ("lsd", 4, "submissions/LSD_4th", 4),
]


@pytest.mark.parametrize(("name", "edition", "place", "decimals"), SUBMISSIONS)
def test_submissions(tmp_path: Path, name: str, edition: int, place: str, decimals: int | None) -> None:
    task, uri = TASKS[name], str(SHARED / place)
    report = validate(uri, task, edition)
    assert (report.errors, report.warnings) == ([], [])
    scores = name == "ah-video"
    tables = {
        (video, ""): FramePredictions(frames, values if scores else outputs_of(task, values))
        for video, frames, values in read_submission(uri, task, edition, probabilities=scores)
    }
    per_video = task.forms_of(edition)[0].key.per_video
    template = uri if per_video else find_submissions(uri, task, edition)[0].files[0][1]
    made = write_submission(
        task,
        edition,
        str(tmp_path),
        predictions=lambda *at: tables.get(at),
        tables=tables,
        template=template,
        decimals=decimals,
    )
    originals = sorted(file for one in find_submissions(uri, task, edition) for _, file in one.files)
    assert [Path(file).read_bytes() for file in sorted(made.files)] == [Path(file).read_bytes() for file in originals]
    assert made.exact == made.rows


@pytest.mark.parametrize("file", sorted((SHARED / "templates").glob("*/*")), ids=lambda path: path.name)
def test_templates(file: Path) -> None:
    """Samples are keys with a bare comma, or with dummy values as in a submission; lists of names are lists."""
    text = file.read_text()
    if file.parent.name.startswith("names_of"):
        names = read_video_list(str(file), TASKS["va"], TASKS["va"].forms_of(3)[0])
        assert "".join(f"{name}\n" for name in names) == text
        return
    (task,) = (task for task in TASKS.values() if task.form.header == text.splitlines()[0])
    keys = [row.key for row in read_template(str(file), task)]
    assert [line.partition(",")[0] for line in text.splitlines()[1:]] == keys
    if text.splitlines()[1].endswith(","):
        assert f"{task.form.header}\n" + "".join(f"{key},\n" for key in keys) == text


def test_labels_are_the_values_of_the_files() -> None:
    """A second look at some of the values, by hand."""
    root = str(SHARED / "annotations" / "8th_ABAW_Annotations")
    va = {video.name: video for video in read_labels(root, TASKS["va"], partition="train", warn=pytest.fail)}
    np.testing.assert_array_equal(va["video900_right"].valid[:, 0], [False, False, True, True])
    np.testing.assert_allclose(va["video900_right"].values[2:], [[0.4, 0.1], [0.41, 0.12]], rtol=1e-6)
    expr = {video.name: video for video in read_labels(root, TASKS["expr"], warn=pytest.fail)}
    np.testing.assert_array_equal(expr["900-30-640x360"].values[:, 0], [0, 0, -1, 4, 4, 7])
    assert not {"video900_right"} & expr.keys()
