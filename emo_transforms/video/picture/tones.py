"""Pictures of high dynamic range (PQ, HLG) as a screen of standard range shows them.

The steps are those of the ITU's documents, on the light that a screen of 1000 cd/m² would give: for PQ the curve of
SMPTE ST 2084; for HLG the inverse of its OETF and the OOTF of gamma 1.2 (BT.2100). Then the roll-off of BT.2390 (5.4.1)
on the largest of R, G and B, which keeps hues, from 1000 cd/m² to 203 cd/m², the white of standard pictures among those
of high range (BT.2408); what is darker than 87 cd/m², faces most of all, stays as bright as it is. Colours go from
BT.2020 to BT.709 (BT.2087), those beyond it to its border, and light to signal by the inverse of BT.1886.

Peaks in a file's metadata aren't looked at: the same signal always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Floats = npt.NDArray[np.float64]

TRANSFERS = {16: "PQ", 18: "HLG"}
"""FFmpeg's numbers (AVColorTransferCharacteristic) of brightness coded for high dynamic range."""

FORMAT = "gbrp16le"
"""Of the frames that :func:`mapped` takes."""

_PEAK = 1000.0
_WHITE = 203.0
_HLG_GAMMA = 1.2
_SDR_GAMMA = 2.4

_FULL = 255 << 8
"""FFmpeg's scaler makes white of 8 bits, and fills up with zeros."""

_STEPS = 1 << 16
_LAST = np.float32(_STEPS - 1)
_ROWS = 16
"""Rows that are mapped at once, so that all of it stays in the processor's cache."""

_BT2020_LUMINANCE = (0.2627, 0.6780, 0.0593)
_BT2020_TO_BT709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))

_M1, _M2 = 2610 / 16384, 128 * 2523 / 4096
_C1, _C2, _C3 = 3424 / 4096, 32 * 2413 / 4096, 32 * 2392 / 4096
"""ST 2084."""

_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * np.log(4 * _A)
"""HLG."""


def mapped(frame: VideoFrame, tones: str) -> npt.NDArray[np.uint8]:
    """RGB of standard range of a frame of high range.

    Args:
        frame: in :data:`FORMAT`.
        tones: one of the values of :data:`TRANSFERS`.

    Returns:
        uint8 [H, W, 3].
    """
    green, blue, red = (_plane(frame, place) for place in range(3))
    made = np.empty((frame.height, frame.width, 3), np.uint8)
    for top in range(0, frame.height, _ROWS):
        rows = slice(top, top + _ROWS)
        _map(red[rows], green[rows], blue[rows], tones, made[rows])
    return made


def _plane(frame: VideoFrame, place: int) -> npt.NDArray[np.uint16]:
    plane: Any = frame.planes[place]
    return np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2)[: frame.height, : frame.width]


def _map(red: Any, green: Any, blue: Any, tones: str, made: npt.NDArray[np.uint8]) -> None:
    light = [_light(tones)[codes] for codes in (red, green, blue)]
    if tones == "HLG":
        luminance = sum(share * part for share, part in zip(_BT2020_LUMINANCE, light, strict=True))
        gain = _ootf()[_place(luminance)]
        light = [part * gain for part in light]
    # Of 1 for 1000 cd/m² to 1 for the white of the screen.
    gain = _roll_off()[_place(np.maximum(np.maximum(light[0], light[1]), light[2]))]
    light = [part * gain for part in light]
    for channel, (of_red, of_green, of_blue) in enumerate(_BT2020_TO_BT709):
        shown = np.float32(of_red) * light[0] + np.float32(of_green) * light[1] + np.float32(of_blue) * light[2]
        made[..., channel] = _signal()[_place(shown)]


def _place(values: Any) -> Any:
    """Where tables by the root of a number from 0 to 1 have it; roots are exact, so every machine gives the same."""
    clipped = np.clip(values, np.float32(0), np.float32(1))
    return (np.sqrt(clipped) * _LAST + np.float32(0.5)).astype(np.uint16)


def _table(function: Callable[[Floats], Floats]) -> npt.NDArray[np.float32]:
    return function((np.arange(_STEPS) / float(_LAST)) ** 2).astype(np.float32)


@cache
def _light(tones: str) -> npt.NDArray[np.float32]:
    """Light by 16-bit signal, 1 being the peak; for HLG that of the scene."""
    signal = np.minimum(np.arange(_STEPS) / _FULL, 1)
    return (np.minimum(pq_light(signal) / _PEAK, 1) if tones == "PQ" else hlg_light(signal)).astype(np.float32)


@cache
def _ootf() -> npt.NDArray[np.float32]:
    return _table(lambda luminance: luminance ** (_HLG_GAMMA - 1))


@cache
def _roll_off() -> npt.NDArray[np.float32]:
    def gain(light: Floats) -> Floats:
        some = np.maximum(light * _PEAK, 1e-6)
        return rolled_off(some) / some * (_PEAK / _WHITE)

    return _table(gain)


@cache
def _signal() -> npt.NDArray[np.uint8]:
    return np.rint(255 * _table(lambda light: light ** (1 / _SDR_GAMMA))).astype(np.uint8)


def pq_light(signal: Floats) -> Floats:
    """Cd/m² of a PQ signal from 0 to 1 (SMPTE ST 2084, 5.1)."""
    root = signal ** (1 / _M2)
    light: Floats = 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return light


def pq_signal(light: Floats) -> Floats:
    """The inverse of :func:`pq_light`."""
    power = (light / 10000) ** _M1
    signal: Floats = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def hlg_light(signal: Floats) -> Floats:
    """Light of the scene, 0 to 1, of an HLG signal from 0 to 1 (ARIB STD-B67, BT.2100 table 5)."""
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def rolled_off(light: Floats) -> Floats:
    """Cd/m² on a screen of 203 cd/m² for those on one of 1000 cd/m² (BT.2390, 5.4.1, black being black on both)."""
    top = float(pq_signal(np.array(_PEAK)))
    signal = pq_signal(light) / top
    most = float(pq_signal(np.array(_WHITE))) / top
    knee = 1.5 * most - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_light(np.where(signal < knee, signal, curve) * top)
