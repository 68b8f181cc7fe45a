"""Batches: the right rows with the right labels, the same whatever the threads do, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.training.heads import row_groups
from emobeam.emo_transforms.training.heads.loader import Batch, LoadConfig, Loader, Resident, Streamed, make_loader
from emobeam.emo_transforms.training.heads.row_groups import Source, source_of
from emobeam.emo_transforms.training.heads.samples import join_labels
from emobeam.emo_transforms.training.heads.window_plans import Plan, training_plan
from emobeam.schemas.records import EmobeamError, UsageError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.training.data import SHAPES, STEP, Clip, dataset, encoded, make_data

VA = TASKS["va"]
ROOT = Path(__file__).resolve().parents[4]
CLIPS = [
    Clip(f"video{n}", 100 + 37 * n, seed=n, gaps=(n, 2 * n + 9), invalid=(5,), segments=1 + n % 2) for n in range(6)
]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("loader"), "va", CLIPS)[0]


@pytest.fixture(scope="module")
def plan(features: Path) -> Plan:
    joined = join_labels(
        str(features), dataset(), VA, list(read_labels(str(features.parent / "labels"), VA, warn=pytest.fail))
    )
    faces = range(len(joined.faces))
    return training_plan(joined, "frame", list(faces), length=8, stride=0, gap=0.5, drop_invalid=False)


@pytest.fixture(scope="module")
def source(features: Path) -> Source:
    return source_of(str(features), dataset(), ("s16", "s32"))


def small(config: LoadConfig, source: Source, plan: Plan) -> Streamed:
    """A stream whose buffer holds far less than the rows."""
    loader = Streamed(source, plan, config)
    loader._capacity = 8 * (config.batch + 4)
    return loader


def as_bytes(batches: list[Batch]) -> list[tuple[bytes, ...]]:
    return [
        (
            *(value.numpy().tobytes() for value in b.inputs.values()),
            b.labels.numpy().tobytes(),
            b.valid.numpy().tobytes(),
        )
        for b in batches
    ]


@pytest.mark.parametrize("kind", ["streamed", "resident"])
def test_every_window_once_with_its_own_labels(kind: str, source: Source, plan: Plan) -> None:
    config = LoadConfig(batch=5, seed=3)
    loader: Loader = small(config, source, plan) if kind == "streamed" else Resident(source, plan, config)
    truth: dict[bytes, tuple[bytes, bytes]] = {}
    for clip in CLIPS:
        labels = clip.labels(VA)[::STEP]
        maps = encoded(labels, np.random.default_rng([clip.seed, 99]))["s16"].astype(np.float16)
        for row in range(clip.rows):
            value = labels[row].astype(np.float32)
            truth[maps[row].tobytes()] = (value.tobytes(), b"" if row in clip.invalid else b"valid")
    met: list[bytes] = []
    for batch in loader.epoch(0):
        assert set(batch.inputs) == {"s16", "s32"}
        assert batch.inputs["s32"].shape == (5, 8, *SHAPES["s32"])
        assert batch.inputs["s16"].dtype == torch.float16
        for window in range(5):
            real = int(batch.lengths[window])
            met.append(batch.inputs["s16"][window].numpy().tobytes())
            for place in range(8):
                row = batch.inputs["s16"][window, place].numpy().tobytes()
                if place < real:
                    value, valid = truth[row]
                    assert bool(batch.valid[window, place, 0]) == (valid == b"valid")
                    if valid:
                        assert batch.labels[window, place].numpy().tobytes() == value
                else:
                    assert not batch.valid[window, place, 0]
                    assert row == batch.inputs["s16"][window, real - 1].numpy().tobytes()
    assert len(set(met)) == len(met) == loader.steps() * 5
    assert loader.steps() == plan.samples // 5


def test_a_stream_is_the_same_however_fast_threads_are(
    source: Source, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LoadConfig(batch=4, seed=1, fraction=0.7, readers=3)
    plain = as_bytes(list(small(config, source, plan).epoch(2)))
    whole, lock = row_groups.read_unit, threading.Lock()
    delays = np.random.default_rng(0).uniform(0, 0.02, 1000).tolist()

    def slow(*args: object) -> object:
        with lock:
            delay = delays.pop()
        time.sleep(delay)
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(row_groups, "read_unit", slow)
    assert as_bytes(list(small(config, source, plan).epoch(2))) == plain
    assert as_bytes(list(small(replace(config, readers=1), source, plan).epoch(2))) == plain
    assert len(plain) == round(0.7 * (plan.samples // 4))
    assert as_bytes(list(small(config, source, plan).epoch(3))) != plain
    assert as_bytes(list(small(replace(config, seed=2), source, plan).epoch(2))) != plain


@pytest.mark.parametrize("kind", [Streamed, Resident])
def test_an_epoch_goes_on_where_it_was_left(kind: type, source: Source, plan: Plan) -> None:
    loader = kind(source, plan, LoadConfig(batch=6, seed=1))
    whole = as_bytes(list(loader.epoch(1)))
    assert as_bytes(list(loader.epoch(1, 3))) == whole[3:]
    assert as_bytes(list(loader.epoch(1))) == whole


def test_batches_mix_videos(source: Source, plan: Plan) -> None:
    """A stream with a small buffer still draws from several videos for each batch."""
    config = LoadConfig(batch=16, seed=1)
    loader = Streamed(source, plan, config)
    loader._capacity = 8 * 64
    first = next(loader.epoch(0))
    starts = {tuple(np.round(first.labels[w, 0].numpy(), 2).tolist()) for w in range(16)}
    assert len(starts) > 8
    assert len({row.numpy().tobytes() for row in first.inputs["s32"]}) == 16


def test_leaving_an_epoch_ends_its_threads(source: Source, plan: Plan) -> None:
    before = threading.active_count()
    batches = Streamed(source, plan, LoadConfig(batch=4)).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_errors_of_reading_reach_the_trainer(source: Source, plan: Plan) -> None:
    gone = replace(source, features=source.features + "-elsewhere")
    with pytest.raises(EmobeamError, match="extract again"):
        list(Streamed(gone, plan, LoadConfig(batch=4)).epoch(0))


def test_what_fits_is_kept_and_the_rest_streams(source: Source, plan: Plan) -> None:
    assert make_loader(source, plan, LoadConfig(batch=8, buffer_mb=64)).resident
    assert isinstance(make_loader(replace(source, shapes={"s16": (1000, 4, 4)}), plan, LoadConfig(batch=8)), Resident)
    large = replace(source, shapes={"s16": (24000, 8, 8)})
    assert isinstance(make_loader(large, plan, LoadConfig(batch=2, buffer_mb=4000)), Streamed)
    with pytest.raises(UsageError, match=r"--buffer-mb 1000: .* at least \d+ MB"):
        make_loader(large, plan, LoadConfig(batch=8, buffer_mb=1000))
    with pytest.raises(EmobeamError, match="the cache lacks embedding"):
        source_of("features", dataset(), ("s16", "embedding"))


def test_clips_come_whole_or_in_part(features: Path) -> None:
    from emobeam.emo_transforms.abaw.labels.reading import VideoLabels

    labels = [
        VideoLabels(clip.name, np.ones(1, np.int32), np.full((1, 6), clip.seed / 10, np.float32), np.ones((1, 1), bool))
        for clip in CLIPS
    ]
    joined = join_labels(str(features), dataset(), TASKS["emi"], labels)
    clips = training_plan(joined, "clip", list(range(6)), length=8, stride=0, gap=0.5, drop_invalid=True)
    source = source_of(str(features), dataset(), ("s32",))
    whole = {
        round(float(unit_label), 1): len(unit.windows)
        for unit in clips.units
        for unit_label in [joined.faces[unit.face].labels[0, 0]]
    }
    for limit in (0, 5):
        loader = Streamed(source, clips, LoadConfig(batch=2, clip_windows=limit))
        for batch in loader.epoch(0):
            counts = torch.bincount(batch.owner).tolist()
            expected = [whole[round(float(value), 1)] for value in batch.labels[:, 0]]
            assert counts == [min(count, limit or count) for count in expected]
            assert batch.inputs["s32"].shape[:2] == (sum(counts), 8)
            assert batch.labels.shape == (2, 6)
            assert batch.valid.all()


_PEAK = """
import resource, sys
from emobeam.emo_transforms.abaw.labels.reading import read_labels
from emobeam.emo_transforms.training.heads.loader import LoadConfig, make_loader
from emobeam.emo_transforms.training.heads.window_plans import training_plan
from emobeam.emo_transforms.training.heads.row_groups import source_of
from emobeam.emo_transforms.training.heads.samples import join_labels
from emobeam.emo_transforms.cache.dataset import read_dataset
from emobeam.schemas.tasks import TASKS
from tests.benchmarks.submission import peak_bytes
features, labels = sys.argv[1:3]
made = read_dataset(features)
joined = join_labels(features, made, TASKS["va"], list(read_labels(labels, TASKS["va"], warn=print)))
plan = training_plan(joined, "frame", range(len(joined.faces)), length=8, stride=0, gap=.5, drop_invalid=False)
source = source_of(features, made, ("s16",))
before = peak_bytes()
loader = make_loader(source, plan, LoadConfig(batch=16, buffer_mb=int(sys.argv[3]), readers=2))
rows = sum(int(batch.lengths.sum()) for batch in loader.epoch(0))
print(loader.resident, rows * source.row_bytes, peak_bytes() - before)
"""


@pytest.mark.thorough
def test_memory_is_bounded_by_the_buffer(tmp_path: Path) -> None:
    """A cache of 240 MB read through 64 MB: beyond that only what libraries take when they are first used."""
    from unittest.mock import patch

    shapes = {"s8": (1, 2, 2), "s16": (96, 14, 14), "s32": (2, 2, 2)}
    with patch.dict("tests.emo_transforms.training.data.SHAPES", shapes):
        clips = [Clip(f"video{n}", 640, seed=n) for n in range(10)]
        features, labels = make_data(tmp_path, "va", clips)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(features), str(labels), "64"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    resident, size, taken = done.stdout.split()
    assert resident == "False"
    assert int(size) > 3 * 64e6
    assert int(taken) < 64e6 + 96e6
