"""Pickles written opcode by opcode: none of them runs, reads what is not there, or takes for ever."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emobeam.emo_transforms.networks.checkpoints.pickle_policy import PickleRefused
from emobeam.emo_transforms.networks.checkpoints.pickles import is_module, module_state, read_pickle
from emobeam.emo_transforms.networks.checkpoints.reading import read_checkpoint
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.checkpoints.malicious import MARK


def program(*steps: bytes) -> bytes:
    return b"\x80\x02" + b"".join(steps) + b"."


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def command() -> bytes:
    return word(f"touch '{os.environ[MARK]}'")


def put_into_zip(data: bytes, path: Path, **more: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"data.pkl": data, "version": b"3\n", **more}.items():
            archive.writestr(f"archive/{name}", content)


GETATTR = b"cbuiltins\ngetattr\n"

BY_HAND: dict[str, Callable[[], bytes]] = {
    "inst": lambda: program(b"(", command(), b"iposix\nsystem\n"),
    "obj": lambda: program(b"(cposix\nsystem\n", command(), b"o"),
    "newobj": lambda: program(b"cposix\nsystem\n", command(), b"\x85\x81"),
    "global alone": lambda: program(b"cos\nsystem\n"),
    "build a class": lambda: program(b"ctorch.nn.modules.module\nModule\n", b"}", word("__call__"), b"K\x01sb"),
    "build a text": lambda: program(word("a"), b"}b"),
    "build a tensor's rebuilder": lambda: program(b"ctorch._utils\n_rebuild_tensor_v2\n}b"),
    "dunder of a class": lambda: program(b"\x8c\x0bcollections\x8c\x1dOrderedDict.__init__.__globals\x93"),
    "subclasses": lambda: program(b"cbuiltins\nobject.__subclasses__\n)R"),
    "name by number": lambda: program(b"K\x01K\x02\x93"),
    "call a partial": lambda: program(b"cfunctools\npartial\ncos.path\njoin\n\x85R)R"),
    "call what getattr gave": lambda: program(GETATTR, b"ctorch._utils\n_rebuild_tensor_v2\n", word("x"), b"\x86R)R"),
    "getattr of a class": lambda: program(GETATTR, b"cfoo\nBar\n", word("x"), b"\x86R"),
    "getattr by a dunder": lambda: program(GETATTR, b"ctorch\nTensor\n", word("__globals__"), b"\x86R"),
    "call a text": lambda: program(word("os.system"), b")R"),
    "call a record": lambda: program(b"cfoo\nBar\n)\x81)R"),
    "extension registry": lambda: program(b"\x82\x01"),
    "reconstruct a dict": lambda: program(b"ccopyreg\n_reconstructor\ncfoo\nBar\ncbuiltins\ndict\n}\x87R"),
    "empty stack": lambda: program(b"0"),
    "no stop": lambda: b"\x80\x02K\x01",
    "unknown storage": lambda: program(storage("EvilStorage")),
    "foreign reference": lambda: program(word("elsewhere"), b"Q"),
    "unhashable key": lambda: program(b"}]K\x01s"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_programs_written_by_hand_are_refused(name: str, mark: Path, tmp_path: Path) -> None:
    put_into_zip(BY_HAND[name](), tmp_path / "w.pt")
    with pytest.raises(PickleRefused):
        read_pickle(str(tmp_path / "w.pt"))
    with pytest.raises(EmobeamError, match=r"w\.pt"):
        read_checkpoint(str(tmp_path / "w.pt"))
    assert not mark.exists()


def storage(kind: str = "FloatStorage", key: str = "0", length: int = 6) -> bytes:
    count = b"K" + bytes([length])
    return b"(" + word("storage") + f"ctorch\n{kind}\n".encode() + word(key) + word("cpu") + count + b"tQ"


def tensor(size: bytes, stride: bytes, offset: bytes = b"K\x00", kind: str = "FloatStorage") -> bytes:
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return rebuild + b"(" + storage(kind) + offset + size + stride + b"\x89ccollections\nOrderedDict\n)RtR"


NUMBERS = {"data/0": struct.pack("<6f", *range(6))}


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    """What the next test refuses differs from this in a number only."""
    put_into_zip(program(tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86")), tmp_path / "w.pt", **NUMBERS)
    found = read_pickle(str(tmp_path / "w.pt")).content
    assert found.tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (tensor(b"K\x03K\x03\x86", b"K\x01K\x02\x86"), NUMBERS),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86", b"K\x01"), NUMBERS),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86", b"J\xff\xff\xff\xff"), NUMBERS),
        (tensor(b"J\x00\x00\x00\x7fK\x01\x86", b"K\x00K\x00\x86"), NUMBERS),
        (tensor(b"K\x02K\x03\x86", b"K\x01\x85"), NUMBERS),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86", kind="DoubleStorage"), NUMBERS),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86"), {"data/0": b"\x00" * 20}),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86"), {}),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86"), {**NUMBERS, "constants.pkl": b""}),
        (tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86"), {**NUMBERS, "byteorder": b"big"}),
        (b"]" + tensor(b"K\x06\x85", b"K\x01\x85") + b"a" + storage("LongStorage") + b"a", NUMBERS),
    ],
)
def test_numbers_that_are_not_there_are_not_read(data: bytes, held: dict[str, bytes], tmp_path: Path) -> None:
    put_into_zip(program(data), tmp_path / "w.pt", **held)
    with pytest.raises(PickleRefused):
        read_pickle(str(tmp_path / "w.pt"))


def test_modules_that_hold_themselves_end(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    module._modules["again"] = module
    torch.save(module, tmp_path / "w.pt")
    content = read_pickle(str(tmp_path / "w.pt")).content
    assert is_module(content)
    with pytest.raises(PickleRefused, match="holds itself"):
        module_state(content)


def test_modules_that_share_modules_end(tmp_path: Path) -> None:
    """Thirty levels, each holding the one below twice, come to a billion modules."""
    module: nn.Module = nn.Identity()
    for _ in range(30):
        module = nn.Sequential(module, module)
    torch.save(module, tmp_path / "w.pt")
    with pytest.raises(EmobeamError, match="more than 100000 modules"):
        read_checkpoint(str(tmp_path / "w.pt"))


def test_deep_nests_are_refused(tmp_path: Path) -> None:
    put_into_zip(program(b"]" * 5000 + b"a" * 4999), tmp_path / "w.pt")
    with pytest.raises(PickleRefused, match="nested too deeply"):
        read_pickle(str(tmp_path / "w.pt"))


def test_shared_tuples_are_not_multiplied(tmp_path: Path) -> None:
    """A short file that would be 2 ** 60 objects if sharing were lost."""
    put_into_zip(program(b")" + b"2\x86" * 60), tmp_path / "w.pt")
    assert isinstance(read_pickle(str(tmp_path / "w.pt")).content, tuple)


NESTED = b")" + b"2\x86" * 60
KEYS = {
    "dictionary": b"(" + NESTED + b"K\x01d",
    "item": b"}" + NESTED + b"K\x01s",
    "items": b"}(" + NESTED + b"K\x01u",
    "ordered": b"ccollections\nOrderedDict\n(" + NESTED + b"K\x01\x86l\x85R",
    "set": b"cbuiltins\nset\n(" + NESTED + b"l\x85R",
    "frozen": b"(" + NESTED + b"\x91",
    "added": b"\x8f(" + NESTED + b"\x90",
    "list": b"}]K\x01s",
    "huge": b"}" + b"\x8a\x09" + b"\xff" * 8 + b"\x01" + b"K\x01s",
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("read", [read_pickle, read_checkpoint])
def test_keys_that_take_for_ever_to_hash_are_refused(name: str, read: Callable[[str], Any], tmp_path: Path) -> None:
    """Sixty levels of a pair of itself: Python's own hash of it, torch's careful reader too, would not come back."""
    put_into_zip(program(KEYS[name]), tmp_path / "w.pt")
    with pytest.raises((PickleRefused, EmobeamError), match="as a key"):
        read(str(tmp_path / "w.pt"))


def test_one_view_is_one_tensor(tmp_path: Path) -> None:
    data = tensor(b"K\x02K\x03\x86", b"K\x01K\x02\x86")
    put_into_zip(program(b"]" + (data + b"a") * 3), tmp_path / "w.pt", **NUMBERS)
    first, *others = read_pickle(str(tmp_path / "w.pt")).content
    assert all(other is first for other in others)


@pytest.mark.parametrize("new", [True, False])
def test_a_short_file_does_not_fill_the_memory(new: bool, tmp_path: Path) -> None:
    """A thousand views of one storage, each another, come to a thousand times the file."""
    numbers = torch.zeros(100_000)
    torch.save([numbers[step:] for step in range(1000)], tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    assert (tmp_path / "w.pt").stat().st_size < 600_000
    with pytest.raises(PickleRefused, match=r"its tensors take more than 17 MB"):
        read_pickle(str(tmp_path / "w.pt"))


def test_a_list_is_not_copied_for_ever(tmp_path: Path) -> None:
    long = b"](" + b"K\x01" * 100_000 + b"e" + b"q\x000"
    put_into_zip(program(long, b"cbuiltins\nlist\nq\x010", b"]", b"h\x01h\x00\x85Ra" * 2000), tmp_path / "w.pt")
    with pytest.raises(PickleRefused, match="again and again"):
        read_pickle(str(tmp_path / "w.pt"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x8c\x08\x1b]0;evil\x8c\x01a\x93",
        b"\x8c\x05torch\x8c\x05a\nb\x1bc\x93",
        b"\x8c\x06\x1b[2Jxx)R",
        b"](K\x01K\x02e" + word("\x1b[2J") + b"b",
    ],
)
def test_no_file_writes_to_a_terminal(data: bytes, tmp_path: Path) -> None:
    put_into_zip(program(data), tmp_path / "w.pt")
    with pytest.raises(PickleRefused) as caught:
        read_pickle(str(tmp_path / "w.pt"))
    assert str(caught.value).isprintable()
