"""The jobs ``tune`` and ``score`` from files to files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.networks.heads.config import HeadConfig, config_to_json
from emobeam.pipelines.challenge.score import edition_of, print_score, read_post, run_score, write_metrics
from emobeam.pipelines.challenge.submit import run_submit
from emobeam.pipelines.challenge.tune import run_tune, tune_summary
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.emo_transforms.abaw.predictions import invent_labels, invent_scores, write_tables
from tests.emo_transforms.abaw.truth import write_labels
from tests.pipelines.runs import Told

AU, VA = task_named("au"), task_named("va")


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Labels and an output of ``emobeam predict`` for four videos."""
    rng = np.random.default_rng(0)
    labels = [invent_labels(AU, f"video{number}", 30, rng) for number in range(4)]
    values = {(entry.name, ""): invent_scores(AU, 30, rng) for entry in labels}
    values["video0", ""][5:9] = np.nan
    return write_labels(tmp_path, AU, labels), write_tables(tmp_path / "out", AU, values)


def printed(data: dict[str, object], **options: bool) -> str:
    screen = io.StringIO()
    print_score(data, Console(file=screen, width=160), **options)
    return screen.getvalue()


def test_tune_then_score(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    post = str(tmp_path / "post.json")
    config = run_tune(AU, truth, [out], post, half_windows=(0, 2), ui=Told())
    assert read_post(post) == config
    assert f"-> {config.metrics['tuned']:.4f}" in tune_summary(config, post)

    plain = run_score(AU, truth, [out], resamples=20, ui=Told())
    assert json.loads((Path(out) / "metrics.json").read_text())["tasks"]["au"] == json.loads(json.dumps(plain))
    text = printed(plain, per_video=True)
    assert f"{plain['score']:.4f}" in text
    assert "AU26" in text
    assert "VGGFACE" in text
    assert "video3" in text
    assert "labels: partition validation\n" in text

    tuned = run_score(AU, truth, [out], post=post, resamples=20, ui=Told())
    assert "tuned on this data: 4 of the labelled videos" in printed(tuned)
    assert tuned["at_thresholds"]["score"] == pytest.approx(config.metrics["tuned"], abs=1e-6)
    assert tuned["rows"]["interpolated"] > 0


def test_a_head_tells_its_thresholds_and_videos(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    head = HeadConfig(
        "h",
        "au",
        AU.outputs,
        "frame",
        "sigmoid",
        "x",
        {"s32": (128, 7, 7)},
        levels=1,
        thresholds=(0.3,) * 12,
        trained_on=("batch1/video1",),
        tuned_on=("video0",),
    )
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "head.json").write_text(config_to_json(head))
    data = run_score(AU, truth, [out], head=str(tmp_path / "head"), resamples=0, ui=Told())
    assert data["at_thresholds"]["thresholds"] == pytest.approx([0.3] * 12)
    assert data["tuned_on_this_data"]["first"] == ["video0"]
    assert data["trained_on_this_data"]["first"] == ["video1"]
    with pytest.raises(UsageError, match="made for task au"):
        run_score(task_named("va"), truth, [out], head=str(tmp_path / "head"), ui=Told())
    with pytest.raises(UsageError, match=r"head\.json"):
        run_score(AU, truth, [out], head=str(tmp_path / "nowhere"), ui=Told())


def test_metrics_of_other_tasks_are_kept(tmp_path: Path) -> None:
    write_metrics(str(tmp_path), "va", {"score": 0.5})
    uri = write_metrics(str(tmp_path), "au", {"score": 0.25})
    write_metrics(str(tmp_path), "va", {"score": 0.75})
    assert json.loads(Path(uri).read_text())["tasks"] == {"au": {"score": 0.25}, "va": {"score": 0.75}}
    Path(uri).write_text("[]")
    with pytest.raises(EmobeamError, match=r"metrics\.json"):
        write_metrics(str(tmp_path), "au", {})


def test_a_submission_writes_metrics_only_where_asked(files: tuple[str, str], tmp_path: Path) -> None:
    truth, _ = files
    rows = [f"video{n}/{frame:05d}.jpg,{','.join('01' * 6)}" for n in range(4) for frame in range(1, 31)]
    submission = tmp_path / "predictions.txt"
    submission.write_text("\n".join([str(AU.form.header), *rows]) + "\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    data = run_score(AU, truth, [str(submission)], resamples=0, ui=Told())
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert "rows with a face" not in printed(data)
    run_score(AU, truth, [str(submission)], resamples=0, output=str(tmp_path / "figures"), ui=Told())
    assert (tmp_path / "figures" / "metrics.json").exists()


def test_rows_that_one_marker_leaves_out_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = invent_labels(AU, "video0", 30, rng)
    values, valid = whole.values.copy(), np.ones_like(whole.valid)
    values[values < 0] = 0
    values[:, :2] = [1, 0]
    values[:10, 11] = -1  # written as it is: a row that counts by its mask
    out = write_tables(tmp_path / "out", AU, {("video0", ""): invent_scores(AU, 30, rng)})
    truth = write_labels(tmp_path, AU, [VideoLabels("video0", whole.frames, values, valid)])
    data = run_score(AU, truth, [out], resamples=0, ui=Told())
    assert data["unlabelled"] == [{"group": "au", "rows": 10, "marker": -1.0, "columns": {"AU26": 10}}]
    assert "not counted: 10 of 30 rows hold -1 (AU26)\n" in printed(data)
    values[:, 11] = -1
    truth = write_labels(tmp_path / "other", AU, [VideoLabels("video0", whole.frames, values, valid)])
    with pytest.raises(EmobeamError, match=r"no valid row: 30 of 30 rows hold -1 \(AU26\); name another --truth"):
        run_score(AU, truth, [out], resamples=0, ui=Told())


def test_a_task_that_was_not_predicted_is_told(files: tuple[str, str], tmp_path: Path) -> None:
    truth, out = files
    for job in (lambda: run_submit(out, VA, 8, ui=Told()), lambda: run_score(VA, truth, [out], ui=Told())):
        with pytest.raises(EmobeamError, match=r"out: no predictions of task va; it holds au\. .* emobeam predict"):
            job()
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmobeamError, match=r"empty: no predictions; run emobeam annotate or predict first"):
        run_submit(str(tmp_path / "empty"), VA, 8, ui=Told())


def test_the_edition_without_a_number() -> None:
    assert [edition_of(task_named(name), 0) for name in ("au", "mtl", "ah-video", "vd")] == [8, 11, 11, 10]
    with pytest.raises(UsageError, match="edition 4"):
        edition_of(AU, 4)


def test_post_files_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "post.json"
    with pytest.raises(EmobeamError, match="emobeam tune"):
        read_post(str(path))
    for text in ("{", "[]", '{"schema_version": 1, "task": "au", "gate": 3}'):
        path.write_text(text)
        with pytest.raises(EmobeamError, match=r"post\.json"):
            read_post(str(path))
