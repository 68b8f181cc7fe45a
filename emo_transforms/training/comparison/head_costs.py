"""What a head takes to run, measured: time for one window, memory of its process, size as ONNX.

Time and memory are taken in a fresh process (this module with the folder of a HEAD as argument), which has loaded
nothing but what a head needs, and runs kernels on one thread.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from emobeam.emo_transforms.networks.heads.architectures.costs import describe
from emobeam.emo_transforms.networks.heads.files import load_head
from emobeam.emo_transforms.networks.heads.head import Head
from emobeam.emo_transforms.storage.child_imports import same_imports
from emobeam.schemas.plain_json import parsed
from emobeam.schemas.records import EmobeamError

RUNS = 200
"""At most so many timed runs of a window, and :data:`SECONDS`; at least :data:`LEAST`."""

SECONDS = 2.0
LEAST = 7
_WARM_UP = 3
_MB = 1e6


def counted(head: Head) -> dict[str, Any]:
    """What can be known without running it: see :class:`.heads.architectures.costs.Cost`."""
    cost = describe(head.config)
    return {
        "parameters": cost.parameters,
        "macs": cost.macs,
        "macs_per_frame": cost.macs_per_frame,
        "final_layer_parameters": cost.final_parameters,
        "final_layer_macs": cost.final_macs,
        "window": cost.window,
        "tokens": dict(cost.tokens),
    }


def measured(folder: str) -> dict[str, Any]:
    """Time and memory of a head, in a fresh process.

    Args:
        folder: local path or URI of the head.

    Returns:
        ``latency_ms``: median time of one window on one thread of the CPU, final layer included, ``latency_runs`` how
        many were timed; ``peak_memory_mb``: largest resident memory of a process that loads torch and this head and
        runs single windows; ``libraries_mb``: resident memory of that process before it loads the head;
        ``processor``: the CPU. Megabytes are 10**6 bytes.

    Raises:
        EmobeamError: the process failed.
    """
    command = [sys.executable, "-P", "-m", __name__, folder]
    environment = {**os.environ, **same_imports()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmobeamError(f"{folder}: measuring the head failed: {done.stderr.strip()[-400:]}")
    result: dict[str, Any] = parsed(done.stdout.splitlines()[-1])
    return result


def onnx_size(head: Head) -> tuple[int | None, str]:
    """Bytes of the head as ONNX file; None and the reason where it can't be exported here."""
    from emobeam.emo_transforms.networks.heads.onnx_export import head_model

    try:
        return len(head_model(head)), ""
    except EmobeamError as error:
        return None, str(error)


def processor_name() -> str:
    """What the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(folder: str) -> None:
    """Prints one line of JSON with what :func:`measured` returns."""
    libraries = psutil.Process().memory_info().rss
    head = load_head(folder)
    window = _window(head)
    times: list[float] = []
    for _ in range(_WARM_UP):
        _run(head, window)
    began = time.perf_counter()
    while len(times) < RUNS and (len(times) < LEAST or time.perf_counter() - began < SECONDS):
        start = time.perf_counter()
        _run(head, window)
        times.append(time.perf_counter() - start)
    found = {
        "latency_ms": round(1e3 * statistics.median(times), 4),
        "latency_runs": len(times),
        "peak_memory_mb": round(_peak() / _MB, 1),
        "libraries_mb": round(libraries / _MB, 1),
        "processor": processor_name(),
    }
    print(json.dumps(found))


def _window(head: Head) -> Mapping[str, NDArray[Any]]:
    config, rng = head.config, np.random.default_rng(0)
    maps = {
        name: rng.normal(size=(1, config.window, *shape)).astype(np.float16)
        for name, shape in config.map_shapes.items()
    }
    vectors = {
        name: rng.normal(size=(1, config.window, length)).astype(np.float32)
        for name, length in config.vector_lengths.items()
    }
    return maps | vectors


def _run(head: Head, window: Mapping[str, NDArray[Any]]) -> None:
    values = head.run(window)
    if head.config.scope == "clip":
        head.pool(values, np.array([head.config.window]))


def _peak() -> float:
    """Largest resident memory of this process in bytes.

    Linux hands what ``getrusage`` tells on from the process that started this one, so its own account goes first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024.0 * int(line.split()[1])
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(largest if sys.platform == "darwin" else 1024 * largest)


if __name__ == "__main__":
    main(sys.argv[1])
