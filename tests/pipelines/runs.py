"""Running emobeam in tests, and looking at what it wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from emobeam.emo_transforms.cache.dataset import Dataset
from emobeam.emo_transforms.extraction.video_plans import find_videos
from emobeam.emo_transforms.networks.engines import head_engine, resolve_engine
from emobeam.pipelines.stages.extract import ExtractRequest, ExtractResult, resolve_config, run_extract
from emobeam.pipelines.stages.predict import run_predict
from emobeam.pipelines.stages.predict_request import PredictRequest
from emobeam.pipelines.stages.run_record import PredictResult
from emobeam.runners.children.pool import LocalPool
from emobeam.schemas.config import ExtractConfig, SamplingConfig
from emobeam.schemas.predict_config import PredictConfig

ONE_SECOND = ExtractConfig(sampling=SamplingConfig(segment_seconds=1.0), engine=resolve_engine("auto", "cpu"))
"""Segments of a second: several per clip; the engine is the one the command line takes."""

STAGE_2 = PredictConfig(engine=head_engine("auto", "cpu"))
"""On the engine that the command line takes."""

dataset_of: Callable[[ExtractConfig], Dataset] = cache(resolve_config)

Row = dict[str, Any]


@dataclass
class Told:
    """A Ui that remembers; ``on`` is called with every event as it happens."""

    on: Callable[[str, Mapping[str, Any]], None] | None = None
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    started: list[tuple[str, int, int]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        if text not in self.warned:
            self.warned.append(text)

    def note(self, text: str, output: str) -> None:
        self.warn(text)

    def start(self, name: str, total: int, items: int, unit: str, measure: str = "frames") -> None:
        self.started.append((name, total, items))

    def event(self, event: str, data: Mapping[str, Any]) -> None:
        self.events.append((event, data.get("key", "")))
        if self.on is not None:
            self.on(event, data)

    def finish(self) -> None:
        pass

    def items(self, name: str) -> int:
        """How many pieces of work a stretch had; 0 where there was none."""
        return next((items for started, _, items in self.started if started == name), 0)


def extract(
    inputs: Sequence[Path | str],
    features: Path,
    pool: LocalPool,
    *,
    config: ExtractConfig = ONE_SECOND,
    told: Told | None = None,
    **find: str,
) -> tuple[ExtractResult, Told]:
    """Runs stage 1 in workers of ``pool``."""
    told = told or Told()
    videos = find_videos([str(each) for each in inputs], config.source, **find)
    full = ExtractRequest(videos, str(features), dataset_of(config), local=pool.config)
    return run_extract(full, told, pool), told


def predict(
    features: Path, output: Path, pool: LocalPool, *, keep_engine: bool = False, **request: Any
) -> tuple[PredictResult, Told]:
    """Runs stage 2 in workers of ``pool``; backbones of tests are untrained, and so is the head where none is named.

    Args:
        keep_engine: take the engine of the config, not the one that the command line takes here.
    """
    told = Told()
    request.setdefault("heads", ("untrained",))
    request.setdefault("config", PredictConfig())
    if not keep_engine:
        request["config"] = replace(request["config"], engine=STAGE_2.engine)
    return run_predict(PredictRequest(str(features), str(output), local=pool.config, **request), told, pool), told


@contextmanager
def working_in(pool: LocalPool) -> Iterator[None]:
    """Commands and functions of this process work in a pool that is there already: starting one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("emobeam.pipelines.stages.graphs.stage_run", "emobeam.pipelines.stages.annotate"):
            patch.setattr(f"{module}.LocalPool", lambda config: nullcontext(pool))
        yield


def emobeam(*args: Path | str) -> list[str]:
    """The command line of the installed console script."""
    return [str(Path(sys.executable).parent / "emobeam"), *map(str, args)]


def hears_interrupts() -> None:
    """For ``preexec_fn``: a shell that starts tests in the background makes all below it deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows(path: Path) -> list[Row]:
    """Rows of a Parquet file."""
    found: list[Row] = pq.read_table(path).to_pylist()
    return found


def videos(folder: Path) -> dict[str, Row]:
    """Rows of ``videos.parquet`` by id."""
    return {row["video"]: row for row in rows(folder / "videos.parquet")}


def files(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Content of files below a folder, hidden ones included, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern) if path.is_file()}


def shards(features: Path) -> dict[str, bytes]:
    """Content of the shards of a cache by name."""
    return files(features / "shards")


def parts(output: Path, task: str = "au") -> dict[str, bytes]:
    """Content of the predictions tables of a task by name."""
    return files(output / "predictions" / task)


def shards_of(features: Path, video: str) -> dict[str, bytes]:
    """Content of the shards of one video, according to the index."""
    names = {f"{row['shard']}.parquet" for row in rows(features / "segments.parquet") if row["video"] == video}
    return {name: content for name, content in shards(features).items() if name in names}


def part(output: Path, task: str, video: str) -> list[Row]:
    """Rows of the predictions table of one video."""
    from emobeam.emo_transforms.prediction.prediction_tables import part_name

    return rows(output / "predictions" / task / part_name(video))


def failures(features: Path) -> dict[str, Row]:
    """Failure records by video."""
    records = [json.loads(path.read_text()) for path in (features / "failures").glob("*.json")]
    assert len({record["video"] for record in records}) == len(records), "more than one record of a video"
    return {record["video"]: record for record in records}


def temporaries(folder: Path) -> list[str]:
    """Files that a writer has not finished."""
    return [name for name in files(folder) if Path(name).name.startswith(".")]


def emobeam_processes(*, under: subprocess.Popen[str] | None = None) -> list[psutil.Process]:
    """Worker and decoding processes below this process, or below ``under``."""
    root = psutil.Process(under.pid) if under else psutil.Process()
    return [process for process in root.children(recursive=True) if _is_ours(process)]


def _is_ours(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "emobeam.runners.children.child" in line or "decoding_child" in line


def gone(processes: Sequence[psutil.Process], seconds: float = 60.0) -> bool:
    """Whether all of these processes end within some seconds."""
    _, alive = psutil.wait_procs(list(processes), timeout=seconds)
    return not [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Waits until something is true; fails the test if that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
