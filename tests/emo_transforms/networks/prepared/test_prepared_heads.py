"""Heads from the store: every architecture against the network compiled directly, to the bit, and against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emobeam.emo_transforms.networks.engines import compile_model
from emobeam.emo_transforms.networks.heads.files import load_head, save_head
from emobeam.emo_transforms.networks.heads.folder import read_head
from emobeam.emo_transforms.networks.heads.fresh_heads import new_head, ready_head, seeded_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.networks.heads.prepared_heads import (
    PreparedHead,
    ReadyRun,
    head_key,
    load_prepared_head,
    seeded_prepared_head,
)
from emobeam.emo_transforms.networks.heads.running import RunningHead
from emobeam.emo_transforms.networks.prepared import from_torch
from emobeam.emo_transforms.networks.prepared.head_graphs import graphs_of
from emobeam.emo_transforms.networks.prepared.keys import Key
from emobeam.emo_transforms.networks.prepared.store import Store
from emobeam.emo_transforms.networks.weights_digest import tensors_sha256
from emobeam.schemas.records import EmobeamError
from emobeam.schemas.tasks import TASKS
from tests.emo_transforms.networks.heads.kinds import KINDS, OFFER, arrays, make, shaken

pytest.importorskip("openvino", reason="OpenVINO isn't installed")

TOLERANCE = 2e-6
"""Of values between -1 and 1, as docs/engines.md has it."""

CLIPS: dict[str, dict[str, Any]] = {
    "tam of clips": {"final_channels": 6},
    "statistics of scores": {"architecture": "clip-statistics"},
    "statistics of all": {"architecture": "clip-statistics", "inputs": ("s32", "embedding", "scores"), "hidden": 0},
}

EACH = {"tam", "tcn of maps", "frame of all", "tam of clips", "statistics of all"}
"""One of each architecture and scope; the others in make test-thorough."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMOBEAM_PREPARED", str(tmp_path / "prepared"))
    return tmp_path / "prepared"


def head_of(kind: str) -> Head:
    made = make(kind) if kind in KINDS else new_head(TASKS["emi"], OFFER, **CLIPS[kind])
    shaken(made.module)
    return Head(made.config, made.module, tensors_sha256(made.module.state_dict()))


