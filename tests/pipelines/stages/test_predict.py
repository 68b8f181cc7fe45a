"""Stage 2 on a cache that stage 1 made: several heads and tasks, several faces, named subjects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_head
from emobeam.pipelines.stages.annotate import run_annotate
from emobeam.pipelines.stages.extract import ExtractRequest
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.pipelines.stages.run_summary import predict_summary
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.predict_config import PredictConfig
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.pipelines.conftest import Run
from tests.pipelines.runs import ONE_SECOND, Row, Told, dataset_of, part, parts, predict, rows

PAIR = "day 1/pair"
ALL_FACES = PredictConfig(faces="all")


def make_head(folder: Path, task: str, seed: int, levels: int = 3) -> str:
    """An untrained head that fits the reference's cache."""
    entry, dataset = task_named(task), dataset_of(ONE_SECOND)
    head = untrained_head(
        task,
        entry.outputs,
        entry.scope,
        entry.activation,
        dataset.config.features_id,
        dict(dataset.map_shapes),
        levels=levels,
        seed=seed,
    )
    save_head(head, str(folder))
    return str(folder)


def values(table: list[Row], task: str) -> NDArray[np.float64]:
    """Outputs [rows, K], NaN where null."""
    outputs = task_named(task).outputs
    return np.array([[np.nan if row[name] is None else row[name] for name in outputs] for row in table], np.float64)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("heads")
    kinds = {"va1": ("va", 1, 3), "va2": ("va", 2, 1), "emi": ("emi", 3, 2)}
    return {name: make_head(folder / name, *kind) for name, kind in kinds.items()}


@pytest.fixture(scope="module")
def several(
    reference: Run, heads: dict[str, str], tmp_path_factory: pytest.TempPathFactory, pool: LocalPool
) -> tuple[Path, Told]:
    """Three heads of two tasks and a third task without a head, all faces."""
    output = tmp_path_factory.mktemp("several")
    tasks = ["va", "emi", "au"]
    named = [*heads.values(), "untrained"]
    _, told = predict(reference.features, output, pool, heads=named, tasks=tasks, config=ALL_FACES)
    return output, told


def test_each_task_has_its_table(reference: Run, several: tuple[Path, Told]) -> None:
    output, told = several
    assert [len(parts(output, task)) for task in ("va", "emi", "au")] == [4, 4, 4]
    assert {row["video"] for row in part(output, "emi", PAIR)} == {PAIR}
    assert len(part(output, "emi", PAIR)) == 1, "one row per clip"
    run = json.loads((output / "run.json").read_text())
    assert {task: len(found) for task, found in run["heads"].items()} == {"va": 2, "emi": 1, "au": 1}
    assert len({head["sha256"] for found in run["heads"].values() for head in found}) == 4
    assert run["rows"] == {
        task: sum(len(rows(p)) for p in (output / "predictions" / task).iterdir()) for task in run["rows"]
    }
    assert sum("untrained" in text for text in told.warned) == 3


def test_heads_of_one_task_are_averaged(
    reference: Run, several: tuple[Path, Told], heads: dict[str, str], tmp_path: Path, pool: LocalPool
) -> None:
    alone = []
    for name in ("va1", "va2"):
        predict(reference.features, tmp_path / name, pool, heads=[heads[name]], only="talk")
        alone.append(values(part(tmp_path / name, "va", "talk"), "va"))
    both = values(part(several[0], "va", "talk"), "va")
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)


def test_a_task_is_not_disturbed_by_others(reference: Run, several: tuple[Path, Told]) -> None:
    table = part(several[0], "au", "talk")
    assert table == part(reference.output, "au", "talk")


