"""Which devices there are; torch is imported only where a driver for its GPUs is at hand."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import lru_cache


@lru_cache(maxsize=1)
def cuda_is_available() -> bool:
    """Whether torch can compute on a CUDA device here."""
    if importlib.util.find_spec("torch") is None or not _driver_sees_devices():
        return False
    import torch

    return torch.cuda.is_available()


def _driver_sees_devices() -> bool:
    """What the driver itself says; False where there is none. AMD's torch, which has another one, is asked itself."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return importlib.util.find_spec("torch") is not None and _library_is_there("libamdhip64.so")
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def _library_is_there(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
