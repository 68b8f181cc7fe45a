"""``emobeam inspect``: what it counts, what it finds wrong, and that the commands it names mend it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.emo_transforms.networks.heads.files import save_head
from emobeam.emo_transforms.networks.heads.fresh_heads import untrained_head
from emobeam.pipelines.cli import main
from emobeam.pipelines.inspect.describe import describe
from emobeam.pipelines.inspect.problems import extract_command, predict_command
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas import config
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import task_named
from tests.pipelines.conftest import Run
from tests.pipelines.runs import predict


def problems(told: dict[str, Any], kind: str, level: str = "") -> list[dict[str, Any]]:
    return [entry for entry in told["problems"] if entry["kind"] == kind and level in ("", entry["level"])]


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Runs a command as it was printed."""
    words = shlex.split(line)
    assert words[0] == "emobeam"
    with pytest.raises(SystemExit) as stopped:
        main(words[1:])
    return int(stopped.value.code or 0), capsys.readouterr().out


@pytest.fixture
def copy(reference: Run, tmp_path: Path) -> Path:
    """An output folder with its cache inside, which a test may change."""
    shutil.copytree(reference.output, tmp_path / "out")
    for path in (tmp_path / "out" / "features" / "runs").glob("*.json"):  # as the command line writes it
        path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": [str(reference.inputs)]}))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    record["features"] = str(tmp_path / "out" / "features")
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    return tmp_path / "out"


def test_counts_of_a_cache(reference: Run) -> None:
    told = describe(str(reference.features))
    tables = [
        pq.read_table(path, columns=["video", "frame"]).to_pandas()
        for path in (reference.features / "shards").glob("*.parquet")
    ]
    every = pd.concat(tables)
    assert told["faces"] == len(every)
    assert told["frames_with_face"] == len(every.drop_duplicates())
    assert (told["videos"], told["segments"], told["outcomes"]) == (4, len(tables), {"ok": 3, "no_face": 1})
    assert told["native_frames"] == 75 + 50 + 75 + 25
    on_disk = sum(path.stat().st_size for path in reference.features.rglob("*") if path.is_file())
    assert sum(told["bytes_by_part"].values()) == on_disk
    assert [entry["kind"] for entry in told["problems"]] == ["untrained"]


def test_distributions_of_predictions(reference: Run, copy: Path) -> None:
    told = describe(str(copy))
    table = pd.concat([pd.read_parquet(path) for path in (reference.output / "predictions" / "au").glob("*.parquet")])
    found = told["tasks"]["au"]
    assert found["rows"] == len(table)
    assert found["sources"] == {name: int(n) for name, n in table["source"].value_counts().items() if n}
    for name in task_named("au").outputs:
        values = table[name].dropna().to_numpy(np.float64)
        entry = found["outputs"][name]
        assert entry["values"] == len(values)
        assert entry["mean"] == pytest.approx(values.mean(), abs=1e-9)
        assert entry["std"] == pytest.approx(values.std(), abs=1e-6)
        assert entry["active"] == int((values >= 0.5).sum())
        assert (entry["min"], entry["max"]) == (values.min(), values.max())
    assert not [entry for entry in told["problems"] if entry["level"] == "error"]


def test_classes_are_counted(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    predict(reference.features, tmp_path, pool, tasks=("expr",))
    counts = describe(str(tmp_path))["tasks"]["expr"]["classes"]["expression"]
    table = pd.concat([pd.read_parquet(path) for path in (tmp_path / "predictions" / "expr").glob("*.parquet")])
    best = table[list(task_named("expr").outputs)].dropna().idxmax(axis=1).value_counts()
    assert {name: count for name, count in counts.items() if count} == best.to_dict()


@pytest.mark.usefixtures("in_pool")
def test_a_missing_shard_and_the_command_that_brings_it_back(
    copy: Path, capsys: pytest.CaptureFixture[str], reference: Run
) -> None:
    features = copy / "features"
    index = pq.read_table(features / "segments.parquet").to_pylist()
    gone = next(row for row in index if row["video"] == "talk" and row["segment"] == 1)
    (features / "shards" / f"{gone['shard']}.parquet").unlink()
    told = describe(str(features))
    (missing,) = problems(told, "missing", "error")
    assert missing["about"] == ["talk"]
    assert "1 segments of 1 videos have no shard" in missing["what"]
    (stale,) = problems(told, "stale")
    assert "1 shards of it are gone" in stale["what"]
    code, out = run(stale["mend"], capsys)
    assert (code, "1 segments of 1 videos have no shard" in out) == (1, True)  # the index is mended, shards are missing
    assert not problems(describe(str(features)), "stale")
    (mend,) = {entry["mend"] for entry in problems(describe(str(features)), "missing")}
    assert run(f"{mend} --workers 1 --quiet", capsys)[0] == 0
    assert not problems(describe(str(features)), "missing")
    assert (features / "shards" / f"{gone['shard']}.parquet").read_bytes() == (
        reference.features / "shards" / f"{gone['shard']}.parquet"
    ).read_bytes()


def test_a_damaged_shard(copy: Path) -> None:
    features = copy / "features"
    shard = next((features / "shards").glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-500])
    told = describe(str(features))
    (damaged,) = problems(told, "damaged", "error")
    assert damaged["about"] == [str(shard)]
    assert damaged["mend"].startswith(f"rm -- {shard} && emobeam extract ")
    assert told["videos"] == 4, "the old index serves meanwhile"
    rebuilt = describe(str(features), rebuild=True)
    assert rebuilt["segments"] == told["segments"] - 1, "the others are in the new one"
    assert pq.read_table(features / "segments.parquet").num_rows == rebuilt["segments"]
    assert problems(rebuilt, "damaged", "error")[0]["what"] == damaged["what"]
    again = describe(str(copy))
    assert any("feature cache" in entry["what"] for entry in problems(again, "damaged")) or again["problems"]


