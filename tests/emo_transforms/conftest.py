"""What many tests share, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks
from emobeam.emo_transforms.storage import object_stores
from tests.object_stores import STORES, Store


@pytest.fixture(scope="session")
def mtcnn_networks() -> Callable[[str], MtcnnNetworks]:
    """MTCNN's networks on an engine; the test is skipped where this machine lacks it."""

    @cache
    def make(engine: str) -> MtcnnNetworks:
        if engine != "torch":
            openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
            if engine == "openvino-bf16":
                abilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
                if "BF16" not in abilities:
                    pytest.skip("this CPU has no bfloat16")
        return MtcnnNetworks(engine)

    return make


@pytest.fixture(scope="module", params=sorted(STORES))
def bucket(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param]() as store:
        yield store


@pytest.fixture
def store(bucket: Store) -> Store:
    bucket.proxy.clear()
    return bucket


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pauses of our own tries are cut; those of the clients are theirs. Downloads go to a folder of the test."""
    monkeypatch.setattr(object_stores, "wait_random_exponential", lambda **limits: lambda state: 0.01)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
