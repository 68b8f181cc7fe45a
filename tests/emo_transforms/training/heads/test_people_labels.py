"""Labels that say how active a unit is: read from people folders, masked one by one, counted and judged from 0.3."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch.nn import functional as F

from emobeam.emo_transforms.abaw.labels.reading import VideoLabels
from emobeam.emo_transforms.abaw.scoring.measures import measure_of, sums_of, task_score
from emobeam.emo_transforms.abaw.scoring.partial_sums import BinarySums
from emobeam.emo_transforms.inputs.people_folders import PHOTO_NOTE, RENDER_NOTE
from emobeam.emo_transforms.training.heads.evaluation import holdout_score, tune_on, usual_limit
from emobeam.emo_transforms.training.heads.people_labels import held_names, read_people_labels
from emobeam.emo_transforms.training.heads.recipe import recipe_named
from emobeam.emo_transforms.training.heads.samples import (
    LabelledFace,
    _matched,
    check_cut,
    label_counts,
    present,
    unknown_outputs,
)
from emobeam.emo_transforms.training.holdout import cut_holdout
from emobeam.emo_transforms.training.losses import Balance, TaskLoss, balance_of
from emobeam.pipelines.training import pseudo_label, render
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.people import UNITS, clip_rows, crop_row, write_people

AU = TASKS["au"]
SOFT = recipe_named("soft", "au")


def face(values: np.ndarray, name: str = "a/000001-0") -> LabelledFace:
    count, zero = len(values), np.zeros(len(values), np.int32)
    valid = ~np.isnan(values).all(axis=1)[:, None]
    time = np.arange(count) / 6
    return LabelledFace(
        name, name, "", ("s",), zero, zero[None].astype(np.int64), zero + 1, time, values.astype(np.float32), valid
    )


def activations(rows: int, seed: int = 0) -> np.ndarray:
    """Activations with holes, AU23 unknown throughout."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (rows, 12)).astype(np.float32)
    values[rng.uniform(size=values.shape) < 0.3] = np.nan
    values[:, UNITS.index("AU23")] = np.nan
    return values


def test_folders_become_labels(tmp_path: Path) -> None:
    rows = [*clip_rows(3, 0, 5), *clip_rows(3, 1, 4)]
    rows[2] |= dict.fromkeys(UNITS)
    write_people(tmp_path / "a", list(reversed(rows)))
    write_people(tmp_path / "b", [crop_row(3, 0, 9, None, {"AU12": 0.25, "AU23": None})])
    found = read_people_labels([str(tmp_path / "a"), str(tmp_path / "b")], AU)
    assert [entry.name for entry in found.entries] == ["a/000003-0", "a/000003-1", "b/000003-0-0009"]
    assert found.persons == {"a/000003-0": "a/000003", "a/000003-1": "a/000003", "b/000003-0-0009": "b/000003"}
    first, _, picture = found.entries
    assert first.frames.tolist() == [1, 2, 3, 4, 5]
    assert first.valid[:, 0].tolist() == [True, True, False, True, True]
    wanted = [[np.nan if row[unit] is None else row[unit] for unit in UNITS] for row in rows[:5]]
    np.testing.assert_array_equal(first.values, np.array(wanted, np.float32))
    assert picture.frames.tolist() == [9]
    assert np.nansum(picture.values) == pytest.approx(0.25)
    above = read_people_labels([str(tmp_path)], AU)
    assert [entry.also for entry in above.entries] == ["a/000003-0", "a/000003-1", "b/000003-0-0009"]


@pytest.mark.parametrize(("note", "collection"), [(PHOTO_NOTE, "photo"), (RENDER_NOTE, "render")])
def test_one_person_in_several_folders(tmp_path: Path, note: str, collection: str) -> None:
    for name, numbers in {"still": (3, 4, 5), "moving": (4, 5, 6), "plain": (4, 5)}.items():
        for number in numbers:
            write_people(tmp_path / name, clip_rows(number, 0, 2))
        if name != "plain":
            (tmp_path / name / note).write_text("{}")
    folders = [str(tmp_path / name) for name in ("still", "moving", "plain")]
    for uris in (folders, [str(tmp_path)]):
        found = read_people_labels(uris, AU)
        whose = {name.removeprefix(f"{tmp_path.name}/"): person for name, person in found.persons.items()}
        assert whose["still/000004-0"] == whose["moving/000004-0"] == f"{collection}/000004"
        assert whose["plain/000004-0"].endswith("plain/000004")
        assert len(set(whose.values())) == 6
        sizes = {entry.name: 1 for entry in found.entries}
        for seed in range(5):
            cut = cut_holdout(sizes, found.persons, 0.3, seed=seed, by="person")
            assert cut.held
            assert not {found.persons[name] for name in cut.held} & {found.persons[name] for name in cut.train}
    persons = read_people_labels(folders, AU).persons
    both = ["moving/000004-0", "still/000004-0"]
    assert sorted(held_names([f"{collection}/000004"], persons)) == both
    assert sorted(held_names(["still/000004"], persons)) == both, "whoever is named is held out wherever they are"
    assert sorted(held_names(["000004"], persons)) == ["moving/000004-0", "plain/000004-0", "still/000004-0"]
    assert held_names(["plain/000004"], persons) == ["plain/000004-0"]
    assert held_names(["still/000004-0", "nobody"], persons) == ["still/000004-0", "nobody"]


