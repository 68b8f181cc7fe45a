"""What the flags of a CPU tell is what OpenVINO says of it."""

from __future__ import annotations

import pytest

from emobeam.emo_transforms.networks.cpu_features import bfloat16_among, has_bfloat16

SKYLAKE = {"avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"}
ZEN_4 = SKYLAKE | {"avx512_vnni", "avx512_bf16", "avx512_vbmi"}
SIERRA_FOREST = {"avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert", "avx_ifma"}


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (SKYLAKE, False),
        (SKYLAKE | {"avx512_vnni"}, False),  # Cascade Lake, Ice Lake
        (ZEN_4, True),  # and Cooper Lake, Sapphire Rapids
        (ZEN_4 - {"avx512vl"}, False),
        ({"avx2", "avx_vnni"}, False),  # Alder Lake
        (SIERRA_FOREST, True),
        ({"avx", "sse4_2"}, False),
    ],
)
def test_bfloat16_by_flags(flags: set[str], wanted: bool) -> None:
    assert bfloat16_among(frozenset(flags)) is wanted


def test_openvino_says_the_same_of_this_machine() -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    known = has_bfloat16()
    if known is None:
        pytest.skip("the flags of this CPU can't be read")
    assert known is ("BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
