"""The goals of the shipped weights: what is compared with what, against scikit-learn; a run on few faces."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score, roc_auc_score

from emobeam.emo_transforms.networks.backbones.torch_backbones import build_backbone
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
from emobeam.emo_transforms.networks.heads.offer import Offer
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.emo_transforms.training.material.rendering.units import UNIT_SHAPES
from emobeam.pipelines.training.people_files import crops_schema
from emobeam.schemas.config import ExtractConfig
from emobeam.schemas.tasks import task_named
from tests.benchmarks import shipped_weights
from tests.benchmarks.figures import Goal
from tests.benchmarks.weights import calls, clips, page, renders
from tests.benchmarks.weights.measured import Measured, lacking, measured, unmeasured
from tests.benchmarks.weights.network import Network, load_network
from tests.benchmarks.weights.resampling import Estimate
from tests.benchmarks.weights.split import backbone_people, leaked, london_test, renders_test
from tests.benchmarks.weights.teacher import Reading, open_mouth
from tests.clips import face

Floats = NDArray[np.float64]

MATERIAL = Path(__file__).resolve().parents[3] / "shared" / "training"


# --- what is judged -------------------------------------------------------------------------------------


def test_a_head_that_saw_the_test_side_is_found_out() -> None:
    first, last = renders_test()
    test = london_test()[0]
    fine = ["000012-0", "050001-3", f"{last + 1:06d}-0", "clips/000003-0-0001", "london/000001-0", "own_clip"]
    told = [f"{first:06d}-0", f"clips/{last:06d}-1", f"london/{int(test):06d}-0", "webcam_h264", "a/single_face"]
    assert leaked(fine + told) == told


def test_a_group_is_of_the_test_side_by_the_photographs_in_its_folder(tmp_path: Path) -> None:
    test = f"{int(london_test()[0]):06d}"
    fine = [f"pictures/{test}", f"render/{test}", f"own/{test}", "photo/000001", "moving2/000001"]
    told = [f"photo/{test}", f"moving/{test}", f"moving2/{test}", f"render/{renders_test()[0]:06d}"]
    assert leaked(fine + told) == told
    own = tmp_path / "own"
    own.mkdir()
    assert leaked([f"own/{test}"], [str(own)]) == []
    (own / "pseudo-label.json").write_text("{}")
    assert leaked([f"own/{test}", "own/000001"], [str(own)]) == [f"own/{test}"]


@pytest.mark.parametrize("where", ["pretrain.json", "weights.json"])
def test_a_backbone_that_saw_the_test_side_is_refused(weights: tuple[str, str], tmp_path: Path, where: str) -> None:
    file = tmp_path / "backbone.safetensors"
    file.write_bytes(Path(weights[0]).read_bytes())
    assert backbone_people(str(file)) == (None, [])
    tensors, whole = tensors_sha256(load_file(file)), hashlib.sha256(file.read_bytes()).hexdigest()

    def tell(groups: list[str]) -> None:
        trained = {"data": {"train": {"groups": groups}, "sources": ["moving"]}, "weights": {"sha256": tensors}}
        packed = {"backbone": {"trained_on": groups, "file": file.name, "sha256": whole}}
        (tmp_path / where).write_text(json.dumps(trained if where == "pretrain.json" else packed))

    tell(["photo/000001", "render/000007"])
    assert load_network(str(file), weights[1]).backbone_file == str(file)
    tell(["photo/000001", f"photo/{int(london_test()[3]):06d}"])
    with pytest.raises(SystemExit, match="trained on 1 people of the test side, such as photo/"):
        load_network(str(file), weights[1])


def test_an_open_mouth_is_one_that_does_not_smile() -> None:
    assert open_mouth(0.3, None, 0.05)
    assert open_mouth(0.0, 0.5, 0.0)
    assert not open_mouth(0.29, 0.49, 0.0)
    assert not open_mouth(0.9, 0.9, 0.1)


def table_of(smiles: Sequence[float], sources: Sequence[str]) -> pd.DataFrame:
    frames = np.arange(1, len(smiles) + 1)
    return pd.DataFrame({"frame": frames, "AU12": smiles, "AU1": smiles, "AU2": 0.0, "source": sources})


def reading(frame: int, smile: float, *, jaw: float = 0.0, x: float = 50.0, brow: float | None = 0.5) -> Reading:
    units = {"AU12": smile, "AU1": brow, "AU2": 0.1, "AU25": 0.0}
    return Reading(frame, frame / 6, units, {"mouthSmile_L": smile, "jawOpen": jaw}, (x, 50.0))


def test_only_frames_that_both_see_are_compared() -> None:
    smiles = [0.1, 0.2, 0.3, 0.4, 0.5]
    table = table_of(smiles, ["sampled", "interpolated", "sampled", "sampled", "sampled"])
    boxes = {frame: np.array([0.0, 0, 100, 100]) for frame in range(1, 6)}
    clip = clips.Clip("c", "someone", table, boxes)
    told = [
        reading(1, 0.0),
        reading(2, 0.1),  # not sampled
        reading(3, 0.2, x=150),  # another face
        reading(4, 0.3, brow=None),  # the teacher can't tell of the brows
        Reading(5, 1.0, {}, {}, None),  # the teacher sees nobody
    ]
    theirs, ours = clips.paired(clip, told, ("AU12",))
    assert (theirs.tolist(), ours.tolist()) == ([0.0, 0.3], [0.1, 0.4])
    theirs, ours = clips.paired(clip, told, ("AU1", "AU2"))
    assert (theirs.tolist(), ours.tolist()) == ([0.3], [0.05])
    people, smiling = clips.open_mouths([clip], {"c": [reading(1, 0.0, jaw=0.5), reading(4, 0.3, jaw=0.5)]})
    assert (people, smiling.tolist()) == (["clip someone"], [0.1])


BOXES = {frame: np.array([0.0, 0, 100, 100]) for frame in range(1, 61)}


def clip_of(name: str, smiles: Floats, person: str = "") -> clips.Clip:
    table = table_of(smiles.tolist(), ["sampled"] * len(smiles)).assign(AU25=0.0, AU26=0.0, AU4=0.0)
    return clips.Clip(name, person or name, table, BOXES)


def readings_of(values: Floats) -> list[Reading]:
    return [reading(n + 1, float(value)) for n, value in enumerate(values)]


def test_agreement_is_asked_of_every_clip_that_can_show_it() -> None:
    rng = np.random.default_rng(0)
    truth, noise = rng.random(60), rng.random(60)
    shot = [
        clip_of("good", truth),
        clip_of("short", noise[:40], "good"),
        clip_of("still", truth),
        clip_of("numb", truth * 0.01),
    ]
    told = {"good": readings_of(truth), "short": readings_of(truth[:40]), "numb": readings_of(truth)}
    told["still"] = readings_of(0.5 + 0.1 * truth)
    found = {row.key: row for row in clips.agreement(shot, told, 12)}
    good, short = found["teacher.AU12.good"], found["teacher.AU12.short"]
    assert good.value == pytest.approx(1)
    assert good.met
    assert np.isfinite(good.low)
    assert short.value == pytest.approx(np.corrcoef(truth[:40], noise[:40])[0, 1])
    assert np.isnan(short.low)  # three stretches of twelve frames
    still = found["teacher.AU12.still"]
    assert still.value == pytest.approx(1)
    assert (still.met, still.goal) == (None, None)
    assert "not measurable" in still.note
    numb = found["teacher.AU12.numb"]
    assert (numb.value, numb.met) == (0, False)
    assert "we don't move (deviation 0.003)" in numb.note
    whole = found["teacher.AU12"]
    assert whole.verdict == "no: in 1 of 3 clips"
    assert whole.met is False
    assert (whole.identities, whole.rows) == (2, 160)
    assert whole.value == pytest.approx(((1 + short.value) / 2 + 0) / 2)
    assert np.isnan(whole.low)


def test_agreement_that_one_person_shows_is_not_measurable() -> None:
    truth = np.random.default_rng(0).random(60)
    shot = [clip_of("one", truth, "same"), clip_of("two", truth, "same"), clip_of("three", truth)]
    told = {"one": readings_of(truth), "two": readings_of(truth), "three": readings_of(truth * 0 + 0.5)}
    whole, *rows = [row for row in clips.agreement(shot, told, 12) if row.key.startswith("teacher.AU12")]
    assert whole.met is None
    assert whole.verdict == "not measurable (2 of 3 clips)"
    assert "2 of 3 clips, 1 of 2 people" in whole.note
    assert [row.met for row in rows] == [True, True, None]
    assert "| not measurable (2 of 3 clips) |" in page.goals_table([whole])
    assert lacking([whole]) == []
    assert len(lacking([unmeasured("k", "w", "no clips", Goal(at_least=0.5)), unmeasured("k", "w", "no goal")])) == 1


def test_calls_are_counted_against_the_teacher(network: Network) -> None:
    theirs, ours = np.array([0.3, 0.8, 0.2, 0.0, 0.1]), np.array([0.5, 0.1, 0.9, 0.0, 0.0])
    shot = [clip_of("one", ours), clip_of("two", ours[2:])]
    told = {"one": readings_of(theirs), "two": readings_of(theirs[2:])}
    found = {call.name: call for call in calls.calls(shot, told, network)}
    smile = found["AU12"]
    assert smile.threshold == 0.5
    assert smile.positive == calls.Seen(2, 1, 1)
    assert smile.negative == calls.Seen(6, 2, 2)
    assert smile.sensitivity == 0.5
    assert smile.false_positives == pytest.approx(1 / 3)
    assert "AU6" not in found  # the teacher doesn't tell
    assert np.isnan(found["AU25"].sensitivity)
    assert "| AU12 | 0.50 | 0.50 | 2 of 1 | 0.33 | 6 of 2 |" in page.calls_table(list(found.values()))
    assert "| AU25 | 0.50 | - | 0 of 0 | 0.00 | 8 of 2 |" in page.calls_table(list(found.values()))


def test_a_smile_that_begins() -> None:
    smiles = [0.1] * 12 + [0.5] * 20 + [0.9] * 12
    clip = clips.Clip("single_face.mp4", "someone", table_of(smiles, ["sampled"] * 44), {})
    (row,) = clips.smile_begins([clip], 12)
    assert row.value == pytest.approx(0.8)
    assert row.met
    assert np.isnan(row.low)
    assert "| - | 1 (24) | yes | from 0.10 to 0.90 |" in page.goals_table([row])
    assert clips.smile_begins([], 12)[0].met is None


# --- renders, with networks -----------------------------------------------------------------------------

UNITS = tuple(row.unit for row in UNIT_SHAPES)


def write_people(folder: Path, numbers: Sequence[int], frames: int = 9) -> None:
    """A people folder as ``render`` writes it, of one real face; activations are drawn."""
    (folder / "people").mkdir(parents=True)
    (folder / "render.json").write_text(json.dumps({"config": {"seed": 0}}))
    for number in numbers:
        rng = np.random.default_rng(number)
        told = []
        for frame in range(1, frames + 1):
            data = io.BytesIO()
            Image.fromarray(face(frame + number, (96, 96))).save(data, "JPEG")
            values = {unit: None if unit == "AU23" else float(rng.choice([0.1, 0.6])) for unit in UNITS}
            pose = {"yaw": float(rng.uniform(-28, 28)), "pitch": 0.0, "roll": 0.0}
            first = {"person": number, "clip": 0, "frame": frame, "time": (frame - 1) / 6, "crop": data.getvalue()}
            told.append({**first, **values, **pose, "shapes": []})
        pq.write_table(pa.Table.from_pylist(told, crops_schema()), folder / "people" / f"{number:06d}.parquet")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A backbone's file and a head's folder, untrained."""
    folder = tmp_path_factory.mktemp("weights")
    file = str(folder / "backbone.safetensors")
    state = build_backbone("mobilenetv4_conv_small").network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    config = build_backbone("mobilenetv4_conv_small", file)
    offer = Offer(ExtractConfig(backbone=config.config).features_id, config.map_shapes)
    save_head(new_head(task_named("au"), offer, architecture="frame", inputs=("s32",)), str(folder / "head"))
    return file, str(folder / "head")