def test_the_notes_are_those_that_the_commands_write() -> None:
    assert pseudo_label.NOTE == PHOTO_NOTE
    assert f'"{RENDER_NOTE}"' in inspect.getsource(render)


def test_labels_that_can_not_be_used(tmp_path: Path) -> None:
    folder = write_people(tmp_path / "a", clip_rows(3, 0, 2))
    with pytest.raises(UsageError, match="--task va: people folders label action units"):
        read_people_labels([str(folder)], TASKS["va"])
    other = write_people(tmp_path / "more" / "a", clip_rows(3, 0, 2))
    with pytest.raises(EmobeamError, match=f"{folder}/people/.*{other}/people/.*both hold a/000003-0"):
        read_people_labels([str(folder), str(other)], AU)
    write_people(folder, [crop_row(4, 0, 1, None, {"AU12": 1.25})])
    with pytest.raises(EmobeamError, match=r"000004.parquet: AU12 is 1.25 in row 1, expected 0 to 1"):
        read_people_labels([str(folder)], AU)


def entry(name: str, also: str) -> VideoLabels:
    return VideoLabels(name, np.ones(1, np.int32), np.zeros((1, 12), np.float32), np.ones((1, 1), bool), also)


def test_names_and_what_else_a_cache_may_call_them() -> None:
    both = [entry("a/000003-0", "000003-0"), entry("b/000003-0", "000003-0"), entry("b/000004-0", "000004-0")]
    found, missing = _matched(both, {"a/000003-0": 0, "b/000003-0": 0})
    assert {name: video for name, (video, _) in found.items()} == {n: n for n in ("a/000003-0", "b/000003-0")}
    assert missing == ["b/000004-0"]
    found, missing = _matched(both[1:], {"000003-0": 0, "000004-0": 0})
    assert found == {"b/000003-0": ("000003-0", ""), "b/000004-0": ("000004-0", "")}
    with pytest.raises(EmobeamError, match="a/000003-0 and b/000003-0 may both mean '000003-0'"):
        _matched(both, {"000003-0": 0})


@pytest.mark.parametrize("settings_", [[], ["pos_weight=0"], ["au_loss=focal"], ["pos_weight=3"]])
def test_a_masked_unit_is_as_good_as_dropped(settings_: list[str]) -> None:
    recipe = recipe_named("soft", "au", settings_)
    values = torch.from_numpy(activations(40))
    faces = [face(values.numpy())]
    balance = balance_of(AU.groups[0], label_counts(AU, faces)["au"], recipe)
    loss = TaskLoss(AU, recipe, {"au": balance})
    valid = ~values.isnan().all(dim=1, keepdim=True)
    logits = torch.randn(40, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found, _ = loss(logits, values, valid)
    found.backward()
    known = ~values.isnan()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).all()
    parts = []
    for row, unit in known.nonzero().tolist():  # one value at a time
        x, t = logits.detach()[row, unit], values[row, unit]
        if recipe.au_loss == "focal":
            p = x.sigmoid()
            right = p * t + (1 - p) * (1 - t)
            entropy = F.binary_cross_entropy(p, t)
            parts.append((recipe.alpha * t + (1 - recipe.alpha) * (1 - t)) * (1 - right) ** recipe.gamma * entropy)
        else:
            assert balance.pos_weight is not None
            parts.append(-(balance.pos_weight[unit] * t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x)))
    torch.testing.assert_close(found.detach(), torch.stack(parts).mean())


