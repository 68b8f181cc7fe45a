"""What this CPU can do, as the operating system tells it: to know it, nothing heavy has to be imported."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"})
_AVX2 = frozenset({"avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert"})


@lru_cache(maxsize=1)
def has_bfloat16() -> bool | None:
    """Whether OpenVINO names ``BF16`` among what it is good at on this CPU; None where the flags can't be read.

    Its rule (``avx512_core_bf16`` or ``avx2_vnni_2`` of oneDNN), by the names that Linux has for these features.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    return None if not flags else bfloat16_among(flags)


def bfloat16_among(flags: frozenset[str]) -> bool:
    """The same for given flags, spelt as in ``/proc/cpuinfo``."""
    return flags >= _AVX512 or flags >= _AVX2
