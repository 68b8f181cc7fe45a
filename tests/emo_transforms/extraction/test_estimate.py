"""Totals from samples, against totals that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emobeam.emo_transforms.extraction.estimate import FIGURES, Measured, Probed, draw, estimate, wall_seconds

RATE = 25.0
FPS = 6.0


def look(stratum: int, size: int, seconds: float) -> Probed:
    return Probed(
        stratum,
        size,
        seconds=seconds,
        native=round(seconds * RATE),
        sampled=round(seconds * FPS),
        segments=max(1, int(np.ceil(seconds / 60))),
        pixels=640 * 360,
        encoded=(300,),
        probe_seconds=seconds / 1000,
    )


def data_set(videos: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and lengths: lengths of all kinds, bit rates that vary by a third and grow with the length."""
    generator = np.random.default_rng(seed)
    seconds = generator.lognormal(4.3, 0.9, videos)
    rates = 80_000 * generator.lognormal(0, 0.3, videos) * (seconds / 60) ** 0.1
    return (seconds * rates).astype(np.int64), seconds


def measured(faces: float = 1.0) -> list[Measured]:
    return [
        Measured(32, round(32 * faces), 32 * 100_000, {"decode": 0.1, "detect": 0.5, "embed": 0.1}) for _ in range(4)
    ]


@pytest.mark.parametrize("count", [20, 60])
def test_totals_lie_in_their_intervals(count: int) -> None:
    inside, errors = 0, []
    for seed in range(20):
        sizes, seconds = data_set(3000, seed)
        stratum, chosen = draw(sizes, count, seed)
        probed = [look(int(stratum[i]), int(sizes[i]), float(seconds[i])) for i in chosen]
        found = estimate(sizes, stratum, probed, measured(), segment_seconds=60.0, row_bytes=1.0, seed=seed)
        hours = seconds.sum() / 3600
        inside += found.hours.low <= hours <= found.hours.high
        errors.append(found.hours.value / hours - 1)
        segments = np.ceil(seconds / 60).sum()
        assert abs(found.segments.value / segments - 1) < 0.3
        assert abs(found.frames.value / (seconds.sum() * FPS) - 1) < 0.3
    assert inside >= 13  # nominally 18, few samples make intervals a little too narrow
    assert abs(np.mean(errors)) < 0.05
    assert np.std(errors) < 0.12


def test_a_sample_of_all_is_exact() -> None:
    sizes, seconds = data_set(12, 0)
    stratum, chosen = draw(sizes, 20)
    assert chosen == list(range(12))
    probed = [look(int(stratum[i]), int(sizes[i]), float(seconds[i])) for i in chosen]
    found = estimate(sizes, stratum, probed, measured(0.5), segment_seconds=60.0, row_bytes=1.0)
    assert found.hours.low == found.hours.value == found.hours.high == pytest.approx(seconds.sum() / 3600)
    assert found.segments.value == sum(video.segments for video in probed)
    assert found.frames.value == sum(video.sampled for video in probed)
    per_frame = (0.7 / 32) + sum(v.probe_seconds for v in probed) / found.frames.value
    assert found.core_seconds.value == pytest.approx(per_frame * found.frames.value)
    assert sum(found.by_step.values()) == pytest.approx(found.core_seconds.value)
    assert found.cache_bytes.value == pytest.approx(found.frames.value * 100_000)
    assert found.shuffle_bytes.value == 300 * found.segments.value
    assert found.element_bytes == 300
    assert found.faces == 0.5


def test_without_a_measurement_the_figures_of_the_docs_stand_in() -> None:
    probed = [look(0, 1_000_000, 60.0)]
    found = estimate([1_000_000], np.zeros(1, np.intp), probed, [], segment_seconds=60.0, row_bytes=50_000)
    assert found.core_seconds.value == pytest.approx(360 * sum(low for low, _ in FIGURES.values()) / 1000)
    assert found.cache_bytes.value == 360 * 50_000
    assert wall_seconds(found, 4, 10.0) == pytest.approx(10 + found.longest)  # one segment is nobody's to share


@given(st.lists(st.integers(-1, 10**10), min_size=1, max_size=200), st.integers(1, 40), st.integers(0, 3))
def test_a_sample_is_of_its_size_and_has_everything_once(sizes: list[int], count: int, seed: int) -> None:
    stratum, chosen = draw(sizes, count, seed)
    assert len(stratum) == len(sizes)
    assert len(chosen) == len(set(chosen))
    assert 1 <= len(chosen) <= count or len(sizes) <= count
    assert (stratum >= 0).all()
    order = np.argsort(np.maximum(sizes, 0), kind="stable")
    assert (np.diff(stratum[order]) >= 0).all()  # larger files, higher strata
    assert draw(sizes, count, seed)[1] == chosen


def test_large_files_are_more_likely_to_be_looked_at() -> None:
    sizes = [1000] * 900 + [100_000] * 100
    chosen = draw(sizes, 20)[1]
    assert sum(i >= 900 for i in chosen) >= 14