def test_damaged_shards_are_removed_by_the_command_whatever_they_are_called(copy: Path) -> None:
    odd = copy.rename(copy.parent / "it's; out $HOME")
    shards = [odd / "features" / "shards" / f"{number:016x}.parquet" for number in range(25)]
    for shard in shards:
        shard.write_bytes(b"no table")
    (damaged,) = problems(describe(str(odd / "features")), "damaged", "error")
    remove, _, again = damaged["mend"].partition(" && ")
    assert again.startswith("emobeam extract ")
    subprocess.run(["sh", "-c", remove], check=True)
    assert not any(shard.exists() for shard in shards)
    assert not problems(describe(str(odd / "features")), "damaged")


def test_tasks_of_earlier_runs_count(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    for task in ("au", "va"):
        predict(reference.features, tmp_path, pool, tasks=(task,))
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"rows": {"va": 1}}))  # as if it told of the last run only
    told = describe(str(tmp_path))
    assert list(told["tasks"]) == ["va", "au"]
    assert told["tasks"]["au"]["tables"] == told["tasks"]["va"]["tables"] == 4
    next((tmp_path / "predictions" / "au").glob("talk-*")).unlink()
    (missing,) = problems(describe(str(tmp_path)), "missing", "error")
    assert missing["what"].startswith("task au: 1 of 4 videos have no table: talk")


def test_thresholds_are_those_of_the_first_head_that_has_some(copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text())
    table = pd.concat([pd.read_parquet(path) for path in (copy / "predictions" / "au").glob("*.parquet")])
    limit = float(table["AU12"].dropna().median())  # a value that rows have: they reach it
    (head,) = record["heads"]["au"]
    record["heads"]["au"] = [head | {"thresholds": []}, head | {"thresholds": [limit] * 12}]
    (copy / "run.json").write_text(json.dumps(record))
    found = describe(str(copy))["tasks"]["au"]["outputs"]["AU12"]
    assert found["active"] == int((table["AU12"] >= np.float32(limit)).sum())


def test_a_stale_index(copy: Path) -> None:
    features = copy / "features"
    (features / "videos.parquet").unlink()
    (stale,) = problems(describe(str(features)), "stale")
    assert stale["mend"] == f"emobeam inspect {features} --rebuild"
    assert not problems(describe(str(features), rebuild=True), "stale")
    assert (features / "videos.parquet").exists()


@pytest.mark.usefixtures("in_pool")
def test_predictions_of_a_cache_that_has_changed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = copy / "features"
    for row in pq.read_table(features / "segments.parquet").to_pylist():
        if row["video"] == "absent" and row["segment"] == 2:
            (features / "shards" / f"{row['shard']}.parquet").unlink()
    told = describe(str(copy))
    (stale,) = problems(told, "stale", "error")
    assert stale["about"] == ["absent"]
    code, _ = run(f"{stale['mend']} --workers 1 --quiet", capsys)
    assert code == 1, "the video is partial now"
    (late,) = problems(describe(str(copy)), "stale", "error")
    assert "submission of au is older" in late["what"]
    assert run(late["mend"], capsys)[0] == 0
    assert not problems(describe(str(copy)), "stale", "error")


def test_another_backbone_in_the_cache(copy: Path) -> None:
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"features_id": "0000000000000000"}))
    (stale,) = problems(describe(str(copy)), "stale")
    assert "made from features 0000000000000000" in stale["what"]


def test_missing_tables_and_old_submissions(copy: Path) -> None:
    part = next((copy / "predictions" / "au").glob("talk-*"))
    other = next((copy / "predictions" / "au").glob("absent-*"))
    part.unlink()
    later = time.time() + 100
    os.utime(other, (later, later))
    told = describe(str(copy))
    (missing,) = problems(told, "missing", "error")
    assert missing["about"] == ["talk"]
    (stale,) = problems(told, "stale", "error")
    assert stale["mend"] == f"emobeam submit {copy} --task au --edition 8"
    other.write_bytes(b"no table")
    assert problems(describe(str(copy)), "damaged")[0]["about"] == [str(other)]


