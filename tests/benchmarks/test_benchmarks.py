"""The benchmarks run and tell something sensible, in settings so small that the figures mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emo_transforms.decoding import DecoderProcess
from schemas.config import DecoderConfig
from tests.benchmarks import beam_cost, cache, measure, memory, stage1, workers

pytestmark = pytest.mark.slow

Clips = Callable[[str], Path]


def tables(text: str) -> list[dict[str, list[str]]]:
    """Rows of the Markdown tables in a text, by their first cell."""
    found: list[dict[str, list[str]]] = []
    for block in text.split("\n\n"):
        if block.startswith("| "):
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]
            found.append({first: rest for first, *rest in cells})
    return found


def number(cell: str) -> float:
    return float(cell.split()[0].rstrip("%"))


def test_stage1_sees_the_same_faces_as_the_plain_script(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    stage1.main([str(clips("portrait.mp4")), "--repeats", "1"])
    (rows,) = tables(capsys.readouterr().out)
    assert rows["faces found"][:2] == ["12", "12"]
    assert all(number(cell) > 0 for cell in rows["frames/s, wall clock"])
    steps = [sum(number(rows[f"ms/frame: {step}"][side]) for step in ("decode", "detect", "embed")) for side in (0, 1)]
    for side in (0, 1):
        assert 0 < steps[side] < number(rows["ms/frame"][side]) + 0.3


def test_beam_cost(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    beam_cost.main([str(clips("portrait.mp4")), "--repeats", "1", "--fps", "1", "--copies", "2"])
    cost, start_up = tables(capsys.readouterr().out)
    loop, within, more = cost["wall s"]
    assert number(more) == pytest.approx(100 * (number(within) / number(loop) - 1), abs=10)
    assert 0 < number(start_up["Beam: a pipeline with nothing to do"][0]) < number(within)


def test_memory(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--times", "1", "3", "--fps", "1", "--height", "480", "--fps-large", "1"]
    memory.main([str(clips("portrait.mp4")), *arguments])
    small, large = tables(capsys.readouterr().out)
    for rows in (small, large):
        assert set(rows) == {"1x, 2 s", "3x, 6 s"}
        worker, decoder, together = map(number, rows["3x, 6 s"][:3])
        assert worker > 100
        assert decoder > 10
        assert together == pytest.approx(worker + decoder, abs=2)


def test_workers(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--minutes", "0.02", "--fps", "1", "--segment-seconds", "1"]
    workers.main([str(clips("portrait.mp4")), *arguments])
    (rows,) = tables(capsys.readouterr().out)
    assert list(rows) == ["1 worker", "2 workers", "2 plain loops"]
    assert all(number(cells[0]) > 0 and number(cells[1]) > 0 for cells in rows.values())


def test_cache(clips: Clips, capsys: pytest.CaptureFixture[str]) -> None:
    cache.main([str(clips("portrait.mp4")), "--frames", "20", "--repeats", "1"])
    size, stage2 = tables(capsys.readouterr().out)
    shards, plain, share = map(number, size["bytes per row"])
    # Three maps of two bytes: 64 x 28 x 28, 96 x 14 x 14 and 128 x 7 x 7 values.
    assert plain == pytest.approx(150_528, rel=0.01)
    assert share == pytest.approx(shards / plain, abs=0.01)
    assert all(number(cells[0]) > 0 for cells in stage2.values())


def test_a_repeated_clip_goes_on_in_time(clips: Clips, tmp_path: Path) -> None:
    long = measure.loop_clip(clips("portrait.mp4"), tmp_path / "long.mp4", times=3)
    with DecoderProcess(DecoderConfig()) as decoder:
        times = decoder.probe(str(long)).times()
    assert times == pytest.approx([number / 25 for number in range(150)], abs=1e-3)


def test_an_enlarged_clip_keeps_its_times(clips: Clips, tmp_path: Path) -> None:
    large = measure.scale_clip(clips("variable.mp4"), tmp_path / "large.mp4", height=480)
    with DecoderProcess(DecoderConfig()) as decoder:
        before, after = decoder.probe(str(clips("variable.mp4"))), decoder.probe(str(large))
    assert (after.width, after.height) == (480, 480)
    assert after.times() == pytest.approx(before.times(), abs=1e-3)
