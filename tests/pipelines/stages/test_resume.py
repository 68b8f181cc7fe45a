"""Same input, same config, same bytes: however many workers, however often a run was cut short."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from emobeam.emo_transforms.cache.index import read_segments
from emobeam.emo_transforms.prediction.prediction_tables import part_name, part_uri
from emobeam.pipelines.stages.predict import run_predict
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.pipelines.stopping import Terminated
from emobeam.runners.children.pool import LocalPool
from emobeam.runners.children.settings import local_config
from emobeam.schemas.records import EmobeamError
from tests.clips import portrait
from tests.pipelines.conftest import Run
from tests.pipelines.runs import (
    STAGE_2,
    Told,
    emobeam,
    emobeam_processes,
    extract,
    failures,
    files,
    gone,
    hears_interrupts,
    parts,
    predict,
    rows,
    shards,
    shards_of,
    temporaries,
    videos,
    wait_for,
)


def without_runs(folder: Path) -> dict[str, bytes]:
    """Everything a cache holds but its run records."""
    return {name: content for name, content in files(folder).items() if not name.startswith("runs/")}


def test_two_workers_write_the_same_bytes(reference: Run, tmp_path: Path) -> None:
    with LocalPool(local_config(2)) as two:
        extract([reference.inputs], tmp_path / "features", two)
        predict(tmp_path / "features", tmp_path, two, edition=8)
    assert without_runs(tmp_path / "features") == without_runs(reference.features)
    assert parts(tmp_path) == parts(reference.output)
    for name in ("submission/au/predictions.txt", "faces.parquet", "videos.parquet"):
        assert (tmp_path / name).read_bytes() == (reference.output / name).read_bytes()


def test_where_nothing_is_left_to_do_nothing_need_be_written(
    reference: Run, tmp_path: Path, pool: LocalPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = Path(shutil.copytree(reference.features, tmp_path / "features"))
    output = Path(shutil.copytree(reference.output / "predictions", tmp_path / "out" / "predictions").parent)
    predict(features, output, pool)
    before = files(tmp_path)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda place, mode: tmp_path not in Path(place).parents and allowed(place, mode))
    again, _ = extract([reference.inputs], features, pool)
    assert (again.outcomes, again.run_id) == ({"ok": 3, "no_face": 1}, "")
    assert len(predict(features, output, pool)[0].videos) == 4
    assert files(tmp_path) == before


def test_an_output_that_is_removed_meanwhile_is_named(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    features = tmp_path / "features"
    told = Told(on=lambda event, data: shutil.rmtree(features, ignore_errors=True) if event == "done" else None)
    with pytest.raises(EmobeamError, match=rf"{features}.*: is no longer there"):
        extract([reference.inputs / "talk.mp4"], features, pool, told=told)


@dataclass(frozen=True)
class Cut:
    """A run that was cut short by a signal.

    Attributes:
        left: temporaries in its cache once it had ended.
    """

    features: Path
    process: subprocess.Popen[str]
    seconds: float
    children: list[psutil.Process]
    errors: str
    left: list[str]


CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -signal.SIGKILL}
HEARD = ("SIGINT", "SIGTERM")


@pytest.fixture(scope="module")
def cut_short(reference: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cut]:
    """The console script, ended in the middle of its work: by Ctrl-C, by kill, and by kill -9."""
    cuts = {}
    commands = {}
    for name in CODES:  # all at once, since most of the time goes into starting
        features = tmp_path_factory.mktemp(name) / "features"
        command = emobeam("extract", reference.inputs, "--output", features, "--segment-seconds", "1", "--workers", "1")
        command += ["--backbone-weights", "untrained"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_interrupts
        )
        commands[name] = (features, process)
    pending, told = dict(commands), {}
    while pending:
        time.sleep(0.005)
        for name, (features, process) in list(pending.items()):
            if process.poll() is not None or any((features / "shards").glob("*.parquet")):
                children = emobeam_processes(under=process) if process.poll() is None else []
                process.send_signal(getattr(signal, name))  # waited for below: the others work on
                told[name] = time.monotonic(), children
                del pending[name]
    for name, (began, children) in told.items():
        features, process = commands[name]
        _, errors = process.communicate(timeout=240)
        cuts[name] = Cut(features, process, time.monotonic() - began, children, errors, temporaries(features))
    return cuts


@pytest.mark.parametrize("name", CODES)
def test_cut_short_and_resumed(name: str, cut_short: dict[str, Cut], reference: Run, pool: LocalPool) -> None:
    cut = cut_short[name]
    assert cut.process.returncode == CODES[name]
    assert cut.children
    assert gone(cut.children)
    there = shards(cut.features)
    finished = {key: content for key, content in there.items() if not key.startswith(".")}
    assert 0 < len(finished) < len(shards(reference.features))
    assert finished.items() <= shards(reference.features).items()
    before = {key: (cut.features / "shards" / key).stat().st_mtime_ns for key in finished}

    _, told = extract([reference.inputs], cut.features, pool)
    assert told.items("extract") == len(shards(reference.features)) - len(finished)
    assert without_runs(cut.features) == without_runs(reference.features)
    assert {key: (cut.features / "shards" / key).stat().st_mtime_ns for key in finished} == before
    assert temporaries(cut.features) == []


@pytest.mark.parametrize("name", HEARD)
def test_a_run_that_is_told_to_end_is_prompt_and_says_how_to_go_on(name: str, cut_short: dict[str, Cut]) -> None:
    cut = cut_short[name]
    assert cut.seconds < 30
    assert cut.left == []
    assert "Traceback" not in cut.errors
    assert "the same command goes on where this one ended" in cut.errors


KILLED = """
import os, signal, sys
from emobeam.emo_transforms import storage
with storage.atomic_file(sys.argv[1]) as path:
    open(path, "wb").write(b"half a table")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_stage_2_that_is_told_to_end_leaves_no_half_tables(reference: Run, tmp_path: Path) -> None:
    """Its workers are killed, as the process here is that dies in the middle of a table."""
    features, output = str(reference.features), tmp_path / "out"
    left: list[str] = []

    def end(event: str, data: Mapping[str, Any]) -> None:
        if event == "done":
            command = [sys.executable, "-c", KILLED, part_uri(str(output), "au", "x")]
            subprocess.run(command, cwd=Path(__file__).parents[3], check=False)
            left.extend(temporaries(output))
            raise Terminated

    with LocalPool(local_config(1)) as own, pytest.raises(Terminated):
        run_predict(PredictRequest(features, str(output), heads=("untrained",), config=STAGE_2), Told(on=end), own)
    assert left
    assert temporaries(output) == []
    assert 0 < len(parts(output)) <= len(parts(reference.output))
    assert part_name("x") not in parts(output)
    assert parts(output).items() <= parts(reference.output).items()