@pytest.fixture(scope="module")
def network(weights: tuple[str, str]) -> Network:
    return load_network(*weights)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renders") / "people-folder"
    write_people(folder, [100000, 100001, 100002])
    return folder


def test_clips_do_not_touch_each_other_and_a_mirrored_face_is_the_face_mirrored(network: Network) -> None:
    crops = [face(n, (96, 96)) for n in range(5)]
    together = network.probabilities([crops[:2], crops[2:]])
    assert [values.shape for values in together] == [(2, 12), (3, 12)]
    assert np.array_equal(together[1], network.probabilities([crops[2:]])[0])
    flipped = network.probabilities([[np.asarray(crop[:, ::-1]) for crop in crops]])[0]
    mirrored = network.probabilities([crops], mirrored=True)[0]
    # Crops are enlarged before they are mirrored; the order changes roundings only.
    assert np.abs(flipped - mirrored).max() < 0.01
    plain = network.probabilities([crops])[0]
    assert np.abs(plain - mirrored).max() > 0


def test_people_of_the_training_side_are_refused(tmp_path: Path) -> None:
    write_people(tmp_path / "train", [7], frames=1)
    with pytest.raises(SystemExit, match="person 7 is not on the test side"):
        renders.read_renders(tmp_path / "train", UNITS)


