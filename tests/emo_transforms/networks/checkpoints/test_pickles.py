"""Files that want to run something get an error, and nothing runs."""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import pickle
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from emobeam.emo_transforms.networks.checkpoints.pickle_machine import Machine
from emobeam.emo_transforms.networks.checkpoints.pickle_policy import PickleRefused, Record
from emobeam.emo_transforms.networks.checkpoints.pickles import read_pickle
from emobeam.emo_transforms.networks.checkpoints.reading import read_checkpoint
from emobeam.schemas.records import EmobeamError
from tests.emo_transforms.networks.checkpoints.malicious import (
    ATTACKS,
    Module,
    Restores,
    Save,
    evaluated,
    executed,
    in_a_tensor,
    in_an_ordered_dict,
    in_module_hooks,
    own_function,
    save_legacy,
    save_protocol_4,
    save_zip,
    system,
)


def test_the_mark_would_be_left(mark: Path, tmp_path: Path) -> None:
    """The attacks are real: Python's own pickle falls for them."""
    for attack in (system, evaluated, executed, own_function, in_a_tensor, in_an_ordered_dict, in_module_hooks):
        torch.save(attack(), tmp_path / "w.pt")
        with contextlib.suppress(TypeError, AttributeError):
            torch.load(tmp_path / "w.pt", weights_only=False)
        assert mark.exists(), attack.__name__
        mark.unlink()


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_protocol_4])
@pytest.mark.parametrize("attack", ATTACKS)
def test_calls_are_refused(attack: Callable[[], Any], save: Save, mark: Path, tmp_path: Path) -> None:
    for content in (attack(), {"state_dict": {"weight": torch.ones(2)}, "extra": attack()}, [torch.ones(2), attack()]):
        save(content, tmp_path / "w.pt")
        with pytest.raises(PickleRefused, match=r"it (calls|names) "):
            read_pickle(str(tmp_path / "w.pt"))
        with pytest.raises(EmobeamError, match=r"w\.pt: .*without running code: it (calls|names) "):
            read_checkpoint(str(tmp_path / "w.pt"))
    assert not mark.exists()


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_setting_state_runs_nothing(save: Save, mark: Path, tmp_path: Path) -> None:
    save({"state_dict": {"w": torch.ones(2)}, "extra": Restores()}, tmp_path / "w.pt")
    assert list(read_checkpoint(str(tmp_path / "w.pt"))) == ["w"]
    save(Module(), tmp_path / "w.pt")
    state = read_checkpoint(str(tmp_path / "w.pt"))
    assert torch.equal(state["weight"], torch.arange(6.0).reshape(2, 3))
    assert not mark.exists()
    torch.load(tmp_path / "w.pt", weights_only=False)
    assert mark.exists()


def test_what_training_scripts_keep_beside_the_weights_is_read(tmp_path: Path) -> None:
    content = {"milestones": Counter([3, 3, 5]), "state": defaultdict(dict, {0: {"step": 1}})}
    torch.save(content, tmp_path / "w.pt")
    assert read_pickle(str(tmp_path / "w.pt")).content == content


def test_settings_are_noted_not_made(tmp_path: Path) -> None:
    content = {"factory": functools.partial(nn.ReLU, inplace=True), "place": torch.device("cpu"), "set": {1, 2}}
    torch.save(content, tmp_path / "w.pt")
    found = read_pickle(str(tmp_path / "w.pt")).content
    assert isinstance(found["factory"], Record)
    assert str(found["factory"].kind) == "functools.partial"
    assert found["set"] == {1, 2}


words = st.integers(-(2**63), 2**64 - 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | words, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(words | st.text(max_size=3) | st.tuples(words, st.text(max_size=3)), max_size=3)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=plain, protocol=st.sampled_from([2, 3, 4, 5]), new=st.booleans())
def test_plain_data_is_what_python_reads(content: Any, protocol: int, new: bool, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    assert read_pickle(str(tmp_path / "w.pt")).content == content


TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int8, torch.uint8]
TYPES += [torch.bool, torch.int16]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    shape=st.lists(st.integers(0, 4), max_size=4), kind=st.sampled_from(TYPES), turn=st.booleans(), new=st.booleans()
)
def test_tensors_are_what_torch_reads(
    shape: list[int], kind: torch.dtype, turn: bool, new: bool, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    value = (torch.rand(shape, generator=generator) * 100).to(kind)
    value = value.transpose(0, -1) if turn and shape else value
    content = {"a": value, "b": value, "c": [value.reshape(-1)[1:]]}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=new)
    found = read_pickle(str(tmp_path / "w.pt")).content
    expected = torch.load(tmp_path / "w.pt", weights_only=True)
    for mine, theirs in ((found["a"], expected["a"]), (found["c"][0], expected["c"][0])):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        assert torch.equal(mine, theirs)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), new=st.booleans())
def test_damage_is_refused_or_harmless(place: int, value: int, new: bool, tmp_path: Path) -> None:
    path = tmp_path / f"w{new}.pt"
    if not path.exists():
        torch.save(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), path, _use_new_zipfile_serialization=new)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    (tmp_path / "damaged.pt").write_bytes(data)
    with contextlib.suppress(PickleRefused):  # any other exception fails
        read_pickle(str(tmp_path / "damaged.pt"))


def test_no_builtin_is_within_reach() -> None:
    """Every builtin but plain types is refused by its mere name; getattr is only ever noted, and only of torch."""
    reachable = []
    for name in dir(builtins):
        for module in ("builtins", "__builtin__"):
            try:
                Machine().run(io.BytesIO(f"c{module}\n{name}\n.".encode()))
            except PickleRefused:
                continue
            reachable.append(name)
    assert all(isinstance(getattr(builtins, name), type) or name == "getattr" for name in reachable)
    assert not {"eval", "exec", "setattr", "open", "compile", "__import__", "type", "map", "property"} & set(reachable)


def test_a_compressed_byte_order_is_not_unpacked(tmp_path: Path) -> None:
    """A gibibyte of zeros is a megabyte in a zip archive."""
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        entries = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as archive:
        for info, data in entries.items():
            order = info.filename.endswith("byteorder")
            archive.writestr(info, b"little" + b" " * 5000 if order else data, zipfile.ZIP_DEFLATED if order else None)
    with pytest.raises(PickleRefused, match="compressed"):
        read_pickle(str(tmp_path / "bomb.pt"))


def test_a_pickle_of_another_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(PickleRefused, match="not one that torch"):
        read_pickle(str(tmp_path / "w.pt"))