def test_a_killed_worker_is_replaced(reference: Run, tmp_path: Path) -> None:
    others = set(emobeam_processes())
    killed: list[psutil.Process] = []

    def kill_once(event: str, data: Mapping[str, Any]) -> None:
        if event == "done" and told.started[-1][0] == "extract" and not killed:
            killed.extend(set(emobeam_processes()) - others)
            next(process for process in killed if process.ppid() == os.getpid()).kill()

    told = Told(on=kill_once)
    with LocalPool(local_config(1)) as fragile:
        result, _ = extract([reference.inputs], tmp_path / "features", fragile, told=told)
    assert [event for event, _ in told.events].count("died") == 1
    assert len(killed) == 2, "the worker and its decoding process"
    assert gone(killed)
    assert result.outcomes == reference.extracted.outcomes
    assert without_runs(tmp_path / "features") == without_runs(reference.features)


def test_a_finished_run_is_left_as_it_is(reference: Run, pool: LocalPool) -> None:
    def stamps() -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns
            for folder in (reference.features / "shards", reference.output / "predictions")
            for path in folder.rglob("*")
        }

    before, index = stamps(), without_runs(reference.features)
    _, told = extract([reference.inputs], reference.features, pool)
    _, told_too = predict(reference.features, reference.output, pool, edition=8)
    assert told.items("extract") == told_too.items("predict") == 0
    assert "0 to do" in told.said[-1]
    assert stamps() == before
    assert without_runs(reference.features) == index


