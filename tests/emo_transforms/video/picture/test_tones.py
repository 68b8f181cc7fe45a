"""Pictures of high range look as those of standard range that they were made of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emobeam.emo_transforms.video.picture.tones import hlg_light, pq_light, pq_signal, rolled_off
from emobeam.schemas.config import shard_name
from emobeam.schemas.records import Display, Fingerprint
from tests.clips import Picture, face
from tests.emo_transforms.video.displayed import apart, probed, same_wherever_cut

Floats = NDArray[np.float64]

SIZE = (192, 128)
FRAMES = 12
DARKER = 0.7
"""Below the knee of the roll-off, where light stays as it is: 0.7 to the 2.4th of 203 cd/m² are 86."""

PRIMARIES = {
    "BT.709": ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    "BT.2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
}
WHITE = (0.3127, 0.3290)
TRANSFERS = {"PQ": 16, "HLG": 18}


def plain(number: int) -> Picture:
    return np.asarray(np.rint(face(number, SIZE) * DARKER), np.uint8)


def to_xyz(name: str) -> Floats:
    """Matrix from linear RGB to XYZ, out of the places of the primaries (SMPTE RP 177)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in PRIMARIES[name]]).T
    x, y = WHITE
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def signal(picture: Picture, tones: str) -> Floats:
    """What a studio makes of a standard picture, its white being 203 cd/m²: R'G'B' of BT.2020 from 0 to 1."""
    to_2020 = np.linalg.solve(to_xyz("BT.2020"), to_xyz("BT.709"))
    light = np.clip(203 * (picture / 255.0) ** 2.4 @ to_2020.T, 0, None)
    if tones == "PQ":
        power = (light / 10000) ** 0.1593017578125
        made: Floats = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
        return made
    luminance = (light / 1000) @ to_xyz("BT.2020")[1]
    scene = light / 1000 / np.maximum(luminance, 1e-9)[..., None] ** (0.2 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright), np.float64)


def ten_bits(rgb: Floats) -> av.VideoFrame:
    """Limited range, matrix of BT.2020, yuv420p10."""
    share = np.array((0.2627, 0.6780, 0.0593))
    luma = rgb @ share
    blue, red = (rgb[..., 2] - luma) / 1.8814, (rgb[..., 0] - luma) / 1.4746
    halves = [each.reshape(SIZE[1] // 2, 2, SIZE[0] // 2, 2).mean((1, 3)) for each in (blue, red)]
    planes = [64 + 876 * luma, *(512 + 896 * half for half in halves)]
    frame = av.VideoFrame(*SIZE, "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows: Any = np.zeros((values.shape[0], plane.line_size // 2), "<u2")
        rows[:, : values.shape[1]] = np.rint(values)
        plane.update(rows.tobytes())
    return frame


def write(path: Path, tones: str, codec: str, **options: str) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = TRANSFERS[tones], 9, 9
        context.color_range, context.gop_size = 1, 5
        for number in range(1, FRAMES + 1):
            frame = ten_bits(signal(plain(number), tones))
            frame.color_trc, frame.color_primaries, frame.colorspace = TRANSFERS[tones], 9, 9
            frame.color_range, frame.pts, frame.time_base = 1, number - 1, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("tones", "name", "codec", "options"),
    [
        ("PQ", "clip.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=0:crf=8"}),
        ("HLG", "clip.mkv", "libsvtav1", {"preset": "10", "crf": "8"}),
    ],
)
def test_high_range_looks_as_standard_range(
    tmp_path: Path, tones: str, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write(tmp_path / name, tones, codec, **options)
    pictures = same_wherever_cut(path)
    assert len(pictures) == FRAMES
    for number, picture in pictures.items():
        assert apart(picture, plain(number)) < 2.5
        # As it is coded it looks flat.
        flat = np.rint(255 * signal(plain(number), tones)).astype(np.uint8)
        assert apart(flat, plain(number)) > 10
    probe = probed(path)
    assert probe.display == Display(tones=tones)
    assert probe.facts.notes == (f"is coded for high dynamic range ({tones}); it was mapped to standard range",)


def test_curves_of_light_are_those_of_the_standards() -> None:
    # BT.2408, table 1: reference white and peak; ST 2084's own ends.
    np.testing.assert_allclose(pq_light(np.array([0.0, 0.58069, 0.75183, 1.0])), [0, 203, 1000, 10000], rtol=1e-4)
    np.testing.assert_allclose(pq_light(pq_signal(np.array([1e-3, 1.0, 500.0]))), [1e-3, 1, 500], rtol=1e-6)
    np.testing.assert_allclose(hlg_light(np.array([0.0, 0.5, 0.75, 1.0])), [0, 1 / 12, 0.26496256, 1], atol=1e-6)


def test_light_rolls_off_smoothly() -> None:
    light = np.linspace(0, 1000, 2001)
    shown = rolled_off(light)
    assert shown[-1] == pytest.approx(203)
    np.testing.assert_allclose(shown[light <= 87], light[light <= 87], atol=1e-6)
    steps = np.diff(shown)
    assert (steps > 0).all()
    assert (steps < 0.51).all()  # nothing gets more contrast than it has


def test_high_range_alone_has_shards_of_its_own() -> None:
    flipped, bright = Display(mirrored=True), Display(tones="PQ")
    content = Fingerprint(1, "a")
    assert shard_name("v", content, 0.0, "c", Display()) == shard_name("v", content, 0.0, "c")
    assert shard_name("v", content, 0.0, "c", flipped) == "1b32f132e74404c8"
    assert len({shard_name("v", content, 0.0, "c", each) for each in (None, flipped, bright)}) == 3