def test_the_record_keeps_the_heads_of_tables_made_before(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    head = make_head(tmp_path / "va", "va", seed=1)
    predict(reference.features, tmp_path / "out", pool, heads=(head,), only="talk")
    predict(reference.features, tmp_path / "out", pool, tasks=("au",), only="talk", edition=8)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    uris = [(task, heads[0]["uri"]) for task, heads in sorted(record["heads"].items())]
    assert uris == [("au", "untrained"), ("va", head)]
    assert record["edition"] == 8
    shutil.rmtree(tmp_path / "out" / "predictions" / "va")
    predict(reference.features, tmp_path / "out", pool, tasks=("au",), only="talk")
    assert list(json.loads((tmp_path / "out" / "run.json").read_text())["heads"]) == ["au"]


def test_all_faces_of_two_people(reference: Run, several: tuple[Path, Told]) -> None:
    table = part(several[0], "va", PAIR)
    by_face = {face: [row for row in table if row["face"] == face] for face in {row["face"] for row in table}}
    assert set(by_face) == {0, 1}
    assert [row["frame"] for row in by_face[0]] == list(range(1, 51))
    other = [row["frame"] for row in by_face[1]]
    assert other == list(range(other[0], other[-1] + 1)), "from the first to the last sighting"
    assert np.abs(values(by_face[0][:40], "va") - values(by_face[1][:40], "va")).max() > 1e-4

    seen = [row for row in rows(several[0] / "faces.parquet") if row["video"] == PAIR]
    assert {(row["face"], row["person"]) for row in seen} in ({(0, 0), (1, 1)}, {(0, 1), (1, 0)})
    centres = sorted((row["box"][0] + row["box"][2]) / 2 for row in seen)
    assert centres[0] < 256 < centres[-1]
    main_only = part(reference.output, "au", PAIR)
    assert {row["face"] for row in main_only} == {0}


def test_one_person_keeps_number_and_identity_across_cuts(several: tuple[Path, Told]) -> None:
    (stretch,) = [row for row in rows(several[0] / "faces.parquet") if row["video"] == "talk"]
    assert (stretch["face"], stretch["person"]) == (0, 0)
    assert (stretch["first_frame"], stretch["sampled"]) == (1, 18)
    assert {row["source"] for row in part(several[0], "va", "talk")} <= {"sampled", "interpolated", "nearest"}


def test_nobody_is_absent_and_not_invented(several: tuple[Path, Told]) -> None:
    table = part(several[0], "va", "nobody")
    assert len(table) == 25
    assert {row["source"] for row in table} == {"absent"}
    assert np.isnan(values(table, "va")).all()
    assert np.isnan(values(part(several[0], "emi", "nobody"), "emi")).all()


@pytest.mark.parametrize("max_gap", [0.5, 0.2])
def test_values_reach_no_further_than_max_gap(
    max_gap: float, reference: Run, several: tuple[Path, Told], tmp_path: Path, pool: LocalPool
) -> None:
    output = several[0]
    if max_gap != 0.5:
        output = tmp_path
        predict(reference.features, output, pool, tasks=["va"], only="absent", config=PredictConfig(max_gap=max_gap))
    table = part(output, "va", "absent")
    sampled = [row["time"] for row in table if row["source"] == "sampled"]
    for row in table:
        away = min(abs(row["time"] - time) for time in sampled)
        assert (row["source"] == "absent") == (row["valence"] is None)
        assert (row["valence"] is None) == (away > max_gap + 1e-9), row


# --- subjects ---------------------------------------------------------------------------------------------


def side_of(output: Path, subject: str) -> set[str]:
    """On which side of the frame a subject's face 0 is."""
    found = [row for row in rows(output / "faces.parquet") if (row["subject"], row["face"]) == (subject, 0)]
    return {"left" if row["box"][0] + row["box"][2] < 512 else "right" for row in found}


def test_names_of_a_template_mean_sides(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    template = tmp_path / "template.txt"
    names = ["pair_right/00002.jpg", "pair_left/00001.jpg", "pair_left/00050.jpg", "talk/00007.jpg"]
    template.write_text("image_location,valence,arousal\n" + "".join(f"{name},\n" for name in names))
    output = tmp_path / "out"
    result, _ = predict(
        reference.features, output, pool, tasks=["va"], only="pair,talk", edition=8, template=[str(template)]
    )
    table = part(output, "va", PAIR)
    assert {row["subject"] for row in table} == {"left", "right"}
    assert (side_of(output, "left"), side_of(output, "right")) == ({"left"}, {"right"})
    lines = (output / "submission" / "va" / "predictions.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == names
    assert (result.submissions["va"].rows, result.submissions["va"].exact) == (4, 4)
    written = {line.split(",")[0]: [float(value) for value in line.split(",")[1:]] for line in lines[1:]}
    for name, subject, frame in (("pair_right/00002.jpg", "right", 2), ("pair_left/00050.jpg", "left", 50)):
        (row,) = [row for row in table if (row["subject"], row["frame"]) == (subject, frame)]
        np.testing.assert_allclose(written[name], [row["valence"], row["arousal"]], atol=1e-6)


def test_a_subjects_file_overrides(reference: Run, several: tuple[Path, Told], tmp_path: Path, pool: LocalPool) -> None:
    seen = [row for row in rows(several[0] / "faces.parquet") if row["video"] == PAIR]
    right = next(row["person"] for row in seen if row["box"][0] + row["box"][2] > 512)
    subjects = tmp_path / "subjects.csv"
    subjects.write_text(f"video,subject,person\npair,interviewer,{right}\npair,left,{right}\n")
    predict(reference.features, tmp_path, pool, tasks=["va"], only="pair", subjects=str(subjects))
    assert side_of(tmp_path, "interviewer") == side_of(tmp_path, "left") == {"right"}
    table = part(tmp_path, "va", PAIR)
    assert {row["subject"] for row in table} == {"interviewer", "left"}


# --- mistakes ---------------------------------------------------------------------------------------------


def test_a_head_that_needs_other_maps(heads: dict[str, str], tmp_path: Path) -> None:
    """Told before stage 1 has begun."""
    dataset = dataset_of(replace(ONE_SECOND, maps=("s32",)))
    request = PredictRequest(str(tmp_path / "features"), str(tmp_path), heads=[heads["va1"]])
    with pytest.raises(EmobeamError, match="extract with --maps s8,s16,s32"):
        run_annotate(ExtractRequest([], str(tmp_path / "features"), dataset), request, Told())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("request_", "problem"),
    [({"heads": ["emi"]}, "edition 9"), ({}, "edition 4"), ({"tasks": ["emi"]}, "edition 9")],
    ids=["of a head", "the default task", "named"],
)
def test_an_edition_without_the_task_is_told_before_stage_1(
    request_: dict[str, list[str]], problem: str, heads: dict[str, str], tmp_path: Path
) -> None:
    changes = {**request_, "heads": [heads[name] for name in request_.get("heads", [])]}
    request = PredictRequest(
        str(tmp_path / "features"),
        str(tmp_path),
        edition=int(problem.split()[-1]),
        **changes,  # type: ignore[arg-type]
    )
    with pytest.raises(UsageError, match=problem):
        run_annotate(ExtractRequest([], str(tmp_path / "features"), dataset_of(ONE_SECOND)), request, Told())
    assert not list(tmp_path.iterdir())


def test_names_that_the_cache_does_not_know(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    with pytest.raises(UsageError, match="no video called someone"):
        predict(reference.features, tmp_path, pool, only="talk,someone")


def test_a_damaged_shard_costs_its_video(
    reference: Run, several: tuple[Path, Told], tmp_path: Path, pool: LocalPool
) -> None:
    features = tmp_path / "features"
    shutil.copytree(reference.features, features)
    shard = next(row["shard"] for row in rows(features / "segments.parquet") if row["video"] == "talk")
    (features / "shards" / f"{shard}.parquet").write_bytes(b"PAR1 but no more")
    result, _ = predict(features, tmp_path / "out", pool)
    assert set(result.failed) == {"talk"}
    assert shard in result.failed["talk"]
    assert set(parts(tmp_path / "out")) == {name for name in parts(reference.output) if not name.startswith("talk")}
    assert set(json.loads((tmp_path / "out" / "run.json").read_text())["not_predicted"]) == {"talk"}


def test_no_submission_stays_of_predictions_that_are_gone(
    reference: Run, copy_of_features: Callable[[], Path], tmp_path: Path, pool: LocalPool
) -> None:
    features, output = copy_of_features(), tmp_path / "out"
    predict(features, output, pool, only="talk", edition=8)
    submission = output / "submission" / "au" / "predictions.txt"
    assert submission.exists()
    shard = next(row["shard"] for row in rows(features / "segments.parquet") if row["video"] == "talk")
    (features / "shards" / f"{shard}.parquet").write_bytes(b"PAR1 but no more")
    again = PredictConfig(max_gap=2.0)
    result, told = predict(features, output, pool, only="talk", edition=8, config=again)
    assert set(result.failed) == {"talk"}
    assert any("neither submission nor score" in text for text in told.warned)
    assert not submission.exists()
    assert json.loads((output / "run.json").read_text())["submissions"] == {}


def test_a_submission_that_says_nothing_is_none(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    """Nobody was seen: the tables are there, and no file of neutral rows; the run isn't fine."""
    result, told = predict(reference.features, tmp_path / "out", pool, only="nobody", edition=8)
    assert (set(result.refused), result.fine, result.failed) == ({"au"}, False, {})
    (text,) = [text for text in told.warned if "no submission of task au" in text]
    assert "no face was seen in any video (nobody); what was there before stays as it was" in text
    assert set(parts(tmp_path / "out")) == {name for name in parts(reference.output) if name.startswith("nobody")}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["submissions"], text in record["warnings"]) == ({}, True)


def test_figures_and_submissions_of_a_fresh_output_know_the_heads(
    reference: Run, tmp_path: Path, pool: LocalPool
) -> None:
    """No ``run.json`` is there yet that would name them; afterwards it holds what was told."""
    made = load_head(make_head(tmp_path / "random", "va", 3))
    config = replace(made.config, weights="mine", trained_on=("talk",), tuned_on=("absent",))
    save_head(replace(made, config=config), str(tmp_path / "head"))
    labels = tmp_path / "labels" / "VA_Estimation_Challenge" / "Validation_Set"
    labels.mkdir(parents=True)
    (labels / "talk.txt").write_text("valence,arousal\n" + "".join(f"{0.01 * row},0.5\n" for row in range(75)))
    given = {"heads": [str(tmp_path / "head")], "truth": str(labels.parents[1]), "edition": 8, "only": "talk,absent"}
    result, told = predict(reference.features, tmp_path / "out", pool, **given)
    trained = "was trained on, for example talk: a figure on them is no evidence"
    tuned = "was tuned on, for example absent: a figure on them is no evidence"
    assert [text for text in told.warned if text.endswith(trained)] == [
        f"{tmp_path}/out/submission/va/predictions.txt: 1 of these 2 videos {trained}", f"1 of these 1 video {trained}",
    ]  # fmt: skip
    assert any(text.endswith(tuned) for text in told.warned)
    said = predict_summary(result, "out")["scored"]["va"]
    assert said == [
        "labels: partition validation",
        "trained on this data: 1 of the labelled videos; this figure is no evidence",
    ]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["warnings"] == told.warned
    assert record["submissions"]["va"]["exact"] + record["submissions"]["va"]["nearest"] == 150
