"""Preparing in a process of its own: once for all, never believed by half, and without torch where it is done."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from emobeam.emo_transforms.networks.heads.config import HeadConfig
from emobeam.emo_transforms.networks.heads.fresh_heads import seeded_head
from emobeam.emo_transforms.networks.heads.prepared_heads import head_key, seeded_prepared_head
from emobeam.emo_transforms.networks.prepared import ensuring, places
from emobeam.emo_transforms.networks.prepared.store import Store
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.heads.kinds import arrays, make

pytest.importorskip("openvino", reason="OpenVINO isn't installed")

SEED = 11
RUN = """
import sys
import numpy as np
from emobeam.emo_transforms.networks.heads.config import config_from_json
from emobeam.emo_transforms.networks.heads.prepared_heads import seeded_prepared_head
head = seeded_prepared_head(config_from_json(sys.argv[1]))
values = head.run({"embedding": np.linspace(-1, 1, 7, dtype=np.float32).reshape(1, 1, 7)})
print(values.tobytes().hex(), *sorted({"torch", "torchvision", "timm"} & set(sys.modules)))
"""


def config() -> HeadConfig:
    return make("frame of an embedding", seed=SEED).config


def command() -> list[str]:
    from emobeam.emo_transforms.networks.heads.config import config_to_json

    return [sys.executable, "-c", RUN, config_to_json(config())]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EMOBEAM_PREPARED", str(tmp_path / "prepared"))
    places.private_folder.cache_clear()
    yield tmp_path / "prepared"
    places.private_folder.cache_clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store in which the head is prepared, and what it gives."""
    place = tmp_path_factory.mktemp("whole") / "prepared"
    done = subprocess.run(
        command(), env={**os.environ, "EMOBEAM_PREPARED": str(place)}, check=True, capture_output=True, text=True
    )
    return place, done.stdout


@pytest.fixture
def filled(whole: tuple[Path, str], folder: Path) -> str:
    """Fills the store; gives what the head gives."""
    shutil.copytree(whole[0], folder)
    return whole[1]


def together(count: int) -> list[tuple[str, str]]:
    started = [
        subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(count)
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * count, ended
    return ended


def prepared_here() -> tuple[str, int]:
    """What this process, which has torch, is given, and how often it was told of preparing."""
    told: list[str] = []
    head = seeded_prepared_head(config(), told.append)
    values = head.run({"embedding": np.linspace(-1, 1, 7, dtype=np.float32).reshape(1, 1, 7)})
    return f"{values.tobytes().hex()}\n", len(told)


def test_processes_that_start_together_prepare_once(folder: Path) -> None:
    ended = together(4)
    assert len({out for out, _ in ended}) == 1
    assert sum("preparing head" in err for _, err in ended) == 1
    assert len(ended[0][0].split()) == 1, "torch was imported"
    again = together(1)
    assert again == [(ended[0][0], "")], "loaded, it gives the bytes of when it was prepared"
    assert len(list(folder.glob("head-*"))) == 2  # by its seed and by its digest
    assert not [place for place in folder.iterdir() if place.name.startswith(".")]


@pytest.mark.slow
def test_processes_that_start_together_prepare_once_twenty_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_seen = set()
    for number in range(20):
        monkeypatch.setenv("EMOBEAM_PREPARED", str(tmp_path / str(number)))
        ended = together(3)
        bytes_seen |= {out for out, _ in ended}
        assert sum("preparing head" in err for _, err in ended) == 1
    assert len(bytes_seen) == 1


def _preparing(process: subprocess.Popen[str]) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            if "torch" in " ".join(each.path for each in child.memory_maps()):
                return child
        time.sleep(0.02)
    raise AssertionError("nothing is prepared")


@pytest.mark.thorough
def test_kill_during_preparation_leaves_nothing_that_is_believed(folder: Path) -> None:
    for whom in ("the process that prepares", "both"):
        process = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        child = _preparing(process)
        if whom == "both":
            process.kill()
        child.send_signal(signal.SIGKILL)
        _, told = process.communicate(timeout=60)
        assert process.returncode != 0
        if whom != "both":
            assert "can't be prepared: its process ended with -9" in told
        assert not list(folder.glob("head-*"))
    ((out, err),) = together(1)  # the lock of the dead is free
    assert "preparing head" in err
    assert len(out.split()) == 1


def test_a_damaged_network_is_prepared_again(filled: str, folder: Path) -> None:
    place = folder / head_key(config(), "").name
    for name in ("manifest.json", "logits.xml", "logits.bin"):
        data = bytearray((place / name).read_bytes())
        data[len(data) // 2] ^= 4
        (place / name).write_bytes(data)
        assert Store(folder).read(head_key(config(), "")) is None
        if name != "logits.bin":
            data[len(data) // 2] ^= 4
            (place / name).write_bytes(data)
    assert prepared_here() == (filled, 1)
    assert Store(folder).read(head_key(config(), "")) is not None
    assert prepared_here() == (filled, 0)


def test_a_deleted_store_is_filled_again(filled: str, folder: Path) -> None:
    shutil.rmtree(folder)
    assert prepared_here() == (filled, 1)


def test_a_folder_that_can_not_be_written_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "no folder"
    file.write_text("")  # root may write where nobody else may, but not here
    monkeypatch.setenv("EMOBEAM_PREPARED", str(file / "prepared"))
    told: list[str] = []
    assert places.for_children() == {}
    for _ in range(2):
        head = seeded_prepared_head(config(), told.append)
        values = head.run(arrays(1, 1))
        np.testing.assert_allclose(values, seeded_head(config()).run(arrays(1, 1)), rtol=0, atol=1e-6)
    assert len(told) == 1
    private = places.private_folder()
    assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0
    # Children look there, too, and find it.
    monkeypatch.setenv("EMOBEAM_PREPARED", places.for_children()["EMOBEAM_PREPARED"])
    ((_, err),) = together(1)
    assert err == ""


def test_a_folder_to_read_is_read_and_another_is_written(
    tmp_path: Path, filled: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOBEAM_PREPARED", os.pathsep.join([str(tmp_path / "first"), str(folder)]))
    assert together(1) == [(filled, "")]
    assert not (tmp_path / "first").exists()


def test_without_torch_what_was_prepared_is_used_and_what_was_not_is_named(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emobeam.emo_transforms.networks.prepared import store

    monkeypatch.setattr(store, "can_build", lambda: False)
    monkeypatch.setattr(ensuring, "can_build", lambda: False)
    assert seeded_prepared_head(config()).run(arrays(1, 1)).shape == (1, 1, len(config().outputs))
    other = make("frame of an embedding", seed=SEED + 1).config
    with pytest.raises(EmobeamError, match=r"not prepared for this machine.*torch.*emobeam models prepare"):
        seeded_prepared_head(other)
