"""A folder for Hugging Face datasets, loaded by that library in a process that may not reach the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from emobeam.emo_transforms.results.exports.gather import (
    clip_rows,
    clip_schema,
    frame_rows,
    frame_schema,
    open_output,
    thresholds_of,
)
from emobeam.emo_transforms.results.exports.hf_datasets import CardFacts, data_card, write_configuration
from tests.emo_transforms.results.exports.made import FRAMES, RUN

LOAD = """
import json, socket, sys

def refuse(*args, **kwargs):
    raise OSError("no network here")

socket.socket.connect = refuse
import datasets

found = {}
for name in ("frames", "clips"):
    table = datasets.load_dataset(sys.argv[1], name, split="train", cache_dir=sys.argv[2])
    found[name] = {"features": {k: v.dtype for k, v in table.features.items()}, "rows": table.to_list()}
print(json.dumps(found))
"""


def written(output: Path, folder: Path, run: Mapping[str, Any] = RUN) -> str:
    """Writes all videos in files of at most 150 rows; returns the card."""
    found = replace(open_output(str(output)), run=run)
    schema, clips = frame_schema(found.frame_tasks), clip_schema(found.clip_tasks)
    tables = (pa.Table.from_pandas(frame_rows(found, v), schema, preserve_index=False) for v in found.videos)
    rows = [pa.Table.from_pandas(clip_rows(found), clips, preserve_index=False)]
    configurations = [
        write_configuration(folder, "frames", schema, tables, split="train", rows_per_file=150),
        write_configuration(folder, "clips", clips, rows, split="train"),
    ]
    limits = {task.name: thresholds_of(run, task) for task in found.tasks}
    facts = CardFacts("Faces: a trial", found.tasks, 3, "native", "train", run, {}, limits, found.warnings)
    card = data_card(configurations, facts)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return card


@pytest.mark.thorough
def test_datasets_loads_it_offline(output: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    written(output, tmp_path / "out")
    assert len(list((tmp_path / "out" / "data" / "frames").iterdir())) > 1
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "out"), str(tmp_path / "cache")],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    found = open_output(str(output))
    assert loaded["frames"]["features"]["AU12"] == "float32"
    assert loaded["frames"]["features"]["time"] == "float64"
    assert len(loaded["frames"]["rows"]) == 5 * FRAMES
    tables = [pa.Table.from_pandas(frame_rows(found, v), frame_schema(found.frame_tasks)) for v in found.videos]
    assert loaded["frames"]["rows"] == json.loads(json.dumps([row for table in tables for row in table.to_pylist()]))
    assert [row["video"] for row in loaded["clips"]["rows"]] == ["day 1/pair", "talk"]


def test_the_card_says_what_it_is(output: Path, tmp_path: Path) -> None:
    card = written(output, tmp_path)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown"
    assert [each["config_name"] for each in front["configs"]] == ["frames", "clips"]
    (frames, _) = front["dataset_info"]
    assert frames["splits"] == [{"name": "train", "num_bytes": frames["dataset_size"], "num_examples": 5 * FRAMES}]
    for text in ("heads/au", "mine.safetensors", "torch 2.15.0", "Not for decisions about people", "AU1 0.3, AU2 0.6"):
        assert text in card
    assert "Untrained" not in card


def test_the_card_says_when_nothing_was_trained(output: Path, tmp_path: Path) -> None:
    run = {**RUN, "warnings": ["task au: untrained"], "backbone": {**RUN["backbone"], "weights": "untrained"}}
    card = written(output, tmp_path, run)
    assert "**Untrained networks made these values: task au: untrained; backbone: untrained.**" in card


def test_no_rows_are_still_a_table(tmp_path: Path) -> None:
    schema = pa.schema([("video", pa.string())])
    done = write_configuration(tmp_path, "frames", schema, [], split="train")
    assert done.rows == 0
    assert done.bytes > 0
    with pytest.raises(FileExistsError):
        write_configuration(tmp_path, "frames", schema, [], split="train")