def prepared(head: Head, tmp_path: Path, store: Path) -> PreparedHead:
    save_head(head, str(tmp_path / "head"))
    recipe = {"make": "head", "folder": str(tmp_path / "head")}
    for key, entry in from_torch.make(head_key(head.config, head.weights_sha256), recipe):
        Store(store).write(key, entry)
    found = load_prepared_head(str(tmp_path / "head"))
    assert isinstance(found, PreparedHead)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in EACH else pytest.mark.thorough) for kind in (*KINDS, *CLIPS)]
)
def test_every_head_gives_the_numbers_of_its_network(kind: str, tmp_path: Path, folder: Path) -> None:
    head = head_of(kind)
    found = prepared(head, tmp_path, folder)
    assert (found.inputs, found.maps, found.streams) == (head.inputs, head.maps, head.streams)
    assert (found.config, found.weights_sha256) == (head.config, head.weights_sha256)
    window = head.config.window
    columns = arrays(3, window)
    graphs = {graph.name: graph for graph in graphs_of(head)}
    for name, graph in graphs.items():
        rng = np.random.default_rng(5)
        values = [rng.normal(size=tuple(each.shape)).astype(np.float32) for each in graph.examples]
        direct = compile_model(from_torch.converted(graph.module, graph.examples, kind), "f32")(*values)
        again = found._networks[name](*values)
        assert [output.tobytes() for output in again] == [output.tobytes() for output in direct]
    values, by_torch = found.run(columns), head.run(columns)
    assert (values.dtype, values.shape) == (by_torch.dtype, by_torch.shape)
    np.testing.assert_allclose(values, by_torch, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(by_torch).max())))
    if kind in CLIPS:
        valid = np.array([window, window, max(1, window // 2)])
        np.testing.assert_allclose(found.pool(values, valid), head.pool(by_torch, valid), rtol=0, atol=TOLERANCE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["tam", "frame of all", "tcn that looks ahead", "statistics of all"])
def test_a_window_has_no_neighbours(kind: str, tmp_path: Path, folder: Path) -> None:
    found = prepared(head_of(kind), tmp_path, folder)
    columns = arrays(5, found.config.window)
    together = found.run(columns)
    for index in (3, 0):
        alone = found.run({name: values[index : index + 1] for name, values in columns.items()})
        assert alone.tobytes() == together[index : index + 1].tobytes()


@pytest.mark.filterwarnings("ignore")
def test_a_stream_goes_on_where_it_ended(tmp_path: Path, folder: Path) -> None:
    head = head_of("tcn of maps")
    found = prepared(head, tmp_path, folder)
    columns = arrays(1, 3 * found.config.window)
    whole = head.run(columns)[0]  # torch takes windows of any length
    parts, state = [], None
    for start in range(0, 3 * found.config.window, found.config.window):
        part = {name: values[:, start : start + found.config.window] for name, values in columns.items()}
        values, state = found.run_stream(part, state)
        parts.append(values[0])
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=TOLERANCE)


def test_masked_windows_and_few_windows(tmp_path: Path, folder: Path) -> None:
    head = head_of("statistics of scores")
    found = prepared(head, tmp_path, folder)
    vectors = head.run(arrays(4, 1))
    for valid in ([1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]):
        wanted = head.pool(vectors, np.array(valid))
        np.testing.assert_allclose(found.pool(vectors, np.array(valid)), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("task", ["va", "expr"])
def test_ready_heads_need_no_network(task: str, tmp_path: Path) -> None:
    head = ready_head(TASKS[task], OFFER)
    save_head(head, str(tmp_path / "head"))
    found = load_prepared_head(str(tmp_path / "head"))
    assert isinstance(found, ReadyRun)
    columns = {"scores": 3 * arrays(4, 1)["scores"]}
    np.testing.assert_allclose(found.run(columns), head.run(columns), rtol=0, atol=1e-7)
    fresh: RunningHead = found
    assert (fresh.weights_sha256, fresh.inputs, fresh.maps) == (head.weights_sha256, head.inputs, head.maps)


def test_a_fresh_head_is_that_of_its_seed(folder: Path) -> None:
    config = make("frame of an embedding", seed=3).config
    for key, entry in from_torch.make(head_key(config, ""), {"make": "fresh-head", "config": _text(config)}):
        Store(folder).write(key, entry)
    found, wanted = seeded_prepared_head(config), seeded_head(config)
    assert found.weights_sha256 == wanted.weights_sha256
    columns = arrays(2, 1)
    np.testing.assert_allclose(found.run(columns), wanted.run(columns), rtol=0, atol=TOLERANCE)
    assert head_key(config, "") != head_key(make("frame of an embedding", seed=4).config, "")


def _text(config: Any) -> str:
    from emobeam.emo_transforms.networks.heads.config import config_to_json

    return config_to_json(config)


@pytest.mark.parametrize("packed", [False, True])
def test_a_head_is_known_by_its_tensors_without_torch(packed: bool, tmp_path: Path) -> None:
    import torch

    save_head(head_of("tam"), str(tmp_path / "head"), dtype=torch.float16 if packed else torch.float32)
    config, digest = read_head(str(tmp_path / "head"))
    head = load_head(str(tmp_path / "head"))
    assert (config, digest) == (head.config, head.weights_sha256)


def test_tensors_that_are_not_those_of_the_description_are_refused(tmp_path: Path) -> None:
    save_head(head_of("tam"), str(tmp_path / "head"))
    file = tmp_path / "head" / "head.json"
    file.write_text(file.read_text().replace('"dim": 256', '"dim": 128'))
    with pytest.raises(EmobeamError, match=r"not the tensors that head\.json describes"):
        load_prepared_head(str(tmp_path / "head"), lambda text: None)


def test_what_decides_a_network_is_in_its_key() -> None:
    plain = make("tam").config
    keys: set[str] = set()
    for kind in KINDS:
        keys.add(head_key(make(kind).config, "f00d").name)
    assert len(keys) == len(KINDS)
    assert head_key(plain, "f00d") == Key("head", head_key(plain, "f00d").identity)
    assert head_key(plain, "f00d").name != head_key(plain, "beef").name