def test_whole_labels_give_what_they_gave() -> None:
    hard = (torch.from_numpy(np.nan_to_num(activations(30))) > 0.5).float()
    logits = torch.randn(30, 12, generator=torch.Generator().manual_seed(2))
    valid = torch.arange(30)[:, None] % 3 > 0
    loss = TaskLoss(AU, SOFT, {"au": Balance(pos_weight=torch.full((12,), 2.0))})
    wanted = F.binary_cross_entropy_with_logits(
        logits[valid[:, 0]], hard[valid[:, 0]], pos_weight=torch.full((12,), 2.0)
    )
    assert loss(logits, hard, valid)[0] == wanted


def test_soft_labels_are_what_a_head_comes_to_say() -> None:
    values = torch.tensor([[0.3] + [float("nan")] * 11]).repeat(50, 1)
    logits = torch.zeros(50, 12, requires_grad=True)
    loss = TaskLoss(AU, SOFT, {"au": balance_of(AU.groups[0], label_counts(AU, [face(values.numpy())])["au"], SOFT)})
    optimiser = torch.optim.SGD([logits], lr=100)
    for _ in range(200):
        optimiser.zero_grad()
        loss(logits, values, torch.ones(50, 1, dtype=torch.bool))[0].backward()
        optimiser.step()
    assert torch.sigmoid(logits[:, 0]).detach().numpy() == pytest.approx(0.3, abs=0.01)
    assert (logits[:, 1:] == 0).all()


def test_counts_and_units_nobody_teaches() -> None:
    values = activations(60)
    counts = label_counts(AU, [face(values[:20]), face(values[20:])])["au"]
    for unit, (no, yes) in enumerate(counts):
        known = values[:, unit][~np.isnan(values[:, unit])]
        assert (no, yes) == (int((known < 0.3).sum()), int((known >= np.float32(0.3)).sum()))
    assert unknown_outputs(AU, [face(values)]) == ("AU23",)
    hard = np.zeros((5, 12))
    assert unknown_outputs(AU, [face(hard)]) == ()
    assert unknown_outputs(TASKS["va"], [replace(face(hard), labels=hard[:, :2].astype(np.float32))]) == ()


def test_what_a_hold_out_can_not_tell() -> None:
    train, held = activations(60), activations(60, 1)
    held[:, 0] = np.nan
    held[:, 1] = np.where(np.isnan(held[:, 1]), np.nan, 0.1)
    told = check_cut(AU, [face(train), face(held)], (0,), (1,))
    assert [line.split(":")[0] for line in told] == ["no label of AU1 is held out", "the hold-out shows no AU2"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.05, 0.95))
def test_f1_leaves_out_what_has_no_label(seed: int, limit: float) -> None:
    truth, said = activations(25, seed), np.random.default_rng(seed + 1).uniform(0, 1, (25, 12)).astype(np.float32)
    found = BinarySums.of(present(AU, truth), said >= limit)
    expected = []
    for unit in range(12):
        known = ~np.isnan(truth[:, unit])
        if known.any():
            yes = truth[known, unit] >= np.float32(0.3)
            expected.append(f1_score(yes, said[known, unit] >= limit, zero_division=0.0))
            assert found.f1()[unit] == pytest.approx(expected[-1])
        else:
            assert np.isnan(found.f1()[unit])
    valid = np.ones((25, 1), bool)
    score = task_score(measure_of(AU), sums_of(measure_of(AU), present(AU, truth), valid, said >= limit))
    assert score == pytest.approx(np.mean(expected))


def test_a_head_is_judged_and_tuned_at_activations() -> None:
    truth = activations(80)
    rng = np.random.default_rng(5)
    said = np.clip(np.nan_to_num(truth, nan=0.5) * 0.5 + rng.normal(0, 0.03, truth.shape), 0, 1).astype(np.float32)
    faces = [face(truth)]
    assert usual_limit(AU, faces) == pytest.approx(0.3)
    tuned = tune_on(AU, faces, {0: said}, gap=0.5, thresholds=True, smoothing=False)
    assert tuned.untuned == holdout_score(AU, faces, {0: said})
    assert tuned.score > tuned.untuned, "0.5 times the activation is present from 0.15"
    assert set(tuned.outputs) == set(UNITS) - {"AU23"}
    assert tuned.score == pytest.approx(np.mean(list(tuned.outputs.values())))
    assert tuned.thresholds[0] in (0.1, 0.2)
    for unit, name in enumerate(UNITS):
        known = ~np.isnan(truth[:, unit])
        if known.any():
            assert tuned.correlations[name] == pytest.approx(np.corrcoef(truth[known, unit], said[known, unit])[0, 1])
    hard = [face((truth > 0.5).astype(np.float32))]
    assert usual_limit(AU, hard) == 0.5
    assert tune_on(AU, hard, {0: said}, gap=0.5, thresholds=False, smoothing=False).correlations == {}