def test_renders_are_scored_as_scikit_learn_scores_them(network: Network, people: Path) -> None:
    found = renders.read_renders(people, UNITS)
    scored = renders.score(found, network)
    assert (len(scored.values), found.people) == (27, 3)
    units, mean, count = scored.units()
    assert "AU23" not in [unit.name for unit in units]
    assert count == 3
    for unit in units:
        truth = found.column(unit.name) >= 0.3
        values = scored.values[:, UNITS.index(unit.name)]
        assert unit.base_rate == pytest.approx(truth.mean())
        assert unit.auc.value == pytest.approx(roc_auc_score(truth, values))
        assert unit.f1.value == pytest.approx(f1_score(truth, values >= 0.5))
    assert mean.value == pytest.approx(np.mean([unit.f1.value for unit in units]))
    parts = {row.key: row for row in renders.where_it_fails(scored)}
    assert sum(row.rows for key, row in parts.items() if key.startswith("renders.f1.skin")) == 27
    assert sum(row.rows for key, row in parts.items() if key.startswith("renders.f1.yaw")) == 27


def test_the_change_in_a_mirror_is_the_mean_of_each_unit() -> None:
    plain, other = np.array([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]]), np.array([[0.2, 0.5], [0.1, 0.4], [0.3, 0.9]])
    worst, one, two = renders.mirror_goal("m", "mirrored", ["AU1", "AU2"], [0, 0, 1], plain, other)
    assert one.value == pytest.approx(0.2 / 3)
    assert worst.value == two.value == pytest.approx(0.5 / 3)
    assert "AU2" in worst.note
    assert worst.met is False
    assert renders.mirror_goal("m", "mirrored", [], [], plain, other)[0].met is None


