"""What an output folder tells, and what is said of a folder that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.prediction.prediction_tables import Listing, list_parts, part_uri
from emobeam.emo_transforms.results.report.gather import Gathered, gather, seconds_by_step, warnings_of
from emobeam.emo_transforms.results.report.truth import labels_at, read_truth, truth_of_metrics
from emobeam.emo_transforms.storage import make_folder, write_json
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.results.report.outputs import table_of, write_collection, write_run, write_table


def test_videos_tasks_and_time(tmp_path: Path) -> None:
    names = write_collection(tmp_path, 3, 4, ["va", "au"])
    write_json(str(tmp_path / "features" / "dataset.json"), {"models": {}})
    for run, decode in (("a", 1.5), ("b", 2.0)):
        record = {"seconds_by_step": {"write": 0.1, "decode": decode}}
        write_json(str(tmp_path / "features" / "runs" / f"{run}.json"), record)
    found = gather(str(tmp_path))
    assert [video.id for video in found.videos] == names
    assert [task.name for task in found.tasks] == ["va", "au"]
    assert list(seconds_by_step(found).items()) == [("decode", 3.5), ("write", 0.2), ("predict", 12.5)]
    assert [video.id for video in gather(str(tmp_path), only="video_002").videos] == [names[1]]


def test_failed_videos_are_there_and_untrained_heads_are_named(tmp_path: Path) -> None:
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    heads = {"va": [{"name": "h", "weights": "untrained", "sha256": ""}]}
    warnings = ["task va: untrained", "task va: this head is experimental"]
    failed = {"video": "b", "outcome": "failed", "stage": "open", "reason": "damaged", "message": "broken"}
    write_run(tmp_path, [{"video": "a"}, failed], heads=heads, warnings=warnings)
    found = gather(str(tmp_path))
    assert [(video.id, video.outcome, video.message) for video in found.videos] == [
        ("a", "ok", ""),
        ("b", "failed", "broken"),
    ]
    assert warnings_of(found) == (["head of task va"], ["task va: this head is experimental"])


def test_tables_alone_are_enough(tmp_path: Path) -> None:
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    found = gather(str(tmp_path))
    assert [(video.id, video.outcome) for video in found.videos] == [("a", "unknown")]
    assert found.features == ""


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmobeamError, match="no such folder"):
        gather(str(tmp_path / "none"))
    with pytest.raises(EmobeamError, match="not an output folder"):
        gather(str(tmp_path))
    make_folder(str(tmp_path / "cache"))
    write_json(str(tmp_path / "cache" / "dataset.json"), {})
    with pytest.raises(EmobeamError, match="emobeam predict"):
        gather(str(tmp_path / "cache"))
    write_run(tmp_path, [])
    with pytest.raises(EmobeamError, match="no predictions"):
        gather(str(tmp_path))
    write_table(tmp_path, "va", "a", table_of("a", "va", 2))
    with pytest.raises(EmobeamError, match="no video called zzz"):
        gather(str(tmp_path), only="a,zzz")


def test_warnings_of_all_that_made_the_page_are_told_once() -> None:
    """Those of stage 2 (which hold stage 1's after annotate), of the cache's last run, and of the figures."""
    found = Gathered(
        *("out", "", (), {}, {}, Listing("out")),
        run={"warnings": ["slow", "task au: untrained"], "heads": {}},
        extracts=[{"warnings": ["of before"]}, {"warnings": ["no raw video", "slow"]}],
        metrics={"au": {"warnings": ["pooled"]}},
    )
    assert warnings_of(found)[1] == ["slow", "no raw video", "pooled"]


def test_a_damaged_table_is_told_and_the_others_are_there(tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        write_table(tmp_path, "va", name, table_of(name, "va", 2))
    write_run(tmp_path, [{"video": "a"}, {"video": "b/c"}])
    path = Path(part_uri(str(tmp_path), "va", "b/c"))
    path.write_bytes(path.read_bytes()[:-50])
    found = gather(str(tmp_path))
    assert list(found.parts["va"]) == ["a"]
    assert list(found.failed) == ["b/c"]
    assert "run emobeam predict again" in found.failed["b/c"]
    assert [video.id for video in found.videos] == ["a", "b/c"]
    assert not gather(str(tmp_path), only="a").failed
    Path(part_uri(str(tmp_path), "va", "a")).write_bytes(b"nothing")
    with pytest.raises(EmobeamError, match=r"no table of predictions can be used .*emobeam predict"):
        gather(str(tmp_path))


def write_va(folder: Path, name: str, rows: np.ndarray) -> None:
    place = folder / "VA_Estimation_Challenge" / "Validation_Set"
    place.mkdir(parents=True, exist_ok=True)
    lines = [f"{valence:.6f},{arousal:.6f}" for valence, arousal in rows]
    (place / f"{name}.txt").write_text("valence,arousal\n" + "\n".join(lines) + "\n")


def ccc(truth: np.ndarray, said: np.ndarray) -> float:
    """Lin's concordance correlation, a slow line of its own."""
    cross = ((truth - truth.mean()) * (said - said.mean())).mean()
    return float(2 * cross / (truth.var() + said.var() + (truth.mean() - said.mean()) ** 2))


def test_the_figure_of_a_video_is_its_ccc(tmp_path: Path) -> None:
    names = write_collection(tmp_path / "out", 2, 10, ["va"])
    table = table_of(names[0], "va", 10, seed=0)
    values = np.stack([table["valence"].to_numpy(), table["arousal"].to_numpy()], axis=1)
    rows = np.clip(values * 0.7 + 0.1, -1, 1)
    rows[:5] = -5
    write_va(tmp_path / "labels", "video_001", rows)
    truth = read_truth(
        list_parts(str(tmp_path / "out")).parts["va"].values(), TASKS["va"], str(tmp_path / "labels"), warn=pytest.fail
    )
    figure = truth.figures[names[0], ""]
    expected = [ccc(rows[5:, k], values[5:, k]) for k in (0, 1)]
    assert [figure.outputs["valence"], figure.outputs["arousal"]] == pytest.approx(expected, abs=1e-4)
    assert figure.score == pytest.approx(np.mean(expected), abs=1e-4)
    labels = labels_at(TASKS["va"], truth.labels[names[0], ""], np.array([1, 6, 250, 9999], np.int32))
    np.testing.assert_array_equal(np.isnan(labels).any(axis=1), [True, False, False, True])
    np.testing.assert_allclose(labels[1:3], rows[[5, 249]], atol=1e-6)


def test_classes_become_columns() -> None:
    labels = VideoLabels(
        "v", np.array([1, 2, 3], np.int32), np.array([[4], [-1], [0]], np.float32), np.array([[1], [0], [1]], bool)
    )
    found = labels_at(TASKS["expr"], labels, np.array([1, 2, 3], np.int32))
    assert np.isnan(found[1]).all()
    assert found[0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert found[2].argmax() == 0


def test_figures_of_metrics_json() -> None:
    rows = [{"video": "video_001_left", "score": 0.5, "outputs": {"valence": 0.4, "arousal": 0.6}}]
    truth = truth_of_metrics({"measure": "mean CCC", "score": 0.5, "per_video": rows}, ["batch1/video_001"])
    assert truth.figures["batch1/video_001", "left"].outputs["arousal"] == 0.6
    assert truth.labels == {}
