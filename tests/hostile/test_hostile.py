"""A small share of the hostile run with every test run, and all of it with ``make test-slow``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hostile.damage import damaged_bytes, damaged_json
from tests.hostile.files import KINDS, count_damaged
from tests.hostile.kills import Command, commands, count_kills

SEED = 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "videos"])  # whose encoding takes seconds
def test_a_few_damaged_files(kind: str, tmp_path: Path) -> None:
    count = count_damaged(kind, tmp_path, 12, SEED)
    assert count.broken == []
    assert count.read + count.refused == 12
    assert count.refused


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    count = count_damaged(kind, tmp_path, 200, SEED)
    assert count.broken == []
    assert count.read
    assert count.refused


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    return commands(tmp_path_factory.mktemp("material"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["annotate", "submit", "train", "export", "report"])
def test_killed_commands_lose_nothing_and_leave_nothing(
    name: str, material: dict[str, Command], tmp_path: Path
) -> None:
    counts = count_kills(name, material[name], tmp_path, 6, SEED)
    assert (counts.lost, counts.differing, counts.left_over) == (0, 0, 0), counts.notes
    assert counts.early < counts.kills == 6


def test_equal_seeds_draw_equal_mishaps() -> None:
    for change, data in ((damaged_bytes, bytes(range(256))), (damaged_json, b'{"a": [1, {"b": "c"}], "d": null}')):
        drawn = [[change(random.Random(seed), data) for seed in range(50)] for _ in range(2)]
        assert drawn[0] == drawn[1]
        assert len(set(drawn[0])) > 40
        assert sum(each == data for each in drawn[0]) < 5