def test_a_sharp_picture_is_sharper() -> None:
    sharp = face(3, (160, 160))
    blurred = np.asarray(Image.fromarray(sharp).resize((30, 30)).resize((160, 160), Image.Resampling.BILINEAR))
    first, second = renders.sharpness([sharp, blurred])
    assert first > 2 * second


# --- tables ---------------------------------------------------------------------------------------------


def test_the_table_says_what_is_met_and_over_how_many(tmp_path: Path) -> None:
    estimate = Estimate(0.9, 0.8, 0.95, np.zeros(1))
    told: list[Measured] = [
        measured("a", "first", estimate, identities=3, rows=9, goal=Goal(at_least=0.85), note="n", over="time"),
        measured("b", "second", estimate, identities=3, rows=9, goal=Goal(at_most=0.05)),
        unmeasured("c", "third", "no clips", Goal(at_least=0.5)),
    ]
    text = page.goals_table(told)
    assert "| first | at least 0.85 | 0.900 | 0.800 to 0.950 | 3 (9) | yes | n; interval over time |" in text
    assert "| no |" in text
    assert "| third | at least 0.5 | - |  |  | not measured | no clips |" in text
    where = tmp_path / "page.md"
    where.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n")
    page.write_page(text, where)
    written = where.read_text()
    assert written.startswith("before\n<!-- figures -->\n\n| what")
    assert written.endswith("<!-- /figures -->\nafter\n")
    assert "old" not in written


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--head", "h"], "belong together"), (["--backbone", "b", "--head", "h", "--write"], "for the shipped weights")],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        shipped_weights.main(["--material", str(tmp_path), *words])


def test_a_page_with_holes_is_not_written(tmp_path: Path) -> None:
    before = page.PAGE.read_bytes()
    with pytest.raises(SystemExit, match="not every goal was measured") as caught:
        shipped_weights.main(["--material", str(tmp_path), "--clips", str(tmp_path), "--write"])
    text = str(caught.value)  # a text gives exit code 1
    assert all(name in text for name in ("london", "face_landmarker.task", "ict_light.npz", "webcam_h264.mp4"))
    assert page.PAGE.read_bytes() == before


def test_the_page_has_a_place_for_the_tables() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert [text.count(mark) for mark in page.MARKS] == [1, 1]


def data_of(file: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(file.read_text())
    return data


def test_the_command_measures_what_there_is(
    tmp_path: Path, weights: tuple[str, str], people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--backbone", weights[0], "--head", weights[1], "--renders", str(people), "--material", str(tmp_path)]
    target = tmp_path / "figures.json"
    shipped_weights.main([*words, "--clips", str(tmp_path), "--json", str(target)])
    printed = capsys.readouterr()
    assert "rendered sequences of unseen people: mean F1" in printed.out
    assert "no photographs" in printed.err
    assert any("no photographs" in line for line in data_of(target)["details"]["missing"])
    data = data_of(target)
    keys = [figure["key"] for figure in data["figures"]]
    assert "renders.f1" in keys
    assert "london.smile" not in keys
    assert data["details"]["weights"]["weights"] == "untrained"
    assert all("identities" in figure for figure in data["figures"])
