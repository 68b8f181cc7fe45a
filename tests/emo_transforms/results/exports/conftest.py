"""An output folder that many tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emo_transforms.results.exports.made import clip_table, frame_table, put, write_run

PAIR = (("", 0), ("", 1))
SIDES = (("left", 0), ("right", 0))


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tasks au, va, expr and emi of a clip with one face, one with two, one with named sides."""
    folder = tmp_path_factory.mktemp("output")
    for task in ("au", "va", "expr"):
        put(folder, task, "talk", frame_table(task, "talk"))
        put(folder, task, "day 1/pair", frame_table(task, "day 1/pair", PAIR))
    put(folder, "au", "sides", frame_table("au", "sides", SIDES))
    for video in ("talk", "day 1/pair"):
        table = clip_table("emi", video)
        put(folder, "emi", video, table.append_column("face", [[0]]))
    write_run(folder)
    return folder