def sound(features: Path, whole: Mapping[str, bytes]) -> int:
    """Checks a cache that a killed run left: shards are whole, and the index knows only of what is there."""
    there = {name: data for name, data in shards(features).items() if not name.startswith(".")}
    assert there.items() <= whole.items()
    index = features / "segments.parquet"
    known = {f"{row['shard']}.parquet": row for row in rows(index)} if index.exists() else {}
    assert known.keys() <= there.keys()
    assert all(row["bytes"] == len(there[name]) for name, row in known.items())
    assert {row["shard"] for row in read_segments(str(features))} == {name.partition(".")[0] for name in there}
    return len(there)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_launcher_killed_at_any_moment_leaves_a_sound_cache(reference: Run, tmp_path: Path) -> None:
    """30 moments, over one run after another on the same cache, which is begun anew once it is complete."""
    generator = random.Random(17)
    whole, features = shards(reference.features), tmp_path / "features"
    command = emobeam("extract", reference.inputs, "--output", features, "--segment-seconds", "1", "--workers", "2")
    command += ["--backbone-weights", "untrained", "--quiet"]
    began = time.monotonic()
    assert subprocess.run(command, check=False).returncode == 0
    whole_run = time.monotonic() - began
    partly = 0
    for _ in range(30):
        if features.exists() and sound(features, whole) == len(whole):
            shutil.rmtree(features)
        process = subprocess.Popen(command)
        try:
            process.wait(generator.uniform(0.0, whole_run))
        except subprocess.TimeoutExpired:
            children = emobeam_processes(under=process)
            process.kill()
            process.wait()
            assert gone(children)
        if features.exists():
            partly += 0 < sound(features, whole) < len(whole)
    assert partly, "no moment was in the middle"
    assert subprocess.run(command, check=False).returncode == 0
    assert without_runs(features) == without_runs(reference.features)
    assert temporaries(features) == []


def test_inputs_come_and_go(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(reference.inputs / "talk.mp4", folder)
    output, features = tmp_path / "out", tmp_path / "out" / "features"
    extract([folder], features, pool)
    predict(features, output, pool)
    talk, table = shards(features), parts(output)
    assert talk == shards_of(reference.features, "talk")

    shutil.copytree(reference.inputs / "day 1", folder / "day 1")
    _, told = extract([folder], features, pool)
    assert told.items("extract") == len(shards_of(reference.features, "day 1/pair"))
    assert shards(features) == talk | shards_of(reference.features, "day 1/pair")
    predict(features, output, pool)
    assert table.items() < parts(output).items()
    assert parts(output).items() <= parts(reference.output).items()

    (folder / "talk.mp4").unlink()
    result, told = extract([folder], features, pool)
    assert told.items("extract") == 0
    assert [row["video"] for row in result.videos.to_pylist()] == ["day 1/pair"]
    assert shards_of(features, "talk") == talk, "what was made stays, until somebody removes it"


def test_a_changed_file_is_done_again(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(reference.inputs / "talk.mp4", folder)
    shutil.copy(reference.inputs / "nobody.mp4", folder)
    features = tmp_path / "features"
    extract([folder], features, pool)
    old, other = shards_of(features, "talk"), shards_of(features, "nobody")

    portrait(folder / "talk.mp4", frames=30)
    _, told = extract([folder], features, pool)
    assert told.items("extract") == 2
    assert shards_of(features, "talk").keys().isdisjoint(old)
    assert shards(features).keys() == shards_of(features, "talk").keys() | other.keys()
    assert videos(features)["talk"]["frames"] == 30
    assert videos(features)["talk"]["outcome"] == "ok"
    assert failures(features) == {}


def test_one_lost_shard_is_made_again(reference: Run, copy_of_features: Callable[[], Path], pool: LocalPool) -> None:
    features = copy_of_features()
    shard = rows(features / "segments.parquet")[0]["shard"]
    (features / "shards" / f"{shard}.parquet").unlink()
    _, told = extract([reference.inputs], features, pool)
    assert told.items("extract") == 1
    assert without_runs(features) == without_runs(reference.features)


def test_indexes_can_be_lost(reference: Run, copy_of_features: Callable[[], Path], pool: LocalPool) -> None:
    features = copy_of_features()
    (features / "segments.parquet").unlink()
    (features / "videos.parquet").write_bytes(b"")
    _, told = extract([reference.inputs], features, pool)
    assert told.items("extract") == 0
    assert without_runs(features) == without_runs(reference.features)


def test_predictions_follow_a_changed_cache(reference: Run, tmp_path: Path, pool: LocalPool) -> None:
    shutil.copytree(reference.output / "predictions", tmp_path / "predictions")
    pair = next(iter((tmp_path / "predictions" / "au").glob("*pair*")))
    good = pair.read_bytes()
    pair.write_bytes(good[: len(good) // 2])
    predict(reference.features, tmp_path, pool)
    assert pair.read_bytes() == good
    assert parts(tmp_path) == parts(reference.output)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """No test leaves a decoding process that isn't a worker's."""
    yield
    wait_for(lambda: not [p for p in psutil.Process().children() if "decoding_child" in " ".join(p.cmdline())], 10)
