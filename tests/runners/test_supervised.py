"""The heavy step in children: real processes that abort, hang for a while, or stop the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
import pytest
from apache_beam.testing.util import assert_that, equal_to

from emo_transforms import storage
from emo_transforms.exchange import Exchange
from runners.beats import Beats, hear
from runners.supervised import Supervised
from runners.worker import Job
from schemas.records import NotDone
from tests.runners.jobs import Element, ElementsJob


@dataclass(frozen=True)
class ElementsTask:
    folder: str

    def job(self) -> Job:
        return ElementsJob(self.folder)

    def key(self, element: Element) -> str:
        return element.key

    def give_up(self, element: Element, reason: str, message: str) -> None:
        (Path(self.folder) / f"{element.key}.given-up").write_text(f"{reason}: {message}")


def run(folder: Path, elements: list[Element], expected: list[tuple[str, str]]) -> Any:
    exchange = Exchange(str(folder / "exchange"))

    def short(record: NotDone) -> tuple[str, str]:
        return record.key, record.reason

    pipeline = beam.Pipeline(runner="FnApiRunner")
    done = (
        pipeline | beam.Create(elements, reshuffle=False) | Supervised("Do", ElementsTask(str(folder)), Beats(exchange))
    )
    assert_that(done | beam.Map(short), equal_to(expected))
    result = pipeline.run()
    result.wait_until_finish()
    return exchange, {c.key.metric.name: c.result for c in result.metrics().query()["counters"]}


def test_only_what_kills_its_process_twice_is_given_up(tmp_path: Path) -> None:
    elements = [Element("a"), Element("bad", "abort"), Element("b"), Element("once", "abort once"), Element("c")]
    exchange, counts = run(tmp_path, elements, [("bad", "crash")])
    assert "died (exit status -6) 2 times" in (tmp_path / "bad.given-up").read_text()
    assert [path.name for path in tmp_path.glob("*.given-up")] == ["bad.given-up"]
    assert counts["done"] == 4
    assert counts["died"] == 3
    assert {path.read_text() for path in tmp_path.glob("[ab].begun")}, "each began"
    heard = hear(exchange).counts
    assert (heard["done"], heard["failed"]) == (4, 1)
    left = [child for child in psutil.Process().children() if str(tmp_path) in " ".join(child.cmdline())]
    assert left == []


def test_one_child_does_many_elements(tmp_path: Path) -> None:
    run(tmp_path, [Element(f"e{number}") for number in range(6)], [])
    assert len({path.read_text() for path in tmp_path.glob("*.begun")}) == 1


def test_an_error_of_ours_fails_the_bundle_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="the disk is full"):
        run(tmp_path, [Element("full", "stop")], [])


def test_beats_of_several_workers_add_up(tmp_path: Path) -> None:
    exchange = Exchange(str(tmp_path))
    for _ in range(2):
        beats = Beats(exchange)
        beats("looked", {"key": "v", "segments": 3, "frames": 30})
        beats("frames", {"key": "s", "frames": 7})
        beats("bundle", {})
    (tmp_path / "progress" / "damaged.json").write_text("{")
    heard = hear(exchange)
    assert heard.workers == 2
    assert heard.counts == {"videos": 2, "planned": 6, "planned_frames": 60, "frames": 14}
    assert len(heard.pythons) == 1


def test_work_goes_on_where_beats_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    beats = Beats(Exchange(storage.join(str(tmp_path), "file")))
    beats("frames", {"frames": 1})
