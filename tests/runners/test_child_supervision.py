"""The heavy step in children: real processes that abort, hang for a while, or stop the run."""

from __future__ import annotations

import fcntl
import json
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
import pytest
from apache_beam.testing.util import assert_that, equal_to

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage import downloads
from emobeam.emo_transforms.storage.leftovers import owner_mark
from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange
from emobeam.pipelines.run_origin import new_run_id
from emobeam.runners.child_supervision import Children, Supervised, _SupervisedDoFn
from emobeam.runners.local import LocalConfig
from emobeam.runners.local_worker import Job
from emobeam.runners.worker_boot import versions
from emobeam.runners.worker_progress import Beats, Listener, hear
from emobeam.schemas.records import EmobeamError, NotDone
from tests.pipelines.runs import wait_for
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


def begun(folder: Path) -> Exchange:
    exchange = Exchange(str(folder))
    exchange.begin()
    return exchange


def run(folder: Path, elements: list[Element], expected: list[tuple[str, str]]) -> Any:
    exchange = begun(folder / "exchange")

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
    exchange = begun(tmp_path)
    for _ in range(2):
        beats = Beats(exchange)
        beats("looked", {"key": "v", "segments": 3, "frames": 30})
        beats("frames", {"key": "s", "frames": 7})
        beats("bundle", {})
    (tmp_path / "progress" / "damaged.json").write_text("{")
    (tmp_path / "progress" / "other.json").write_text("{}")
    heard = hear(exchange)
    assert heard.workers == 2
    assert heard.counts == {"videos": 2, "planned": 6, "planned_frames": 60, "frames": 14}
    assert list(heard.versions.values()) == [versions()]


def test_work_goes_on_where_beats_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    beats = Beats(Exchange(storage.join(str(tmp_path), "file")))
    beats("frames", {"frames": 1})
    assert beats.flush(60), "the attempt has ended"


class Slow(Exchange):
    """A store that doesn't answer for a while."""

    asked = threading.Event()
    answers = threading.Event()

    def alive(self) -> bool:
        self.asked.set()
        assert self.answers.wait(60)
        return super().alive()


def test_a_slow_store_holds_up_nobody_and_gets_the_newest_sums(tmp_path: Path) -> None:
    begun(tmp_path)
    beats = Beats(Slow(str(tmp_path)), interval=0.0)
    beats("frames", {"frames": 1})
    assert Slow.asked.wait(60)
    for _ in range(99):
        beats("frames", {"frames": 1})
    assert not beats.flush(0.1)
    Slow.answers.set()
    assert beats.flush(60)
    heard = hear(Exchange(str(tmp_path)))
    assert heard.counts["frames"] == 100
    assert heard.signs == 2, "the first event, and all that came while it was written"


def test_what_comes_between_two_writes_is_written_in_the_end(tmp_path: Path) -> None:
    exchange = begun(tmp_path)
    beats = Beats(exchange, interval=0.3)
    beats("frames", {"frames": 1})
    wait_for(lambda: hear(exchange).counts["frames"] == 1)
    beats("frames", {"frames": 1})
    beats("frames", {"frames": 1})
    wait_for(lambda: hear(exchange).counts["frames"] == 3)
    assert hear(exchange).signs in (2, 3), "3 where a busy machine took longer for the first than the pause"


def test_object_stores_are_written_to_and_read_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(f"memory://{uuid.uuid4().hex}")
    exchange.begin()
    workers = [Beats(exchange), Beats(exchange)]
    for worker in workers:
        worker("frames", {"frames": 1})
        assert worker.flush(60)
    listener = Listener(exchange)
    assert (listener.hear().signs, listener.pause) == (2, 3.0)
    read: list[str] = []
    really = storage.read_bytes

    def reading(uri: str) -> bytes:
        read.append(uri)
        return really(uri)

    monkeypatch.setattr(storage, "read_bytes", reading)
    for _ in range(3):
        workers[0]("frames", {"frames": 1})
        workers[0]("bundle", {})
    assert (listener.hear().counts["frames"], read) == (2, []), "a bundle is no reason to write"
    assert workers[0].flush(60)
    heard = listener.hear()
    assert (heard.counts["frames"], heard.signs, heard.workers, len(read)) == (5, 3, 2, 1)


def test_many_workers_are_listened_to_less_often(tmp_path: Path) -> None:
    exchange = begun(tmp_path)
    beat = json.dumps({"signs": 1, "host": "node", "versions": {}}).encode()
    for number in range(100):
        exchange.put("progress", f"{number}.json", beat)
    listener = Listener(exchange)
    assert listener.hear().workers == 100
    assert listener.pause == 5.0


def test_a_worker_that_does_not_see_the_folder_of_the_run_begins_nothing(tmp_path: Path) -> None:
    step = Supervised("Do", ElementsTask(str(tmp_path)), Beats(Exchange(str(tmp_path / "elsewhere"))))
    do_fn = _SupervisedDoFn(step.task, step.beats, step.shared, LocalConfig(workers=1), 1)
    with pytest.raises(EmobeamError, match=r"elsewhere: the worker on .* doesn't see the folder of this run"):
        do_fn.setup()
    do_fn.teardown()
    assert list(tmp_path.iterdir()) == []


def test_workers_of_a_run_that_is_over_write_nothing(tmp_path: Path) -> None:
    """A job that was cancelled goes on for a while, and its exchange must not come back."""
    with open_exchange(str(tmp_path), new_run_id()) as exchange:
        beats = Beats(exchange, interval=0.0)
        beats("frames", {"frames": 1})
        assert beats.flush(60)
        assert hear(exchange).signs == 1
    beats("frames", {"frames": 1})
    beats("bundle", {})
    assert beats.flush(60)
    assert not storage.exists(exchange.uri)
    assert list(tmp_path.glob(".emobeam-*")) == []


def test_every_beat_is_a_sign_though_nothing_is_counted(tmp_path: Path) -> None:
    exchange = begun(tmp_path)
    beats = Beats(exchange, interval=0.0)
    seen = []
    for _ in range(3):
        beats("frames", {"frames": 0})
        assert beats.flush(60)
        seen.append(hear(exchange).signs)
    assert seen == [1, 2, 3]


def test_threads_of_one_process_share_a_file(tmp_path: Path) -> None:
    exchange = begun(tmp_path)
    shared = Supervised("Do", ElementsTask(str(tmp_path)), Beats(exchange)).shared
    config = LocalConfig(workers=1)
    steps = [_SupervisedDoFn(ElementsTask(str(tmp_path)), Beats(exchange), shared, config, 1) for _ in range(3)]
    for step in steps:
        step.setup()
    assert len({id(step._beats) for step in steps}) == 1
    for step in steps:
        step.teardown()


def test_copies_of_videos_go_with_the_last_step_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    everything = {"unused": owner_mark(), "used": owner_mark(), "another's": "elsewhere-0123456789ab-1-1"}
    for name, user in everything.items():
        (downloads._folder() / name).mkdir()
        (downloads._folder() / name / "lock").touch()
        (downloads._folder() / name / f"user-{user}").touch()
    exchange = begun(tmp_path / "exchange")
    children = Children(ElementsJob(str(tmp_path)), Beats(exchange), LocalConfig(workers=1), 1)
    children.enter()
    children.enter()
    with open(downloads._folder() / "used" / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        children.leave()
        assert {path.name for path in downloads._folder().iterdir()} == set(everything)
        children.leave()
        assert {path.name for path in downloads._folder().iterdir()} == {"used", "another's"}
