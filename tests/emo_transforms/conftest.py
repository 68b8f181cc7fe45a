"""What many tests share, made once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest

from emobeam.emo_transforms.faces.detection.mtcnn_networks import MtcnnNetworks


@pytest.fixture(scope="session")
def dead_mark() -> str:
    """The mark of a process of this machine that was."""
    code = "from emobeam.emo_transforms.storage.owners import owner_mark; print(owner_mark())"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


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
