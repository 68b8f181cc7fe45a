from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emobeam.emo_transforms import storage
from emobeam.emo_transforms.storage import leftovers
from emobeam.emo_transforms.storage.leftovers import owner_mark

HALF = """
import os, signal, sys
from pathlib import Path
from emobeam.emo_transforms import storage
with storage.atomic_file("memory://bucket/shard") as path:
    Path(path).write_bytes(b"half")
    if sys.argv[1] == "unwinds not":
        storage.discard_unfinished()
        os._exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def die(how: str, temporary: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", HALF, how],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "TMPDIR": str(temporary)},
        check=False,
    )


def test_what_a_killed_writer_to_a_store_leaves_goes_with_the_next_one(temporary: Path) -> None:
    die("is killed", temporary)
    (left,) = temporary.iterdir()
    assert [path.read_bytes() for path in left.iterdir()] == [b"half"]
    with storage.atomic_file("memory://emobeam-scratch/file") as path:
        assert list(temporary.iterdir()) == [Path(path).parent]
        Path(path).write_bytes(b"whole")
    assert list(temporary.iterdir()) == []


def test_who_ends_without_unwinding_takes_it_along(temporary: Path) -> None:
    die("unwinds not", temporary)
    assert list(temporary.iterdir()) == []


def test_what_others_work_in_stays(temporary: Path, dead_mark: str) -> None:
    week = 7 * 24 * 3600
    stays = [
        f"emobeam-logs-{owner_mark()}-abcd1234",
        f"emobeam-logs-else-{dead_mark}-abcd1234",
        f"emobeam-downloads-{os.getuid()}",
        "emobeam-abcd1234",
    ]
    goes = [f"emobeam-logs-{dead_mark}-a_cd1234", "emobeam-object-else-where-1-abcd1234"]
    for name in (*stays, *goes):
        (temporary / name).mkdir()
    for name in (goes[1], *stays[2:]):
        os.utime(temporary / name, (time.time() - 2 * week,) * 2)
    assert leftovers.sweep_scratch() == len(goes)
    assert {path.name for path in temporary.iterdir()} == set(stays)


def test_a_folder_is_replaced_as_a_whole_and_put_back_after_a_death(tmp_path: Path, dead_mark: str) -> None:
    place = tmp_path / "head"
    for content in ("old", "new"):
        made = leftovers.unfinished_beside(place)
        made.mkdir()
        (made / "file").write_text(content)
        leftovers.replace_folder(made, place)
    assert (place / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]

    place.rename(tmp_path / f".emobeam-{dead_mark}-0a.head.old")
    (tmp_path / f".emobeam-{dead_mark}-0b.tmp").mkdir()
    (tmp_path / f".emobeam-{owner_mark()}-0c.other.old").mkdir()
    assert leftovers.sweep_beside(tmp_path) == 2
    assert (place / "file").read_text() == "new", "nobody's last copy is thrown away"
    (tmp_path / f".emobeam-{dead_mark}-0d.head.old").mkdir()
    leftovers.sweep_beside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".emobeam-{owner_mark()}-0c.other.old", "head"]


def test_whoever_writes_beside_leftovers_sweeps_them(tmp_path: Path, dead_mark: str) -> None:
    """Submissions, exports, reports and all others, for they write through one function."""
    (tmp_path / f".emobeam-{dead_mark}-0a.tmp").write_bytes(b"half")
    storage.write_bytes(str(tmp_path / "predictions.txt"), b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.txt"]


def test_torch_makes_its_folder_where_it_goes(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(leftovers.TORCH_FOLDER, raising=False)
    monkeypatch.setattr(leftovers.atexit, "register", lambda *args, **options: None)
    leftovers.own_torch_folder()
    folder = Path(os.environ[leftovers.TORCH_FOLDER])
    folder.mkdir()
    assert leftovers.sweep_scratch() == 0, "it is of a living process"
    folder.rename(folder.with_name(folder.name.replace(str(os.getpid()), str(2**22 + 1))))
    assert leftovers.sweep_scratch() == 1


def test_a_process_with_the_id_of_an_earlier_one_is_another(temporary: Path) -> None:
    """However young or old a thing is: the begin of its process tells."""
    who, _, begun = owner_mark().rpartition("-")
    earlier = f"{who}-{int(begun) - 1}"
    mine = leftovers.make_scratch("logs")
    os.utime(mine, (time.time() - 30 * 24 * 3600,) * 2)
    (temporary / f"emobeam-logs-{earlier}-abcd1234").mkdir()
    assert leftovers.sweep_scratch() == 1
    assert list(temporary.iterdir()) == [mine]
    (temporary / f".emobeam-{owner_mark()}-0a.tmp").write_bytes(b"half")
    (temporary / f".emobeam-{earlier}-0a.tmp").write_bytes(b"half")
    assert storage.sweep_temporaries(str(temporary)) == 1
    assert not list(temporary.glob(f"*{earlier}*"))