def test_failed_videos_are_named(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "video": "lost", "uri": "lost.mp4", "outcome": "failed", "stage": "open", "reason": "io", "message": "no disk",
        "permanent": False, "segments": [], "shards": [], "frames": [], "native_frames": [], "native_times": [],
        "size": 1, "digest": "d",
    }  # fmt: skip
    folder = copy / "features" / "failures"
    (folder / "0000.json").write_text(json.dumps(record))
    told = describe(str(copy / "features"))
    (failed,) = problems(told, "failed")
    assert (failed["about"], failed["level"]) == (["lost"], "error")
    assert "tried again" in failed["what"]
    (folder / "0000.json").write_text(json.dumps(record | {"permanent": True}))
    assert "damaged for good" in problems(describe(str(copy / "features")), "failed")[0]["what"]
    code, out = run(f"emobeam inspect {copy / 'features'}", capsys)
    assert code == 1
    assert "failed: lost (no disk)" in out
    assert "mend it: emobeam extract" in out


def test_heads(reference: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = read_dataset(str(reference.features))
    shapes = dict(dataset.map_shapes)
    outputs = task_named("va").outputs
    fits = untrained_head("va", outputs, "frame", "tanh", dataset.config.features_id, shapes)
    save_head(fits, str(tmp_path / "fits"))
    save_head(replace(fits, config=replace(fits.config, features_id="f00dfeed")), str(tmp_path / "other"))
    told = describe(str(tmp_path / "fits"), features=str(reference.features))
    assert (told["kind"], told["task"], told["outputs"]) == ("head", "va", ["valence", "arousal"])
    total = sum(tensor.numel() for tensor in fits.module.state_dict().values())
    assert told["parameters"] + told["final_parameters"] == pytest.approx(total, rel=0.02)
    assert [entry["kind"] for entry in told["problems"]] == ["untrained"]
    (unfit,) = problems(describe(str(tmp_path / "other"), features=str(reference.features)), "unfit")
    assert "f00dfeed" in unfit["what"]
    (tmp_path / "other" / "head.safetensors").unlink()
    assert problems(describe(str(tmp_path / "other")), "missing")
    assert run(f"emobeam inspect {tmp_path / 'other'}", capsys)[0] == 1
    code, out = run(f"emobeam inspect {tmp_path / 'fits'}", capsys)
    assert code == 0
    assert "architecture    tam" in out


def test_text_for_people(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(f"emobeam inspect {copy}", capsys)
    assert code == 0
    assert "videos          4: 3 ok, 1 no_face" in out
    assert "au: 4 tables" in out
    assert "UNTRAINED" in out


def test_what_it_refuses(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--rebuild"):
        describe(str(copy), rebuild=True)
    with pytest.raises(UsageError, match="--features"):
        describe(str(copy), features=str(copy / "features"))
    (copy / "features" / "dataset.json").unlink()
    with pytest.raises(EmobeamError, match=r"holds shards but no dataset\.json"):
        describe(str(copy / "features"))


def test_commands_name_every_setting(copy_of_features: Callable[[], Path]) -> None:
    dataset = read_dataset(str(copy_of_features()))
    settings = replace(
        dataset.config,
        sampling=config.SamplingConfig(fps=0.0, segment_seconds=30.0),
        align=config.AlignConfig(style="5pt"),
        detector=config.DetectorConfig(min_face=40, mode="track"),
        store=("maps", "crops"),
        engine="torch",
    )
    line = extract_command("out put", settings, [{"inputs": ["a b.mp4", "c/"]}, {"inputs": ["c/", "d.mp4"]}])
    assert line == (
        "emobeam extract 'a b.mp4' c/ d.mp4 --output 'out put' --fps native --segment-seconds 30 --min-face 40 "
        "--detector track --align 5pt --backbone-weights untrained --engine torch --store maps,crops"
    )
    record = {
        "heads": {"au": [{"name": "au-tcn", "weights": "x", "uri": "heads/au"}], "va": [{"weights": "untrained"}]}
    }
    ours = {"weights": "emobeam-au-1", "uri": "shipped"}
    assert predict_command({"heads": {"au": [ours]}}, "f", "o") == "emobeam predict f --output o --task au"
    assert predict_command({"heads": {"au": [ours], "va": record["heads"]["va"]}}, "f", "o") == (
        "emobeam predict f --output o --head shipped --task au --head untrained --task va"
    )
    assert predict_command(record | {"config": {"faces": "all"}}, "f", "o") == (
        "emobeam predict f --output o --head heads/au --task au --head untrained --task va --faces all"
    )
