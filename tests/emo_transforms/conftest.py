"""Networks that many tests share, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks


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
