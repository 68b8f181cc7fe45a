"""The main job by the installed console script, as a stranger would use it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emobeam.schemas.tasks import task_named
from tests.clips import portrait
from tests.pipelines.runs import emobeam, files, rows

FRAMES = 50
TASKS = ("--task", "au", "--task", "va")
RANDOM = ("--backbone-weights", "untrained", "--head", "untrained")
"""What comes with emobeam is tested in test_shipped_weights."""


def call(*args: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(emobeam(*args), capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("main job")
    clip = portrait(folder / "talk.mp4", frames=FRAMES)
    output = folder / "out"
    return output, call("annotate", clip, "--output", output, *TASKS, *RANDOM, "--edition", "8")


def test_all_files_are_there(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = annotated
    assert done.returncode == 0, done.stderr
    there = set(files(output))
    fixed = {
        "run.json",
        "faces.parquet",
        "videos.parquet",
        "submission/au/predictions.txt",
        "submission/va/predictions.txt",
    }
    cache = {"features/dataset.json", "features/videos.parquet", "features/segments.parquet"}
    assert fixed | cache <= there
    for pattern in ("predictions/au/talk-", "predictions/va/talk-", "features/shards/", "features/runs/"):
        assert sum(name.startswith(pattern) for name in there) == 1, pattern
    assert not [name for name in there if Path(name).name.startswith(".")]


def test_tables_have_a_row_for_every_frame(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    (path,) = (annotated[0] / "predictions" / "au").glob("*.parquet")
    table = pq.read_table(path)
    assert tuple(table.column_names[5:-1]) == task_named("au").outputs
    assert table["frame"].to_pylist() == list(range(1, FRAMES + 1))
    assert set(table["face"].to_pylist()) == {0}
    np.testing.assert_allclose(table["time"].to_numpy(), np.arange(FRAMES) / 25, atol=1e-6)
    assert set(table["source"].to_pylist()) == {"sampled", "interpolated", "nearest"}
    assert table["source"].to_pylist().count("sampled") == 12  # nearest frames to 0, 1/6, ... 11/6 s
    values = np.array([table[name].to_pylist() for name in task_named("au").outputs])
    assert ((values > 0) & (values < 1)).all()


def test_the_submission_has_every_frame(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = (annotated[0] / "submission" / "au" / "predictions.txt").read_text().splitlines()
    assert lines[0].startswith("image_location,AU1,AU2")
    assert [line.split(",")[0] for line in lines[1:]] == [f"talk/{frame:05d}.jpg" for frame in range(1, FRAMES + 1)]


def test_untrained_weights_are_named_everywhere(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = annotated
    run = json.loads((output / "run.json").read_text())
    assert run["backbone"]["weights"] == "untrained"
    assert [head["weights"] for heads in run["heads"].values() for head in heads] == ["untrained", "untrained"]
    assert (
        json.loads((output / "features" / "dataset.json").read_text())["models"]["backbone"]["weights"] == "untrained"
    )
    assert "UNTRAINED" in done.stdout
    assert done.stderr.count("is untrained") == 1


def test_progress_and_summary_have_their_channels(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = annotated
    assert "1 ok" in done.stdout
    assert "extract: 1/1 segments, 12/12 frames" in done.stderr
    assert "1 video, 0:02 of video, 12 frames to look at" in done.stderr
    assert "WARNING" not in done.stderr


def test_again_does_no_work_and_changes_nothing(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, _ = annotated
    before = {name: data for name, data in files(output).items() if "runs/" not in name and name != "run.json"}
    done = call(
        "annotate",
        output.parent / "talk.mp4",
        "--output",
        output,
        *TASKS,
        *RANDOM,
        "--edition",
        "8",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["videos"] == {"ok": 1}
    assert "1 segment done before, 0 to do" in done.stderr
    assert "predict: 0/0 videos" in done.stderr
    after = {name: data for name, data in files(output).items() if "runs/" not in name and name != "run.json"}
    assert after == before


def test_inspect_and_submit(annotated: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    output, _ = annotated
    told = json.loads(call("inspect", output / "features", "--json").stdout)
    assert (told["outcomes"], told["segments"], told["faces"]) == ({"ok": 1}, 1, 12)
    before = (output / "features" / "videos.parquet").read_bytes()
    assert call("inspect", output / "features", "--rebuild").returncode == 0
    assert (output / "features" / "videos.parquet").read_bytes() == before

    template = tmp_path / "sample.txt"
    header = "image_location,AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"
    template.write_text(f"{header}\ntalk/00003.jpg,\ntalk/00051.jpg,\nother/00001.jpg,\n")
    done = call("submit", output, "--task", "au", "--edition", "8", "--template", template)
    assert done.returncode == 0, done.stderr
    assert "3 rows (1 of their own frame, 1 of the nearest, 1 neutral)" in done.stdout
    assert "other" in done.stderr
    submitted = output / "submission" / "au" / "predictions.txt"
    assert [line.split(",")[0] for line in submitted.read_text().splitlines()[1:]] == [
        "talk/00003.jpg",
        "talk/00051.jpg",
        "other/00001.jpg",
    ]
    assert call("validate", submitted, "--task", "au", "--edition", "8", "--template", template).returncode == 0
    submitted.write_text(submitted.read_text().replace("talk/00051.jpg,0", "talk/00051.jpg,2").replace(",1,", ",0.5,"))
    assert call("validate", submitted, "--task", "au", "--edition", "8", "--template", template).returncode == 1


def test_faces_table(annotated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    (face,) = rows(annotated[0] / "faces.parquet")
    assert (face["video"], face["face"], face["person"], face["sampled"], face["first_frame"]) == ("talk", 0, 0, 12, 1)
