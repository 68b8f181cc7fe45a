from __future__ import annotations

import time
from pathlib import Path

import pytest

from emobeam.emo_transforms.storage import object_stores
from emobeam.emo_transforms.storage.leftovers import owner_mark
from emobeam.emo_transforms.storage.run_mailbox import Exchange, open_exchange, sweep_exchanges, sweep_output
from emobeam.pipelines.run_origin import new_run_id
from tests.object_stores import google_store


def made(parent: Path, mark: str, began: str) -> Path:
    folder = parent / f".emobeam-{mark}-{began}-abcdef.work"
    (folder / "tasks").mkdir(parents=True)
    (folder / "tasks" / "0.jsonl").write_bytes(b"{}")
    return folder


def test_exchanges_of_dead_launchers_go_and_those_of_live_ones_stay(tmp_path: Path, dead_mark: str) -> None:
    runs = tmp_path / "runs"
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    with open_exchange(str(runs), new_run_id()) as mine:
        mine.put("tasks", "a.jsonl", b"x")
        goes = [
            made(runs, dead_mark, now),
            made(runs, f"{owner_mark()}0", now),  # of another process with the same id
            made(runs, "else-where-12", "20200101T000000Z"),
            made(runs, "detached-0", "20200101T000000Z"),
        ]
        stays = [made(runs, "else-where-12", now), made(runs, "detached-0", now), runs / "record.json"]
        stays[-1].write_text("{}")
        with open_exchange(str(runs), new_run_id()):
            assert Path(mine.uri).exists()
        assert [path for path in goes if path.exists()] == []
        assert [path for path in stays if not path.exists()] == []
    assert not Path(mine.uri).exists()


def test_workers_see_that_the_run_is_over(tmp_path: Path) -> None:
    with open_exchange(str(tmp_path), new_run_id()) as mine:
        elsewhere = Exchange(mine.uri)
        assert elsewhere.alive()
    assert not elsewhere.alive()
    elsewhere.put("progress", "late.json", b"{}")
    assert not elsewhere.alive(), "a file that comes late doesn't bring the run back"
    with open_exchange(str(tmp_path), new_run_id(), keep=True) as kept:
        pass
    assert kept.alive(), "the launcher is gone, the job is not"


def test_an_output_is_swept_in_all_its_folders(tmp_path: Path, dead_mark: str) -> None:
    folders = ["", "runs", "shards", "failures", "predictions/au", "predictions/va", "submission/au"]
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f".emobeam-{dead_mark}-0a.tmp").write_bytes(b"half")
        (tmp_path / folder / "result.parquet").write_bytes(b"whole")
    left = [made(tmp_path, dead_mark, now), made(tmp_path / "runs", dead_mark, now)]
    sweep_output(str(tmp_path))
    assert [path for path in left if path.exists()] == []
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        f"{folder}/result.parquet".lstrip("/") for folder in folders
    )
    sweep_output(str(tmp_path / "nowhere"))


def test_exchanges_in_a_store(monkeypatch: pytest.MonkeyPatch, dead_mark: str) -> None:
    """Trouble that passes is sat out, also while leftovers are looked for and removed."""
    monkeypatch.setattr(object_stores, "wait_random_exponential", lambda **limits: lambda state: 0.01)
    with google_store() as store:
        parent = f"{store.uri}/out"
        left = Exchange(f"{parent}/.emobeam-{dead_mark}-20260101T000000Z-abcdef.work")
        left.begin()
        left.put("tasks", "0.jsonl", b"{}")
        store.proxy.fail("list", 500, 1)
        with open_exchange(parent, new_run_id()) as mine:
            assert not left.alive()
            assert mine.alive()
            mine.put("progress", "worker.json", b"{}")
        assert not mine.alive()
        assert sweep_exchanges(parent) == 0
