"""Scores of every task against scikit-learn and scipy on pooled rows, and what is said about rows and videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.abaw.scoring.fitted_videos import FittedVideos, names_among
from emobeam.emo_transforms.abaw.scoring.measures import bootstrap, measure_of, merged, sums_of, task_score
from emobeam.emo_transforms.abaw.scoring.predicted_series import SubmissionPredictions, open_predictions, open_tables
from emobeam.emo_transforms.abaw.scoring.scores import nearest, resampling_unit, score, score_labels, score_video
from emobeam.emo_transforms.abaw.submissions.writing import FramePredictions, fill, write_submission
from emobeam.schemas.post_config import PostConfig
from emobeam.schemas.published_scores import PUBLISHED, published_for
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS, Task, task_named
from tests.emo_transforms.abaw.predictions import Values, invent_labels, invent_scores, write_tables
from tests.emo_transforms.abaw.truth import write_labels

ALL = tuple(TASKS)


def reference(
    task: Task, truth: Sequence[np.ndarray], valid: Sequence[np.ndarray], scores: Sequence[np.ndarray]
) -> float:
    """The challenge figure of whole arrays by scikit-learn and scipy, written from the formats document."""
    actual, mask, said = np.concatenate(truth), np.concatenate(valid), np.concatenate(scores)
    total, label, output = 0.0, 0, 0
    for index, group in enumerate(task.groups):
        rows = mask[:, index]
        width = len(group.outputs)
        block = said[rows, output : output + width]
        if group.kind == "class":
            classes = actual[rows, label].astype(int)
            total += f1_score(classes, block.argmax(1), labels=range(width), average="macro", zero_division=0)
            label += 1
        else:
            wanted = actual[rows, label : label + width]
            total += _reference(task, wanted, block)
            label += width
        output += width
    return total


def _reference(task: Task, truth: np.ndarray, scores: np.ndarray) -> float:
    columns = range(truth.shape[1])
    truth, scores = truth.astype(np.float64), scores.astype(np.float64 if task.name == "emi" else np.float32)
    if task.name in ("ah", "ah-video", "vd"):
        average = "weighted" if task.name == "ah" else "macro"
        return f1_score(truth[:, 0] > 0, scores[:, 0] >= 0.5, average=average, labels=[0, 1], zero_division=0)
    if task.name == "emi":
        return float(np.mean([stats.pearsonr(truth[:, k], scores[:, k]).statistic for k in columns]))
    if truth.shape[1] == 2:
        return float(np.mean([_ccc(truth[:, k].astype(float), scores[:, k].astype(float)) for k in columns]))
    return float(np.mean([f1_score(truth[:, k], scores[:, k] >= 0.5, zero_division=0) for k in columns]))


def _ccc(truth: np.ndarray, scores: np.ndarray) -> float:
    covariance = np.mean((truth - truth.mean()) * (scores - scores.mean()))
    return 2 * covariance / (truth.var() + scores.var() + (truth.mean() - scores.mean()) ** 2)


def invented(task: Task, videos: int = 9, seed: int = 0) -> tuple[list[VideoLabels], Values]:
    rng = np.random.default_rng(seed)
    names = [f"video{number}_{side}" for number in range(videos) for side in ("left", "right")][:videos]
    rows = [1, *rng.integers(2, 60, videos - 1).tolist()]
    labels = [invent_labels(task, name, count, rng) for name, count in zip(names, rows, strict=True)]
    places = [tuple(name.rsplit("_", 1)) for name in names]
    return labels, {place: invent_scores(task, count, rng) for place, count in zip(places, rows, strict=True)}


@pytest.mark.parametrize("name", ALL)
def test_score_equals_the_reference_on_pooled_rows(name: str, tmp_path: Path) -> None:
    task = task_named(name)
    labels, values = invented(task)
    tables = open_tables(write_tables(tmp_path, task, values), task)
    assert tables is not None
    result = score_labels(task, task.editions[0], measure_of(task), labels, tables)
    expected = reference(task, [v.values for v in labels], [v.valid for v in labels], list(values.values()))
    assert result.value == pytest.approx(expected, abs=1e-9)
    assert result.data["valid_rows_with_face"]["score"] == pytest.approx(expected, abs=1e-9)
    assert result.interval is not None
    assert result.interval[0] <= result.value <= result.interval[1]
    assert result.data["rows"]["own"] == result.data["rows"]["valid"] == sum(int(v.valid.any(1).sum()) for v in labels)
    json.dumps(result.data, allow_nan=False)  # plain data
    one_row = result.data["per_video"][0]
    assert one_row["video"] == labels[0].name
    assert one_row["truth"] == 1


@pytest.mark.parametrize("name", ALL)
def test_videos_merge_in_any_order(name: str, tmp_path: Path) -> None:
    task = task_named(name)
    measure = measure_of(task)
    labels, values = invented(task, 12)
    tables = open_tables(write_tables(tmp_path, task, values), task)
    assert tables is not None
    found = tables.find([entry.name for entry in labels])
    parts = [score_video(task, measure, v, tables.read(found[v.name]), scores=True).every for v in labels]
    whole = float(task_score(measure, merged(parts)))
    rng = np.random.default_rng(1)
    for _ in range(5):
        order = rng.permutation(len(parts))
        halves = [merged([parts[i] for i in half]) for half in np.array_split(order, 3)]
        assert float(task_score(measure, merged(halves))) == pytest.approx(whole, abs=1e-9)


def test_mtl_masks_each_group_apart() -> None:
    task = task_named("mtl")
    labels, _ = invented(task, 1)
    rows = len(labels[0].frames)
    assert rows == 1
    valid = np.array([[True, False, True]])
    truth = VideoLabels("a", np.array([1], np.int32), labels[0].values, valid)
    part = score_video(task, measure_of(task), truth, None, scores=True)
    counts = [
        int(np.max(getattr(part.every[g.name], "rows", getattr(part.every[g.name], "count", 0)))) for g in task.groups
    ]
    assert counts == [1, 0, 1]


@pytest.mark.parametrize("name", ["va", "expr", "au", "mtl", "ah"])
def test_tables_score_as_the_submission_made_of_them(name: str, tmp_path: Path) -> None:
    """Rows without value are filled alike: nearest, else neutral."""
    task = task_named(name)
    edition = task.form.editions[-1]
    rng = np.random.default_rng(3)
    names = ["a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4"] if name == "ah" else ["10-30-640x360", "video2", "video3", "4"]
    labels = [invent_labels(task, video, 40, rng) for video in names]
    videos = [video.removesuffix(".mp4") for video in names]
    values: Values = {(video, ""): invent_scores(task, 40, rng) for video in videos[:3]}
    values[videos[0], ""][rng.random(40) < 0.5] = np.nan  # faces come and go
    values[videos[1], ""][:] = np.nan  # nobody was ever seen
    template = tmp_path / "template.txt"
    style = task.form.key
    rows = [
        f"{video}/{style.prefix}{frame - 1 + style.first:0{style.digits}d}{style.suffix},"
        for video in names
        for frame in range(1, 41)
    ]
    template.write_text("\n".join([task.form.header] * bool(task.form.header) + rows))
    out = write_tables(tmp_path, task, values)
    tables = open_tables(out, task)
    assert tables is not None

    def predictions(video: str, subject: str) -> FramePredictions | None:
        series = tables.read((video, subject))
        return FramePredictions(series.frames, series.values)

    file = str(tmp_path / "submission.txt")
    write_submission(task, edition, file, predictions=predictions, tables=tables.places, template=str(template))
    submitted = open_predictions([file], task, edition)
    assert isinstance(submitted, SubmissionPredictions)
    first = score_labels(task, edition, measure_of(task), labels, tables)
    second = score_labels(task, edition, measure_of(task), labels, submitted)
    assert first.value == pytest.approx(second.value, abs=2e-6)
    assert second.data["valid_rows_with_face"] is None
    counted = first.data["rows"]
    seen = np.isfinite(values[videos[0], ""]).all(1)
    valid = [entry.valid.any(1) for entry in labels]
    assert counted["own"] == (valid[0] & seen).sum() + valid[2].sum()
    assert counted["nearest"] == (valid[0] & ~seen).sum()
    assert counted["neutral"] == valid[1].sum() + valid[3].sum()
    assert first.data["valid_rows_with_face"]["groups"][task.groups[0].name]["rows"] < second.data["rows"]["valid"]


def test_filling_agrees_with_the_writer() -> None:
    task = task_named("va")
    rng = np.random.default_rng(5)
    for _ in range(50):
        numbers = np.sort(rng.choice(60, rng.integers(1, 9), replace=False)).astype(np.int32) + 1
        known = FramePredictions(numbers, rng.random((len(numbers), 2)).astype(np.float32))
        wanted = np.arange(1, 70)
        written, _ = fill(task, wanted, len(wanted), known)
        np.testing.assert_array_equal(written, known.values[nearest(numbers, wanted)])


def test_missing_and_surplus_are_counted_and_named(tmp_path: Path) -> None:
    task = task_named("va")
    labels, values = invented(task, 4)
    lost = list(values)[3]
    values = {place: rows for place, rows in values.items() if place != lost}
    longer = next(iter(values))
    values[longer] = np.concatenate([values[longer], values[longer]])
    values["other", ""] = np.zeros((5, 2), np.float32)
    place = list(values)[1]
    values[place] = values[place][:-2]
    tables = open_tables(write_tables(tmp_path, task, values), task)
    assert tables is not None
    data = score_labels(task, 8, measure_of(task), labels, tables).data
    assert data["videos"] == {
        "truth": 4,
        "missing": 1,
        "missing_first": ["_".join(lost)],
        "surplus": 1,
        "surplus_first": ["other"],
    }
    assert data["rows"]["missing"] == len(labels[3].frames) + 2
    assert data["rows"]["surplus"] == 1
    assert data["rows"]["missing_first"][0] == f"{labels[1].name}, frame {len(labels[1].frames) - 1}"


def test_rows_without_a_face_only_count_in_the_first_figure(tmp_path: Path) -> None:
    task = task_named("expr")
    labels, values = invented(task, 3)
    for rows in values.values():
        rows[1::2] = np.nan
    tables = open_tables(write_tables(tmp_path, task, values), task)
    assert tables is not None
    data = score_labels(task, 8, measure_of(task), labels, tables).data
    kept = [slice(None, None, 2)] * 3
    expected = reference(
        task,
        [v.values[k] for v, k in zip(labels, kept, strict=True)],
        [v.valid[k] for v, k in zip(labels, kept, strict=True)],
        [rows[k] for rows, k in zip(values.values(), kept, strict=True)],
    )
    assert data["valid_rows_with_face"]["score"] == pytest.approx(expected)
    assert data["all_valid_rows"]["score"] != data["valid_rows_with_face"]["score"]


def test_thresholds_make_a_second_figure_and_leave_the_first(tmp_path: Path) -> None:
    task = task_named("au")
    labels, values = invented(task)
    out = write_tables(tmp_path, task, values)
    tables = open_tables(out, task)
    assert tables is not None
    plain = score_labels(task, 8, measure_of(task), labels, tables)
    other = score_labels(task, 8, measure_of(task), labels, tables, thresholds=(0.3,) * 12)
    assert plain.data["at_thresholds"] is None
    assert other.value == plain.value
    truth, valid = np.concatenate([v.values for v in labels]), np.concatenate([v.valid for v in labels])[:, 0]
    said = np.concatenate(list(values.values())) >= np.float32(0.3)
    expected = np.mean([f1_score(truth[valid, k], said[valid, k], zero_division=0) for k in range(12)])
    assert other.data["at_thresholds"]["score"] == pytest.approx(expected)


def test_ah_video_tells_average_precision_of_tables_and_of_submitted_probabilities(tmp_path: Path) -> None:
    task = task_named("ah-video")
    rng = np.random.default_rng(0)
    names = [f"Videos/{n}/Visite_1/{n}.mp4" for n in range(100, 140)]
    labels = [invent_labels(task, name, 1, rng) for name in names]
    values: Values = {(name.removesuffix(".mp4"), ""): invent_scores(task, 1, rng) for name in names}
    tables = open_tables(write_tables(tmp_path, task, values), task)
    assert tables is not None
    first = score_labels(task, 10, measure_of(task), labels, tables)
    lines = [
        f"{name},{1 - p:.1f},{p:.1f},{int(p >= 0.5)}"
        for name, p in zip(names, (v[0, 0] for v in values.values()), strict=True)
    ]
    file = tmp_path / "with_probabilities" / "trial-1.txt"
    file.parent.mkdir()
    file.write_text("\n".join(lines) + "\n")
    second = score_labels(task, 10, measure_of(task), labels, open_predictions([str(file)], task, 10))
    assert second.value == pytest.approx(first.value)
    both = [result.data["all_valid_rows"]["average_precision"] for result in (first, second)]
    assert both[0] == pytest.approx(both[1])
    assert 0 < both[0] < 1


def test_bootstrap_draws_subjects_not_rows() -> None:
    task = task_named("va")
    measure = measure_of(task)
    rng = np.random.default_rng(0)
    labels = [invent_labels(task, f"video{n}", 30, rng, invalid=0.0) for n in range(8)]
    said = [invent_scores(task, 30, rng) * 0.3 + 0.7 * entry.values for entry in labels]
    parts = [sums_of(measure, v.values, v.valid, rows) for v, rows in zip(labels, said, strict=True)]
    units = ["a", "a", "b", "c", "d", "e", "f", "g"]
    interval = bootstrap(measure, parts, units, resamples=200, seed=4)
    names = sorted(set(units))
    draws = np.random.default_rng(4).multinomial(7, np.full(7, 1 / 7), size=200)
    figures = []
    for draw in draws:
        chosen = [i for i, unit in enumerate(units) for _ in range(draw[names.index(unit)])]
        figures.append(
            reference(
                task, [labels[i].values for i in chosen], [labels[i].valid for i in chosen], [said[i] for i in chosen]
            )
        )
    assert interval == pytest.approx(tuple(np.quantile(figures, [0.025, 0.975])), abs=1e-9)
    assert bootstrap(measure, parts, units, resamples=200, seed=4) == interval
    assert bootstrap(measure, parts, ["a"] * 8) is None


@pytest.mark.parametrize(
    ("task", "name", "unit"),
    [
        ("va", "video49_left", "video49"),
        ("va", "30-30-1920x1080_right", "30-30-1920x1080"),
        ("au", "122-60-1920x1080-5", "122-60-1920x1080"),
        ("expr", "video45_1", "video45"),
        ("expr", "video10_1_left", "video10"),
        ("va", "102", "102"),
        ("emi", "00012", "00012"),
        ("ah", "82683/Visite_1/82683_Question_1_Video.mp4", "82683"),
        ("ah-video", "Videos/82683/Visite_1/82683_Question_1_Video.mp4", "82683"),
    ],
)
def test_what_is_drawn_together(task: str, name: str, unit: str) -> None:
    assert resampling_unit(task_named(task), name) == unit


def test_score_reads_files_and_says_what_was_tuned_on_them(tmp_path: Path) -> None:
    task = task_named("au")
    labels, values = invented(task)
    truth = write_labels(tmp_path, task, labels)
    out = write_tables(tmp_path / "out", task, values)
    plain = score(task, 8, truth, out, resamples=50, warn=pytest.fail)
    expected = reference(task, [v.values for v in labels], [v.valid for v in labels], list(values.values()))
    assert plain.value == pytest.approx(expected)
    assert plain.data["tuned_on_this_data"] is None
    post = PostConfig("au", thresholds=(0.3,) * 12, tuned_on=(labels[0].name, "elsewhere"))
    told: list[str] = []
    fitted = FittedVideos(trained_on=("video1",))
    tuned = score(task, 8, truth, out, post=post, fitted=fitted, resamples=50, warn=told.append)
    assert [text.partition(" of these")[0] for text in told] == ["2", "1"]
    assert "were trained on, for example video1_left: a figure on them is no evidence" in told[0]
    assert tuned.value == plain.value
    assert tuned.data["tuned_on_this_data"] == {"videos": 1, "first": [labels[0].name]}
    assert tuned.data["trained_on_this_data"] == {"videos": 2, "first": ["video1_left", "video1_right"]}
    assert tuned.data["postprocessing"]["thresholds"] == [0.3] * 12


@pytest.mark.parametrize(
    ("used", "names", "expected"),
    [
        (
            ("a/clip1", "b/clip1", "a/clip2", "a/clip3"),
            ["clip1", "clip2", "clip3", "clip4"],
            ["clip1", "clip2", "clip3"],
        ),
        (("12", "13"), ["00012", "00013", "00014"], ["00012", "00013"]),
        (("00012", "a/v", "b/v"), ["v_left", "12"], ["12", "v_left"]),
    ],
)
def test_names_that_may_mean_several_used_videos_count_as_used(
    used: tuple[str, ...], names: list[str], expected: list[str]
) -> None:
    assert names_among(names, used) == expected
    (note,) = FittedVideos(trained_on=used).notes(names)
    assert note.startswith(f"{len(expected)} of these {len(names)} videos were trained on")


def test_several_outputs_are_averaged_by_weight(tmp_path: Path) -> None:
    task = task_named("va")
    labels, first = invented(task, 4)
    _, second = invented(task, 4)
    second = {place: invent_scores(task, len(rows), np.random.default_rng(9)) for place, rows in first.items()}
    uris = [write_tables(tmp_path / "1", task, first), write_tables(tmp_path / "2", task, second)]
    post = PostConfig("va", weights=(3.0, 1.0))
    result = score_labels(task, 8, measure_of(task), labels, open_predictions(uris, task, 8, post=post))
    mean = [0.75 * first[place] + 0.25 * second[place] for place in first]
    assert result.value == pytest.approx(
        reference(task, [v.values for v in labels], [v.valid for v in labels], mean), abs=1e-6
    )


def test_compound_expressions_come_from_basic_ones(tmp_path: Path) -> None:
    expr, task = task_named("expr"), task_named("ce")
    scores = np.zeros((3, 8), np.float32)
    scores[0, [4, 6]] = 0.5  # happiness, surprise
    scores[1, [5, 1]] = 0.5  # sadness, anger
    scores[2, [3, 6]] = 0.5  # fear, surprise
    out = write_tables(tmp_path, expr, {("01", ""): scores})
    tables = open_predictions([out], task, 8)
    labels = [
        VideoLabels("01", np.arange(1, 4, dtype=np.int32), np.array([[1], [6], [0]], np.float32), np.ones((3, 1), bool))
    ]
    assert score_labels(task, 8, measure_of(task), labels, tables).value == pytest.approx(3 / 7)


def test_mistakes_are_told(tmp_path: Path) -> None:
    task = task_named("au")
    labels, values = invented(task, 3)
    out = write_tables(tmp_path, task, values)
    tables = open_tables(out, task)
    assert tables is not None
    stranger = [VideoLabels("stranger", v.frames, v.values, v.valid) for v in labels[:1]]
    with pytest.raises(EmobeamError, match="'stranger'"):
        score_labels(task, 8, measure_of(task), stranger, tables)
    void = [VideoLabels(v.name, v.frames, v.values, v.valid & False) for v in labels]
    with pytest.raises(EmobeamError, match="no valid row"):
        score_labels(task, 8, measure_of(task), void, tables)
    odd = [VideoLabels(v.name, v.frames, v.values + 0.5, v.valid | True) for v in labels]
    with pytest.raises(EmobeamError, match=labels[0].name):
        score_labels(task, 8, measure_of(task), odd, tables)
    submission = tmp_path / "au.txt"
    submission.write_text(f"{task.form.header}\nvideo0_left/00001.jpg,{','.join('0' * 12)}\n")
    with pytest.raises(UsageError, match="holds no predictions tables"):
        open_predictions([str(submission)], task, 8, post=PostConfig("au"))
    with pytest.raises(EmobeamError, match="no such file"):
        open_predictions([str(tmp_path / "nowhere")], task, 8)
    with pytest.raises(EmobeamError, match="not va"):
        open_tables(str(tmp_path / "predictions" / "au"), task_named("va"))


def test_published_figures_are_of_known_tasks_and_editions() -> None:
    for entry in PUBLISHED:
        assert entry.edition in TASKS[entry.task].editions, entry
        assert 0 < entry.score < (3 if entry.task == "mtl" else 1), entry
        assert entry.source
    assert published_for("au", 8)[0]["edition"] == 8
    assert {entry["task"] for entry in published_for("ah", 8)} == {"ah"}
