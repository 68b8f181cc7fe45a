"""Cells of a comparison, what is said of several seeds, and the report."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.networks.heads.config import check_config
from emobeam.emo_transforms.training.comparison.cells import KINDS, cache_labels, cells_of, spread
from emobeam.emo_transforms.training.comparison.head_costs import counted, measured
from emobeam.emo_transforms.training.comparison.results_report import count_text, spread_text
from emobeam.emo_transforms.training.heads.head_start import head_config
from emobeam.schemas.config import BackboneConfig, ExtractConfig, SamplingConfig
from emobeam.schemas.records import UsageError
from emobeam.schemas.tasks import TASKS

SHAPES = {"s8": (8, 8, 8), "s16": (8, 4, 4), "s32": (8, 2, 2)}
MAPS = Dataset(ExtractConfig(sampling=SamplingConfig(6.0)), SHAPES)
VECTORS = Dataset(ExtractConfig(backbone=BackboneConfig(name="mobilefacenet")), {}, 12, 5)


def test_cells_are_all_that_fit() -> None:
    cells, notes = cells_of(TASKS["va"], {"a": MAPS, "b": VECTORS}, "paper")
    named = [(cell.cache, cell.kind, cell.inputs) for cell in cells]
    levels = [("s32",), ("s16", "s32"), ("s8", "s16", "s32")]
    kinds = ["tam-clip", "tam-frame", "frame", "tcn"]
    expected = [("a", kind, inputs) for kind in kinds for inputs in levels]
    expected += [("b", "frame", ("embedding",)), ("b", "tcn", ("embedding",))]
    assert named == expected
    assert notes == [f"b: no {kind}, it reads maps and the cache holds none" for kind in kinds[:2]]
    assert len({cell.slug for cell in cells}) == len(cells)
    for cell in cells:
        made = head_config(TASKS["va"], MAPS if cell.cache == "a" else VECTORS, cell.recipe, 0)
        check_config(made)
        assert made.inputs == cell.inputs
        assert made.architecture == KINDS[cell.kind].architecture
        assert cell.recipe.batch * made.window == pytest.approx(128 * 8, rel=0.05)


def test_clip_tasks_have_cells_of_their_own() -> None:
    few = replace(MAPS, map_shapes={"s32": (8, 2, 2)})
    cells, notes = cells_of(TASKS["emi"], {"a": few}, "paper")
    assert [(cell.kind, cell.levels) for cell in cells] == [("tam-clip", 1), ("clip-statistics", 1)]
    assert notes == ["a: no 2 levels, the cache lacks s16", "a: no 3 levels, the cache lacks s8, s16"]
    for cell in cells:
        assert head_config(TASKS["emi"], few, cell.recipe, 0).scope == "clip"


def test_settings_are_for_all_or_for_one() -> None:
    settings = ["lr=0.1", "tcn.lr=0.2", "tcn.window=96", "window=16"]
    cells, _ = cells_of(TASKS["va"], {"a": MAPS}, "paper", settings, levels=[1])
    found = {cell.kind: (cell.recipe.lr, cell.recipe.window, cell.recipe.batch) for cell in cells}
    assert found == {
        "tam-clip": (0.1, 16, 128),
        "tam-frame": (0.1, 16, 128),
        "frame": (0.1, 1, 2048),
        "tcn": (0.2, 96, 21),
    }
    with pytest.raises(UsageError, match="nothing to compare"):
        cells_of(TASKS["va"], {"b": VECTORS}, "paper", kinds=["tam-clip"])


def test_caches_have_names_that_differ() -> None:
    other = Dataset(ExtractConfig(sampling=SamplingConfig(3.0)), SHAPES)
    larger = Dataset(ExtractConfig(backbone=BackboneConfig(input_size=256)), SHAPES)
    assert cache_labels([MAPS, VECTORS]) == ["mobilenetv4_conv_small", "mobilefacenet"]
    assert len(set(cache_labels([MAPS, other, larger]))) == 3
    with pytest.raises(UsageError, match="made the same way"):
        cache_labels([MAPS, MAPS])


def test_spread_is_that_of_a_sample() -> None:
    values = [0.3, 0.5, 0.1]
    found = spread([*values, None, float("nan")])
    assert found == {
        "n": 3,
        "mean": pytest.approx(statistics.fmean(values)),
        "sd": pytest.approx(statistics.stdev(values)),
        "min": 0.1,
        "max": 0.5,
    }
    assert spread([0.5])["sd"] is None
    assert spread_text(spread([])) == "-"
    assert spread_text(spread([0.5])) == "0.5000 (1)"
    assert [count_text(count) for count in (12, 1500, 2.5e6, 3e9)] == ["12", "1.5 k", "2.5 M", "3 G"]


@pytest.mark.thorough
def test_costs_are_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    from emobeam.emo_transforms.networks.heads.files import save_head
    from emobeam.emo_transforms.networks.heads.fresh_heads import new_head
    from emobeam.schemas.records import EmobeamError

    head = new_head(TASKS["emi"], MAPS.offer, levels=1)
    save_head(head, str(tmp_path / "head"))
    found = measured(str(tmp_path / "head"))
    assert 0 < found["latency_ms"] < 1000
    assert found["libraries_mb"] < found["peak_memory_mb"]
    assert counted(head)["window"] == 8
    with pytest.raises(EmobeamError, match="measuring the head failed"):
        measured(str(tmp_path / "gone"))
