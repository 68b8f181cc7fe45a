"""The store: entries are whole or not there, and what was damaged is not believed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from emobeam.emo_transforms.networks.prepared import keys, store
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.prepared.store import Entry, Store

KEY = Key("backbone", {"weights_sha256": "f00d", "mean": (0.5, 0.5, 0.5)})
ENTRY = Entry(
    {"shapes": {"s32": [4, 2, 2], "s8": [1, 8, 8]}}, {"network.xml": b"<net/>" * 50, "network.bin": b"\1" * 999}
)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    found = Store(tmp_path / "prepared")
    found.write(KEY, ENTRY)
    return found


def test_what_was_written_is_read(kept: Store) -> None:
    assert kept.read(KEY) == ENTRY
    assert list(kept.read(KEY).facts["shapes"]) == ["s32", "s8"]  # type: ignore[union-attr]  # the order is kept
    assert kept.read(Key("backbone", {**KEY.identity, "weights_sha256": "beef"})) is None
    assert kept.read(Key("head", KEY.identity)) is None
    assert [place.name for place in kept.folder.iterdir()] == [KEY.name]


@pytest.mark.parametrize("name", ["network.xml", "network.bin", "manifest.json"])
@pytest.mark.parametrize("how", ["in the middle", "cut off", "gone", "longer"])
def test_a_damaged_file_is_not_believed(kept: Store, name: str, how: str) -> None:
    file = kept.place(KEY) / name
    data = bytearray(file.read_bytes())
    if how == "in the middle":
        data[len(data) // 2] ^= 1
    file.write_bytes({"cut off": data[:-1], "longer": data + b" {}"}.get(how, data))
    if how == "gone":
        file.unlink()
    assert kept.read(KEY) is None
    kept.write(KEY, ENTRY)
    assert kept.read(KEY) == ENTRY


def test_facts_are_covered_by_the_digest(kept: Store) -> None:
    file = kept.place(KEY) / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["content"]["facts"]["shapes"]["s8"] = [1, 4, 4]
    file.write_text(json.dumps(manifest))
    assert kept.read(KEY) is None


def test_an_entry_in_the_place_of_another_is_not_believed(kept: Store) -> None:
    other = Key("backbone", {"weights_sha256": "beef"})
    os.rename(kept.place(KEY), kept.place(other))
    assert kept.read(other) is None


def test_versions_live_side_by_side(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dict(keys.builders())
    monkeypatch.setattr(keys, "builders", lambda: {**plain, "torch": "99.0"})
    assert kept.read(KEY) is None
    other = Entry({"shapes": {}}, {"network.xml": b"other"})
    kept.write(KEY, other)
    assert kept.read(KEY) == other
    monkeypatch.setattr(keys, "builders", lambda: plain)
    assert kept.read(KEY) == ENTRY


@pytest.mark.parametrize("changed", ["openvino", "code"])
def test_what_another_version_wrote_is_not_there(kept: Store, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    if changed == "openvino":
        monkeypatch.setattr(keys, "version_of", lambda package: "1.0")
        monkeypatch.setattr(store, "can_build", lambda: False)  # even where any version of torch would do
    else:
        monkeypatch.setattr(keys, "code_digest", lambda: "other code")
    assert kept.read(Key(KEY.kind, KEY.identity)) is None


def test_without_torch_any_version_of_it_will_do(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "builders", lambda: {"torch": "", "timm": ""})
    monkeypatch.setattr(store, "can_build", lambda: False)
    assert kept.read(KEY) == ENTRY
    file = kept.place(KEY)
    assert not file.exists()  # it isn't found by its whole name


def test_what_is_whole_stays_when_it_is_written_again(kept: Store) -> None:
    before = os.stat(kept.place(KEY) / "network.bin").st_ino
    kept.write(KEY, ENTRY)
    assert os.stat(kept.place(KEY) / "network.bin").st_ino == before
    assert len(list(kept.folder.iterdir())) == 1


def test_what_dead_processes_left_goes(kept: Store, dead_mark: str) -> None:
    dead = kept.folder / f".{KEY.name}.{dead_mark}.01234567"
    alive = kept.folder / f".{KEY.name}.{store.owner_mark()}.01234567"
    for place in (dead, alive):
        place.mkdir()
        (place / "network.bin").write_bytes(b"half")
    with kept.lock(KEY, print):
        assert not dead.exists()
        assert alive.exists()
    assert kept.read(KEY) == ENTRY


def test_the_code_that_builds_networks_is_part_of_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(keys.__file__).parents[1]
    for file in [root / "engines.py", root / "weights_digest.py", *root.glob("*/**/*.py")]:
        target = tmp_path / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    now = keys.code_digest.__wrapped__()
    monkeypatch.setattr(keys, "__file__", str(tmp_path / "prepared" / "keys.py"))
    assert keys.code_digest.__wrapped__() == now
    with open(tmp_path / "heads" / "architectures" / "tam.py", "a") as file:
        file.write("# changed\n")
    assert keys.code_digest.__wrapped__() != now


def test_who_waits_for_a_process_that_was_stopped_is_told_and_goes_on(
    kept: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emobeam.emo_transforms.networks.prepared.store._TOLD_AFTER", 0.0)
    told: list[str] = []
    with kept.lock(KEY, told.append):
        assert told == []
        began = time.monotonic()
        with kept.lock(KEY, told.append, limit=0.2):
            assert 0.2 <= time.monotonic() - began < 10
    assert [("waiting for it" in text, "is it stopped" in text) for text in told] == [(True, False), (False, True)]
    with kept.lock(KEY, told.append):
        assert len(told) == 2
