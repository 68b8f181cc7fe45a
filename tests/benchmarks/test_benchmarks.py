"""The benchmarks run and tell something sensible, in settings so small that the figures mean nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emobeam.emo_transforms.video.decoding_process import DecoderProcess
from emobeam.runners.children.settings import ALLOCATOR
from emobeam.schemas.config import DecoderConfig
from tests.benchmarks import material
from tests.benchmarks.measure import as_worker
from tests.benchmarks.suite import BENCHMARKS, main

Clips = Callable[[str], Path]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the whole suite wrote."""
    folder = tmp_path_factory.mktemp("bench")
    code = main(["--quick", "--output", str(folder / "bench.json"), "--picture", str(folder / "bench.png")])
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    assert code == 0, found["failed"]
    assert (folder / "bench.png").stat().st_size > 1000
    return found


def figures(bench: dict[str, Any], section: str) -> dict[str, Any]:
    (found,) = [each for each in bench["sections"] if each["name"] == section]
    return {figure["key"]: figure for figure in found["figures"]}


def details(bench: dict[str, Any], section: str) -> dict[str, Any]:
    (found,) = [each for each in bench["sections"] if each["name"] == section]
    return dict(found["details"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_benchmark_measures(bench: dict[str, Any]) -> None:
    assert [section["name"] for section in bench["sections"]] == list(BENCHMARKS)
    for section in bench["sections"]:
        for figure in section["figures"]:
            assert figure["value"] is not None, figure["key"]
    assert bench["machine"]["cpu"]
    assert bench["machine"]["libraries"]["torch"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_detectors_see_the_same_faces(bench: dict[str, Any]) -> None:
    found = figures(bench, "detection")
    assert found["detection.exact.generated.found"]["value"] == 100
    assert found["detection.exact.speed.360p"]["value"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stage1_sees_the_same_faces_as_the_plain_script(bench: dict[str, Any]) -> None:
    one = details(bench, "stage1")["one face, 360p"]
    assert one["faces"]["plain"] == one["faces"]["exact"] == one["frames"]
    (section,) = [each for each in bench["sections"] if each["name"] == "stage1"]
    steps = section["steps"]["exact, one face, 360p"]
    assert {"decode", "detect", "embed", "write"} <= steps.keys()
    spent = 1000 * one["cpu_seconds"]["exact"][0] / one["frames"]
    assert sum(steps.values()) == pytest.approx(spent, rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rows_have_the_size_they_must_have(bench: dict[str, Any]) -> None:
    found = next(iter(details(bench, "cache").values()))
    # Three maps of two bytes: 64 x 28 x 28, 96 x 14 x 14 and 128 x 7 x 7 values.
    assert found["bytes"]["numpy"] / found["rows"] == pytest.approx(150_528, rel=0.01)
    assert found["bytes"]["shards"] < found["bytes"]["numpy"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_is_the_kernels(bench: dict[str, Any]) -> None:
    peaks = [value for key, value in figures(bench, "memory").items() if key.endswith(".peak")]
    assert all(100 < figure["value"] < 5000 for figure in peaks)


def test_a_repeated_clip_goes_on_in_time(clips: Clips, tmp_path: Path) -> None:
    long = material.loop_clip(clips("portrait.mp4"), tmp_path / "long.mp4", times=3)
    with DecoderProcess(DecoderConfig()) as decoder:
        times = decoder.probe(str(long)).times()
    assert times == pytest.approx([number / 25 for number in range(150)], abs=1e-3)


def test_an_enlarged_clip_keeps_its_times(clips: Clips, tmp_path: Path) -> None:
    large = material.scale_clip(clips("variable.mp4"), tmp_path / "large.mp4", height=480)
    with DecoderProcess(DecoderConfig()) as decoder:
        before, after = decoder.probe(str(clips("variable.mp4"))), decoder.probe(str(large))
    assert (after.width, after.height) == (480, 480)
    assert after.times() == pytest.approx(before.times(), abs=1e-3)


def test_the_beginning_of_a_clip(clips: Clips, tmp_path: Path) -> None:
    short = material.scale_clip(clips("portrait.mp4"), tmp_path / "short.mp4", height=128, seconds=0.4)
    with DecoderProcess(DecoderConfig()) as decoder:
        assert len(decoder.probe(str(short)).pts) == 10


def test_a_benchmark_starts_anew_with_the_allocator_of_workers_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, environment: begun.append((words, environment)))
    monkeypatch.setattr(sys, "argv", ["stage1.py", "--quick"])
    for name in ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    as_worker("tests.benchmarks.stage1")
    ((words, environment),) = begun
    assert words[1:] == ["-m", "tests.benchmarks.stage1", "--quick"]
    assert {name: environment[name] for name in ALLOCATOR} == {**ALLOCATOR, "MALLOC_ARENA_MAX": "7"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    as_worker("tests.benchmarks.stage1")
    assert len(begun) == 1
