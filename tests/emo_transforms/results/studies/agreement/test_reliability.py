"""Agreement figures against scikit-learn and pingouin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score

from emobeam.emo_transforms.abaw.scoring.partial_sums import BinarySums, MomentSums
from emobeam.emo_transforms.results.studies.agreement.reliability import (
    binary_figures,
    bootstrap_groups,
    continuous_figures,
    draws,
    event_figures,
    interval,
)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_binary_figures(rows: list[tuple[bool, bool]]) -> None:
    human, program = np.array(rows, int).T
    found = binary_figures(BinarySums.of(human[:, None], program[:, None]).counts[0])
    constant = len(set(human.tolist()) | set(program.tolist())) == 1
    if constant:
        assert np.isnan(found["kappa"])
    else:
        assert found["kappa"] == pytest.approx(cohen_kappa_score(human, program))
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = score(human, program, zero_division=np.nan)
        assert found[name] == pytest.approx(expected, nan_ok=True)
    agreed = (human == program).mean()
    assert found["pabak"] == pytest.approx(2 * agreed - 1)
    assert (found["human"], found["program"]) == (pytest.approx(human.mean()), pytest.approx(program.mean()))


def test_prevalence_and_bias_of_a_table_by_hand() -> None:
    # Coder and program say yes together 40 times, no together 10 times, the coder alone 30, the program alone 20.
    found = binary_figures(np.array([[10, 20], [30, 40]]))
    assert found["prevalence_index"] == pytest.approx((40 - 10) / 100)
    assert found["bias_index"] == pytest.approx((30 - 20) / 100)
    assert found["kappa"] == pytest.approx((0.5 - 0.54) / (1 - 0.54))


@pytest.mark.filterwarnings("ignore")  # of pingouin about pandas
@pytest.mark.parametrize("seed", range(5))
def test_intraclass_correlations(seed: int) -> None:
    random = np.random.default_rng(seed)
    human = random.normal(size=30)
    program = 0.7 * human + random.normal(scale=0.5, size=30) + 0.3 * seed
    long = pd.DataFrame(
        {
            "target": np.tile(np.arange(30), 2),
            "rater": np.repeat(["human", "program"], 30),
            "score": np.concatenate([human, program]),
        }
    )
    table = pingouin.intraclass_corr(long, targets="target", raters="rater", ratings="score").set_index("Type")
    names = {name.replace("(", "").replace(")", "").replace(",", "_"): name for name in table.index}
    second = next(name for short, name in names.items() if short in ("ICC2", "ICCA_1"))
    third = next(name for short, name in names.items() if short in ("ICC3", "ICCC_1"))
    found = continuous_figures(MomentSums.of(human[:, None], program[:, None]))
    assert found["icc2_1"][0] == pytest.approx(table.loc[second, "ICC"], abs=1e-6)
    assert found["icc3_1"][0] == pytest.approx(table.loc[third, "ICC"], abs=1e-6)


def test_intraclass_correlations_of_too_little() -> None:
    one = continuous_figures(MomentSums.of([[1.0]], [[1.0]]))
    assert np.isnan([one["icc2_1"][0], one["icc3_1"][0]]).all()
    same = continuous_figures(MomentSums.of([[1.0], [1.0]], [[1.0], [1.0]]))
    assert np.isnan(same["icc3_1"][0])


def test_figures_drawn_anew_are_those_of_the_drawn_rows() -> None:
    random = np.random.default_rng(3)
    human, program = random.integers(0, 2, (2, 40))
    unit = np.arange(40) // 8
    counts = np.stack(
        [BinarySums.of(human[unit == u][:, None], program[unit == u][:, None]).counts[0] for u in range(5)]
    )
    weights = draws(5, 20)
    drawn = binary_figures(np.tensordot(weights.astype(float), counts, 1))["kappa"]
    for weight, kappa in zip(weights, drawn, strict=True):
        rows = np.repeat(np.arange(40), weight[unit])
        assert kappa == pytest.approx(cohen_kappa_score(human[rows], program[rows]))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        # 40 videos of 20 frames, each video with its own rate of agreement around 0.8.
        rates = random.beta(8, 2, size=40)
        agreed = random.binomial(20, rates) / 20
        weights = draws(40, 400, seed=trial)
        low, high = interval(weights @ agreed / 40)
        hits += low <= 0.8 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_medians_of_groups() -> None:
    weights = draws(3, 500)
    low, high = bootstrap_groups([[0.1, 0.2], [], [0.3]], lambda values: float(np.median(values)), weights)
    assert 0.1 <= low <= high <= 0.3
    nothing = bootstrap_groups([[], []], lambda values: float(np.median(values)), draws(2, 10))
    assert np.isnan(nothing).all()


def test_event_figures() -> None:
    found = event_figures(np.array(2.0), np.array(4.0), np.array(3.0))
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"event_f1": 4 / 7, "event_precision": 2 / 3, "event_recall": 0.5}
    )
    assert np.isnan(event_figures(np.array(0.0), np.array(0.0), np.array(0.0))["event_f1"])
